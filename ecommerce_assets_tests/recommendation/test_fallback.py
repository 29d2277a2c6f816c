"""The orders of the fallback, by hand."""

import numpy as np
import pytest

from ecommerce_assets.recommendation.fallback import Fallback, Order
from ecommerce_assets.recommendation.recommenders.base import ProductStats

ZEROS = np.zeros(4, np.int64)
STATS = ProductStats(
    users=np.array([1, 4, 0, 4]),
    recent_users=ZEROS,
    category=ZEROS,
    segment_users={"A": np.array([1, 0, 0, 2]), "B": ZEROS},
    segment_sizes={"A": 2, "B": 1},
    total_users=8,
)
SHOP = [(1, 0.5), (3, 0.5), (0, 0.125), (2, 0.0)]


def listed(order: Order) -> list[tuple[int, float]]:
    return list(zip(order.positions.tolist(), order.shares.tolist(), strict=True))


def test_products_of_the_segment_come_first_then_those_of_the_shop() -> None:
    order = Fallback.of(STATS).order("A")
    assert listed(order) == [(3, 1.0), (0, 0.5), (1, 0.5), (2, 0.0)]
    assert order.of_segment == 2


@pytest.mark.parametrize("segment", [None, "unknown", "B"])
def test_unknown_and_empty_segments_have_the_order_of_the_shop(segment: str | None) -> None:
    order = Fallback.of(STATS).order(segment)
    assert listed(order) == SHOP  # most users first, ties by position; all products
    assert order.of_segment == 0


def test_orders_have_only_eligible_products() -> None:
    eligible = np.array([True, True, True, False])
    order = Fallback.of(STATS, eligible).order("A")
    assert listed(order) == [(0, 0.5), (1, 0.5), (2, 0.0)]
    assert order.of_segment == 1


def test_without_users_products_are_in_the_order_of_their_ids() -> None:
    assert listed(Fallback.of(ProductStats(ZEROS, ZEROS, ZEROS)).order(None)) == [(n, 0.0) for n in range(4)]

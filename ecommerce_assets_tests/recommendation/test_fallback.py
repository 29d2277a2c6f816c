"""Popular products of the segment, then of the shop, by hand."""

import numpy as np
import pytest

from ecommerce_assets.recommendation.fallback import Fallback, Order
from ecommerce_assets.recommendation.recommenders.base import ProductStats

NOTHING = np.zeros(4, np.int64)
STATS = ProductStats(
    users=np.array([1, 4, 0, 4]),
    recent_users=NOTHING,
    category=NOTHING,
    segment_users={"A": np.array([1, 0, 0, 2]), "B": NOTHING},
    segment_sizes={"A": 2, "B": 1},
    total_users=8,
)
SHOP = [(1, 0.5), (3, 0.5), (0, 0.125), (2, 0.0)]


def listed(order: Order) -> list[tuple[int, float]]:
    return list(zip(order.positions.tolist(), order.shares.tolist(), strict=True))


def test_the_segment_first_then_the_shop_without_repeats() -> None:
    order = Fallback.of(STATS).order("A")
    assert listed(order) == [(3, 1.0), (0, 0.5), (1, 0.5), (2, 0.0)]
    assert order.of_segment == 2


@pytest.mark.parametrize("segment", [None, "unknown", "B"])
def test_the_shop_where_nothing_is_popular_in_the_segment(segment: str | None) -> None:
    order = Fallback.of(STATS).order(segment)
    assert listed(order) == SHOP  # most users first, ties by position; all products
    assert order.of_segment == 0


def test_only_eligible_products_in_their_order() -> None:
    eligible = np.array([True, True, True, False])
    order = Fallback.of(STATS, eligible).order("A")
    assert listed(order) == [(0, 0.5), (1, 0.5), (2, 0.0)]
    assert order.of_segment == 1


def test_no_users_at_all() -> None:
    assert listed(Fallback.of(ProductStats(NOTHING, NOTHING, NOTHING)).order(None)) == [(n, 0.0) for n in range(4)]

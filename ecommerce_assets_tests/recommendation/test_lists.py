"""Lists of a batch of users: completion, rows, and edge cases."""

import numpy as np
import pyarrow as pa
import pytest

from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.lists import POPULAR, SEGMENT_POPULAR, ListMaker, Lists
from ecommerce_assets.recommendation.products import Products
from ecommerce_assets.recommendation.recommenders.base import Candidates, ProductStats, Training
from ecommerce_assets_tests.recommendation.test_recommenders import Entry, neighbour_rows, users_with


def test_short_lists_are_completed_in_the_order_of_the_fallback() -> None:
    rng = np.random.default_rng(5)
    products, users, k = 30, 60, 8
    counts = rng.permutation(products)
    in_segment = np.where(rng.random(products) < 0.4, counts, 0)
    zeros = np.zeros(products, np.int64)
    stats = ProductStats(rng.permutation(products), zeros, zeros, {"A": in_segment}, {"A": 40}, 40)
    maker = ListMaker.fit(Training(stats, neighbour_rows([[]] * products), np.zeros((products, 1), np.float32)))
    order = maker.fallback.order("A").positions.tolist()
    excluded = [rng.permutation(products)[: rng.integers(0, products + 1)].tolist() for _ in range(users)]
    lists = Lists.empty(users, k)
    for user in range(users):
        free = [p for p in rng.permutation(products).tolist() if p not in excluded[user]]
        first = free[: rng.integers(0, k + 1)]
        lists.positions[user, : len(first)] = first
    short = lists.positions.copy()

    histories = [[Entry(position) for position in positions] for positions in excluded]
    maker.complete(lists, users_with(histories, ["A"] * users, exclude=Exclude.seen))

    for user in range(users):
        first = [p for p in short[user].tolist() if p >= 0]
        added = [p for p in order if p not in excluded[user] and p not in first][: k - len(first)]
        expected = [*first, *added]
        assert lists.positions[user].tolist() == expected + [-1] * (k - len(expected))
        sources = [SEGMENT_POPULAR if in_segment[p] else POPULAR for p in added]
        assert lists.sources[user, len(first) : len(expected)].tolist() == sources


def test_positions_are_places_in_the_order_of_the_ids() -> None:
    products = Products.of(np.array(["b", "c", "a"], dtype=object), np.array([0, 3, 1]))
    assert products.ids.tolist() == ["a", "b", "c"]
    assert products.position_of.tolist() == [1, 0, -1, 2]
    assert products.positions(np.array([3, 0, 2, 4, -1])).tolist() == [2, 1, -1, -1, -1]


def test_rows_of_the_lists_of_one_recommender() -> None:
    lists = Lists.of(Candidates(np.array([[4, 2, 1], [3, -1, -1]]), np.array([[9, 8, 7], [6, 0, 0]])), 2, "latest")
    rows = lists.as_rows(pa.array(["u", "v"]), np.array([10, 11, 12, 13, 14]), np.array([[0, -1], [3, -1]])).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("u", 1, 14, 9.0, "latest", 10),
        ("u", 2, 12, 8.0, "latest", None),
        ("v", 1, 13, 6.0, "latest", 13),
    ]


@pytest.mark.parametrize("blend", [None, Blend()])
def test_without_products_lists_are_empty(blend: Blend | None) -> None:
    empty = np.empty(0, np.int64)
    maker = ListMaker.fit(Training(ProductStats(empty, empty, empty), neighbour_rows([]), np.zeros((0, 2), np.float32)))
    assert not maker.lists(users_with([[], []], [None, "A"]), 3, blend).filled.any()
    assert maker.lists(users_with([]), 3, blend).positions.shape == (0, 3)

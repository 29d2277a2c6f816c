"""The lists of a batch of users: short ones are completed exactly, whatever is barred."""

import numpy as np
import pyarrow as pa
import pytest

from ecommerce_assets.recommendation import lists as lists_module
from ecommerce_assets.recommendation.fallback import Fallback, Order, PopularityList
from ecommerce_assets.recommendation.lists import ItemFactors, Lists, Products, Recommender, complete
from ecommerce_assets.recommendation.top_k import Excluded


def excluded_of(barred: list[list[int]]) -> Excluded:
    begins = np.cumsum([0, *(len(own) for own in barred)])
    return Excluded(begins, np.array([item for own in barred for item in own], np.int64))


@pytest.mark.parametrize("cells", [1, 1 << 22])
def test_completed_as_by_hand(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """Against a loop over users, in pieces of one user and in one piece."""
    monkeypatch.setattr(lists_module, "CELLS", cells)
    rng = np.random.default_rng(5)
    products, users, k = 30, 60, 8
    own = rng.permutation(products)[:12]
    order = Order.of(
        PopularityList(own, np.linspace(1, 0.1, 12)),
        PopularityList(rng.permutation(products), np.linspace(0.9, 0, products)),
    )
    barred = [rng.permutation(products)[: rng.integers(0, products + 1)].tolist() for _ in range(users)]
    made = Lists.empty(users, k)
    for user in range(users):
        free = [p for p in rng.permutation(products).tolist() if p not in barred[user]]
        there = free[: rng.integers(0, k + 1)]
        made.positions[user, : len(there)] = there
    before = made.positions.copy()

    rows = np.arange(0, users, 2)
    complete(made, rows, order, excluded_of(barred))

    for user in range(users):
        listed = [p for p in before[user].tolist() if p >= 0]
        if user % 2 == 0:
            listed += [p for p in order.positions.tolist() if p not in barred[user] and p not in listed][
                : k - len(listed)
            ]
        assert [p for p in made.positions[user].tolist() if p >= 0] == listed
        assert (made.positions[user, len(listed) :] == -1).all()


def test_products_go_by_their_ids() -> None:
    products = Products.of(np.array(["b", "c", "a"], dtype=object), np.array([0, 3, 1]))
    assert products.ids.tolist() == ["a", "b", "c"]
    assert products.position_of.tolist() == [1, 0, -1, 2]
    found = products.excluded(pa.array([[3, 0], None, [1]], pa.list_(pa.int32())))
    assert (found.begins.tolist(), found.items.tolist()) == ([0, 2, 2, 3], [2, 1, 0])


def test_no_products_at_all() -> None:
    nothing = PopularityList(np.empty(0, np.int64), np.empty(0))
    recommender = Recommender(ItemFactors.none(0), Fallback(nothing, {}), 3)
    made = recommender.lists(None, pa.array([None, "A"], pa.string()), Excluded.nothing(2))
    assert not made.filled.any()

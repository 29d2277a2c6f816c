"""Rules for lists: eligible, pinned, limited and new products."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.list_rules import ListRules, flags_of
from ecommerce_assets.recommendation.lists import SOURCES, ListMaker, Lists
from ecommerce_assets.recommendation.product_rules import ProductRules
from ecommerce_assets.recommendation.products import Products
from ecommerce_assets.recommendation.reasons import reasons
from ecommerce_assets.recommendation.recommenders.base import ProductStats, Training
from ecommerce_assets_tests.recommendation.test_recommenders import Entry, neighbour_rows, users_with

IDS = np.arange(100, 112)
"""Products 100 to 109 have events, the more the lower the id; 110 and 111 are new."""
CATEGORY = ["a", "a", "a", "a", "b", "b", "b", "c", "unknown", None, "a", "b"]
BRAND = ["x", "y", "x", "y", "x", "y", "x", "y", None, "x", "z", "x"]


def eligibility(*not_eligible: int) -> pa.Table:
    return pa.table(
        {
            "product_id": IDS,
            "category": CATEGORY,
            "brand": BRAND,
            "in_catalog": IDS >= 105,
            "eligible": [product not in not_eligible for product in IDS],
        }
    )


def maker(*not_eligible: int, **rules: Any) -> ListMaker:
    users = np.array([*range(30, 20, -1), 0, 0])
    stats = ProductStats(
        users,
        users,
        np.array([0, 0, 0, 0, 1, 1, 1, 2, -1, -1, 0, 1]),
        {"VIP_Customers": users % 7},
        {"VIP_Customers": 9},
        40,
    )
    products, table = Products(IDS, np.arange(10)), eligibility(*not_eligible)
    rows = neighbour_rows([[(other, 0.5) for other in range(10) if other != p] for p in range(10)] + [[]] * 2)
    factors = np.linspace(0.1, 1, 24, dtype=np.float32).reshape(12, 2)
    factors[10:] = 0
    training = Training(stats, rows, factors, flags_of(table, "eligible", products))
    given = ProductRules.model_validate({"new_products_share": 0, **rules})
    return ListMaker.fit(training, ListRules.of(given, table, products, users == 0))


VISITORS = users_with(
    [[Entry(2), Entry(4, purchased=True)], [Entry(7)], []],
    ["VIP_Customers", None, "VIP_Customers"],
    [[1, 0], [0, 1], [0, 0]],
    Exclude.purchased,
)


def ids(lists: Lists, user: int) -> list[int]:
    return [int(IDS[position]) for position in lists.positions[user] if position >= 0]


def sources(lists: Lists, user: int) -> list[str]:
    return [SOURCES[code] for code in lists.sources[user]]


@pytest.mark.parametrize("blend", [None, Blend()])
def test_lists_have_eligible_products_only_and_stay_full(blend: Blend | None) -> None:
    lists = maker(100, 102, 103, 109).lists(VISITORS, 6, blend)
    for user in range(3):
        assert not {100, 102, 103, 109} & set(ids(lists, user))
        assert len(set(ids(lists, user))) == 6
    assert (np.diff(lists.scores, axis=1) <= 0).all()


def test_without_rules_nothing_changes() -> None:
    no_rules = maker()
    plain = ListMaker.fit(no_rules.training)
    for blend in (None, Blend()):
        one, other = no_rules.lists(VISITORS, 8, blend), plain.lists(VISITORS, 8, blend)
        assert (one.positions == other.positions).all()
        assert (one.scores == other.scores).all()


@pytest.mark.parametrize("blend", [None, Blend()])
@pytest.mark.parametrize(("per_category", "per_brand"), [(1, None), (2, None), (None, 2), (2, 3)])
def test_lists_keep_the_limits_per_category_and_brand(
    blend: Blend | None, per_category: int | None, per_brand: int | None
) -> None:
    lists = maker(max_per_category=per_category, max_per_brand=per_brand).lists(VISITORS, 8, blend)
    for user in range(3):
        for names, most in ((CATEGORY, per_category), (BRAND, per_brand)):
            counts = Counter(names[product - 100] for product in ids(lists, user))
            del counts[None], counts["unknown"]
            assert most is None or max(counts.values()) <= most
    # Of category c there is one product, and 108 and 109 have no category: they are not limited.
    if per_brand is None and per_category is not None:
        assert len(ids(lists, 2)) == 2 * per_category + 1 + 2


def test_lists_are_full_if_the_limits_leave_only_unpopular_products() -> None:
    products = 450
    users = np.arange(products, 0, -1)
    category, brand = np.zeros(products, np.int64), np.concatenate([np.arange(150) % 2, np.arange(300) + 2])
    stats = ProductStats(users, users, category, {}, {}, 500)
    training = Training(stats, neighbour_rows([[]] * products), np.zeros((products, 2), np.float32))
    lists = ListMaker.fit(training, ListRules(category, brand, 10, 2)).lists(users_with([[]]), 10, Blend())
    assert lists.filled.all()
    assert lists.positions[0].tolist() == [0, 1, 2, 3, *range(150, 156)]


def test_pinned_products_come_first_if_they_may_be_shown() -> None:
    list_maker = maker(105, pinned={"*": [109, 105], "VIP_Customers": [104, 111, 999]})
    lists = list_maker.lists(VISITORS, 5, Blend())
    assert ids(lists, 0)[:2] == [111, 109], "104 was purchased, 105 is not eligible, 999 is unknown"
    assert sources(lists, 0)[:3] == ["pinned", "pinned", "latest"]
    assert reasons(list_maker, VISITORS, lists)[0, :3].tolist() == [-1, -1, 2]
    assert ids(lists, 1)[0] == 109
    assert ids(lists, 2)[:3] == [104, 111, 109]
    assert [len(set(ids(lists, user))) for user in range(3)] == [5, 5, 5]
    assert (np.diff(lists.scores, axis=1) <= 0).all()
    assert lists.scores[0, 0] == lists.scores[0, 2], "as high as the best of the others"


def test_new_products_get_the_last_places_by_category_and_brand() -> None:
    list_maker = maker(new_products_share=0.4)
    lists = list_maker.lists(VISITORS, 5, Blend())
    assert ids(lists, 0)[-2:] == [111, 110], "of category b and brand x, which the user has, then of category a"
    assert sources(lists, 0)[-2:] == ["new", "new"]
    assert reasons(list_maker, VISITORS, lists)[0, -2:].tolist() == [4, 2], "the latest product of the same category"
    assert "new" not in sources(lists, 1), "category c and brand y have no new product"
    assert "new" not in sources(lists, 2), "nothing is known of the user"
    assert (np.diff(lists.scores, axis=1) <= 0).all()


def test_including_keeps_the_numbers_of_the_index() -> None:
    products = Products.of(np.array([30, 10]), np.array([0, 1])).including(np.array([20, 30, 40]))
    assert products.ids.tolist() == [10, 20, 30, 40]
    assert products.positions(np.array([0, 1])).tolist() == [2, 0]
    assert products.find(np.array([40, 11, 10])).tolist() == [3, -1, 0]

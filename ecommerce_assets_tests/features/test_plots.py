"""The bins and sums behind the pictures of users and products, and the pictures of odd shops."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features.funnel import ALL, LARGEST, TOP_CATEGORIES, category_funnel
from ecommerce_assets.features.plots import PRODUCT_FEATURES_PICTURES, USER_FEATURES_PICTURES
from ecommerce_assets.features.rfm import CELLS, FREQUENCY, MONETARY, RECENCY, UNKNOWN, rfm_cells
from ecommerce_assets.storage import pictures
from ecommerce_assets.storage.audits import Evidence, probe
from ecommerce_assets.storage.pictures import Picture

MOST_BYTES = 100_000


def nothing_else(asset: str) -> DataFrame:
    raise AssertionError(f"{asset} was read")


def drawn(group: tuple[Picture, ...], measures: dict[str, Any]) -> list[int]:
    """The size of each picture that there is; none may fail."""
    figures = [picture.draw(Evidence(measures)) for picture in group]
    return [len(pictures.png(figure)) for figure in figures if figure is not None]


def test_labels_of_bins() -> None:
    assert [RECENCY.label(n) for n in (0, 1, 2, 9)] == ["0", "1\N{EN DASH}3", "4\N{EN DASH}7", "> 365"]
    assert [FREQUENCY.label(n) for n in (0, 1, 3, 6)] == ["1", "2", "4\N{EN DASH}5", "> 20"]
    assert MONETARY.ends[:5] == (0, 10, 20, 50, 100)


def test_users_by_bin(spark: SparkSession) -> None:
    users = spark.createDataFrame(
        [
            (0, 1, 0.0),
            (3, 2, 10.0),
            (4, 5, 10.01),
            (365, 20, 5e6),
            (366, 21, 1e12),
            (None, 1, 0.0),
            (1, None, None),
            (2, 2, float("nan")),
        ],
        "recency int, frequency bigint, monetary double",
    )
    cells = probe(users, [rfm_cells], Evidence({}), nothing_else)[CELLS]
    map_ = {(c["recency"], c["frequency"]): c["users"] for c in cells if c["monetary"] is None}
    assert map_ == {(0, 0): 1, (1, 1): 2, (2, 3): 1, (8, 5): 1, (9, 6): 1, (UNKNOWN, 0): 1, (1, UNKNOWN): 1}
    money = {c["monetary"]: c["users"] for c in cells if c["recency"] is None}
    assert money == {0: 2, 1: 1, 2: 1, len(MONETARY.ends) - 1: 1, len(MONETARY.ends): 1, UNKNOWN: 2}
    assert all(size < MOST_BYTES for size in drawn(USER_FEATURES_PICTURES, {CELLS: cells}))


def test_bins_are_bounded_and_add_up(spark: SparkSession) -> None:
    users = spark.range(20_000).selectExpr(
        "cast(pmod(id * 7, 500) as int) recency", "1 + pmod(id * 13, 40) frequency", "exp(pmod(id, 97) / 5D) monetary"
    )
    cells = probe(users, [rfm_cells], Evidence({}), nothing_else)[CELLS]
    assert len(cells) <= (RECENCY.count + 1) * (FREQUENCY.count + 1) + MONETARY.count + 1
    for with_money in (True, False):
        assert sum(c["users"] for c in cells if (c["monetary"] is not None) == with_money) == 20_000
    assert drawn(USER_FEATURES_PICTURES, {CELLS: cells})
    assert all(size < MOST_BYTES for size in drawn(USER_FEATURES_PICTURES, {CELLS: cells}))


def test_the_largest_categories_and_all(spark: SparkSession) -> None:
    products = spark.range(100).selectExpr(
        "concat('c', lpad(pmod(id, 20), 2, '0')) category", "pmod(id, 20) * 10 total_views", "2L total_carts",
        "1L total_purchases",
    )  # fmt: skip
    found = probe(products, [category_funnel], Evidence({}), nothing_else)
    assert [row["category"] for row in found[LARGEST]] == [f"c{n}" for n in range(19, 19 - TOP_CATEGORIES, -1)]
    assert found[LARGEST][0] == {"category": "c19", "products": 5, "views": 950, "carts": 10, "purchases": 5}
    assert found[ALL] == {"categories": 20, "products": 100, "views": 9_500, "carts": 200, "purchases": 100}
    figure = PRODUCT_FEATURES_PICTURES[0].draw(Evidence(found))
    assert figure is not None
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "12 others"


def test_no_users_and_no_products(spark: SparkSession) -> None:
    users = spark.createDataFrame([], "recency int, frequency bigint, monetary double")
    assert drawn(USER_FEATURES_PICTURES, probe(users, [rfm_cells], Evidence({}), nothing_else)) == []
    columns = "category string, total_views bigint, total_carts bigint, total_purchases bigint"
    products = spark.createDataFrame([], columns)
    assert drawn(PRODUCT_FEATURES_PICTURES, probe(products, [category_funnel], Evidence({}), nothing_else)) == []
    unknown = spark.createDataFrame([("a", None, None, None), (None, None, None, None)], columns)
    assert drawn(PRODUCT_FEATURES_PICTURES, probe(unknown, [category_funnel], Evidence({}), nothing_else)) == []


def category(name: str, views: int, carts: int = 0, purchases: int = 0) -> dict[str, Any]:
    return {"category": name, "products": 1, "views": views, "carts": carts, "purchases": purchases}


@pytest.mark.parametrize(
    "rows",
    [
        [category("a", 5)],
        [category(f"{n} {'very long category name ' * 9}", 10**10 - n, 10**9, 10**8) for n in range(8)],
        [category("bought without a view", 0, 0, 9), category("b", 3, 2, 8)],
    ],
    ids=["no purchases", "long names and large numbers", "more purchases than views"],
)
def test_odd_categories(rows: list[dict[str, Any]]) -> None:
    whole = {n: sum(row[n] for row in rows) for n in ("products", "views", "carts", "purchases")}
    [size] = drawn(PRODUCT_FEATURES_PICTURES, {LARGEST: rows, ALL: {"categories": len(rows), **whole}})
    assert size < MOST_BYTES

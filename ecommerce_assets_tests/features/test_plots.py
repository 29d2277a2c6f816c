"""Summaries behind the plots of users and products, and the plots of unusual data."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features.plots import PRODUCT_FEATURES_PLOTS, USER_FEATURES_PLOTS
from ecommerce_assets.features.summaries import (
    ALL_CATEGORIES,
    FREQUENCY,
    LARGEST_CATEGORIES,
    MONETARY,
    RECENCY,
    RFM_CELLS,
    TOP_CATEGORIES,
    UNKNOWN,
    category_funnel,
    rfm_cells,
)
from ecommerce_assets.storage.checks import CheckContext, Summary, measure
from ecommerce_assets.storage.display import Plot, png
from ecommerce_assets.storage.version import Stats

MOST_BYTES = 100_000


def nothing_else(asset: str) -> DataFrame:
    raise AssertionError(f"{asset} was read")


def summarised(rows: DataFrame, summary: Summary) -> dict[str, Any]:
    return measure(rows, (), [summary(rows, CheckContext(Stats()), nothing_else)])[None].summaries


def drawn(plots: tuple[Plot, ...], summaries: dict[str, Any]) -> list[int]:
    """The size of each plot in bytes, without those that have nothing to show."""
    figures = [plot.draw(CheckContext(Stats(summaries=summaries))) for plot in plots]
    return [len(png(figure)) for figure in figures if figure is not None]


def test_bins_are_labelled_with_their_range() -> None:
    assert [RECENCY.label(n) for n in (0, 1, 2, 9)] == ["0", "1\N{EN DASH}3", "4\N{EN DASH}7", "> 365"]
    assert [FREQUENCY.label(n) for n in (0, 1, 3, 6)] == ["1", "2", "4\N{EN DASH}5", "> 20"]
    assert MONETARY.ends[:5] == (0, 10, 20, 50, 100)


def test_each_user_counts_in_the_bin_that_holds_the_value(spark: SparkSession) -> None:
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
    cells = summarised(users, rfm_cells)[RFM_CELLS]
    by_cell = {(c["recency"], c["frequency"]): c["users"] for c in cells if c["monetary"] is None}
    assert by_cell == {(0, 0): 1, (1, 1): 2, (2, 3): 1, (8, 5): 1, (9, 6): 1, (UNKNOWN, 0): 1, (1, UNKNOWN): 1}
    money = {c["monetary"]: c["users"] for c in cells if c["recency"] is None}
    assert money == {0: 2, 1: 1, 2: 1, len(MONETARY.ends) - 1: 1, len(MONETARY.ends): 1, UNKNOWN: 2}
    sizes = drawn(USER_FEATURES_PLOTS, {RFM_CELLS: cells})
    assert len(sizes) == 2
    assert max(sizes) < MOST_BYTES


def test_the_funnel_has_the_most_viewed_categories_and_the_sums_of_all(spark: SparkSession) -> None:
    products = spark.range(100).selectExpr(
        "concat('c', lpad(pmod(id, 20), 2, '0')) category", "pmod(id, 20) * 10 total_views", "2L total_carts",
        "1L total_purchases",
    )  # fmt: skip
    summaries = summarised(products, category_funnel)
    assert [row["category"] for row in summaries[LARGEST_CATEGORIES]] == [
        f"c{n}" for n in range(19, 19 - TOP_CATEGORIES, -1)
    ]
    assert summaries[LARGEST_CATEGORIES][0] == {
        "category": "c19",
        "products": 5,
        "views": 950,
        "carts": 10,
        "purchases": 5,
    }
    assert summaries[ALL_CATEGORIES] == {
        "categories": 20,
        "products": 100,
        "views": 9_500,
        "carts": 200,
        "purchases": 100,
    }
    figure = PRODUCT_FEATURES_PLOTS[0].draw(CheckContext(Stats(summaries=summaries)))
    assert figure is not None
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "12 others"


def test_without_rows_or_views_no_plot_is_drawn(spark: SparkSession) -> None:
    users = spark.createDataFrame([], "recency int, frequency bigint, monetary double")
    assert drawn(USER_FEATURES_PLOTS, summarised(users, rfm_cells)) == []
    columns = "category string, total_views bigint, total_carts bigint, total_purchases bigint"
    products = spark.createDataFrame([], columns)
    assert drawn(PRODUCT_FEATURES_PLOTS, summarised(products, category_funnel)) == []
    unknown = spark.createDataFrame([("a", None, None, None), (None, None, None, None)], columns)
    assert drawn(PRODUCT_FEATURES_PLOTS, summarised(unknown, category_funnel)) == []


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
def test_odd_categories_are_drawn(rows: list[dict[str, Any]]) -> None:
    whole = {n: sum(row[n] for row in rows) for n in ("products", "views", "carts", "purchases")}
    [size] = drawn(
        PRODUCT_FEATURES_PLOTS, {LARGEST_CATEGORIES: rows, ALL_CATEGORIES: {"categories": len(rows), **whole}}
    )
    assert size < MOST_BYTES

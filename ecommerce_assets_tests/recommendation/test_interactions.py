"""interaction_data: weights, the cap, and which pairs there are."""

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.interactions import INTERACTION_DATA, build_interactions
from ecommerce_assets_tests.helpers import event, events_frame

NOON = "2020-01-01 12:00:00"


@pytest.fixture(scope="module")
def user_index(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(1, 0, 9), (2, 1, 5)], "user_id bigint, user_idx int, events bigint")


@pytest.fixture(scope="module")
def product_index(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([(10, 1, 5), (20, 0, 9)], "product_id bigint, product_idx int, events bigint")


def pairs(events: DataFrame, user_index: DataFrame, product_index: DataFrame) -> dict[tuple[int, int], dict[str, Any]]:
    """Each pair's row, its time as text."""
    found = build_interactions(events, user_index, product_index)
    assert found.columns == INTERACTION_DATA.names
    as_text = found.withColumn("last_interaction_at", found["last_interaction_at"].cast("string"))
    return {(row["user_idx"], row["product_idx"]): row.asDict() for row in as_text.collect()}


def test_every_column(spark: SparkSession, user_index: DataFrame, product_index: DataFrame) -> None:
    events = events_frame(
        spark,
        [
            event("2020-01-01 12:00:00", "view", 10, 1),
            event("2020-01-01 12:00:02", "cart", 10, 1),
            event("2020-01-01 12:00:01", "purchase", 10, 1),
            event("2020-01-01 13:00:00", "remove_from_cart", 10, 1),  # neither counted nor the latest
            event("2020-01-02 12:00:00", "view", 20, 2),
            event("2020-01-01 12:00:00", "view", 20, 2),
        ],
    )
    assert pairs(events, user_index, product_index) == {
        (0, 1): {
            "user_idx": 0,
            "product_idx": 1,
            "rating": 9.0,  # 1 + 3 + 5
            "interaction_count": 3,
            "purchases": 1,
            "last_interaction_at": "2020-01-01 12:00:02",
        },
        (1, 0): {
            "user_idx": 1,
            "product_idx": 0,
            "rating": 2.0,  # 1 + 1
            "interaction_count": 2,
            "purchases": 0,
            "last_interaction_at": "2020-01-02 12:00:00",
        },
    }


@pytest.mark.parametrize(
    ("types", "rating", "purchases"),
    [
        (["view"], 1.0, 0),
        (["cart"], 3.0, 0),
        (["purchase"], 5.0, 1),
        (["cart"] * 3, 9.0, 0),
        (["cart"] * 3 + ["view"], 10.0, 0),  # just at the cap
        (["purchase", "purchase", "view"], 10.0, 2),  # 11
        (["view"] * 25, 10.0, 0),
    ],
)
def test_weights_and_cap(
    spark: SparkSession,
    user_index: DataFrame,
    product_index: DataFrame,
    types: list[str],
    rating: float,
    purchases: int,
) -> None:
    events = events_frame(spark, [event(NOON, name, 10, 1) for name in types])
    found = pairs(events, user_index, product_index)[0, 1]
    assert (found["rating"], found["purchases"], found["interaction_count"]) == (rating, purchases, len(types))


def test_a_pair_that_was_only_removed_is_absent(
    spark: SparkSession, user_index: DataFrame, product_index: DataFrame
) -> None:
    events = events_frame(spark, [event(NOON, "remove_from_cart", 10, 1), event(NOON, "view", 20, 1)])
    assert list(pairs(events, user_index, product_index)) == [(0, 0)]


def test_ids_that_an_index_lacks_are_left_out(
    spark: SparkSession, user_index: DataFrame, product_index: DataFrame
) -> None:
    events = events_frame(spark, [event(NOON, "view", 10, 3), event(NOON, "view", 30, 1), event(NOON, "view", 10, 2)])
    assert list(pairs(events, user_index, product_index)) == [(1, 1)]


def test_types(spark: SparkSession, user_index: DataFrame, product_index: DataFrame) -> None:
    found = build_interactions(events_frame(spark, []), user_index, product_index)
    assert found.dtypes == [(c.name, c.type) for c in INTERACTION_DATA.columns]

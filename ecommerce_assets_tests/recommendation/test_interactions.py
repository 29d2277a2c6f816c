"""interaction_data: its columns, the weights of the events, and the half-life of the ratings."""

import datetime as dt

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.interactions import INTERACTION_DATA, build_interactions, weigh_by_recency
from ecommerce_assets_tests.helpers import event, events_frame

NOON = "2020-01-01 12:00:00"


def test_pairs_have_their_interactions_and_ids_without_an_index_are_left_out(spark: SparkSession) -> None:
    user_index = spark.createDataFrame([(1, 0, 9), (2, 1, 5)], "user_id bigint, user_idx int, events bigint")
    product_index = spark.createDataFrame([(10, 1, 5), (20, 0, 9)], "product_id bigint, product_idx int, events bigint")
    events = events_frame(
        spark,
        [
            event("2020-01-01 12:00:00", "view", 10, 1),
            event("2020-01-01 12:00:02", "cart", 10, 1),
            event("2020-01-01 12:00:01", "purchase", 10, 1),
            event("2020-01-01 13:00:00", "remove_from_cart", 10, 1),  # neither counted nor the latest
            event("2020-01-02 12:00:00", "view", 20, 2),
            event("2020-01-01 12:00:00", "view", 20, 2),
            event(NOON, "remove_from_cart", 20, 1),  # no interaction at all
            event(NOON, "view", 10, 3),  # a user that the index does not have
            event(NOON, "view", 30, 1),  # a product that the index does not have
        ],
    )
    interactions = build_interactions(events, user_index, product_index)
    assert interactions.dtypes == [(c.name, c.type) for c in INTERACTION_DATA.columns]
    as_text = interactions.withColumn("last_interaction_at", interactions["last_interaction_at"].cast("string"))
    # Ratings 1 + 3 + 5 and 1 + 1.
    assert sorted(tuple(row) for row in as_text.collect()) == [
        (0, 1, 9.0, 3, 1, "2020-01-01 12:00:02"),
        (1, 0, 2.0, 2, 0, "2020-01-02 12:00:00"),
    ]


def test_weights_and_the_upper_limit_of_ratings(spark: SparkSession) -> None:
    # For each user the events, the rating and the number of purchases.
    users = [
        (["view"], 1.0, 0),
        (["cart"], 3.0, 0),
        (["purchase"], 5.0, 1),
        (["cart"] * 3, 9.0, 0),
        (["cart"] * 3 + ["view"], 10.0, 0),  # exactly the limit
        (["purchase", "purchase", "view"], 10.0, 2),  # 11
        (["view"] * 25, 10.0, 0),
    ]
    events = [event(NOON, kind, 10, user) for user, (kinds, *_) in enumerate(users) for kind in kinds]
    index = spark.createDataFrame([(n, n, 1) for n in range(len(users))], "user_id bigint, user_idx int, events bigint")
    product_index = spark.createDataFrame([(10, 0, 1)], "product_id bigint, product_idx int, events bigint")
    rows = build_interactions(events_frame(spark, events), index, product_index).collect()
    actual = {row["user_idx"]: (row["rating"], row["purchases"], row["interaction_count"]) for row in rows}
    assert actual == {n: (rating, purchases, len(kinds)) for n, (kinds, rating, purchases) in enumerate(users)}


def test_ratings_halve_with_each_half_life(spark: SparkSession) -> None:
    times = ["2020-01-11 00:00:00", "2020-01-06 00:00:00", "2020-01-01 00:00:00", "2020-01-08 12:00:00"]
    rows = [(n, 8.0, dt.datetime.fromisoformat(time).replace(tzinfo=dt.UTC)) for n, time in enumerate(times)]
    interactions = spark.createDataFrame(rows, "product_idx int, rating double, last_interaction_at timestamp")
    weighted = {row["product_idx"]: row["rating"] for row in weigh_by_recency(interactions, 5.0).collect()}
    assert weighted == pytest.approx({0: 8.0, 1: 4.0, 2: 2.0, 3: 8 * 0.5**0.5})
    assert weigh_by_recency(interactions, None) is interactions

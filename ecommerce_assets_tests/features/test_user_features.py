"""user_features against tables that can be checked in one's head."""

import datetime as dt
import random
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.user_features import USER_FEATURES, build_user_features, reference_time
from ecommerce_assets_tests.helpers import event, events_frame

BUYER, REMOVER, CART_ONLY, LAST = 1, 2, 3, 4

EVENTS = [
    # The buyer: days 7, 8 and 9; four views, one cart, two purchases, one removal.
    event("2020-01-07 23:59:58", "view", 10, BUYER, 1.0, "a", category_id=100, user_session="s1"),
    event("2020-01-07 23:59:59", "view", 10, BUYER, 1.0, "a", category_id=100, user_session="s1"),
    event("2020-01-08 00:00:00", "view", 11, BUYER, 2.0, "b", category_id=100, user_session="s1"),
    event("2020-01-08 00:00:01", "view", 11, BUYER, 2.0, "b", category_id=100, user_session="s1"),
    event("2020-01-08 00:00:02", "cart", 11, BUYER, 2.0, "b", category_id=100, user_session="s2"),
    event("2020-01-08 12:00:00", "purchase", 11, BUYER, 2.0, "b", category_id=100, user_session="s2"),
    event("2020-01-08 12:01:00", "purchase", 12, BUYER, 0.5, None, category_id=None, user_session=None),
    event("2020-01-09 23:59:59", "remove_from_cart", 13, BUYER, 5.5, "c", category_id=101, user_session="s3"),
    # Takes something out of a cart that the log does not know of; everything optional is null.
    event("2020-01-01 00:00:00", "remove_from_cart", 10, REMOVER, 3.0, None, category_id=None, user_session=None),
    # Four carts, one purchase, no view.
    event("2019-12-31 08:00:00", "cart", 10, CART_ONLY, 1.0),
    event("2019-12-31 09:00:00", "cart", 11, CART_ONLY, 1.0),
    event("2019-12-31 10:00:00", "cart", 12, CART_ONLY, 1.0),
    event("2019-12-31 11:00:00", "cart", 13, CART_ONLY, 1.0),
    event("2019-12-31 12:00:00", "purchase", 13, CART_ONLY, 6.0),
    # The latest event of all, half an hour into the tenth.
    event("2020-01-10 00:30:00", "view", 10, LAST, 1.0),
]


@pytest.fixture(scope="module")
def users(spark: SparkSession) -> dict[int, dict[str, Any]]:
    """The features of each user, times as text in UTC."""
    features = build_user_features(events_frame(spark, EVENTS))
    texts = {name: F.col(name).cast("string") for name in ("first_event_time", "last_event_time")}
    return {row["user_id"]: row.asDict() for row in features.withColumns(texts).collect()}


def in_order(features: DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in features.collect())


def test_has_one_row_per_user_with_the_documented_columns_and_types(spark: SparkSession) -> None:
    features = build_user_features(events_frame(spark, EVENTS))
    assert sorted(row["user_id"] for row in features.collect()) == [BUYER, REMOVER, CART_ONLY, LAST]
    assert features.dtypes == [(c.name, c.type) for c in USER_FEATURES.with_id_type("bigint").columns]


def test_every_column_of_a_buyer(users: dict[int, dict[str, Any]]) -> None:
    assert users[BUYER] == {
        "user_id": BUYER,
        "recency": 1,  # from the 9th to the 10th, though only 30 minutes and a second
        "frequency": 3,  # 7th, 8th, 9th
        "monetary": 2.5,  # 2.0 + 0.5, nothing for views, carts and removals
        "total_events": 8,
        "views": 4,
        "carts": 1,
        "removals": 1,
        "purchases": 2,
        "unique_products": 4,  # 10, 11, 12, and 13, which was only removed
        "unique_categories": 2,  # 100, 101
        "unique_brands": 3,  # a, b, c
        "unique_sessions": 3,  # s1, s2, s3
        "avg_price": 2.0,  # (1 + 1 + 2 + 2 + 2 + 2 + 0.5 + 5.5) / 8 = 16 / 8
        "conversion_rate": 0.5,  # 2 / 4
        "cart_abandonment": -1.0,  # (1 - 2) / 1: bought more than was in the cart
        "first_event_time": "2020-01-07 23:59:58",
        "last_event_time": "2020-01-09 23:59:59",
        "purchase_recency": 2,  # from the 8th to the 10th
        "purchase_days": 1,  # both purchases on the 8th
        "avg_purchase_day_value": 2.5,  # 2.5 / 1
        "days_between_purchases": None,
    }


def test_every_column_of_a_user_who_only_removed(users: dict[int, dict[str, Any]]) -> None:
    assert users[REMOVER] == {
        "user_id": REMOVER,
        "recency": 9,
        "frequency": 1,
        "monetary": 0.0,
        "total_events": 1,
        "views": 0,
        "carts": 0,
        "removals": 1,
        "purchases": 0,
        "unique_products": 1,
        "unique_categories": 0,
        "unique_brands": 0,
        "unique_sessions": 0,
        "avg_price": 3.0,
        "conversion_rate": 0.0,  # no views
        "cart_abandonment": 0.0,  # no carts
        "first_event_time": "2020-01-01 00:00:00",
        "last_event_time": "2020-01-01 00:00:00",
        "purchase_recency": None,
        "purchase_days": 0,
        "avg_purchase_day_value": None,
        "days_between_purchases": None,
    }


def test_conversion_rate_is_zero_without_views(users: dict[int, dict[str, Any]]) -> None:
    found = users[CART_ONLY]
    assert found["conversion_rate"] == 0.0  # one purchase, no view
    assert found["cart_abandonment"] == 0.75  # (4 - 1) / 4
    assert found["recency"] == 10  # 31 December to 10 January
    assert found["avg_price"] == 2.0  # (1 + 1 + 1 + 1 + 6) / 5


def test_days_between_purchases_is_the_mean_gap_of_purchase_days(spark: SparkSession) -> None:
    bought = [("2020-03-01 23:59:59", 10.0), ("2020-03-02 00:00:00", 1.0), ("2020-03-02 09:00:00", 1.0)]
    bought += [("2020-03-09 12:00:00", 0.0)]
    events = [event(time, "purchase", price=price) for time, price in bought]
    events += [event("2020-02-01 00:00:00", "view"), event("2020-03-20 00:00:00", "cart")]
    [user] = build_user_features(events_frame(spark, events)).collect()
    assert user["purchase_recency"] == 11  # 9th to 20th
    assert user["purchase_days"] == 3
    assert user["avg_purchase_day_value"] == 4.0  # (10 + 2 + 0) / 3
    assert user["days_between_purchases"] == 4.0  # (1 + 7) / 2


def test_reference_is_the_latest_event_in_the_data(spark: SparkSession) -> None:
    assert reference_time(events_frame(spark, EVENTS)) == dt.datetime(2020, 1, 10, 0, 30, tzinfo=dt.UTC)
    assert reference_time(events_frame(spark, [])) is None


def test_recency_counts_back_from_a_given_reference(spark: SparkSession) -> None:
    one = events_frame(spark, [event("2020-01-31 23:00:00")])
    for reference, days in ((dt.datetime(2020, 2, 1, 0, 0, tzinfo=dt.UTC), 1), (None, 0)):
        assert build_user_features(one, reference).collect()[0]["recency"] == days


@pytest.mark.spark_only
def test_a_day_is_a_day_in_utc_whatever_the_session(spark: SparkSession) -> None:
    elsewhere = spark.newSession()
    elsewhere.conf.set("spark.sql.session.timeZone", "America/New_York")
    stored = events_frame(spark, EVENTS).select(F.unix_micros("event_time").alias("us"), "*").drop("event_time")
    rows = [row.asDict() for row in stored.collect()]
    there = elsewhere.createDataFrame(rows, stored.schema).withColumn("event_time", F.timestamp_micros("us")).drop("us")
    found = {row["user_id"]: (row["recency"], row["frequency"]) for row in build_user_features(there).collect()}
    assert found == {BUYER: (1, 3), REMOVER: (9, 1), CART_ONLY: (10, 1), LAST: (0, 1)}


@pytest.mark.parametrize(
    ("prices", "total"),
    [
        ([0.1, 0.2], 0.3),  # 0.30000000000000004 as a sum of doubles
        ([0.1] * 10, 1.0),  # 0.9999999999999999
        ([1.14], 1.14),
        ([999999999.99, 0.01], 1000000000.0),
        ([0.0], 0.0),
    ],
)
def test_money_is_exact(spark: SparkSession, prices: list[float], total: float) -> None:
    bought = [event(f"2020-01-01 00:00:{second:02d}", "purchase", price=p) for second, p in enumerate(prices)]
    assert build_user_features(events_frame(spark, bought)).collect()[0]["monetary"] == total


def test_no_events_give_no_users(spark: SparkSession) -> None:
    assert build_user_features(events_frame(spark, [])).collect() == []


def test_text_ids_work(spark: SparkSession) -> None:
    events = events_frame(spark, EVENTS).withColumn("user_id", F.concat(F.lit("u"), "user_id"))
    assert {row["user_id"] for row in build_user_features(events).collect()} == {"u1", "u2", "u3", "u4"}


def test_order_of_rows_does_not_matter(spark: SparkSession) -> None:
    draw = random.Random(7)
    events = [
        event(
            f"2020-01-{draw.randint(1, 28):02d} {draw.randint(0, 23):02d}:00:00",
            draw.choice(["view", "cart", "remove_from_cart", "purchase"]),
            product_id=draw.randint(1, 9),
            user_id=draw.randint(1, 4),
            price=draw.randint(0, 100_000) / 100,
            brand=draw.choice([None, "a", "b"]),
            category_id=draw.choice([None, 1, 2]),
        )
        for _ in range(200)
    ]
    expected = in_order(build_user_features(events_frame(spark, events)))
    draw.shuffle(events)
    assert in_order(build_user_features(events_frame(spark, events).repartition(5))) == expected

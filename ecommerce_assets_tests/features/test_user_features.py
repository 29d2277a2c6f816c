"""user_features against values computed by hand."""

import datetime as dt
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.user_features import USER_FEATURES, build_user_features, reference_time
from ecommerce_assets_tests.helpers import EVENTS_DDL, event, events_frame

BUYER, REMOVER, CART_ONLY, LAST, REGULAR = 1, 2, 3, 4, 5
PRICES = {
    6: [0.1, 0.2],  # 0.30000000000000004 as a sum of doubles
    7: [0.1] * 10,  # 0.9999999999999999
    8: [999_999_999.99, 0.01],
}
"""Purchases by user, for the exact sum."""

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
    # Removes a product that was never put into the cart; all optional columns are null.
    event("2020-01-01 00:00:00", "remove_from_cart", 10, REMOVER, 3.0, None, category_id=None, user_session=None),
    # Four carts, one purchase, no view.
    event("2019-12-31 08:00:00", "cart", 10, CART_ONLY, 1.0),
    event("2019-12-31 09:00:00", "cart", 11, CART_ONLY, 1.0),
    event("2019-12-31 10:00:00", "cart", 12, CART_ONLY, 1.0),
    event("2019-12-31 11:00:00", "cart", 13, CART_ONLY, 1.0),
    event("2019-12-31 12:00:00", "purchase", 13, CART_ONLY, 6.0),
    # The latest event: the reference date is the 10th.
    event("2020-01-10 00:30:00", "view", 10, LAST, 1.0),
    # Purchases on three days.
    event("2019-12-01 00:00:00", "view", user_id=REGULAR),
    event("2020-01-01 23:59:59", "purchase", user_id=REGULAR, price=10.0),
    event("2020-01-02 00:00:00", "purchase", user_id=REGULAR, price=1.0),
    event("2020-01-02 09:00:00", "purchase", user_id=REGULAR, price=1.0),
    event("2020-01-09 12:00:00", "purchase", user_id=REGULAR, price=0.0),
    *(
        event(f"2020-01-01 00:00:0{n}", "purchase", 1, u, p)
        for u, prices in PRICES.items()
        for n, p in enumerate(prices)
    ),
]


@pytest.fixture(scope="module")
def features(spark: SparkSession) -> DataFrame:
    return build_user_features(events_frame(spark, EVENTS))


@pytest.fixture(scope="module")
def users(features: DataFrame) -> dict[int, dict[str, Any]]:
    """The features of each user, times as text in UTC."""
    texts = {name: F.col(name).cast("string") for name in ("first_event_time", "last_event_time")}
    rows = features.withColumns(texts).collect()
    assert len(rows) == len({row["user_id"] for row in rows})
    return {row["user_id"]: row.asDict() for row in rows}


def test_columns_have_the_declared_names_and_types(features: DataFrame) -> None:
    assert features.dtypes == [(c.name, c.type) for c in USER_FEATURES.with_id_type("bigint").columns]


def test_every_column_of_a_buyer(users: dict[int, dict[str, Any]]) -> None:
    assert users[BUYER] == {
        "user_id": BUYER,
        "recency": 1,  # from the 9th to the 10th, although only 30 minutes apart
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
    user = users[CART_ONLY]
    assert user["conversion_rate"] == 0.0  # one purchase, no view
    assert user["cart_abandonment"] == 0.75  # (4 - 1) / 4
    assert user["recency"] == 10  # 31 December to 10 January
    assert user["avg_price"] == 2.0  # (1 + 1 + 1 + 1 + 6) / 5


def test_days_between_purchases_is_the_mean_gap_of_purchase_days(users: dict[int, dict[str, Any]]) -> None:
    user = users[REGULAR]
    assert user["purchase_recency"] == 1  # 9th to 10th
    assert user["purchase_days"] == 3
    assert user["avg_purchase_day_value"] == 4.0  # (10 + 2 + 0) / 3
    assert user["days_between_purchases"] == 4.0  # (1 + 7) / 2


def test_monetary_is_exact(users: dict[int, dict[str, Any]]) -> None:
    assert [users[user]["monetary"] for user in PRICES] == [0.3, 1.0, 1_000_000_000.0]


def test_recency_counts_back_from_a_given_reference(spark: SparkSession) -> None:
    events = events_frame(spark, [event("2020-01-31 23:00:00")])
    assert reference_time(events) == dt.datetime(2020, 1, 31, 23, tzinfo=dt.UTC)
    reference = dt.datetime(2020, 2, 1, 0, 0, tzinfo=dt.UTC)
    assert build_user_features(events, reference).collect()[0]["recency"] == 1


def test_without_events_there_are_no_users(spark: SparkSession) -> None:
    assert reference_time(events_frame(spark, [])) is None
    assert build_user_features(events_frame(spark, [])).collect() == []


@pytest.mark.spark_only
def test_days_are_in_utc_whatever_the_time_zone_of_the_session(spark: SparkSession) -> None:
    session = spark.newSession()
    session.conf.set("spark.sql.session.timeZone", "America/New_York")
    rows = [(int(e["event_time"].timestamp() * 1_000_000), *list(e.values())[1:]) for e in EVENTS]
    ddl = EVENTS_DDL.replace("event_time timestamp", "event_time bigint")
    events = session.createDataFrame(rows, ddl).withColumn("event_time", F.timestamp_micros("event_time"))
    features = {row["user_id"]: (row["recency"], row["frequency"]) for row in build_user_features(events).collect()}
    expected = {BUYER: (1, 3), REMOVER: (9, 1), CART_ONLY: (10, 1), LAST: (0, 1)}
    assert {user: features[user] for user in expected} == expected

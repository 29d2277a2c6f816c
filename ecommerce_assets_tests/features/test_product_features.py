"""product_features against tables that can be checked in one's head."""

import random
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features.product_features import PRODUCT_FEATURES, build_product_features
from ecommerce_assets_tests.helpers import event, events_frame

PHONE, SHOE, NAMELESS = 10, 20, 30

EVENTS = [
    event("2020-01-01 10:00:00", "view", PHONE, 1, 10.0, "acme", "electronics.smartphone"),
    event("2020-01-02 10:00:00", "view", PHONE, 2, 12.0, "zeta", None),
    event("2020-01-02 10:00:00", "cart", PHONE, 2, 12.0, "beta", None),
    event("2020-01-03 10:00:00", "purchase", PHONE, 2, 11.5, None, None),
    event("2020-01-03 10:01:00", "remove_from_cart", PHONE, 3, 11.5, None, None),
    event("2020-01-04 10:00:00", "purchase", PHONE, 4, 15.0, None, None),
    event("2020-01-01 10:00:00", "view", SHOE, 1, 5.0, "old", "kids.toys"),
    event("2020-01-02 10:00:00", "view", SHOE, 1, 5.0, "new", "apparel.shoes.keds"),
    event("2020-01-02 10:00:01", "purchase", SHOE, 1, 5.0, None, None),
    event("2020-01-05 10:00:00", "remove_from_cart", NAMELESS, 9, 0.0, None, None),
]


@pytest.fixture(scope="module")
def products(spark: SparkSession) -> dict[int, dict[str, Any]]:
    """The features of each product."""
    return by_product(build_product_features(events_frame(spark, EVENTS)))


def by_product(features: DataFrame) -> dict[int, dict[str, Any]]:
    return {row["product_id"]: row.asDict() for row in features.collect()}


def test_has_one_row_per_product_with_the_documented_columns_and_types(spark: SparkSession) -> None:
    features = build_product_features(events_frame(spark, EVENTS))
    assert sorted(row["product_id"] for row in features.collect()) == [PHONE, SHOE, NAMELESS]
    assert features.dtypes == [(c.name, c.type) for c in PRODUCT_FEATURES.with_id_type("bigint").columns]


def test_every_column_of_a_product(products: dict[int, dict[str, Any]]) -> None:
    assert products[PHONE] == {
        "product_id": PHONE,
        "category": "electronics",
        "brand": "zeta",  # the latest events have none; zeta and beta come at one time
        "category_id": None,
        "total_events": 6,
        "total_views": 2,
        "total_carts": 1,
        "total_removals": 1,
        "total_purchases": 2,
        "unique_users": 4,  # user 3 only removed
        "avg_price": 12.0,  # (10 + 12 + 12 + 11.5 + 11.5 + 15) / 6 = 72 / 6
        "revenue": 26.5,  # 11.5 + 15
        "conversion_rate": 1.0,  # 2 / 2
        "enhanced_popularity_score": 2.5,  # (3 * 2 + 2 * 1 + 2) / 4
    }


def test_latest_event_with_a_value_names_brand_and_category(products: dict[int, dict[str, Any]]) -> None:
    assert (products[SHOE]["category"], products[SHOE]["brand"]) == ("apparel", "new")
    assert products[SHOE]["conversion_rate"] == 0.5  # 1 / 2
    assert products[SHOE]["enhanced_popularity_score"] == 5.0  # (3 * 1 + 2) / 1


def test_product_with_a_single_removal_has_zeros_and_no_brand(products: dict[int, dict[str, Any]]) -> None:
    assert products[NAMELESS] == {
        "product_id": NAMELESS,
        "category": "unknown",
        "brand": None,
        "category_id": None,
        "total_events": 1,
        "total_views": 0,
        "total_carts": 0,
        "total_removals": 1,
        "total_purchases": 0,
        "unique_users": 1,
        "avg_price": 0.0,
        "revenue": 0.0,
        "conversion_rate": 0.0,
        "enhanced_popularity_score": 0.0,
    }


def test_category_id_is_that_of_the_latest_event_that_has_one(spark: SparkSession) -> None:
    times = {"2020-01-01 10:00:00": 7, "2020-01-02 10:00:00": 8, "2020-01-03 10:00:00": None}
    events = [event(time, category_id=number) for time, number in times.items()]
    assert by_product(build_product_features(events_frame(spark, events)))[1]["category_id"] == 8


def test_purchases_without_a_view_convert_nothing(spark: SparkSession) -> None:
    bought = events_frame(spark, [event("2020-01-01 10:00:00", "purchase", 1)])
    assert by_product(build_product_features(bought))[1]["conversion_rate"] == 0.0


def test_category_is_the_part_before_the_first_dot(spark: SparkSession) -> None:
    codes = {1: "electronics.smartphone", 2: "apparel.shoes.keds", 3: "kids", 4: None}
    events = [event("2020-01-01 10:00:00", product_id=p, category_code=code) for p, code in codes.items()]
    found = by_product(build_product_features(events_frame(spark, events)))
    assert {p: row["category"] for p, row in found.items()} == {1: "electronics", 2: "apparel", 3: "kids", 4: "unknown"}


@pytest.mark.parametrize("codes", [("apparel.shirt", "computers.desktop"), ("computers.desktop", "apparel.shirt")])
def test_of_two_values_at_one_time_the_largest_is_taken(spark: SparkSession, codes: tuple[str, str]) -> None:
    events = [
        event("2020-01-01 10:00:00", category_code=codes[0], brand=codes[0]),
        event("2020-01-01 10:00:00", category_code=codes[1], brand=codes[1]),
    ]
    found = by_product(build_product_features(events_frame(spark, events)))[1]
    assert (found["category"], found["brand"]) == ("computers", "computers.desktop")


def test_brand_and_category_may_come_from_different_events(spark: SparkSession) -> None:
    events = [
        event("2020-01-01 10:00:00", brand="acme", category_code="auto.tires"),
        event("2020-01-02 10:00:00", brand=None, category_code="sport.bicycle"),
    ]
    found = by_product(build_product_features(events_frame(spark, events)))[1]
    assert (found["category"], found["brand"]) == ("sport", "acme")


def test_revenue_is_exact(spark: SparkSession) -> None:
    bought = [event("2020-01-01 10:00:00", "purchase", price=0.1), event("2020-01-01 10:00:01", "purchase", price=0.2)]
    assert by_product(build_product_features(events_frame(spark, bought)))[1]["revenue"] == 0.3


def test_no_events_give_no_products(spark: SparkSession) -> None:
    assert build_product_features(events_frame(spark, [])).collect() == []


def test_order_of_rows_does_not_matter(spark: SparkSession) -> None:
    draw = random.Random(8)
    events = [
        event(
            f"2020-01-{draw.randint(1, 5):02d} {draw.randint(0, 3):02d}:00:00",
            draw.choice(["view", "cart", "remove_from_cart", "purchase"]),
            product_id=draw.randint(1, 5),
            user_id=draw.randint(1, 9),
            price=draw.randint(0, 100_000) / 100,
            brand=draw.choice([None, "a", "b", "c"]),
            category_code=draw.choice([None, "a.x", "a.y", "b", "c.z.w"]),
        )
        for _ in range(200)
    ]
    expected = by_product(build_product_features(events_frame(spark, events)))
    draw.shuffle(events)
    assert by_product(build_product_features(events_frame(spark, events).repartition(5))) == expected

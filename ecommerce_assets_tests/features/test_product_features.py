"""product_features against values computed by hand."""

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features.product_features import PRODUCT_FEATURES, build_product_features
from ecommerce_assets_tests.helpers import event, events_frame

PHONE, SHOE, NAMELESS, MOVED, ONLY_BOUGHT, MIXED = 10, 20, 30, 40, 41, 42
CODES = {51: "electronics.smartphone", 52: "apparel.shoes.keds", 53: "kids", 54: None}
TIES = {61: ("apparel.shirt", "computers.desktop"), 62: ("computers.desktop", "apparel.shirt")}

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
    *(event(f"2020-01-0{n} 10:00:00", product_id=MOVED, category_id=id_) for n, id_ in enumerate((7, 8, None), 1)),
    *(event(f"2020-01-01 10:00:0{n}", "purchase", ONLY_BOUGHT, price=price) for n, price in enumerate((0.1, 0.2))),
    event("2020-01-01 10:00:00", product_id=MIXED, brand="acme", category_code="auto.tires"),
    event("2020-01-02 10:00:00", product_id=MIXED, brand=None, category_code="sport.bicycle"),
    *(event("2020-01-01 10:00:00", product_id=product, category_code=code) for product, code in CODES.items()),
    *(
        event("2020-01-01 10:00:00", product_id=product, category_code=code, brand=code)
        for product, codes in TIES.items()
        for code in codes
    ),
]


@pytest.fixture(scope="module")
def features(spark: SparkSession) -> DataFrame:
    return build_product_features(events_frame(spark, EVENTS))


@pytest.fixture(scope="module")
def products(features: DataFrame) -> dict[int, dict[str, Any]]:
    rows = features.collect()
    assert len(rows) == len({row["product_id"] for row in rows})
    return {row["product_id"]: row.asDict() for row in rows}


def test_columns_have_the_declared_names_and_types(features: DataFrame) -> None:
    assert features.dtypes == [(c.name, c.type) for c in PRODUCT_FEATURES.with_id_type("bigint").columns]


def test_every_column_of_a_product(products: dict[int, dict[str, Any]]) -> None:
    assert products[PHONE] == {
        "product_id": PHONE,
        "category": "electronics",
        "brand": "zeta",  # the latest events have none; zeta and beta are at the same time
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


def test_category_id_is_that_of_the_latest_event_that_has_one(products: dict[int, dict[str, Any]]) -> None:
    assert products[MOVED]["category_id"] == 8


def test_conversion_rate_is_zero_without_views_and_revenue_is_exact(products: dict[int, dict[str, Any]]) -> None:
    assert products[ONLY_BOUGHT]["conversion_rate"] == 0.0
    assert products[ONLY_BOUGHT]["revenue"] == 0.3


def test_category_is_the_part_before_the_first_dot(products: dict[int, dict[str, Any]]) -> None:
    categories = {product: products[product]["category"] for product in CODES}
    assert categories == {51: "electronics", 52: "apparel", 53: "kids", 54: "unknown"}


def test_the_largest_of_two_values_at_one_time_is_taken(products: dict[int, dict[str, Any]]) -> None:
    for product in TIES:
        assert (products[product]["category"], products[product]["brand"]) == ("computers", "computers.desktop")


def test_brand_and_category_may_come_from_different_events(products: dict[int, dict[str, Any]]) -> None:
    assert (products[MIXED]["category"], products[MIXED]["brand"]) == ("sport", "acme")


def test_without_events_there_are_no_products(spark: SparkSession) -> None:
    assert build_product_features(events_frame(spark, [])).collect() == []

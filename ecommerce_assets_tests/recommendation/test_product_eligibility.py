"""Which products are eligible, and why not, by hand."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ecommerce_assets.recommendation.catalog import KINDS, ProductCatalog
from ecommerce_assets.recommendation.product_eligibility import eligible_products
from ecommerce_assets.recommendation.product_rules import ProductRules

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
TYPES = {"string": pa.string(), "double": pa.float64(), "boolean": pa.bool_(), "id": pa.int64()}
TYPES["timestamp"] = pa.timestamp("us", tz="UTC")
INDEX = pa.table({"product_id": [1, 2, 3]})
FEATURES = pa.table(
    {
        "product_id": [1, 2, 3],
        "category": ["electronics", "unknown", "toys"],
        "brand": ["acme", None, "zeta"],
        "avg_price": [10.0, 20.0, None],
    }
)


def decide(products: list[dict[str, Any]] | None = None, **rules: Any) -> dict[int, dict[str, Any]]:
    """The rows by product_id."""
    schema = pa.schema({name: TYPES[kind] for name, kind in KINDS.items()})
    table = None if products is None else pa.Table.from_pylist(products, schema)
    rows = eligible_products(ProductCatalog(table, ProductRules(**rules)), INDEX, FEATURES, NOW)
    return {row["product_id"]: row for row in rows.to_pylist()}


def reasons(products: list[dict[str, Any]] | None = None, **rules: Any) -> dict[int, str | None]:
    rows = decide(products, **rules)
    assert all(row["eligible"] == (row["reason"] is None) for row in rows.values())
    return {product: row["reason"] for product, row in rows.items()}


def test_without_a_catalogue_every_product_of_the_index_is_eligible() -> None:
    assert reasons() == {1: None, 2: None, 3: None}
    about = {"name": None, "category": "electronics", "brand": "acme", "price": 10.0, "in_catalog": False}
    assert decide()[1].items() >= about.items()


def test_values_of_the_catalogue_come_before_those_of_the_events() -> None:
    row = decide([{"product_id": 1, "name": "Phone", "category": "electronics.phone", "price": 9.0}])[1]
    assert (row["name"], row["category"], row["brand"], row["price"]) == ("Phone", "electronics.phone", "acme", 9.0)
    assert row["in_catalog"]


def test_products_that_only_the_catalogue_has_are_added() -> None:
    assert reasons([{"product_id": 7}]) == {1: None, 2: None, 3: None, 7: None}


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        ({"blocked": True, "in_stock": False}, "blocked"),
        ({"in_stock": False}, "out of stock"),
        ({"in_stock": None}, None),
        ({"available_from": datetime(2024, 6, 15, 12, 0, 1, tzinfo=UTC)}, "not yet available"),
        ({"available_from": NOW}, None),
        ({"available_until": datetime(2024, 6, 15, 11, 59, tzinfo=UTC)}, "no longer available"),
        ({"available_until": datetime(2024, 6, 15, tzinfo=UTC)}, None),  # the day itself is included
        ({"available_until": datetime(2024, 6, 14, tzinfo=UTC)}, "no longer available"),
    ],
)
def test_stock_dates_and_blocks_decide(product: dict[str, Any], reason: str | None) -> None:
    assert reasons([{"product_id": 1, **product}]) == {1: reason, 2: None, 3: None}


def test_stock_is_ignored_without_in_stock_only() -> None:
    assert reasons([{"product_id": 1, "in_stock": False}], in_stock_only=False)[1] is None


def test_listed_products_only() -> None:
    assert reasons([{"product_id": 1}], listed_only=True) == {
        1: None,
        2: "not in the catalogue",
        3: "not in the catalogue",
    }


def test_a_category_with_all_below_it_and_no_other() -> None:
    products = [{"product_id": 7, "category": "Toys.blocks"}, {"product_id": 8, "category": "toyshop"}]
    result = reasons(products, excluded_categories=["toys "])
    assert result == {1: None, 2: None, 3: "excluded category", 7: "excluded category", 8: None}


def test_brands_and_prices_work_without_a_catalogue() -> None:
    assert reasons(excluded_brands=["ACME"]) == {1: "excluded brand", 2: None, 3: None}
    outside = "price outside the range"
    assert reasons(min_price=10, max_price=15) == {1: None, 2: outside, 3: outside}

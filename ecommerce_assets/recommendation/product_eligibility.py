"""product_eligibility: which products may be recommended, and their names, categories, brands and prices.

`product_eligibility` is the entry point. All lists read the table and leave out products that are not eligible.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from pyspark.sql import DataFrame

from ecommerce_assets.events.parsing import connect, literal
from ecommerce_assets.recommendation.catalog import KINDS, ProductCatalog
from ecommerce_assets.recommendation.product_rules import ProductRules
from ecommerce_assets.spark.column_lineage import Origins
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.stored_table import StoredTable

REASONS = (
    "blocked",
    "not in the catalogue",
    "out of stock",
    "not yet available",
    "no longer available",
    "excluded category",
    "excluded brand",
    "price outside the range",
)
"""Reasons why a product is not eligible; the first one that applies is recorded."""

PRODUCT_ELIGIBILITY = TableSpec.of(
    ColumnSpec("product_id", "id", "The product, from product_index or the catalogue.", key=True),
    ColumnSpec("name", "string", "Its name in the catalogue."),
    ColumnSpec("category", "string", "Its category in the catalogue, else in product_features."),
    ColumnSpec("brand", "string", "Its brand in the catalogue, else in product_features."),
    ColumnSpec("price", "double", "Its price in the catalogue, else the mean price of its events."),
    ColumnSpec("in_catalog", "boolean", "Whether the catalogue lists it.", nullable=False),
    ColumnSpec("eligible", "boolean", "Whether it may be recommended.", nullable=False),
    ColumnSpec("reason", "string", f"Why it is not eligible: {', '.join(REASONS)}. Null if it is eligible."),
)


def product_eligibility(
    catalog: ProductCatalog, product_index: StoredTable, product_features: StoredTable, now: datetime | None = None
) -> tuple[pa.Table, Origins]:
    """Returns one row for each product of the index and of the catalogue.

    Parameters
    ----------
    catalog
        The shop's catalogue and rules.
    product_index
        `product_id`.
    product_features
        `product_id`, `category`, `brand`, `avg_price`.
    now
        Time at which `available_from` and `available_until` are evaluated; None: the current time.

    Returns
    -------
    pyarrow.Table
        The columns of `PRODUCT_ELIGIBILITY`.
    Origins
        The sources of the columns.
    """
    index = product_index.to_arrow("product_id")
    features = product_features.to_arrow("product_id", "category", "brand", "avg_price")
    rows = eligible_products(catalog, index, features, now or datetime.now(UTC))
    in_catalog = {name: f"product_catalog.{name}" for name in KINDS}
    feature_names = {"category": "category", "brand": "brand", "price": "avg_price"}
    in_features = {name: (product_features.frame, column) for name, column in feature_names.items()}
    ids: list[tuple[DataFrame, str] | str] = [(product_index.frame, "product_id"), in_catalog["product_id"]]
    all_columns: list[tuple[DataFrame, str] | str] = [*in_catalog.values(), *in_features.values()]
    return rows, {
        "product_id": ids,
        "name": [in_catalog["name"]],
        **{name: [in_catalog[name], column] for name, column in in_features.items()},
        "in_catalog": ids,
        "eligible": all_columns,
        "reason": all_columns,
    }


def eligible_products(
    catalog: ProductCatalog, product_index: pa.Table, product_features: pa.Table, now: datetime
) -> pa.Table:
    """Returns the rows of `product_eligibility` as an Arrow table, sorted by product_id.

    Parameters
    ----------
    product_index
        `product_id`.
    product_features
        `product_id`, `category`, `brand`, `avg_price`.
    now
        Time at which `available_from` and `available_until` are evaluated.
    """
    with TemporaryDirectory() as scratch, connect(Path(scratch)) as connection:
        connection.register("product_index", product_index)
        connection.register("product_features", product_features)
        empty = product_index.slice(0, 0)
        for name in KINDS:
            if catalog.products is None and name != "product_id":
                empty = empty.append_column(name, pa.nulls(0, pa.string()))
        connection.register("catalog", empty if catalog.products is None else catalog.products)
        reason = " ".join(_reasons(catalog, now))
        return connection.sql(
            f"""
            WITH products AS (
                SELECT
                    coalesce(i.product_id, c.product_id) AS product_id, c.name,
                    coalesce(c.category, f.category) AS category, coalesce(c.brand, f.brand) AS brand,
                    coalesce(TRY_CAST(c.price AS DOUBLE), f.avg_price) AS price,
                    c.product_id IS NOT NULL AS in_catalog,
                    c.in_stock, c.available_from, c.available_until, c.blocked
                FROM product_index i FULL JOIN catalog c ON i.product_id = c.product_id
                LEFT JOIN product_features f ON f.product_id = coalesce(i.product_id, c.product_id)
            ), with_reason AS (SELECT *, CASE {reason} END AS reason FROM products)
            SELECT product_id, name, category, brand, price, in_catalog, reason IS NULL AS eligible, reason
            FROM with_reason ORDER BY product_id
            """
        ).to_arrow_table()


def _reasons(catalog: ProductCatalog, now: datetime) -> Iterator[str]:
    """Yields the branches of an SQL CASE, in the order of `REASONS`."""
    rules, sql_now = catalog.rules, f"TIMESTAMPTZ {literal(now.isoformat())}"
    if catalog.products is not None:
        yield "WHEN blocked THEN 'blocked'"
        if rules.listed_only:
            yield "WHEN NOT in_catalog THEN 'not in the catalogue'"
        if rules.in_stock_only:
            yield "WHEN NOT in_stock THEN 'out of stock'"
        yield f"WHEN available_from > {sql_now} THEN 'not yet available'"
        is_date = "available_until = date_trunc('day', available_until)"
        end = f"CASE WHEN {is_date} THEN available_until + INTERVAL 1 DAY ELSE available_until END"
        yield f"WHEN {end} <= {sql_now} THEN 'no longer available'"
    for category in rules.excluded_categories:
        name = literal(category.strip().lower())
        yield f"WHEN lower(category) = {name} OR starts_with(lower(category), {name} || '.') THEN 'excluded category'"
    for brand in rules.excluded_brands:
        yield f"WHEN lower(brand) = {literal(brand.strip().lower())} THEN 'excluded brand'"
    outside = _outside_range(rules)
    if outside:
        yield f"WHEN {outside} THEN 'price outside the range'"
    yield "WHEN false THEN ''"  # a CASE needs at least one branch


def _outside_range(rules: ProductRules) -> str:
    limits = [f"price < {rules.min_price!r}"] if rules.min_price is not None else []
    limits += [f"price > {rules.max_price!r}"] if rules.max_price is not None else []
    return " OR ".join([*limits, "price IS NULL"]) if limits else ""

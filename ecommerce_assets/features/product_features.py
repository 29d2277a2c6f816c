"""product_features: activity, revenue, brand and category of each product. Entry point: `build_product_features`."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import distinct_count, exact_sum, of_type, ratio
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

UNKNOWN_CATEGORY = "unknown"

PRODUCT_FEATURES = TableSpec.of(
    ColumnSpec("product_id", "id", "Product.", key=True),
    ColumnSpec(
        "category",
        "string",
        "Part of category_code before the first dot, from the latest event that has one; else unknown.",
        nullable=False,
    ),
    ColumnSpec("brand", "string", "Brand of the product's latest event that has one."),
    ColumnSpec("category_id", "bigint", "category_id of the product's latest event that has one."),
    ColumnSpec("total_events", "bigint", "Events of all types.", nullable=False),
    ColumnSpec("total_views", "bigint", "Events of type view.", nullable=False),
    ColumnSpec("total_carts", "bigint", "Events of type cart.", nullable=False),
    ColumnSpec("total_removals", "bigint", "Events of type remove_from_cart.", nullable=False),
    ColumnSpec("total_purchases", "bigint", "Events of type purchase.", nullable=False),
    ColumnSpec("unique_users", "bigint", "Distinct users over all events.", nullable=False),
    ColumnSpec("avg_price", "double", "Mean price over all events of the product.", nullable=False),
    ColumnSpec("revenue", "double", "Sum of price over purchases.", nullable=False),
    ColumnSpec("conversion_rate", "double", "total_purchases / total_views, 0 without views.", nullable=False),
    ColumnSpec(
        "enhanced_popularity_score",
        "double",
        "(3 total_purchases + 2 total_carts + total_views) / unique_users.",
        nullable=False,
    ),
)


def build_product_features(events: DataFrame) -> DataFrame:
    """Returns one row per product with the columns of `PRODUCT_FEATURES`.

    Parameters
    ----------
    events
        cleaned_events, any number of rows in any order.

    Notes
    -----
    enhanced_popularity_score = (3 · total_purchases + 2 · total_carts + total_views) / unique_users.
    """
    purchases, views, carts = (F.count_if(of_type(name)) for name in ("purchase", "view", "cart"))
    users = distinct_count(F.col("user_id"))
    category = F.substring_index(_latest("category_code"), ".", 1)
    by_product = (
        events.select(
            "product_id", "user_id", "event_time", "event_type", "price", "category_id", "category_code", "brand"
        )
        .repartition("product_id")
        .sortWithinPartitions("product_id")
    )
    return by_product.groupBy("product_id").agg(
        F.coalesce(category, F.lit(UNKNOWN_CATEGORY)).alias("category"),
        _latest("brand").alias("brand"),
        _latest("category_id").alias("category_id"),
        F.count("*").alias("total_events"),
        views.alias("total_views"),
        carts.alias("total_carts"),
        F.count_if(of_type("remove_from_cart")).alias("total_removals"),
        purchases.alias("total_purchases"),
        users.alias("unique_users"),
        (exact_sum(F.col("price")) / F.count("*")).alias("avg_price"),
        exact_sum(F.when(of_type("purchase"), F.col("price"))).alias("revenue"),
        ratio(purchases, views).alias("conversion_rate"),
        ((purchases * 3 + carts * 2 + views) / users).alias("enhanced_popularity_score"),
    )


def _latest(name: str) -> SparkColumn:
    """The value of the latest event that has one; ties go to the largest value, so that row order does not matter."""
    value = F.col(name)
    return F.max(F.when(value.isNotNull(), F.struct("event_time", value.alias("value")))).getField("value")

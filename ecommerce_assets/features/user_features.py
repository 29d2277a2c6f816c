"""user_features: recency, frequency, monetary value and behaviour of each user. Entry point: `build_user_features`."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import (
    distinct_count,
    exact_sum,
    fingerprint,
    of_type,
    ratio,
    timestamp,
    utc,
    utc_day,
)
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

USER_FEATURES = TableSpec.of(
    ColumnSpec("user_id", "id", "User.", key=True),
    ColumnSpec("recency", "int", "Days from the user's last event to the reference date.", nullable=False),
    ColumnSpec("frequency", "bigint", "Distinct days (UTC) with an event.", nullable=False),
    ColumnSpec("monetary", "double", "Sum of price over purchases.", nullable=False),
    ColumnSpec("total_events", "bigint", "Events of all types.", nullable=False),
    ColumnSpec("views", "bigint", "Events of type view.", nullable=False),
    ColumnSpec("carts", "bigint", "Events of type cart.", nullable=False),
    ColumnSpec("removals", "bigint", "Events of type remove_from_cart.", nullable=False),
    ColumnSpec("purchases", "bigint", "Events of type purchase.", nullable=False),
    ColumnSpec("unique_products", "bigint", "Distinct product_id over all events.", nullable=False),
    ColumnSpec("unique_categories", "bigint", "Distinct category_id, nulls not counted.", nullable=False),
    ColumnSpec("unique_brands", "bigint", "Distinct brand, nulls not counted.", nullable=False),
    ColumnSpec("unique_sessions", "bigint", "Distinct user_session, nulls not counted.", nullable=False),
    ColumnSpec("avg_price", "double", "Mean price over all events of the user.", nullable=False),
    ColumnSpec("conversion_rate", "double", "purchases / views, 0 without views.", nullable=False),
    ColumnSpec(
        "cart_abandonment",
        "double",
        "(carts - purchases) / carts, 0 without carts; negative for users who buy without the cart.",
        nullable=False,
    ),
    ColumnSpec("first_event_time", "timestamp", "The user's first event, UTC.", nullable=False),
    ColumnSpec("last_event_time", "timestamp", "The user's last event, UTC.", nullable=False),
    ColumnSpec(
        "purchase_recency", "int", "Days from the user's last purchase to the reference date; null without a purchase."
    ),
    ColumnSpec("purchase_days", "bigint", "Distinct days (UTC) with a purchase.", nullable=False),
    ColumnSpec("avg_purchase_day_value", "double", "monetary / purchase_days; null without a purchase."),
    ColumnSpec(
        "days_between_purchases",
        "double",
        "Mean number of days between consecutive days with a purchase; null with fewer than two such days.",
    ),
)

CLUSTERING_FEATURES = (
    "recency",
    "frequency",
    "monetary",
    "conversion_rate",
    "cart_abandonment",
    "unique_products",
    "unique_categories",
    "avg_price",
)
"""The features that the segmentation clusters users by, in the order of its feature vector."""


def reference_time(events: DataFrame) -> datetime | None:
    """Returns the latest event_time, in UTC, from which recency is counted; None without events."""
    latest = events.agg(F.unix_micros(F.max("event_time"))).collect()[0][0]
    return None if latest is None else utc(latest)


def build_user_features(events: DataFrame, reference: datetime | None = None) -> DataFrame:
    """Returns one row per user with the columns of `USER_FEATURES`.

    Parameters
    ----------
    events
        cleaned_events, any number of rows in any order.
    reference
        Recency is counted back from the day (UTC) of this time; by default the latest event_time of `events`.

    Notes
    -----
    RFM after Hughes, "Strategic Database Marketing" (1994): recency in days, frequency as days of activity, monetary
    as the sum of purchases.
    """
    reference = reference or reference_time(events)
    purchases, views, carts = (F.count_if(of_type(name)) for name in ("purchase", "view", "cart"))
    reference_day = utc_day(timestamp(reference) if reference else F.max("event_time"))
    purchase_day = F.when(of_type("purchase"), utc_day(F.col("event_time")))
    purchase_days, monetary = distinct_count(purchase_day), exact_sum(F.when(of_type("purchase"), F.col("price")))
    # One shuffle of narrow rows; afterwards the rows of a user are adjacent, which distinct_count needs to be fast.
    by_user = (
        events.select(
            "user_id",
            "event_time",
            "event_type",
            "price",
            "product_id",
            "category_id",
            fingerprint("brand").alias("brand"),
            fingerprint("user_session").alias("user_session"),
        )
        .repartition("user_id")
        .sortWithinPartitions("user_id")
    )
    return by_user.groupBy("user_id").agg(
        (reference_day - utc_day(F.max("event_time"))).alias("recency"),
        distinct_count(utc_day(F.col("event_time"))).alias("frequency"),
        monetary.alias("monetary"),
        F.count("*").alias("total_events"),
        views.alias("views"),
        carts.alias("carts"),
        F.count_if(of_type("remove_from_cart")).alias("removals"),
        purchases.alias("purchases"),
        distinct_count(F.col("product_id")).alias("unique_products"),
        distinct_count(F.col("category_id")).alias("unique_categories"),
        distinct_count(F.col("brand")).alias("unique_brands"),
        distinct_count(F.col("user_session")).alias("unique_sessions"),
        (exact_sum(F.col("price")) / F.count("*")).alias("avg_price"),
        ratio(purchases, views).alias("conversion_rate"),
        ratio(carts - purchases, carts).alias("cart_abandonment"),
        F.min("event_time").alias("first_event_time"),
        F.max("event_time").alias("last_event_time"),
        (reference_day - F.max(purchase_day)).alias("purchase_recency"),
        purchase_days.alias("purchase_days"),
        F.when(purchase_days > 0, monetary / purchase_days).alias("avg_purchase_day_value"),
        F.when(purchase_days > 1, (F.max(purchase_day) - F.min(purchase_day)) / (purchase_days - 1)).alias(
            "days_between_purchases"
        ),
    )

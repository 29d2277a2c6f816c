"""Computes interaction_data, the rating of each user for each product: `build_interactions`.

`collect_pairs` reads it into this process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import SECONDS_PER_DAY
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.stored_table import StoredTable

WEIGHTS = {"view": 1.0, "cart": 3.0, "purchase": 5.0}
"""What an event of each type adds to the rating; other types are not interactions."""

MAX_RATING = 10.0
"""Upper limit of a rating."""

INTERACTION_DATA = TableSpec.of(
    ColumnSpec("user_idx", "int", "Index of the user in user_index.", key=True),
    ColumnSpec("product_idx", "int", "Index of the product in product_index.", key=True),
    ColumnSpec("rating", "double", "Sum of weights (view 1, cart 3, purchase 5), at most 10.", nullable=False),
    ColumnSpec("interaction_count", "bigint", "Number of views, carts and purchases.", nullable=False),
    ColumnSpec("purchases", "bigint", "Number of purchases.", nullable=False),
    ColumnSpec("last_interaction_at", "timestamp", "Time of the latest view, cart or purchase, UTC.", nullable=False),
)


def rating_of(condition: SparkColumn | None = None) -> SparkColumn:
    """Returns the aggregate that computes the rating of a pair from its events; null without interactions.

    With a condition, only the events that meet it count.
    """
    weight = F.lit(None).cast("double")
    for event_type, value in WEIGHTS.items():
        weight = F.when(F.col("event_type") == event_type, value).otherwise(weight)
    total = F.sum(weight if condition is None else F.when(condition, weight))
    return F.when(total.isNotNull(), F.least(total, F.lit(MAX_RATING)))


def build_interactions(events: DataFrame, user_index: DataFrame, product_index: DataFrame) -> DataFrame:
    """Returns `INTERACTION_DATA`: one row per user and product with a view, cart or purchase.

    Pairs whose user or product is not in an index are left out; the fallback serves these users.
    """
    interactions = events.where(F.col("event_type").isin(*WEIGHTS)).select(
        "user_id", "product_id", "event_type", "event_time"
    )
    # Repartitioned by user before the aggregation: a partial count before the shuffle halves the rows at best, and this
    # way the join with user_index needs no other shuffle. The products are broadcast, as their factors will be.
    pairs = (
        interactions.repartition("user_id")
        .groupBy("user_id", "product_id")
        .agg(
            rating_of().alias("rating"),
            F.count("*").alias("interaction_count"),
            F.count_if(F.col("event_type") == "purchase").alias("purchases"),
            F.max("event_time").alias("last_interaction_at"),
        )
    )
    return (
        pairs.join(user_index.select("user_id", "user_idx"), "user_id")
        .join(F.broadcast(product_index.select("product_id", "product_idx")), "product_id")
        .select(*INTERACTION_DATA.names)
    )


MICROSECONDS_PER_DAY = SECONDS_PER_DAY * 1_000_000

EVENTS, PURCHASED, LAST = "events", "purchased", "last"
"""Optional columns of `collect_pairs`."""

_SOURCES = {EVENTS: "interaction_count", PURCHASED: "purchases", LAST: "last_interaction_at"}


def collect_pairs(interactions: StoredTable, *more: str) -> pa.Table:
    """Returns interaction_data in this process.

    Parameters
    ----------
    more
        Further columns: `EVENTS`, `PURCHASED` or `LAST`.

    Returns
    -------
    pa.Table
        `user_idx`, `product_idx` (int32), `rating` (float32); and if requested `events` (int32, number of views,
        carts and purchases), `purchased` (bool), `last` (int64, microseconds since 1970).
    """
    rows = interactions.to_arrow("user_idx", "product_idx", "rating", *(_SOURCES[name] for name in sorted(more)))
    columns: dict[str, Any] = {name: rows.column(name).cast(pa.int32()) for name in ("user_idx", "product_idx")}
    columns["rating"] = rows.column("rating").cast(pa.float32())
    if EVENTS in more:
        columns[EVENTS] = rows.column(_SOURCES[EVENTS]).cast(pa.int32())
    if PURCHASED in more:
        columns[PURCHASED] = pc.greater(rows.column(_SOURCES[PURCHASED]), 0)
    if LAST in more:
        columns[LAST] = rows.column(_SOURCES[LAST]).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return pa.table({name: columns[name] for name in ("user_idx", "product_idx", "rating", *more)})


def weigh_pairs(pairs: pa.Table, half_life: float | None) -> pa.Table:
    """Returns the same as `weigh_by_recency` for pairs of `collect_pairs` with `LAST`."""
    if half_life is None:
        return pairs
    times, rating = (pairs.column(name).to_numpy() for name in (LAST, "rating"))
    age = (times.max(initial=0) - times) / MICROSECONDS_PER_DAY
    weighted = (rating * recency_weight(age, half_life)).astype(np.float32)
    return pairs.set_column(pairs.schema.get_field_index("rating"), "rating", pa.array(weighted))


def weigh_by_recency(interactions: DataFrame, half_life: float | None) -> DataFrame:
    """Returns the interactions with each `rating` multiplied by `recency_weight`.

    The age of a pair is the time from its last interaction to the latest interaction of all pairs.

    Parameters
    ----------
    interactions
        `rating`, `last_interaction_at` and any other columns.
    half_life
        Half-life in days; None: the ratings are unchanged.
    """
    if half_life is None:
        return interactions
    age = (F.lit(latest_interaction(interactions)) - F.unix_micros("last_interaction_at")) / MICROSECONDS_PER_DAY
    return interactions.withColumn("rating", F.col("rating") * recency_weight(age, half_life))


def recency_weight(age: Any, half_life: float) -> Any:
    """Returns the weight of ratings of this age (an array or a Spark column); age and half-life are in days."""
    return 0.5 ** (age / half_life)


def latest_interaction(interactions: DataFrame) -> int:
    """Returns the time of the latest interaction, in microseconds since 1970; 0 without interactions."""
    [row] = interactions.agg(F.max(F.unix_micros("last_interaction_at")).alias("latest")).collect()
    return int(row["latest"] or 0)


def latest_of_pairs(pairs: pa.Table) -> int:
    """Returns the same for pairs of `collect_pairs` with `LAST`."""
    return int(pc.max(pairs.column(LAST)).as_py() or 0)

"""Converts tables into what recommenders are fitted on, and batches of users into what they are called with.

`stats_by_spark`, `stats_in_process`, `neighbours_of` and `item_factors` give the parts of a `Training`; `users_of`
converts the Arrow batches of `mapInArrow`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import SECONDS_PER_DAY
from ecommerce_assets.recommendation.als_model import AlsModel
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.interactions import EVENTS, LAST, PURCHASED
from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.recommendation.products import Products, ids_of
from ecommerce_assets.recommendation.recommenders.base import Floats, Integers, ProductStats, Ragged, Users
from ecommerce_assets.storage.stored_table import StoredTable

RECENT_SHARE = 0.1
"""Share of the time between the first and the last interaction that counts as recent."""

HISTORY = ("product_idx", "rating", EVENTS, PURCHASED, LAST)
"""Fields of an entry of a history, in this order."""


def stats_by_spark(
    interactions: DataFrame, segments: DataFrame, products: Products, categories: pa.Table
) -> ProductStats:
    """Returns the number of users of each product: of all users, of recent ones, and by segment.

    Parameters
    ----------
    interactions
        `user_idx`, `product_idx`, `last_interaction_at`; one row per pair.
    segments
        `user_idx`, `segment` of the users that have a segment.
    products
        The products to count for.
    categories
        `product_id`, `category_id`, `category`; see `category_numbers`.
    """
    at = F.unix_micros("last_interaction_at")
    span = interactions.agg(
        F.min(at).alias("first"), F.max(at).alias("last"), F.count_distinct("user_idx").alias("users")
    )
    sizes = segments.groupBy("segment").agg(F.count("*").alias("users"))
    [row], segment_sizes = span.collect(), sizes.toArrow()
    recent = at >= F.lit(_recent_start(row["first"] or 0, row["last"] or 0))
    counted = (
        interactions.join(segments, "user_idx", "left")
        .groupBy("segment", "product_idx")
        .agg(F.count("*").alias("users"), F.count_if(recent).alias("recent"))
        .toArrow()
    )
    return _stats(counted, segment_sizes, row["users"], products, categories)


def stats_in_process(pairs: pa.Table, segments: pa.Table, products: Products, categories: pa.Table) -> ProductStats:
    """Returns the same as `stats_by_spark`, from pairs of `collect_pairs` with `LAST`."""
    last, users = pairs.column("last"), pairs.column("user_idx").to_numpy()
    ends = pc.min_max(last)
    recent = pc.greater_equal(last, _recent_start(ends["min"].as_py() or 0, ends["max"].as_py() or 0))
    known = segments.select(["user_idx", "segment"])
    counted = (
        pairs.select(["user_idx", "product_idx"])
        .append_column("recent", pc.cast(recent, pa.int64()))
        .join(known, "user_idx")
        .group_by(["segment", "product_idx"])
        .aggregate([("recent", "count"), ("recent", "sum")])
        .rename_columns({"recent_count": "users", "recent_sum": "recent"})
    )
    sizes = known.group_by("segment").aggregate([([], "count_all")]).rename_columns({"count_all": "users"})
    return _stats(counted, sizes, int(np.count_nonzero(np.bincount(users))), products, categories)


def _recent_start(first: int, last: int) -> float:
    """Returns the time from which interactions are recent, for the times of the first and the last interaction."""
    return last - RECENT_SHARE * (last - first)


def _stats(
    counted: pa.Table, segment_sizes: pa.Table, total_users: int, products: Products, categories: pa.Table
) -> ProductStats:
    """Returns the stats from `users` and `recent` by `segment` and `product_idx`, and the `users` of each `segment`."""
    positions = products.positions(counted.column("product_idx").to_numpy())
    users, recent = (counted.column(name).to_numpy() for name in ("users", "recent"))
    segment = np.asarray(counted.column("segment").to_pylist(), dtype=object)
    count = len(products.ids)

    def summed(values: Any, rows: Any) -> Any:
        return np.bincount(positions[rows], values[rows], count).astype(np.int64)

    known = positions >= 0
    sizes = dict(zip(*(segment_sizes.column(name).to_pylist() for name in ("segment", "users")), strict=True))
    return ProductStats(
        users=summed(users, known),
        recent_users=summed(recent, known),
        category=category_numbers(categories, products),
        segment_users={name: summed(users, known & (segment == name)) for name in sizes},
        segment_sizes=sizes,
        total_users=total_users,
    )


def categories_of(product_features: StoredTable) -> pa.Table:
    """Returns `product_id`, `category_id` and `category`, as `category_numbers` reads them."""
    return product_features.to_arrow("product_id", "category_id", "category")


def category_numbers(categories: pa.Table, products: Products) -> npt.NDArray[np.int64]:
    """Returns a number for each product's category, which is its category_id or else its category; -1: unknown."""
    ids = ids_of(categories.column("product_id"))
    category_ids, codes = (categories.column(name).to_pylist() for name in ("category_id", "category"))
    names = [str(number) if number is not None else code for number, code in zip(category_ids, codes, strict=True)]
    numbers: dict[str, int] = {}
    category = np.full(len(products.ids), -1, np.int64)
    for position, name in zip(products.find(ids), names, strict=True):
        if position >= 0 and name is not None and name != "unknown":
            category[position] = numbers.setdefault(name, len(numbers))
    return category


def neighbours_of(item_neighbours: StoredTable, products: Products) -> Ragged:
    """Returns item_neighbours by position; rows with products that are not in `products` are left out."""
    rows = item_neighbours.to_arrow("product_id", "neighbour_id", "similarity", "rank")
    if not rows.num_rows:
        return Ragged.empty(len(products.ids))
    places = [products.find(ids_of(rows.column(name))) for name in ("product_id", "neighbour_id")]
    known = (places[0] >= 0) & (places[1] >= 0)
    order = np.argsort(rows.column("rank").to_numpy()[known], kind="stable")
    one, other = (place[known][order] for place in places)
    similarity = rows.column("similarity").to_numpy()[known][order]
    return Ragged.of(one, other, similarity, len(products.ids))


def item_factors(factors: Factors, products: Products) -> Floats:
    """Returns (p, rank) factors by position, zeros for products that the model does not know.

    Raises ValueError if the model was not trained with this index.
    """
    if not len(factors.indices):
        return np.zeros((len(products.ids), 1), np.float32)
    positions = products.positions(factors.indices)
    if len(unknown := factors.indices[positions < 0]):
        raise ValueError(
            f"als_model was not trained with this product_index, which has no product_idx {unknown[0]}. "
            "Materialise product_index, interaction_data and als_model in one run."
        )
    by_position = np.zeros((len(products.ids), factors.vectors.shape[1]), np.float32)
    by_position[positions] = factors.vectors
    return by_position


def histories(interactions: DataFrame) -> DataFrame:
    """Returns `user_idx` and `history`, the pairs of each user as `users_of` reads them."""
    return interactions.groupBy("user_idx").agg(F.collect_list(history_entry()).alias("history"))


def history_entry(prefix: str = "") -> SparkColumn:
    """Returns the fields of `HISTORY` as a struct, from columns of interaction_data whose names may have a prefix."""
    return F.struct(
        F.col("product_idx").cast("int").alias("product_idx"),
        F.col(f"{prefix}rating").cast("float").alias("rating"),
        F.col(f"{prefix}interaction_count").cast("int").alias("events"),
        (F.col(f"{prefix}purchases") > 0).alias("purchased"),
        F.unix_micros(f"{prefix}last_interaction_at").alias("last"),
    )


def histories_in_process(pairs: pa.Table, users: pa.Array) -> pa.ListArray:
    """Returns the column `history` of the users with these user_idx, from pairs of `collect_pairs` with all columns."""
    entries = pa.StructArray.from_arrays([pairs.column(name).combine_chunks() for name in HISTORY], list(HISTORY))
    return lists_of(pairs.column("user_idx"), entries, users)


def lists_of(keys: pa.ChunkedArray, values: pa.Array, ids: pa.Array) -> pa.ListArray:
    """Returns for each id the list of the values with this key."""
    place = pc.index_in(keys, value_set=ids).combine_chunks()
    known = place.is_valid()
    place, values = place.filter(known).to_numpy(), values.filter(known)
    begins = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(ids)))])
    in_order = values.take(pa.array(np.argsort(place, kind="stable")))
    return pa.ListArray.from_arrays(pa.array(begins, pa.int32()), in_order)


def with_features(users: pa.Table | DataFrame, model: AlsModel) -> Any:
    """Returns the users with the column `features`, their factors by `user_idx`: null if the model has none."""
    if not isinstance(users, pa.Table):
        return users.join(model.user_frame(users.sparkSession).withColumnRenamed("id", "user_idx"), "user_idx", "left")
    known, vectors = pa.array(model.users.indices), model.users.vectors
    features = pa.nulls(len(users), pa.list_(pa.float32()))
    if len(known):
        by_row = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        features = by_row.take(pc.index_in(users.column("user_idx").combine_chunks(), value_set=known))
    return users.append_column("features", features)


def users_of(batch: pa.RecordBatch, products: Products, rank: int, reference: int, exclude: Exclude) -> Users:
    """Returns the users of a batch.

    Parameters
    ----------
    batch
        `history`, `segment`, and `features` (null if the ALS model does not know the user).
    rank
        Number of factors.
    reference
        Time from which ages are counted back, in microseconds since 1970.
    exclude
        Which products of the history are not recommended.
    """
    begins, entries = ragged(batch.column("history"))
    owners = np.repeat(np.arange(batch.num_rows), np.diff(begins))
    column = {name: entries.field(number).to_numpy(zero_copy_only=False) for number, name in enumerate(HISTORY)}
    positions = products.positions(column["product_idx"])
    order = np.lexsort((positions, -column["last"], owners))
    order = order[positions[order] >= 0]
    begins = np.searchsorted(owners[order], np.arange(batch.num_rows + 1))
    features = batch.column("features")
    factors = np.zeros((batch.num_rows, rank), np.float32)
    known = np.flatnonzero(features.is_valid().to_numpy(zero_copy_only=False))
    if len(known):
        factors[known] = vectors_of(features.drop_null())
    return Users(
        begins=begins,
        positions=positions[order],
        ratings=column["rating"][order].astype(np.float32),
        events=column["events"][order].astype(np.int64),
        ages=((reference - column["last"][order]) / 1e6 / SECONDS_PER_DAY).astype(np.float32),
        purchased=column["purchased"][order].astype(np.bool_),
        segments=np.asarray(batch.column("segment").to_pylist(), dtype=object),
        factors=factors,
        exclude=exclude,
    )


def vectors_of(features: pa.ListArray | pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Returns an Arrow column of lists of equal length, without nulls, as a matrix (rows, length)."""
    flat = pc.list_flatten(features).to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(features), len(flat) // max(len(features), 1))


def ragged(lists: pa.ListArray) -> tuple[Integers, pa.Array]:
    """Returns the offsets of the n lists, (n + 1,), and all their values; null counts as an empty list."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return begins, pc.list_flatten(lists)

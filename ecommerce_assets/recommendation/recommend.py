"""recommendations: the top 10 of every user, from the model where it knows the user, from popularity where it does not.

The exact search for the best items is top_k.py, popularity is fallback.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegerType, StringType, StructField, StructType

from ecommerce_assets.recommendation.fallback import Fallback, build_fallback
from ecommerce_assets.recommendation.top_k import Excluded, Items, top_k
from ecommerce_assets.storage.column_lineage import made_from
from ecommerce_assets.storage.tables import Column, TableSchema

ALS_SOURCE = "als"


class Exclude(StrEnum):
    """Products that a user is not recommended."""

    purchased = "purchased"
    seen = "seen"
    none = "none"


RECOMMENDATIONS = TableSchema.of(
    Column("user_id", "id", "The user.", key=True),
    Column("rank", "int", "1 is the best.", key=True),
    Column("product_id", "id", "The product recommended.", nullable=False),
    Column(
        "score",
        "double",
        "als: predicted preference, near 0 to 1; popularity: share of users who interacted with the product, "
        "no higher than the score before it.",
        nullable=False,
    ),
    Column("source", "string", "als, segment_popular or popular.", nullable=False),
)


@dataclass(frozen=True)
class Products:
    """The products in the order of their ids, which is the order in which ties are broken.

    Attributes
    ----------
    ids
        Product ids, ascending: a product's place here is its position.
    position_of
        Position of each product_idx.
    """

    ids: npt.NDArray[Any]
    position_of: npt.NDArray[np.int64]

    @classmethod
    def from_index(cls, product_index: DataFrame) -> Products:
        """From product_index; the ids of all products are held in memory, those of the users never."""
        rows: Any = product_index.select("product_id", "product_idx").toPandas()
        rows = rows.sort_values("product_id")
        position_of = np.full(int(rows["product_idx"].max()) + 1 if len(rows) else 0, -1, dtype=np.int64)
        position_of[rows["product_idx"].to_numpy()] = np.arange(len(rows))
        return cls(rows["product_id"].to_numpy(), position_of)


@dataclass(frozen=True)
class ItemFactors:
    """The factors of the products that the model knows, in the order of their positions.

    Attributes
    ----------
    positions
        Position of each product that the model knows, ascending.
    vectors
        Their factors.
    place_of
        By position, the product's row in `vectors`; -1 where the model does not know it.
    """

    positions: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    place_of: npt.NDArray[np.int64]

    @classmethod
    def none(cls, products: Products) -> ItemFactors:
        """A model that knows no product."""
        return cls.of(np.empty(0, np.int64), np.empty((0, 1), np.float32), products)

    @classmethod
    def of(cls, positions: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32], products: Products) -> ItemFactors:
        place_of = np.full(len(products.ids), -1, np.int64)
        place_of[positions] = np.arange(len(positions))
        return cls(positions, vectors, place_of)

    @classmethod
    def from_model(cls, model: ALSModel, products: Products) -> ItemFactors:
        table: Any = model.itemFactors.select("id", "features").toArrow()
        if not table.num_rows:
            return cls.none(products)
        idx = table.column("id").to_numpy()
        if idx.max() >= len(products.position_of) or (products.position_of[idx] < 0).any():
            raise ValueError(
                "als_model and product_index do not belong together: the model knows a product_idx that the index "
                "lacks. Materialise product_index, interaction_data and als_model in one run."
            )
        positions = products.position_of[idx]
        order = np.argsort(positions)
        return cls.of(positions[order], vectors_of(table.column("features"))[order], products)


def vectors_of(features: pa.ListArray | pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """An Arrow column of lists of equal length, without nulls, as a matrix: no Python object per number."""
    flat = pc.list_flatten(features).to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(features), -1)


def excluded_products(interactions: DataFrame, exclude: Exclude) -> DataFrame:
    """`user_idx`, `excluded` (array of product_idx): what a user must not be recommended."""
    condition = {Exclude.purchased: "purchases > 0", Exclude.seen: "true", Exclude.none: "false"}[Exclude(exclude)]
    barred = interactions.where(condition)
    return barred.groupBy("user_idx").agg(F.array_sort(F.collect_list("product_idx")).alias("excluded"))


def recommend(
    users: DataFrame,
    user_index: DataFrame,
    product_index: DataFrame,
    interactions: DataFrame,
    model: ALSModel | None,
    exclude: Exclude = Exclude.purchased,
    k: int = 10,
) -> DataFrame:
    """The top k of every user.

    Parameters
    ----------
    users
        `user_id`, `segment` (null, or no such column: no segment); one row per user.
    user_index, product_index, interactions
        The versions that the model was trained with.
    model
        None: popularity alone.
    exclude
        `purchased`, `seen` or `none`.
    k
        min(k, eligible products) rows come out per user.

    Returns
    -------
    DataFrame
        The columns of `RECOMMENDATIONS`. Scores do not rise with rank, ties are broken by product_id.
    """
    products = Products.from_index(product_index)
    numbered = users.join(user_index.select("user_id", "user_idx"), "user_id", "left")
    with_segment = None
    if "segment" in users.columns:
        with_segment = numbered.where("user_idx is not null and segment is not null").select("user_idx", "segment")
    else:
        numbered = numbered.withColumn("segment", F.lit(None).cast("string"))
    fallback = build_fallback(interactions, with_segment, products.position_of, len(products.ids))
    if model is None:
        factors = ItemFactors.none(products)
        described = numbered.withColumn("features", F.lit(None).cast("array<float>"))
    else:
        factors = ItemFactors.from_model(model, products)
        user_factors = model.userFactors.withColumnRenamed("id", "user_idx")
        described = numbered.join(user_factors, "user_idx", "left")
    described = described.join(excluded_products(interactions, exclude), "user_idx", "left")
    kind = product_index.schema["product_id"].dataType
    schema = StructType(
        [
            StructField("user_id", users.schema["user_id"].dataType),
            StructField("rank", IntegerType()),
            StructField("product_id", kind),
            StructField("score", DoubleType()),
            StructField("source", StringType()),
        ]
    )
    # Items and popularity go to each executor once, as a broadcast, and not with every batch of users.
    shared = users.sparkSession.sparkContext.broadcast((products, factors, fallback))

    def batches(incoming: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        products, factors, fallback = shared.value
        items = Items.of(factors.vectors)
        for batch in incoming:
            yield _recommend_batch(batch, products, factors, items, fallback, k)

    columns = described.select("user_id", "segment", "features", "excluded")
    scored_by: list[tuple[DataFrame, str]] = [(columns, "features"), (columns, "segment"), (columns, "excluded")]
    scored_by += [(interactions, "user_idx"), (interactions, "product_idx")]  # popularity
    if model is not None:
        scored_by += [(model.itemFactors, "id"), (model.itemFactors, "features")]
    return made_from(
        columns.mapInArrow(batches, schema),
        {
            "user_id": [(columns, "user_id")],
            "rank": scored_by,
            "product_id": [(product_index, "product_id"), *scored_by],
            "score": scored_by,
            "source": scored_by,
        },
    )


def _recommend_batch(
    batch: pa.RecordBatch, products: Products, factors: ItemFactors, items: Items, fallback: Fallback, k: int
) -> pa.RecordBatch:
    excluded = _excluded_positions(batch.column("excluded"), products)
    by_model = _by_model(batch.column("features"), excluded, factors, items, k)
    segments = batch.column("segment").to_pylist()
    row_of: list[int] = []
    ranks: list[int] = []
    positions: list[int] = []
    scores: list[float] = []
    sources: list[str] = []
    for row in range(batch.num_rows):
        chosen, values = by_model.get(row, ([], []))
        names = [ALS_SOURCE] * len(chosen)
        if len(chosen) < k:
            own = excluded.items[excluded.begins[row] : excluded.begins[row + 1]]
            barred = {*own.tolist(), *chosen}
            ceiling = values[-1] if values else float("inf")
            for position, share, source in fallback.suggest(segments[row], barred, k - len(chosen)):
                # A share of users is no preference: it is capped so that the score does not rise with the rank.
                ceiling = min(ceiling, share)
                chosen, values, names = [*chosen, position], [*values, ceiling], [*names, source]
        row_of += [row] * len(chosen)
        ranks += range(1, len(chosen) + 1)
        positions += chosen
        scores += values
        sources += names
    return pa.RecordBatch.from_arrays(
        [
            batch.column("user_id").take(pa.array(row_of, pa.int64())),
            pa.array(ranks, pa.int32()),
            pa.array(products.ids[positions] if positions else [], batch_type(products.ids)),
            pa.array(scores, pa.float64()),
            pa.array(sources, pa.string()),
        ],
        names=RECOMMENDATIONS.names,
    )


def batch_type(ids: npt.NDArray[Any]) -> pa.DataType:
    """Arrow's type for product ids."""
    return pa.int64() if np.issubdtype(ids.dtype, np.integer) else pa.string()


def _excluded_positions(excluded: pa.ListArray, products: Products) -> Excluded:
    counts = pc.fill_null(pc.list_value_length(excluded), 0).to_numpy(zero_copy_only=False)
    begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    numbers = pc.list_flatten(excluded).to_numpy(zero_copy_only=False)
    return Excluded(begins, products.position_of[numbers])


def _by_model(
    features: pa.ListArray, excluded: Excluded, factors: ItemFactors, items: Items, k: int
) -> dict[int, tuple[list[int], list[float]]]:
    """Positions and scores by row, for the rows that have factors; all-zero factors say nothing and count as none."""
    rows = np.flatnonzero(features.is_valid().to_numpy(zero_copy_only=False))
    if not len(rows) or not len(factors.positions):
        return {}
    queries = vectors_of(features.drop_null())
    telling = queries.any(axis=1)
    rows, queries = rows[telling], queries[telling]
    # From positions among all products to places among those that the model knows.
    counts = np.diff(excluded.begins)
    row_of = np.repeat(np.arange(len(counts)), counts)
    asked = np.full(len(counts), -1, np.int64)
    asked[rows] = np.arange(len(rows))
    places = factors.place_of[excluded.items]
    counted = (places >= 0) & (asked[row_of] >= 0)
    begins = np.searchsorted(asked[row_of[counted]], np.arange(len(rows) + 1))
    found, scores = top_k(queries, items, Excluded(begins, places[counted]), k)
    lengths = (found >= 0).sum(axis=1).tolist()
    positions = factors.positions[found]
    return {
        row: (own[:length], values[:length])
        for row, length, own, values in zip(rows.tolist(), lengths, positions.tolist(), scores.tolist(), strict=True)
    }

"""Computes item_neighbours: for each product, the products that the same users interacted with.

`item_neighbours` is the entry point; `neighbours_in_process` and `neighbours_by_spark` are its two engines.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.interactions import LAST, collect_pairs
from ecommerce_assets.recommendation.local_als import cores, equal_chunks
from ecommerce_assets.recommendation.products import INDEXED, Products, batch_type, products_of
from ecommerce_assets.recommendation.recommenders.base import Ragged
from ecommerce_assets.spark.column_lineage import Origins
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.stored_table import StoredTable

NEIGHBOURS = 100
"""Maximum number of neighbours of a product."""

LONGEST_HISTORY = 300
"""Maximum number of products of a user that count, the latest ones: the work grows with its square."""

ITEM_NEIGHBOURS = TableSpec.of(
    ColumnSpec("product_id", "id", "The product.", key=True),
    ColumnSpec("rank", "int", "1 is the most similar.", key=True),
    ColumnSpec("neighbour_id", "id", "A product that the same users interacted with.", nullable=False),
    ColumnSpec(
        "similarity",
        "double",
        "Jaccard similarity: users of both products divided by users of either, above 0, at most 1.",
        nullable=False,
    ),
    ColumnSpec(
        "common_users",
        "bigint",
        f"Users of both products, by their latest {LONGEST_HISTORY} products each.",
        nullable=False,
    ),
)

Integers = npt.NDArray[np.int64]


def item_neighbours(
    interactions: StoredTable, product_index: StoredTable, engine: Engine
) -> tuple[DataFrame | pa.Table, Origins]:
    """Returns the 100 best neighbours of each product by Jaccard similarity, ties by product_id.

    Only the latest 300 products of each user count, ties by product_id. So the work is at most 300 times the number of
    pairs, and the memory at most 100 neighbours per product.

    Parameters
    ----------
    interactions
        `user_idx`, `product_idx`, `last_interaction_at`; one row per pair.
    product_index
        `product_id`, `product_idx`.
    engine
        `local`: in this process; `mllib`: in Spark.

    Returns
    -------
    DataFrame or pyarrow.Table
        The columns of `ITEM_NEIGHBOURS`; products without neighbours have no rows. `local` returns an Arrow table.
    Origins
        The sources of the columns of the Arrow table.
    """
    if engine == Engine.mllib:
        return neighbours_by_spark(interactions.frame, product_index.frame), {}
    products = products_of(product_index.to_arrow(*INDEXED))
    result = neighbours_in_process(collect_pairs(interactions, LAST), products)
    rows, ranks = result.places
    ids = products.ids
    kind = batch_type(ids)
    table = pa.table(
        {
            "product_id": pa.array(ids[rows], kind),
            "rank": pa.array(ranks + 1, pa.int32()),
            "neighbour_id": pa.array(ids[result.neighbours[rows, ranks]], kind),
            "similarity": pa.array(result.similarities[rows, ranks].astype(np.float64)),
            "common_users": pa.array(result.common_users[rows, ranks].astype(np.int64)),
        }
    )
    index: list[tuple[DataFrame, str]] = [(product_index.frame, "product_id")]
    pairs = [(interactions.frame, name) for name in ("user_idx", "product_idx", "last_interaction_at")]
    sources = dict.fromkeys(("rank", "similarity", "common_users"), pairs)
    return table, {"product_id": index, "neighbour_id": [*index, *pairs], **sources}


@dataclass(frozen=True)
class NeighbourRows:
    """The neighbours of p products, best first, by position.

    Attributes
    ----------
    neighbours, similarities, common_users
        (p, best); places from `counts` on are not used.
    counts
        (p,) number of neighbours.
    """

    neighbours: npt.NDArray[np.int32]
    similarities: npt.NDArray[np.float32]
    common_users: npt.NDArray[np.int32]
    counts: Integers

    @property
    def places(self) -> tuple[Integers, Integers]:
        """Returns the row and the column of each neighbour."""
        used = np.arange(self.neighbours.shape[1]) < self.counts[:, None]
        rows, columns = np.nonzero(used)
        return rows.astype(np.int64), columns.astype(np.int64)

    def as_ragged(self) -> Ragged:
        """Returns the neighbours and their similarities."""
        rows, ranks = self.places
        neighbours = self.neighbours[rows, ranks].astype(np.int64)
        return Ragged.of(rows, neighbours, self.similarities[rows, ranks], len(self.counts))


def neighbours_in_process(pairs: pa.Table, products: Products, best: int = NEIGHBOURS) -> NeighbourRows:
    """Returns the `best` neighbours of each product, computed on all cores.

    Parameters
    ----------
    pairs
        Pairs of `collect_pairs` with `LAST`.
    products
        The products; pairs with other products are ignored.
    """
    from ecommerce_assets.recommendation.neighbour_kernels import best_neighbours

    users = pairs.column("user_idx").to_numpy()
    positions = products.positions(pairs.column("product_idx").to_numpy())
    kept = latest_of_each(users, positions, pairs.column("last").to_numpy()) & (positions >= 0)
    users, positions = users[kept], positions[kept]
    count = len(products.ids)
    by_user, by_product = _rows(users, positions, int(users.max(initial=-1)) + 1), _rows(positions, users, count)
    shape = (count, best)
    result = NeighbourRows(
        np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(count, np.int64)
    )
    # The cost of a product is the sum of the lengths of its users' histories.
    begins, users_of_products = by_product
    cost = np.concatenate([[0], np.cumsum(np.diff(by_user[0])[users_of_products])])[begins]
    results = (result.neighbours, result.similarities, result.common_users, result.counts)

    def compute(chunk: tuple[int, int]) -> None:
        best_neighbours(*chunk, *by_product, *by_user, *results)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(compute, equal_chunks(cost)))
    return result


def latest_of_each(users: Any, positions: Any, last: Any, longest: int = LONGEST_HISTORY) -> Any:
    """Returns which pairs are among the latest `longest` of their user, ties by position."""
    if np.bincount(users, minlength=1).max() <= longest:
        return np.ones(len(users), np.bool_)
    order = np.lexsort((positions, -last, users))
    ordered = users[order]
    kept = np.zeros(len(users), np.bool_)
    kept[order[np.arange(len(users)) - np.searchsorted(ordered, ordered) < longest]] = True
    return kept


def _rows(keys: Any, values: Any, count: int) -> tuple[Integers, Integers]:
    """Returns where the values of each key begin, and the values sorted by key, then value."""
    order = np.lexsort((values, keys))
    begins = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])
    return begins, values[order].astype(np.int64)


def neighbours_by_spark(interactions: DataFrame, product_index: DataFrame) -> DataFrame:
    """Returns the same table from Spark queries, for pairs that do not fit in the driver's memory."""
    ids = product_index.select("product_id", "product_idx")
    of_user = Window.partitionBy("user_idx").orderBy(F.desc("last_interaction_at"), "product_id")
    pairs = (
        interactions.join(F.broadcast(ids), "product_idx")
        .withColumn("place", F.row_number().over(of_user))
        .where(F.col("place") <= LONGEST_HISTORY)
        .select("user_idx", "product_id")
    )
    users = pairs.groupBy("product_id").agg(F.count("*").alias("users"))
    other = pairs.withColumnRenamed("product_id", "neighbour_id")
    common = (
        pairs.join(other, "user_idx")
        .where("product_id <> neighbour_id")
        .groupBy("product_id", "neighbour_id")
        .agg(F.count("*").alias("common_users"))
    )
    either = F.col("users") + F.col("neighbour_users") - F.col("common_users")
    # In float32 as in `neighbours_in_process`, so that ties are the same.
    similarity = (F.col("common_users") / either).cast("float").cast("double")
    by_similarity = Window.partitionBy("product_id").orderBy(F.desc("similarity"), "neighbour_id")
    return (
        common.join(users, "product_id")
        .join(
            users.select(F.col("product_id").alias("neighbour_id"), F.col("users").alias("neighbour_users")),
            "neighbour_id",
        )
        .withColumn("similarity", similarity)
        .withColumn("rank", F.row_number().over(by_similarity))
        .where(F.col("rank") <= NEIGHBOURS)
        .select(*ITEM_NEIGHBOURS.names)
    )

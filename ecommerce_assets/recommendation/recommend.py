"""recommendations: the top 10 of every user, from the model where it knows the user, from popularity where it does not.

How the lists of a batch of users are made stands in lists.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, IntegerType, StringType, StructField, StructType

from ecommerce_assets.recommendation.fallback import build_fallback
from ecommerce_assets.recommendation.lists import ItemFactors, Products, Recommender, vectors_of
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.storage.checks import CheckContext, Read
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

if TYPE_CHECKING:
    from pyspark.ml.recommendation import ALSModel


class Exclude(StrEnum):
    """Products that a user is not recommended."""

    purchased = "purchased"
    seen = "seen"
    none = "none"


RECOMMENDATIONS = TableSpec.of(
    ColumnSpec("user_id", "id", "The user.", key=True),
    ColumnSpec("rank", "int", "1 is the best.", key=True),
    ColumnSpec("product_id", "id", "The product recommended.", nullable=False),
    ColumnSpec(
        "score",
        "double",
        "als: predicted preference, near 0 to 1; popularity: share of users who interacted with the product, "
        "no higher than the score before it.",
        nullable=False,
    ),
    ColumnSpec("source", "string", "als, segment_popular or popular.", nullable=False),
)


def products_shown(recommendations: DataFrame, _: CheckContext, __: Read) -> DataFrame:
    """One row: `products_shown`, how many products are recommended to anyone."""
    return recommendations.agg(F.count_distinct("product_id").alias("products_shown"))


def products_of(product_index: DataFrame) -> Products:
    """From product_index; the ids of all products are held in memory, those of the users never."""
    rows: Any = product_index.select("product_id", "product_idx").toPandas()
    return Products.of(rows["product_id"].to_numpy(), rows["product_idx"].to_numpy())


def item_factors(model: ALSModel, products: Products) -> ItemFactors:
    """The products' factors, in the driver: a few hundred bytes each.

    Raises ValueError where the model was not trained with this index.
    """
    table: Any = model.itemFactors.select("id", "features").toArrow()
    if not table.num_rows:
        return ItemFactors.none(len(products.ids))
    idx = table.column("id").to_numpy()
    if idx.max() >= len(products.position_of) or (products.position_of[idx] < 0).any():
        raise ValueError(
            "als_model and product_index do not belong together: the model knows a product_idx that the index "
            "lacks. Materialise product_index, interaction_data and als_model in one run."
        )
    positions = products.position_of[idx]
    order = np.argsort(positions)
    return ItemFactors.of(positions[order], vectors_of(table.column("features"))[order], len(products.ids))


def is_excluded(exclude: Exclude) -> SparkColumn:
    """Of a pair in interaction_data: whether the user must not be recommended the product."""
    return {Exclude.purchased: F.col("purchases") > 0, Exclude.seen: F.lit(True), Exclude.none: F.lit(False)}[exclude]


def recommend(
    users: DataFrame,
    user_index: DataFrame,
    product_index: DataFrame,
    interactions: DataFrame,
    model: ALSModel,
    exclude: Exclude = Exclude.purchased,
    k: int = 10,
) -> DataFrame:
    """The top k of every user.

    Parameters
    ----------
    users
        `user_id`, `segment` (null: none); one row per user.
    user_index, product_index, interactions
        The versions that the model was trained with.
    exclude
        `purchased`, `seen` or `none`.
    k
        min(k, eligible products) rows come out per user.

    Returns
    -------
    DataFrame
        The columns of `RECOMMENDATIONS`. Scores do not rise with rank. Ties of the model's are broken by product_id;
        popular products stand in their own order also where their scores are cut to that of the entry before.

    Raises
    ------
    ValueError
        Where the model was not trained with this index of products.
    """
    products = products_of(product_index)
    numbered = users.join(user_index.select("user_id", "user_idx"), "user_id", "left")
    with_segment = numbered.where("user_idx is not null and segment is not null").select("user_idx", "segment")
    fallback = build_fallback(interactions, with_segment, products.position_of, len(products.ids))
    barred = interactions.where(is_excluded(Exclude(exclude))).groupBy("user_idx")
    columns = (
        numbered.join(barred.agg(F.collect_list("product_idx").alias("excluded")), "user_idx", "left")
        .join(model.userFactors.withColumnRenamed("id", "user_idx"), "user_idx", "left")
        .select("user_id", "segment", "features", "excluded")
    )
    ids = (users.schema["user_id"].dataType, product_index.schema["product_id"].dataType)
    lists = _lists(columns, products, Recommender(item_factors(model, products), fallback, k), *ids)
    scored_by: list[tuple[DataFrame, str]] = [(columns, "features"), (columns, "segment"), (columns, "excluded")]
    scored_by += [(interactions, "user_idx"), (interactions, "product_idx")]  # popularity
    scored_by += [(model.itemFactors, "id"), (model.itemFactors, "features")]
    listed = [(product_index, "product_id"), *scored_by]
    origins = {"rank": scored_by, "product_id": listed, "score": scored_by, "source": scored_by}
    return made_from(lists, {"user_id": [(columns, "user_id")], **origins})


def _lists(
    users: DataFrame, products: Products, recommender: Recommender, user_type: DataType, product_type: DataType
) -> DataFrame:
    schema = StructType(
        [
            StructField("user_id", user_type),
            StructField("rank", IntegerType()),
            StructField("product_id", product_type),
            StructField("score", DoubleType()),
            StructField("source", StringType()),
        ]
    )
    # Items and popularity go to each executor once, as a broadcast, and not with every batch of users.
    shared = users.sparkSession.sparkContext.broadcast((products, recommender))

    def batches(incoming: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        products, recommender = shared.value
        for batch in incoming:
            excluded = products.excluded(batch.column("excluded"))
            lists = recommender.lists(batch.column("features"), batch.column("segment"), excluded)
            yield lists.as_rows(batch.column("user_id"), products.ids)

    return users.mapInArrow(batches, schema)

"""similar_products: for each product those whose factors point the same way.

The kernel that finds them stands in top_k.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegerType, StructField, StructType

from ecommerce_assets.recommendation.lists import batch_type
from ecommerce_assets.recommendation.recommend import item_factors, products_of
from ecommerce_assets.recommendation.top_k import Excluded, Floats, Items, top_k
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

if TYPE_CHECKING:
    from pyspark.ml.recommendation import ALSModel

SIMILAR_PRODUCTS = TableSpec.of(
    ColumnSpec("product_id", "id", "The product.", key=True),
    ColumnSpec("rank", "int", "1 is the most similar.", key=True),
    ColumnSpec("similar_product_id", "id", "A product that the same people are drawn to.", nullable=False),
    ColumnSpec("similarity", "double", "Cosine of the two products' factors, -1 to 1.", nullable=False),
    ColumnSpec("category", "string", "Category of product_id."),
    ColumnSpec("brand", "string", "Brand of product_id."),
    ColumnSpec("similar_category", "string", "Category of similar_product_id."),
    ColumnSpec("similar_brand", "string", "Brand of similar_product_id."),
)


def similar_products(model: ALSModel, product_index: DataFrame, product_features: DataFrame, k: int = 10) -> DataFrame:
    """The k nearest products of each product by cosine similarity of the item factors, never the product itself.

    Products that the model does not know, or knows nothing of (all-zero factors), have no rows. Ties are broken by
    product_id. Columns as in `SIMILAR_PRODUCTS`.
    """
    products = products_of(product_index)
    factors = item_factors(model, products)
    lengths = np.linalg.norm(factors.vectors, axis=1)
    known = lengths > 0
    positions, vectors = factors.positions[known], factors.vectors[known] / lengths[known, None]
    found = _nearest(product_index, products.ids[positions], vectors, k)
    own, near = (product_index, "product_id"), [(model.itemFactors, "id"), (model.itemFactors, "features")]
    pairs = made_from(
        found, {"product_id": [own], "rank": near, "similar_product_id": [own, *near], "similarity": near}
    )
    known_as = product_features.select("product_id", "category", "brand")
    similar_as = known_as.select(
        F.col("product_id").alias("similar_product_id"),
        F.col("category").alias("similar_category"),
        F.col("brand").alias("similar_brand"),
    )
    return pairs.join(known_as, "product_id", "left").join(similar_as, "similar_product_id", "left")


def _nearest(product_index: DataFrame, ids: npt.NDArray[Any], vectors: Floats, k: int) -> DataFrame:
    """The first four columns of `SIMILAR_PRODUCTS`, from vectors of length one."""
    spark, kind = product_index.sparkSession, product_index.schema["product_id"].dataType
    schema = StructType(
        [
            StructField("product_id", kind),
            StructField("rank", IntegerType()),
            StructField("similar_product_id", kind),
            StructField("similarity", DoubleType()),
        ]
    )
    shared = spark.sparkContext.broadcast((ids, vectors))

    def batches(incoming: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        ids, vectors = shared.value
        items = Items.of(vectors)
        for batch in incoming:
            own = batch.column("id").to_numpy()
            places, scores = top_k(vectors[own], items, Excluded(np.arange(len(own) + 1), own), k)
            # Row by row, and in each row what was found: a product has fewer than k where there are no more.
            row, rank = np.nonzero(places >= 0)
            columns = [
                pa.array(ids[own[row]], batch_type(ids)),
                pa.array(rank + 1, pa.int32()),
                pa.array(ids[places[row, rank]], batch_type(ids)),
                pa.array(np.clip(scores[row, rank], -1, 1), pa.float64()),
            ]
            yield pa.RecordBatch.from_arrays(columns, names=[field.name for field in schema])

    return spark.range(len(ids)).mapInArrow(batches, schema)

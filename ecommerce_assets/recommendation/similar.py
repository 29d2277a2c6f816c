"""similar_products: for each product those whose factors point the same way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.recommend import ItemFactors, Products, batch_type
from ecommerce_assets.recommendation.top_k import top_k
from ecommerce_assets.storage.column_lineage import made_from
from ecommerce_assets.storage.tables import Column, TableSchema

SIMILAR_PRODUCTS = TableSchema.of(
    Column("product_id", "id", "The product.", key=True),
    Column("rank", "int", "1 is the most similar.", key=True),
    Column("similar_product_id", "id", "A product that the same people are drawn to.", nullable=False),
    Column("similarity", "double", "Cosine of the two products' factors, -1 to 1.", nullable=False),
    Column("category", "string", "Category of product_id."),
    Column("brand", "string", "Brand of product_id."),
    Column("similar_category", "string", "Category of similar_product_id."),
    Column("similar_brand", "string", "Brand of similar_product_id."),
)


def similar_products(model: ALSModel, product_index: DataFrame, product_features: DataFrame, k: int = 10) -> DataFrame:
    """The k nearest products of each product by cosine similarity of the item factors, never the product itself.

    Products that the model does not know, or knows nothing of (all-zero factors), have no rows. Ties are broken by
    product_id. Columns as in `SIMILAR_PRODUCTS`.
    """
    products = Products.from_index(product_index)
    factors = ItemFactors.from_model(model, products)
    lengths = np.linalg.norm(factors.vectors, axis=1)
    known = lengths > 0
    positions, vectors = factors.positions[known], factors.vectors[known] / lengths[known, None]
    own = np.arange(len(positions))
    places, scores = top_k(vectors, vectors, list(own[:, None]), k)
    counts = [len(p) for p in places]
    here = positions[np.repeat(own, counts)]
    there = positions[np.concatenate(places)] if counts else here
    kind = batch_type(products.ids)
    table = pa.table(
        {
            "product_id": pa.array(products.ids[here], kind),
            "rank": pa.array([rank + 1 for n in counts for rank in range(n)], pa.int32()),
            "similar_product_id": pa.array(products.ids[there], kind),
            "similarity": pa.array(np.clip(np.concatenate(scores), -1, 1) if counts else [], pa.float64()),
        }
    )
    ids, near = (product_index, "product_id"), [(model.itemFactors, "id"), (model.itemFactors, "features")]
    pairs = made_from(
        product_index.sparkSession.createDataFrame(table),
        {"product_id": [ids], "rank": near, "similar_product_id": [ids, *near], "similarity": near},
    )
    known_as = product_features.select("product_id", "category", "brand")
    similar_as = known_as.select(
        F.col("product_id").alias("similar_product_id"),
        F.col("category").alias("similar_category"),
        F.col("brand").alias("similar_brand"),
    )
    return pairs.join(known_as, "product_id", "left").join(similar_as, "similar_product_id", "left")

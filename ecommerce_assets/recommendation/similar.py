"""similar_products: for each product its best neighbours, with what people need to read the list."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

SIMILAR_PRODUCTS = TableSpec.of(
    ColumnSpec("product_id", "id", "The product.", key=True),
    ColumnSpec("rank", "int", "1 is the most similar.", key=True),
    ColumnSpec("similar_product_id", "id", "A product that the same users interacted with.", nullable=False),
    ColumnSpec(
        "similarity",
        "double",
        "Jaccard similarity: users of both products divided by users of either, above 0, at most 1.",
        nullable=False,
    ),
    ColumnSpec("category", "string", "Category of product_id."),
    ColumnSpec("brand", "string", "Brand of product_id."),
    ColumnSpec("similar_category", "string", "Category of similar_product_id."),
    ColumnSpec("similar_brand", "string", "Brand of similar_product_id."),
)


def similar_products(item_neighbours: DataFrame, product_features: DataFrame, k: int = 10) -> DataFrame:
    """The k best neighbours of each product; products without a neighbour have no rows.

    Parameters
    ----------
    item_neighbours
        Columns as in `ITEM_NEIGHBOURS`.
    product_features
        `product_id`, `category`, `brand`.

    Returns
    -------
    DataFrame
        The columns of `SIMILAR_PRODUCTS`.
    """
    pairs = item_neighbours.where(F.col("rank") <= k).select(
        "product_id", "rank", F.col("neighbour_id").alias("similar_product_id"), "similarity"
    )
    known_as = product_features.select("product_id", "category", "brand")
    similar_as = known_as.select(
        F.col("product_id").alias("similar_product_id"),
        F.col("category").alias("similar_category"),
        F.col("brand").alias("similar_brand"),
    )
    return (
        pairs.join(known_as, "product_id", "left")
        .join(similar_as, "similar_product_id", "left")
        .select(*SIMILAR_PRODUCTS.names)
    )

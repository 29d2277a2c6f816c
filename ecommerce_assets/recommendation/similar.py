"""similar_products: the best eligible neighbours of each product, with names, categories and brands for people."""

from __future__ import annotations

import pyarrow.compute as pc
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.stored_table import StoredTable

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
    ColumnSpec("name", "string", "Name of product_id in the catalogue."),
    ColumnSpec("category", "string", "Category of product_id."),
    ColumnSpec("brand", "string", "Brand of product_id."),
    ColumnSpec("similar_name", "string", "Name of similar_product_id in the catalogue."),
    ColumnSpec("similar_category", "string", "Category of similar_product_id."),
    ColumnSpec("similar_brand", "string", "Brand of similar_product_id."),
)


def similar_products(item_neighbours: DataFrame, product_eligibility: StoredTable, k: int = 10) -> DataFrame:
    """Returns the k best eligible neighbours of each product; products without neighbours have no rows.

    Products that are not eligible have neighbours too: their pages need alternatives most.

    Parameters
    ----------
    item_neighbours
        Columns as in `ITEM_NEIGHBOURS`.
    product_eligibility
        `product_id`, `name`, `category`, `brand`, `eligible`.
    k
        Maximum length of each list.

    Returns
    -------
    DataFrame
        The columns of `SIMILAR_PRODUCTS`.
    """
    about, known = ("name", "category", "brand"), product_eligibility.frame
    known_as = known.select("product_id", *about)
    similar_as = known.where("eligible").select(
        F.col("product_id").alias("similar_product_id"), *[F.col(name).alias(f"similar_{name}") for name in about]
    )
    pairs = item_neighbours.select(
        "product_id", "rank", F.col("neighbour_id").alias("similar_product_id"), "similarity"
    )
    if pc.all(product_eligibility.to_arrow("eligible").column("eligible")).as_py():
        best = pairs.where(F.col("rank") <= k).join(similar_as, "similar_product_id")  # ranks stay
    else:
        best_first = Window.partitionBy("product_id").orderBy("rank")
        eligible = pairs.join(similar_as, "similar_product_id")
        best = eligible.withColumn("rank", F.row_number().over(best_first)).where(F.col("rank") <= k)
    return best.join(known_as, "product_id", "left").select(*SIMILAR_PRODUCTS.names)

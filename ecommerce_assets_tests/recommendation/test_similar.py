"""similar_products from neighbours made by hand."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS, similar_products
from ecommerce_assets.storage.stored_table import StoredTable

NEIGHBOURS = [(11, 1, 12, 1.0, 3), (11, 2, 13, 0.5, 2), (11, 3, 15, 0.25, 1), (12, 1, 11, 1.0, 3), (13, 1, 14, 0.2, 1)]
ABOUT = [
    (11, "Boot", "shoes", "acme", True),
    (12, None, "shoes", None, True),
    (13, None, "unknown", "zeta", True),
    (14, None, "toys", "acme", True),
    (15, "Sock", "socks", None, True),
]


def similar(
    spark: SparkSession, k: int = 10, kind: str = "bigint", about: Sequence[tuple[Any, ...]] = ABOUT
) -> list[tuple[Any, ...]]:
    """The table in the columns in which it is stored, in the order of its key."""
    columns = "product_id bigint, rank int, neighbour_id bigint, similarity double, common_users bigint"
    neighbours = spark.createDataFrame(NEIGHBOURS, columns)
    columns = "product_id bigint, name string, category string, brand string, eligible boolean"
    known = spark.createDataFrame(list(about), columns)
    for name in ("product_id", "neighbour_id"):
        neighbours = neighbours.withColumn(name, neighbours[name].cast(kind))
    known = known.withColumn("product_id", known["product_id"].cast(kind))
    stored = SIMILAR_PRODUCTS.conform(similar_products(neighbours, StoredTable(known), k))
    assert stored.dtypes == [(c.name, c.type) for c in SIMILAR_PRODUCTS.with_id_type(kind).columns]
    return sorted(tuple(row) for row in stored.collect())


def test_the_best_neighbours_with_name_category_and_brand_of_both(spark: SparkSession) -> None:
    assert similar(spark, 2, "string") == [
        ("11", 1, "12", 1.0, "Boot", "shoes", "acme", None, "shoes", None),
        ("11", 2, "13", 0.5, "Boot", "shoes", "acme", None, "unknown", "zeta"),
        ("12", 1, "11", 1.0, None, "shoes", None, "Boot", "shoes", "acme"),
        ("13", 1, "14", 0.2, None, "unknown", "zeta", None, "toys", "acme"),
    ]


def test_products_that_are_not_eligible_make_room_for_the_next(spark: SparkSession) -> None:
    sold_out = [(*about[:4], about[0] not in (12, 15)) for about in ABOUT]
    assert [row[:3] for row in similar(spark, 1, about=sold_out)] == [(11, 1, 13), (12, 1, 11), (13, 1, 14)]

"""similar_products from neighbours made by hand."""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS, similar_products

NEIGHBOURS = [(11, 1, 12, 1.0, 3), (11, 2, 13, 0.5, 2), (11, 3, 15, 0.25, 1), (12, 1, 11, 1.0, 3), (13, 1, 14, 0.2, 1)]
FEATURES = [(11, "shoes", "acme"), (12, "shoes", None), (13, "unknown", "zeta"), (14, "toys", "acme")]


def similar(spark: SparkSession, k: int = 10, kind: str = "bigint") -> list[tuple[Any, ...]]:
    """The table in the columns in which it is stored, in the order of its key."""
    columns = "product_id bigint, rank int, neighbour_id bigint, similarity double, common_users bigint"
    neighbours = spark.createDataFrame(NEIGHBOURS, columns)
    features = spark.createDataFrame(FEATURES, "product_id bigint, category string, brand string")
    for name in ("product_id", "neighbour_id"):
        neighbours = neighbours.withColumn(name, neighbours[name].cast(kind))
    features = features.withColumn("product_id", features["product_id"].cast(kind))
    stored = SIMILAR_PRODUCTS.conform(similar_products(neighbours, features, k))
    assert stored.dtypes == [(c.name, c.type) for c in SIMILAR_PRODUCTS.with_id_type(kind).columns]
    return sorted(tuple(row) for row in stored.collect())


@pytest.mark.parametrize("kind", ["bigint", "string"])
def test_the_best_neighbours_with_category_and_brand_of_both(spark: SparkSession, kind: str) -> None:
    of = str if kind == "string" else int
    assert similar(spark, 2, kind) == [
        (of(11), 1, of(12), 1.0, "shoes", "acme", "shoes", None),
        (of(11), 2, of(13), 0.5, "shoes", "acme", "unknown", "zeta"),
        (of(12), 1, of(11), 1.0, "shoes", None, "shoes", "acme"),
        (of(13), 1, of(14), 0.2, "unknown", "zeta", "toys", "acme"),
    ]


def test_products_without_features_stay(spark: SparkSession) -> None:
    assert (11, 3, 15, 0.25, "shoes", "acme", None, None) in similar(spark)
    assert len(similar(spark)) == len(NEIGHBOURS)

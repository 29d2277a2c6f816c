"""similar_products on item factors made by hand."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS, similar_products
from ecommerce_assets_tests.recommendation.test_recommend import als_model, index_frame

# product_idx is the id backwards: 16 is 0, 11 is 5. The model does not know 16, and knows nothing of 15.
PRODUCT_IDX = {16: 0, 15: 1, 14: 2, 13: 3, 12: 4, 11: 5}
ITEM_FACTORS = {5: [1.0, 0.0], 4: [2.0, 0.0], 3: [1.0, 1.0], 2: [0.0, 3.0], 1: [0.0, 0.0]}
FEATURES = [(11, "shoes", "acme"), (12, "shoes", None), (13, "unknown", "zeta"), (14, "toys", "acme")]
HALF_TURN = pytest.approx(math.sqrt(0.5))  # cosine of 45 degrees


def similar(
    spark: SparkSession,
    k: int = 10,
    item_factors: Mapping[int, Sequence[float]] = ITEM_FACTORS,
    product_idx: Mapping[Any, int] = PRODUCT_IDX,
    kind: str = "bigint",
) -> list[dict[str, Any]]:
    """The table in the columns in which it is stored, in the order of its key."""
    features = spark.createDataFrame(
        [(str(i) if kind == "string" else i, *rest) for i, *rest in FEATURES],
        f"product_id {kind}, category string, brand string",
    )
    model = als_model(spark, {0: item_factors[next(iter(item_factors))]}, item_factors)
    found = similar_products(model, index_frame(spark, "product", product_idx, kind), features, k)
    stored = SIMILAR_PRODUCTS.conform(found)
    assert stored.dtypes == [(c.name, c.type) for c in SIMILAR_PRODUCTS.with_id_type(kind).columns]
    return sorted((row.asDict() for row in stored.collect()), key=lambda row: (row["product_id"], row["rank"]))


def neighbours(rows: list[dict[str, Any]]) -> dict[Any, list[tuple[Any, float]]]:
    found: dict[Any, list[tuple[Any, float]]] = {}
    for row in rows:
        found.setdefault(row["product_id"], []).append((row["similar_product_id"], row["similarity"]))
        assert row["rank"] == len(found[row["product_id"]])
    return found


@pytest.fixture(scope="module")
def table(spark: SparkSession) -> list[dict[str, Any]]:
    return similar(spark)


def test_by_cosine_never_itself_ties_by_id(table: list[dict[str, Any]]) -> None:
    # Length is no matter: 12 points where 11 points. 13 stands halfway between them and 14.
    assert neighbours(table) == {
        11: [(12, 1.0), (13, HALF_TURN), (14, 0.0)],
        12: [(11, 1.0), (13, HALF_TURN), (14, 0.0)],
        13: [(11, HALF_TURN), (12, HALF_TURN), (14, HALF_TURN)],
        14: [(13, HALF_TURN), (11, 0.0), (12, 0.0)],
    }


def test_products_without_factors_or_with_zeros_have_no_rows(table: list[dict[str, Any]]) -> None:
    assert not {15, 16} & {row[name] for row in table for name in ("product_id", "similar_product_id")}


def test_category_and_brand_of_both(table: list[dict[str, Any]]) -> None:
    described = {
        (row["product_id"], row["similar_product_id"]): (
            row["category"],
            row["brand"],
            row["similar_category"],
            row["similar_brand"],
        )
        for row in table
    }
    assert described[11, 12] == ("shoes", "acme", "shoes", None)
    assert described[12, 13] == ("shoes", None, "unknown", "zeta")
    assert described[14, 11] == ("toys", "acme", "shoes", "acme")


def test_no_more_than_asked_for(spark: SparkSession) -> None:
    assert neighbours(similar(spark, k=1)) == {
        11: [(12, 1.0)],
        12: [(11, 1.0)],
        13: [(11, HALF_TURN)],
        14: [(13, HALF_TURN)],
    }


def test_text_ids(spark: SparkSession) -> None:
    names = {str(product): number for product, number in PRODUCT_IDX.items()}
    assert neighbours(similar(spark, k=1, product_idx=names, kind="string"))["14"] == [("13", HALF_TURN)]


def test_a_single_product_has_no_rows(spark: SparkSession) -> None:
    assert similar(spark, item_factors={5: [1.0, 2.0]}) == []


def test_all_zero_factors_give_an_empty_table(spark: SparkSession) -> None:
    assert similar(spark, item_factors={5: [0.0, 0.0], 4: [0.0, 0.0]}) == []


def test_similarity_is_a_cosine_also_in_the_last_digit(spark: SparkSession) -> None:
    # Factors below zero occur where `nonnegative` is off. Pairs that point the same way and opposite ways.
    rng = np.random.default_rng(2)
    for _ in range(3):
        one = rng.random(3)
        factors = {5: one, 4: -7 * one, 3: 3 * one, 2: -one}
        rows = similar(spark, item_factors={number: vector.tolist() for number, vector in factors.items()})
        assert len(rows) == 12
        assert all(-1.0 <= row["similarity"] <= 1.0 for row in rows)

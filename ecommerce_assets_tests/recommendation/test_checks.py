"""The checks of the recommendation assets find broken rows, models and documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.blend import FEATURES, MIN_TRAINING_USERS, Blend
from ecommerce_assets.recommendation.checks import (
    ALS_EVALUATION_CHECKS,
    ALS_MODEL_CHECKS,
    BLEND_MODEL_CHECKS,
    INTERACTION_DATA_CHECKS,
    ITEM_NEIGHBOURS_CHECKS,
    PRODUCT_ELIGIBILITY_CHECKS,
    PRODUCT_PAIRS_CHECKS,
    RECOMMENDATIONS_CHECKS,
    SIMILAR_PRODUCTS_CHECKS,
    only_eligible,
)
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION
from ecommerce_assets.recommendation.item_neighbours import ITEM_NEIGHBOURS
from ecommerce_assets.recommendation.product_pairs import PRODUCT_PAIRS
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.storage.checks import Check, CheckContext, Previous, measure, run_checks, summaries_of
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.version import Stats, Version
from ecommerce_assets_tests.helpers import version_of
from ecommerce_assets_tests.recommendation.test_recommend import als_model

NAN, INFINITY = float("nan"), float("inf")


def version(asset: str, rows: int, **numbers: int) -> Version:
    return version_of(asset, "1", stats=Stats(rows=rows, numbers=dict(numbers)))


def failed(checks: Sequence[Check], context: CheckContext, *names: str) -> dict[str, str]:
    chosen = [check for check in checks if not names or check.name in names]
    return {result.name: result.message for result in run_checks(chosen, context) if not result.passed}


@pytest.mark.parametrize(
    ("item", "nonnegative", "is_valid"),
    [
        ([1.0, 0.0], True, True),
        ([1.0, -0.5], False, True),
        ([1.0, -0.5], True, False),
        ([NAN, 0.0], True, False),
        ([INFINITY, 0.0], False, False),
    ],
)
def test_factors_must_be_finite_and_with_nonnegative_not_negative(
    item: list[float], nonnegative: bool, is_valid: bool
) -> None:
    results = als_model({0: [0.5, 0.5]}, {0: item}).describe()
    assert (results["users"], results["products"]) == (1, 1)
    context = CheckContext(Stats(results=results), {"nonnegative": nonnegative})
    assert list(failed(ALS_MODEL_CHECKS, context)) == ([] if is_valid else ["factors_valid"])


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ([90.0, 60.0, 59.5], None),
        ([90.0, 60.0, 60.0003], None),  # within the rounding error of float32
        ([90.0, 91.0, 60.0, 61.0], "iteration 2, 4"),
        ([90.0, 60.0], "33.3 %"),
        ([90.0], None),
        (None, None),  # MLlib does not report it
    ],
)
def test_an_objective_that_increases_or_has_not_converged_warns(
    objective: list[float] | None, reason: str | None
) -> None:
    [check] = [check for check in ALS_MODEL_CHECKS if check.name == "objective_decreases"]
    assert not check.blocking
    [result] = run_checks([check], CheckContext(Stats(results={"objective": objective} if objective else {})))
    assert result.passed == (reason is None)
    assert reason is None or reason in result.message
    assert list(result.values.values())[:3] == ([90, round(objective[-1]), len(objective)] if objective else [])


def test_interactions_without_an_index_entry_are_counted() -> None:
    versions = {
        "user_index": version("user_index", 5, events=100),
        "product_index": version("product_index", 3, events=100),
    }
    days = {"cleaned_events": {"2019-10-01": Stats(numbers={"interactions": 60}), "2019-10-02": Stats(rows=0)}}
    days["cleaned_events"]["2019-10-03"] = Stats(numbers={"interactions": 30})
    numbers = {"interactions": 80, "highest_user_idx": 4, "highest_product_idx": 3}
    context = CheckContext(Stats(rows=9, numbers=numbers), versions=versions, days=days)
    messages = failed(INTERACTION_DATA_CHECKS, context, "interactions_conserved", "indices_known")
    assert sorted(messages) == ["indices_known", "interactions_conserved"]
    assert "product_idx" in messages["indices_known"]
    assert messages["interactions_conserved"].startswith("10 of 90 ")
    versions["product_index"] = version("product_index", 4)
    numbers["interactions"] = 90
    whole = replace(context, stats=Stats(rows=9, numbers=numbers))
    assert failed(INTERACTION_DATA_CHECKS, whole, "interactions_conserved", "indices_known") == {}


def broken_rules(
    spark: SparkSession, table: TableSpec, checks: Sequence[Check], rows: Sequence[tuple[Any, ...]]
) -> list[list[str]]:
    """Returns the names of the rules that each row breaks, from one query."""
    columns = ", ".join(f"{c.name} {c.type}" for c in table.with_id_type("bigint").columns)
    frame = spark.createDataFrame([(number, *row) for number, row in enumerate(rows)], f"number int, {columns}")
    rules = [check for check in checks if list(check.numbers) == [f"{check.name}_broken"]]
    counts = [F.expr(sql).alias(check.name) for check in rules for sql in check.numbers.values()]
    counted = frame.groupBy("number").agg(*counts).orderBy("number").collect()
    return [[check.name for check in rules if row[check.name]] for row in counted]


@pytest.mark.parametrize(
    ("table", "checks", "cases"),
    [
        pytest.param(
            ALS_EVALUATION,
            ALS_EVALUATION_CHECKS,
            [
                (("ndcg", 10, "als", "all", "seen", 0.5, 0.4, 0.6, 9), []),
                (("ndcg", 10, "als - popularity", "all", "seen", -0.5, -0.6, -0.4, 9), []),
                (("rmse", None, "als", "all", "none", 3.0, None, None, 9), []),
                (("novelty", 10, "als", "all", "seen", 7.0, None, None, 9), []),
                (("rmse", None, "als", "all", "none", NAN, None, None, 9), ["values_finite"]),
                (("ndcg", 10, "als", "all", "seen", -0.5, -0.6, -0.4, 9), ["values_in_range"]),
                (("map", 10, "als", "all", "seen", 1.1, 1.0, 1.2, 9), ["values_in_range"]),
                (("serendipity", 10, "als", "all", "seen", 1.1, 1.0, 1.2, 9), ["values_in_range"]),
                (("diversity", 10, "als", "all", "seen", 1.1, None, None, 9), ["values_in_range"]),
                (("novelty", 10, "als", "all", "seen", -1.0, None, None, 9), ["values_in_range"]),
            ],
            id="als_evaluation",
        ),
        pytest.param(
            ITEM_NEIGHBOURS,
            ITEM_NEIGHBOURS_CHECKS,
            [
                ((101, 1, 103, 0.5, 2), []),
                ((101, 1, 101, 0.5, 2), ["no_self_pairs"]),
                ((101, 1, 103, 0.0, 2), ["similarity_in_range"]),
                ((101, 1, 103, 1.1, 2), ["similarity_in_range"]),
                ((101, 1, 103, 0.5, 0), ["has_common_users"]),
                ((101, 0, 103, 0.5, 2), ["rank_in_range"]),
                ((101, 101, 103, 0.5, 2), ["rank_in_range"]),
            ],
            id="item_neighbours",
        ),
        pytest.param(
            PRODUCT_PAIRS,
            PRODUCT_PAIRS_CHECKS,
            [
                ((1, "bought", 1, 2, 3, 0.3, 0.6, 1.5), []),
                ((2, "viewed", 1, 1, 3, 0.3, 1.0, 1.5), []),
                ((4, "sold", 1, 4, 3, 0.3, 0.6, 1.5), ["known_kinds", "no_self_pairs"]),
                ((1, "viewed", 1, 2, 0, 0.3, 0.6, 1.5), ["values_in_range"]),
                ((1, "viewed", 1, 2, 3, 0.0, 0.6, 1.5), ["values_in_range"]),
                ((1, "viewed", 1, 2, 3, 0.7, 0.6, 1.5), ["values_in_range"]),
                ((1, "viewed", 1, 2, 3, 0.3, 1.1, 1.5), ["values_in_range"]),
                ((1, "viewed", 1, 2, 3, 0.3, 0.6, NAN), ["values_in_range"]),
            ],
            id="product_pairs",
        ),
        pytest.param(
            RECOMMENDATIONS,
            RECOMMENDATIONS_CHECKS,
            [
                ((1, 1, 101, 0.5, "als", None), []),
                ((1, 1, 101, 0.5, "other", None), ["known_sources"]),
                ((1, 1, 101, INFINITY, "als", None), ["scores_finite"]),
            ],
            id="recommendations",
        ),
    ],
)
def test_a_row_out_of_range_breaks_its_rule(
    spark: SparkSession, table: TableSpec, checks: Sequence[Check], cases: Sequence[tuple[tuple[Any, ...], list[str]]]
) -> None:
    assert broken_rules(spark, table, checks, [row for row, _ in cases]) == [broken for _, broken in cases]


def test_products_that_are_not_eligible_are_counted(spark: SparkSession) -> None:
    eligibility = spark.range(3).selectExpr("id as product_id", "id <> 1 as eligible")
    rows = spark.createDataFrame([(0,), (1,), (1,), (7,)], "pair_product_id bigint")
    checks = [only_eligible("pair_product_id")]
    summaries = [make(rows, CheckContext(Stats()), lambda _: eligibility) for make in summaries_of(checks)]
    stats = measure(rows, checks, summaries)[None]
    assert stats.numbers["not_eligible"] == 3
    assert list(failed(checks, CheckContext(stats))) == ["eligible_products"]


@pytest.mark.parametrize(
    ("similar", "known", "shares"),
    [
        # 20 products of a, 20 of b, 10 without a category; each has five similar ones.
        ("same", 200, ()),
        ("any", 160, ("50.0 % of 160", "48.7 %")),
    ],
)
def test_similar_products_are_of_the_same_category_more_often_than_by_chance(
    spark: SparkSession, similar: str, known: int, shares: tuple[str, ...]
) -> None:
    category = ["a"] * 20 + ["b"] * 20 + ["unknown"] * 10
    rows = []
    for product, group in enumerate(category):
        for rank in range(1, 6):
            other = group if similar == "same" else "ab"[rank % 2] if rank < 5 else "unknown"
            about = (None, group, "x", None, "unknown" if group == "unknown" else other, "x")
            rows.append((product, rank, 0, 0.5, *about))
    columns = SIMILAR_PRODUCTS.with_id_type("bigint").columns
    frame = spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in columns))
    checks = [check for check in SIMILAR_PRODUCTS_CHECKS if check.name == "same_category"]
    summaries = [make(frame, CheckContext(Stats()), {}.__getitem__) for make in summaries_of(checks)]
    stats = measure(frame, checks, summaries)[None]
    assert stats.numbers["with_categories"] == known
    assert stats.numbers["same_category_by_chance"] == pytest.approx(known * 19 / 39)
    messages = failed(checks, CheckContext(stats))
    assert list(messages) == (["same_category"] if shares else [])
    assert all(share in messages["same_category"] for share in shares)


def weights(weight: float) -> dict[str, Any]:
    return {"features": {name: {"weight": weight, "mean": 0.0, "scale": 1.0} for name in FEATURES}, "intercept": 0.0}


@pytest.mark.parametrize(
    ("document", "users", "ranker", "broken"),
    [
        (weights(0.5), MIN_TRAINING_USERS, "blend", []),
        (weights(NAN), MIN_TRAINING_USERS, "blend", ["weights_finite"]),
        (Blend().document(), MIN_TRAINING_USERS - 1, "blend", ["enough_training_users"]),
        (Blend().document(), 0, "als", []),
    ],
)
def test_weights_must_be_finite_and_trained_on_enough_users(
    document: dict[str, Any], users: int, ranker: str, broken: list[str]
) -> None:
    context = CheckContext(
        Stats(), {"recommendations": {"ranker": ranker}}, document={**document, "training_users": users}
    )
    assert list(failed(BLEND_MODEL_CHECKS, context)) == broken
    assert {check.name for check in BLEND_MODEL_CHECKS if check.blocking} == {"weights_finite"}


@pytest.mark.parametrize(
    ("before", "now", "warns"), [(100, 50, False), (100, 49, True), (0, 0, False), (None, 5, False)]
)
def test_a_catalogue_that_lost_most_products_warns(before: int | None, now: int, warns: bool) -> None:
    previous = [] if before is None else [Previous("0", Stats(numbers={"in_catalog": before}))]
    context = CheckContext(Stats(numbers={"in_catalog": now}), previous=previous)
    check = [each for each in PRODUCT_ELIGIBILITY_CHECKS if each.name == "catalog_complete"]
    assert list(failed(check, context)) == ["catalog_complete"] * warns

"""The checks of the recommendation assets find what is not as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.blend import FEATURES, MIN_TRAINING_USERS, Blend
from ecommerce_assets.recommendation.checks import (
    ALS_EVALUATION_CHECKS,
    ALS_MODEL_CHECKS,
    BLEND_MODEL_CHECKS,
    INTERACTION_DATA_CHECKS,
    ITEM_NEIGHBOURS_CHECKS,
    PRODUCT_ELIGIBILITY_CHECKS,
    RECOMMENDATIONS_CHECKS,
    SIMILAR_PRODUCTS_CHECKS,
)
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.item_neighbours import ITEM_NEIGHBOURS
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.storage.checks import Check, CheckContext, Previous, measure, run_checks, summaries_of
from ecommerce_assets.storage.version import Stats, Version
from ecommerce_assets_tests.helpers import version_of
from ecommerce_assets_tests.recommendation.test_recommend import Shop, als_model, index_frame

NAN, INFINITY = float("nan"), float("inf")


def version(asset: str, rows: int, **numbers: int) -> Version:
    return version_of(asset, "1", stats=Stats(rows=rows, numbers=dict(numbers)))


def failed(checks: Sequence[Check], context: CheckContext, *names: str) -> dict[str, str]:
    chosen = [check for check in checks if not names or check.name in names]
    return {result.name: result.message for result in run_checks(chosen, context) if not result.passed}


@pytest.mark.parametrize(
    ("item", "nonnegative", "message"),
    [
        ([1.0, 0.0], True, ""),
        ([1.0, -0.5], False, ""),
        ([1.0, -0.5], True, "of 2 factors 1 with a negative number"),
        ([NAN, 0.0], True, "of 2 factors 1 with a number that is not finite"),
        ([INFINITY, 0.0], False, "of 2 factors 1 with a number that is not finite"),
        ([-INFINITY, 0.0], True, "of 2 factors 1 with a number that is not finite and 1 with a negative number"),
    ],
)
def test_factors_are_finite_and_where_asked_nonnegative(item: list[float], nonnegative: bool, message: str) -> None:
    results = als_model({0: [0.5, 0.5]}, {0: item}).describe()
    assert (results["users"], results["products"]) == (1, 1)
    context = CheckContext(Stats(results=results), {"nonnegative": nonnegative})
    assert failed(ALS_MODEL_CHECKS, context) == ({"factors_valid": message} if message else {})


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ([90.0, 60.0, 59.5], ""),
        ([90.0, 60.0, 60.0003], ""),  # converged: float32 says no more
        ([90.0, 91.0, 60.0, 61.0], "it rises in iteration 2, 4"),
        ([90.0, 60.0], "it still falls by 33.3% in iteration 2, the last: more iterations would fit better"),
        ([90.0], ""),
        (None, ""),  # MLlib does not tell it
    ],
)
def test_an_objective_that_rises_or_still_falls_warns(objective: list[float] | None, message: str) -> None:
    context = CheckContext(Stats(results={"objective": objective} if objective else {}))
    assert failed(ALS_MODEL_CHECKS, context, "objective_decreases") == (
        {"objective_decreases": message} if message else {}
    )


def test_the_objective_is_reported_also_where_it_passes() -> None:
    [check] = [check for check in ALS_MODEL_CHECKS if check.name == "objective_decreases"]
    assert not check.blocking
    [result] = run_checks([check], CheckContext(Stats(results={"objective": [90.0, 60.0, 59.4]})))
    assert result.values == {
        "first objective": 90,
        "last objective": 59,
        "iterations": 3,
        "fall in the last iteration": "1.00%",
    }


def test_interactions_that_an_index_lacks_are_counted() -> None:
    versions = {
        "user_index": version("user_index", 5, events=100),
        "product_index": version("product_index", 3, events=100),
    }
    days = {"cleaned_events": {"2019-10-01": Stats(numbers={"interactions": 60}), "2019-10-02": Stats(rows=0)}}
    days["cleaned_events"]["2019-10-03"] = Stats(numbers={"interactions": 30})
    numbers = {"interactions": 80, "highest_user_idx": 4, "highest_product_idx": 3}
    context = CheckContext(Stats(rows=9, numbers=numbers), versions=versions, days=days)
    found = failed(INTERACTION_DATA_CHECKS, context, "interactions_conserved", "indices_known")
    assert sorted(found) == ["interactions_conserved", "indices_known"]
    assert found["indices_known"] == "product_idx goes up to 3, and product_index has 3 numbers from 0"
    assert found["interactions_conserved"].startswith("10 of 90 views, carts and purchases ")
    versions["product_index"] = version("product_index", 4)
    numbers["interactions"] = 90
    whole = replace(context, stats=Stats(rows=9, numbers=numbers))
    assert failed(INTERACTION_DATA_CHECKS, whole, "interactions_conserved", "indices_known") == {}


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        (("ndcg", 10, "als", "all", "seen", 0.5, 0.4, 0.6, 9), []),
        (("ndcg", 10, "als - popularity", "all", "seen", -0.5, -0.6, -0.4, 9), []),
        (("rmse", None, "als", "all", "none", 3.0, None, None, 9), []),
        (("rmse", None, "als", "all", "none", NAN, None, None, 9), ["values_finite"]),
        (("ndcg", 10, "als", "all", "seen", -0.5, -0.6, -0.4, 9), ["values_in_range"]),
        (("map", 10, "als", "all", "seen", 1.1, 1.0, 1.2, 9), ["values_in_range"]),
        (("serendipity", 10, "als", "all", "seen", 1.1, 1.0, 1.2, 9), ["values_in_range"]),
        (("diversity", 10, "als", "all", "seen", 1.1, None, None, 9), ["values_in_range"]),
        (("novelty", 10, "als", "all", "seen", 7.0, None, None, 9), []),
        (("novelty", 10, "als", "all", "seen", -1.0, None, None, 9), ["values_in_range"]),
    ],
)
def test_values_of_the_evaluation_are_finite_and_in_range(
    spark: SparkSession, row: tuple[Any, ...], broken: list[str]
) -> None:
    frame = spark.createDataFrame([row], ", ".join(f"{c.name} {c.type}" for c in ALS_EVALUATION.columns))
    rules = [check for check in ALS_EVALUATION_CHECKS if list(check.numbers) == [f"{check.name}_broken"]]
    assert list(failed(rules, CheckContext(measure(frame, rules)[None]))) == broken


def decided(shop: Shop, eligible: str) -> DataFrame:
    """product_eligibility of the products of the shop, all of one category."""
    about = ("'a' as category", "'b' as brand", "false as in_catalog", f"{eligible} as eligible")
    return shop.product_index.selectExpr("product_id", *about)


@pytest.mark.parametrize(("exclude", "blend"), [("seen", Blend()), ("none", None)])
def test_published_lists_pass_and_fail_by_another_rule_or_index(
    spark: SparkSession, exclude: str, blend: Blend | None
) -> None:
    shop = Shop(spark)
    frame = shop.frame(Exclude(exclude), 3, blend).cache()
    tables = {
        "product_index": shop.product_index,
        "user_index": shop.user_index,
        "interaction_data": shop.interactions,
        "product_eligibility": decided(shop, "true"),
    }
    summary = next(check.summary for check in RECOMMENDATIONS_CHECKS if check.name == "full_lists")
    checks = [check for check in RECOMMENDATIONS_CHECKS if summary and check.summary == summary]

    def checked(by: str, limit: int | None = None, **others: Any) -> dict[str, str]:
        read = {**tables, **others}
        eligible = read["product_eligibility"]
        counts = {"eligible": eligible.where("eligible").count()}
        versions = {"product_eligibility": version("product_eligibility", eligible.count(), **counts)}
        parameters = {"k": 3, "exclude": by, "rules": {"max_per_category": limit, "max_per_brand": None}}
        context = CheckContext(Stats(), parameters, versions=versions)
        summaries = [make(frame, context, read.__getitem__) for make in summaries_of(checks)]
        return failed(checks, replace(context, stats=measure(frame, checks, summaries)[None]))

    assert RECOMMENDATIONS.names == frame.columns
    assert checked(exclude) == {}
    sources = [check for check in RECOMMENDATIONS_CHECKS if check.name in ("known_sources", "scores_finite")]
    assert failed(sources, CheckContext(measure(frame, sources)[None])) == {}
    if exclude == "none":
        assert "no_excluded_products" in checked("seen")
    assert "known_products" in checked(exclude, product_index=index_frame(spark, "product", {101: 1, 103: 4}))
    assert "within_limits" in checked(exclude, 1)
    assert "within_limits" not in checked(exclude, 3)
    [shown] = frame.select("product_id").limit(1).collect()
    sold_out = decided(shop, f"product_id <> {shown['product_id']}")
    assert "eligible_products" in checked(exclude, product_eligibility=sold_out)


@pytest.mark.parametrize(
    ("similar", "known", "shares"),
    [
        # 20 products of a, 20 of b, 10 without a category; each has five similar ones.
        ("same", 200, ()),
        ("any", 160, ("50.0% of 160", "48.7%")),
    ],
)
def test_similar_products_are_of_the_same_category_more_often_than_by_chance(
    spark: SparkSession, similar: str, known: int, shares: tuple[str, ...]
) -> None:
    category = ["a"] * 20 + ["b"] * 20 + ["unknown"] * 10
    rows = []
    for product, own in enumerate(category):
        for rank in range(1, 6):
            drawn = own if similar == "same" else "ab"[rank % 2] if rank < 5 else "unknown"
            about = (None, own, "x", None, "unknown" if own == "unknown" else drawn, "x")
            rows.append((product, rank, 0, 0.5, *about))
    columns = SIMILAR_PRODUCTS.with_id_type("bigint").columns
    frame = spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in columns))
    checks = [check for check in SIMILAR_PRODUCTS_CHECKS if check.name == "same_category"]
    summaries = [make(frame, CheckContext(Stats()), {}.__getitem__) for make in summaries_of(checks)]
    stats = measure(frame, checks, summaries)[None]
    assert stats.numbers["with_categories"] == known
    assert stats.numbers["same_category_by_chance"] == pytest.approx(known * 19 / 39)
    found = failed(checks, CheckContext(stats))
    assert list(found) == (["same_category"] if shares else [])
    assert all(share in found["same_category"] for share in shares)


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        ([(101, 1, 103, 0.5, 2), (101, 2, 104, 0.5, 1), (103, 1, 101, 1.0, 2)], []),
        ([(101, 1, 101, 0.5, 2)], ["no_self_pairs"]),
        ([(101, 1, 103, 0.0, 2)], ["similarity_in_range"]),
        ([(101, 1, 103, 1.1, 2)], ["similarity_in_range"]),
        ([(101, 1, 103, 0.5, 0)], ["has_common_users"]),
        ([(101, 0, 103, 0.5, 2)], ["rank_in_range"]),
        ([(101, 101, 103, 0.5, 2)], ["rank_in_range"]),
    ],
)
def test_broken_neighbours_are_found(spark: SparkSession, rows: list[tuple[Any, ...]], broken: list[str]) -> None:
    columns = ITEM_NEIGHBOURS.with_id_type("bigint").columns
    frame = spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in columns))
    checks = [check for check in ITEM_NEIGHBOURS_CHECKS if check.name not in ("row_count_stable", "no_nulls")]
    tables = {"product_index": index_frame(spark, "product", {101: 1, 103: 4, 104: 0})}
    context = CheckContext(Stats(), {}, versions={"product_index": version("product_index", 3)})
    summaries = [make(frame, context, tables.__getitem__) for make in summaries_of(checks)]
    assert list(failed(checks, replace(context, stats=measure(frame, checks, summaries)[None]))) == broken


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
def test_weights_are_finite_and_of_enough_users(
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

"""What the audits of the recommendation assets say of evidence that is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.als import describe_factors
from ecommerce_assets.recommendation.checks import (
    ALS_EVALUATION_AUDITS,
    ALS_MODEL_AUDITS,
    INTERACTION_DATA_AUDITS,
    RECOMMENDATIONS_AUDITS,
    SIMILAR_PRODUCTS_AUDITS,
)
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.storage.audits import Audit, Evidence, measure, probe, probes_of, run_audits
from ecommerce_assets_tests.recommendation.test_recommend import Shop, als_model, index_frame

NAN, INFINITY = float("nan"), float("inf")


class Read:
    """Stands for a manifest, with what its audits measured."""

    def __init__(self, rows: int, **measures: Any) -> None:
        self.rows, self.facts = rows, {"measures": {"rows": rows, **measures}}


def failed(audits: tuple[Audit, ...], evidence: Evidence, *names: str) -> dict[str, str]:
    chosen = [audit for audit in audits if not names or audit.name in names]
    return {result.name: result.message for result in run_audits(chosen, evidence) if not result.passed}


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
def test_factors(spark: SparkSession, item: list[float], nonnegative: bool, message: str) -> None:
    facts = describe_factors(als_model(spark, {0: [0.5, 0.5]}, {0: item}))
    assert (facts["users"], facts["products"]) == (1, 1)
    evidence = Evidence({}, facts, {"nonnegative": nonnegative})
    assert failed(ALS_MODEL_AUDITS, evidence) == ({"factors_sound": message} if message else {})


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
def test_objective(objective: list[float] | None, message: str) -> None:
    evidence = Evidence({}, {"objective": objective} if objective else {})
    assert failed(ALS_MODEL_AUDITS, evidence, "objective_falls") == ({"objective_falls": message} if message else {})


def test_figures_of_the_objective() -> None:
    [audit] = [audit for audit in ALS_MODEL_AUDITS if audit.name == "objective_falls"]
    assert not audit.blocking
    [result] = run_audits([audit], Evidence({}, {"objective": [90.0, 60.0, 59.4]}))
    assert result.figures == {
        "first objective": 90,
        "last objective": 59,
        "iterations": 3,
        "fall in the last iteration": "1.00%",
    }


def test_interactions_that_an_index_lacks_are_counted() -> None:
    inputs: Any = {
        "cleaned_events": [Read(100, interactions=90)],
        "user_index": [Read(5, events=100)],
        "product_index": [Read(3, events=70)],
    }
    measures = {"rows": 9, "interactions": 80, "highest_user_idx": 4, "highest_product_idx": 3}
    names = ("interactions_conserved", "indices_agree", "numbers_known")
    assert failed(INTERACTION_DATA_AUDITS, Evidence(measures, inputs=inputs), *names) == {
        "numbers_known": "product_idx goes up to 3, and product_index has 3 numbers from 0",
        "interactions_conserved": "10 of 90 views, carts and purchases are left out: an index lacks the id of their "
        "user or product",
        "indices_agree": "user_index counts 100 events, product_index 70: they were made from other events",
    }
    # Events of before the measure was thought of say nothing.
    inputs["cleaned_events"] = [Read(100)]
    assert not failed(INTERACTION_DATA_AUDITS, Evidence(measures, inputs=inputs), "interactions_conserved")


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        (("ndcg", 10, "als", "all", 0.5, 0.4, 0.6, 9), []),
        (("ndcg", 10, "als - popularity", "all", -0.5, -0.6, -0.4, 9), []),
        (("rmse", None, "als", "all", 3.0, None, None, 9), []),
        (("ndcg", 10, "als", "all", -0.5, -0.6, -0.4, 9), ["values_in_range"]),
        (("map", 10, "als", "all", 1.1, 1.0, 1.2, 9), ["values_in_range"]),
        (("novelty", 10, "als", "all", -1.0, None, None, 9), ["values_in_range"]),
        (("recall", 10, "als", "all", 0.5, 0.6, 0.7, 9), ["intervals_hold_values"]),
        (("auc", 10, "als", "all", 0.5, None, None, 9), ["known_metrics"]),
        (("map", 10, "oracle", "all", 0.5, None, None, 9), ["known_metrics"]),
    ],
)
def test_values_of_the_evaluation(spark: SparkSession, row: tuple[Any, ...], broken: list[str]) -> None:
    frame = spark.createDataFrame(
        [row],
        "metric string, k int, system string, slice string, value double, lower double, upper double, users bigint",
    )
    rules = [audit for audit in ALS_EVALUATION_AUDITS if list(audit.measures) == [f"{audit.name}_broken"]]
    found = run_audits(rules, Evidence(measure(frame, rules)[None]))
    assert [result.name for result in found if not result.passed] == broken


@pytest.mark.parametrize("exclude", ["purchased", "seen", "none"])
def test_published_lists_are_whole_and_others_are_not(spark: SparkSession, exclude: str) -> None:
    """What `recommend` makes passes; judged by another rule, or by an index that lacks a product, it does not."""
    shop = Shop(spark)
    frame = shop.frame(exclude, 3).cache()
    tables = {"product_index": shop.product_index, "user_index": shop.user_index, "interaction_data": shop.interactions}
    look = next(audit.probe for audit in RECOMMENDATIONS_AUDITS if audit.name == "full_lists")
    audits = tuple(audit for audit in RECOMMENDATIONS_AUDITS if audit.probe == look)

    def judged(by: str, **others: Any) -> dict[str, str]:
        evidence = Evidence({}, parameters={"k": 3, "exclude": by})
        measures = probe(frame, probes_of(audits), evidence, {**tables, **others}.__getitem__)
        return failed(audits, Evidence(measures, parameters=evidence.parameters))

    assert RECOMMENDATIONS.names == frame.columns
    assert judged(exclude) == {}
    if exclude == "none":
        assert "nothing_excluded" in judged("seen")
    assert "known_products" in judged(exclude, product_index=index_frame(spark, "product", {101: 1, 103: 4}))


@pytest.mark.parametrize(
    ("similar", "message"),
    [
        # 20 products of a, 20 of b, 10 without a category; each has five similar ones.
        ("same", ""),
        (
            "any",
            "50.0% of 160 similar products are of the same category, and by chance it would be 48.7%: the lists may "
            "follow noise",
        ),
    ],
)
def test_similar_products_of_the_same_category(spark: SparkSession, similar: str, message: str) -> None:
    category = ["a"] * 20 + ["b"] * 20 + ["unknown"] * 10
    rows = []
    for product, own in enumerate(category):
        for rank in range(1, 6):
            drawn = own if similar == "same" else "ab"[rank % 2] if rank < 5 else "unknown"
            rows.append((product, rank, 0, 0.5, own, "x", "unknown" if own == "unknown" else drawn, "x"))
    columns = SIMILAR_PRODUCTS.with_id_type("bigint").columns
    frame = spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in columns))
    audits = tuple(audit for audit in SIMILAR_PRODUCTS_AUDITS if audit.name == "same_category")
    measures = probe(frame, probes_of(audits), Evidence({}), {}.__getitem__)
    assert measures["with_categories"] == (200 if similar == "same" else 160)
    assert measures["same_category_by_chance"] == pytest.approx(measures["with_categories"] * 19 / 39)
    assert failed(audits, Evidence(measures)) == ({"same_category": message} if message else {})

"""The checks of als_evaluation: when they block, when they warn, and when they pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecommerce_assets.recommendation.evaluation_checks import (
    BETTER,
    DIFFERENCE,
    EVALUATION_CHECKS,
    UNCLEAR,
    WORSE,
    Comparison,
    with_interval,
)
from ecommerce_assets.recommendation.scores import BUCKETS
from ecommerce_assets.recommendation.systems import PUBLISHED, TITLES
from ecommerce_assets.storage.checks import CheckContext, Previous, run_checks
from ecommerce_assets.storage.markdown import percent
from ecommerce_assets.storage.version import CheckResult, Input, Stats

PARAMETERS = {"k": 10, "exclude": "purchased", "ranker": "blend", "min_holdout_users": 100}
INPUTS = [Input(asset="cleaned_events", version="v", fingerprint="f", partitions=("2019-10-01",))]
NDCG = [0.30, 0.25, 0.35]
ABOVE, BELOW = [0.1, 0.05, 0.15], [-0.1, -0.2, -0.05]


def results(difference: list[float], users: int = 500, published: list[float] = NDCG) -> dict[str, Any]:
    ndcg = {PUBLISHED: published, "latest": [0.2, 0.1, 0.3], DIFFERENCE: difference}
    return {
        "cutoff": "2019-10-01T12:00:00",
        "holdout_users": users,
        "best_baseline": "latest",
        "metrics": {"ndcg": ndcg},
    }


def checked(results: dict[str, Any], *previous: Previous) -> list[CheckResult]:
    context = CheckContext(Stats(rows=1, results=results), PARAMETERS, INPUTS, previous=previous)
    return run_checks(EVALUATION_CHECKS, context)


def failed(results: dict[str, Any], *previous: Previous) -> dict[str, str]:
    """Messages by check; those of blocking checks are marked with an exclamation mark."""
    return {f"{r.name}{'!' * r.blocking}": r.message for r in checked(results, *previous) if not r.passed}


@pytest.mark.parametrize(
    ("difference", "users", "outcome", "names"),
    [
        pytest.param(ABOVE, 500, BETTER, [], id="better"),
        pytest.param(ABOVE, 100, BETTER, [], id="better, for just enough users"),
        pytest.param([0.0, -0.1, 0.1], 500, UNCLEAR, ["better_than_best_baseline"], id="contains zero"),
        pytest.param([-0.1, -0.2, 0.0], 500, UNCLEAR, ["better_than_best_baseline"], id="touches zero from below"),
        pytest.param([0.1, 0.0, 0.2], 500, UNCLEAR, ["better_than_best_baseline"], id="touches zero from above"),
        pytest.param(BELOW, 500, WORSE, ["not_worse_than_best_baseline!", "better_than_best_baseline"], id="worse"),
        pytest.param(BELOW, 99, None, ["better_than_best_baseline"], id="worse, for few users"),
        pytest.param(ABOVE, 99, None, ["better_than_best_baseline"], id="better, for few users"),
    ],
)
def test_only_lists_that_are_clearly_worse_than_the_best_baseline_are_blocked(
    difference: list[float], users: int, outcome: str | None, names: list[str]
) -> None:
    comparison = Comparison.of(results(difference, users), PARAMETERS)
    assert comparison is not None
    assert comparison.outcome == outcome
    assert list(failed(results(difference, users))) == names


def test_messages_have_the_values_and_the_title_of_the_best_baseline() -> None:
    worse = failed(results(BELOW))["not_worse_than_best_baseline!"]
    for part in ("0.3000", TITLES["latest"], "0.2000", "-0.1000 (-0.2000 to -0.0500)", WORSE):
        assert part in worse
    few = failed(results(ABOVE, 3))["better_than_best_baseline"]
    assert {"3", "100"} <= set(few.replace(",", "").split())
    assert BETTER not in few
    no_holdout = failed({"holdout": "none: no events"})
    assert list(no_holdout) == ["better_than_best_baseline"]
    assert "no events" in no_holdout["better_than_best_baseline"]


def by_bucket(mean: float, noise: float = 0.01, users: int = 5) -> list[list[float]]:
    """Users and the sum of their NDCG in each bucket; buckets differ alike in each call."""
    means = mean + noise * np.random.default_rng(0).standard_normal(BUCKETS)
    return [[users, users * value] for value in means.tolist()]


def evaluated(mean: float, **more: Any) -> dict[str, Any]:
    return {**results(ABOVE, published=[mean, mean - 0.1, mean + 0.1]), "ndcg_by_bucket": by_bucket(mean), **more}


def previous(mean: float, changed: dict[str, Any] | None = None, **fields: Any) -> Previous:
    return Previous("7", Stats(results={**evaluated(mean), **(changed or {})}), **{"parameters": PARAMETERS, **fields})


def test_a_clear_loss_since_the_previous_version_blocks() -> None:
    # The intervals of both overlap by far, but users are paired by their buckets.
    message = failed(evaluated(0.4), previous(0.5))["not_worse_than_previous!"]
    for part in ("0.4000 (0.3000 to 0.5000)", "version 7", "0.5000 (0.4000 to 0.6000)", "-0.1000", "5.0 %"):
        assert part in message


@pytest.mark.parametrize(("now", "blocks"), [(0.48, False), (0.46, True), (0.6, False)])
def test_a_loss_up_to_the_limit_passes(now: float, blocks: bool) -> None:
    assert ("not_worse_than_previous!" in failed(evaluated(now), previous(0.5))) == blocks


def test_the_limit_is_a_setting() -> None:
    context = CheckContext(
        Stats(rows=1, results=evaluated(0.4)), {**PARAMETERS, "max_quality_loss": 0.5}, INPUTS, previous=[previous(0.5)]
    )
    assert all(result.passed for result in run_checks(EVALUATION_CHECKS, context))


def test_a_loss_that_may_be_chance_passes() -> None:
    rng = np.random.default_rng(1)
    noisy = [[1.0, float(value)] for value in np.clip(0.4 + 2 * rng.standard_normal(BUCKETS), -9, 9)]
    assert "not_worse_than_previous!" not in failed(evaluated(0.4, ndcg_by_bucket=noisy), previous(0.5))


@pytest.mark.parametrize(
    "other",
    [
        Previous("7", Stats(results={"holdout": "none"}), parameters=PARAMETERS),
        previous(0.5, {"ndcg_by_bucket": None}),
        previous(0.5, {"holdout_users": 99}),
        previous(0.5, {"best_baseline": None, "metrics": {"ndcg": {"published": [0.5, 0.4, 0.6]}}}),
        previous(0.5, parameters={**PARAMETERS, "k": 20}),
        previous(0.5, parameters={**PARAMETERS, "exclude": "none"}),
    ],
    ids=["no metrics", "no buckets", "few users", "no baselines", "k", "exclude"],
)
def test_versions_that_cannot_be_compared_pass(other: Previous) -> None:
    outcomes = checked(evaluated(0.3), other)
    assert [result.name for result in outcomes if not result.passed] == []
    [compared] = [result.checked for result in outcomes if result.name == "not_worse_than_previous"]
    assert compared.startswith("nothing to compare: ")


@pytest.mark.parametrize(("difference", "outcome"), [(ABOVE, BETTER), (BELOW, WORSE), ([0.0, -0.1, 0.1], UNCLEAR)])
def test_an_experiment_is_compared_with_the_promoted_parameters(difference: list[float], outcome: str) -> None:
    compared = {
        "changes": {"als_model.rank": [50, 8]},
        "ndcg": {"promoted": [0.3, 0.2, 0.4], "difference": difference},
    }
    context = CheckContext(
        Stats(rows=1, results=evaluated(0.1, compared=compared)),
        {**PARAMETERS, "experiment": True},
        INPUTS,
        previous=[previous(0.5)],
    )
    outcomes = {result.name: result for result in run_checks(EVALUATION_CHECKS, context)}
    assert outcomes["not_worse_than_previous"].passed, "experiments are not compared with the previous version"
    assert outcomes["not_worse_than_promoted"].passed == (outcome != WORSE)
    assert outcomes["not_worse_than_promoted"].values["als_model.rank"] == "8 instead of 50"
    assert not outcomes["not_worse_than_promoted"].blocking


def test_with_the_promoted_parameters_there_is_nothing_to_compare() -> None:
    [result] = [r for r in checked(evaluated(0.3)) if r.name == "not_worse_than_promoted"]
    assert (result.values, result.checked) == ({}, "nothing to compare: these are the promoted parameters")


def test_intervals_have_one_format() -> None:
    assert with_interval([0.3, 0.25, 0.35]) == "0.3000 (0.2500 to 0.3500)"
    assert with_interval([0.3, None, None]) == with_interval([0.3, 0.3, 0.3]) == with_interval([0.3]) == "0.3000"
    assert with_interval([0.383, 0.36, 0.4], percent) == "38.3 % (36.0 % to 40.0 %)"
    assert with_interval([None]) == ""

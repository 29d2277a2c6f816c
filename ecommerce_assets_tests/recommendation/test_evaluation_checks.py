"""When als_evaluation blocks a version, when it only warns, and when it passes."""

from __future__ import annotations

from typing import Any

import pytest

from ecommerce_assets.recommendation.evaluation_checks import (
    BETTER,
    DIFFERENCE,
    EVALUATION_CHECKS,
    UNCLEAR,
    WORSE,
    Comparison,
    percent,
    with_interval,
)
from ecommerce_assets.recommendation.systems import PUBLISHED, TITLES
from ecommerce_assets.storage.checks import CheckContext, Previous, run_checks
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
        pytest.param([0.0, -0.1, 0.1], 500, UNCLEAR, ["clearly_beats_baselines"], id="contains zero"),
        pytest.param([-0.1, -0.2, 0.0], 500, UNCLEAR, ["clearly_beats_baselines"], id="touches zero from below"),
        pytest.param([0.1, 0.0, 0.2], 500, UNCLEAR, ["clearly_beats_baselines"], id="touches zero from above"),
        pytest.param(BELOW, 500, WORSE, ["beats_baselines!", "clearly_beats_baselines"], id="worse"),
        pytest.param(BELOW, 99, None, ["clearly_beats_baselines"], id="worse, for few users"),
        pytest.param(ABOVE, 99, None, ["clearly_beats_baselines"], id="better, for few users"),
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
    worse = failed(results(BELOW))["beats_baselines!"]
    for part in ("0.3000", TITLES["latest"], "0.2000", "-0.1000 (-0.2000 to -0.0500)", WORSE):
        assert part in worse
    few = failed(results(ABOVE, 3))["clearly_beats_baselines"]
    assert {"3", "100"} <= set(few.replace(",", "").split())
    assert BETTER not in few
    nobody = failed({"holdout": "none: nobody came back"})
    assert list(nobody) == ["clearly_beats_baselines"]
    assert "nobody came back" in nobody["clearly_beats_baselines"]


BEFORE = results(ABOVE, published=[0.5, 0.4, 0.6])


def previous(changed: dict[str, Any] | None = None, **fields: Any) -> Previous:
    about = {"parameters": PARAMETERS, "inputs": INPUTS, **fields}
    return Previous("7", Stats(results={**BEFORE, **(changed or {})}), **about)


def test_an_interval_below_that_of_the_previous_version_blocks() -> None:
    message = failed(results(ABOVE, published=[0.3, 0.25, 0.39]), previous())["as_good_as_before!"]
    for part in ("0.3000 (0.2500 to 0.3900)", "version 7", "0.5000 (0.4000 to 0.6000)"):
        assert part in message
    assert failed(results(ABOVE, published=[0.35, 0.3, 0.4]), previous()) == {}


@pytest.mark.parametrize(
    "other",
    [
        previous({"cutoff": "2019-09-30T12:00:00"}),
        previous({"holdout_users": 501}),
        Previous("7", Stats(results={"holdout": "none"}), parameters=PARAMETERS, inputs=INPUTS),
        previous({"best_baseline": None, "metrics": {"ndcg": {"published": [0.5, 0.4, 0.6]}}}),
        previous(parameters={**PARAMETERS, "k": 20}),
        previous(parameters={**PARAMETERS, "exclude": "none"}),
        previous(parameters={**PARAMETERS, "ranker": "als"}),
        previous(parameters={name: value for name, value in PARAMETERS.items() if name != "ranker"}),
        previous(inputs=[INPUTS[0].model_copy(update={"fingerprint": "g"})]),
        previous(inputs=[INPUTS[0].model_copy(update={"partitions": ("2019-10-02",)})]),
    ],
    ids=["cutoff", "users", "no metrics", "no baselines", "k", "exclude", "ranker", "no ranker", "content", "days"],
)
def test_versions_with_another_holdout_are_not_compared(other: Previous) -> None:
    outcomes = checked(results(ABOVE, published=[0.3, 0.25, 0.39]), other)
    assert [result.name for result in outcomes if not result.passed] == []
    assert "compared with" in next(result.values for result in outcomes if result.name == "as_good_as_before")


def test_the_version_of_the_events_does_not_matter_if_their_content_is_the_same() -> None:
    again = previous(inputs=[INPUTS[0].model_copy(update={"version": "9"})])
    assert "as_good_as_before!" in failed(results(ABOVE, published=[0.3, 0.25, 0.39]), again)


def test_intervals_have_one_format() -> None:
    assert with_interval([0.3, 0.25, 0.35]) == "0.3000 (0.2500 to 0.3500)"
    assert with_interval([0.3, None, None]) == with_interval([0.3, 0.3, 0.3]) == with_interval([0.3]) == "0.3000"
    assert with_interval([0.383, 0.36, 0.4], percent) == "38.3 % (36.0 % to 40.0 %)"
    assert with_interval([None]) == percent(None) == ""

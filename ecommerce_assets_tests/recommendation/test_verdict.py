"""When als_evaluation blocks a model, when it only warns, and when it passes."""

from __future__ import annotations

from typing import Any

import pytest

from ecommerce_assets.recommendation.verdict import VERDICT_CHECKS
from ecommerce_assets.storage.checks import CheckContext, Previous, run_checks
from ecommerce_assets.storage.version import Input, Stats

PARAMETERS = {"k": 10, "exclude": "purchased", "min_holdout_users": 100}
INPUTS = [Input(asset="cleaned_events", version="v", fingerprint="f", partitions=("2019-10-01",))]


def results(published: list[float], difference: list[float], users: int = 500) -> dict[str, Any]:
    ndcg = {"published": published, "published - popularity": difference}
    return {"cutoff": "2019-10-01T12:00:00", "holdout_users": users, "metrics": {"ndcg": ndcg}}


def failed(results: dict[str, Any], *previous: Previous) -> dict[str, str]:
    """Messages by check; those of blocking checks are marked with an exclamation mark."""
    context = CheckContext(Stats(rows=1, results=results), PARAMETERS, INPUTS, previous=previous)
    found = [result for result in run_checks(VERDICT_CHECKS, context) if not result.passed]
    return {f"{result.name}{'!' if result.blocking else ''}": result.message for result in found}


WELL = [0.30, 0.25, 0.35]


@pytest.mark.parametrize(
    ("difference", "users", "names"),
    [
        pytest.param([0.1, 0.05, 0.15], 500, [], id="better"),
        pytest.param([0.0, -0.1, 0.1], 500, ["verdict_clear"], id="straddles zero"),
        pytest.param([-0.1, -0.2, 0.0], 500, ["verdict_clear"], id="touches zero"),
        pytest.param([-0.1, -0.2, -0.05], 500, ["beats_popularity!"], id="worse"),
        pytest.param([-0.1, -0.2, -0.05], 99, ["verdict_clear"], id="worse, but for few users"),
        pytest.param([0.1, 0.05, 0.15], 99, ["verdict_clear"], id="better, but for few users"),
    ],
)
def test_only_a_clear_loss_against_popularity_blocks(difference: list[float], users: int, names: list[str]) -> None:
    assert list(failed(results(WELL, difference, users))) == names


def test_messages_have_the_numbers() -> None:
    worse = failed(results(WELL, [-0.1, -0.2, -0.05]))["beats_popularity!"]
    assert "500 holdout users" in worse
    assert "-0.1000 (95 % interval -0.2000 to -0.0500)" in worse
    few = failed(results(WELL, [0.1, 0.05, 0.15], 3))["verdict_clear"]
    assert "3 users" in few
    assert "100 (ECOMMERCE_MIN_HOLDOUT_USERS)" in few
    nobody = failed({"holdout": "none: there is nobody"})
    assert list(nobody) == ["verdict_clear"]
    assert "none: there is nobody" in nobody["verdict_clear"]


BETTER = [0.1, 0.05, 0.15]
BEFORE = results([0.5, 0.4, 0.6], BETTER)


def previous(changed: dict[str, Any] | None = None, **fields: Any) -> Previous:
    about = {"parameters": PARAMETERS, "inputs": INPUTS, **fields}
    return Previous("7", Stats(results={**BEFORE, **(changed or {})}), **about)


def test_an_interval_below_that_of_the_previous_version_blocks() -> None:
    found = failed(results([0.3, 0.25, 0.39], BETTER), previous())
    assert list(found) == ["as_good_as_before!"]
    assert "0.3000 (95 % interval 0.2500 to 0.3900)" in found["as_good_as_before!"]
    assert "version 7 it was 0.5000 (95 % interval 0.4000 to 0.6000)" in found["as_good_as_before!"]
    assert failed(results([0.35, 0.3, 0.4], BETTER), previous()) == {}


@pytest.mark.parametrize(
    "other",
    [
        previous({"cutoff": "2019-09-30T12:00:00"}),
        previous({"holdout_users": 501}),
        Previous("7", Stats(results={"holdout": "none"}), parameters=PARAMETERS, inputs=INPUTS),
        previous(parameters={**PARAMETERS, "k": 20}),
        previous(parameters={**PARAMETERS, "exclude": "none"}),
        previous(inputs=[INPUTS[0].model_copy(update={"fingerprint": "g"})]),
        previous(inputs=[INPUTS[0].model_copy(update={"partitions": ("2019-10-02",)})]),
    ],
    ids=["cutoff", "users", "no metrics", "k", "exclude", "content", "days"],
)
def test_versions_with_another_holdout_are_not_compared(other: Previous) -> None:
    assert failed(results([0.3, 0.25, 0.39], BETTER), other) == {}


def test_the_version_of_the_events_does_not_matter_where_their_content_is_the_same() -> None:
    again = previous(inputs=[INPUTS[0].model_copy(update={"version": "9"})])
    assert "as_good_as_before!" in failed(results([0.3, 0.25, 0.39], BETTER), again)

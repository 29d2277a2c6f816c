"""The checks of als_tuning."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.recommendation.tuning_verdict import TUNING_CHECKS
from ecommerce_assets.storage.checks import CheckContext, run_checks
from ecommerce_assets.storage.version import Stats

GOOD = {"number": 1, "ndcg": [0.3, 0.2, 0.4], "error": None}
FAILED = {"number": 2, "ndcg": None, "error": "ValueError: no luck"}


def failed(**changed: Any) -> dict[str, str]:
    """Messages by check; those of blocking checks are marked with an exclamation mark."""
    document = {
        "ndcg": [0.3, 0.2, 0.4],
        "gain": [0.05, 0.01, 0.09],
        "succeeded": 1,
        "failed": 0,
        "holdout_users": 500,
        "trials": [GOOD],
    }
    context = CheckContext(Stats(), {"min_holdout_users": 100}, document={**document, **changed})
    results = [result for result in run_checks(TUNING_CHECKS, context) if not result.passed]
    return {f"{result.name}{'!' if result.blocking else ''}": result.message for result in results}


def test_a_clear_gain_passes() -> None:
    assert failed() == {}


def test_a_gain_that_may_be_chance_warns() -> None:
    found = failed(gain=[0.05, -0.01, 0.11])
    assert list(found) == ["gain_clear"]
    assert "+0.0500 (95 % interval -0.0100 to +0.1100)" in found["gain_clear"]
    assert list(failed(gain=[0.0, 0.0, 0.0])) == ["gain_clear"]
    assert list(failed(gain=None)) == ["gain_clear"]


def test_a_gain_of_too_few_users_warns() -> None:
    found = failed(holdout_users=20)
    assert list(found) == ["gain_clear"]
    assert "20 users" in found["gain_clear"]
    assert "ECOMMERCE_MIN_HOLDOUT_USERS" in found["gain_clear"]


def test_a_failed_trial_warns_and_no_successful_one_blocks() -> None:
    found = failed(failed=1, trials=[GOOD, FAILED])
    assert list(found) == ["no_trial_failed"]
    assert "1 of 2 trials failed; trial 2: ValueError: no luck" in found["no_trial_failed"]
    none = {"ndcg": None, "gain": None, "succeeded": 0}
    assert "ValueError: no luck" in failed(**none, failed=1, trials=[FAILED])["trials_succeeded!"]
    assert "there is nobody" in failed(**none, trials=[], holdout="none: there is nobody")["trials_succeeded!"]


def test_a_best_trial_that_is_not_the_best_blocks() -> None:
    found = failed(trials=[{"number": 0, "ndcg": [0.4, 0.3, 0.5], "error": None}, GOOD])
    assert list(found) == ["best_is_best!"]
    assert "trial 0 (0.4000)" in found["best_is_best!"]

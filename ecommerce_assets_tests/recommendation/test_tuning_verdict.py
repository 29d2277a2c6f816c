"""What the audits of als_tuning say."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.recommendation.tuning_verdict import TUNING_AUDITS
from ecommerce_assets.storage.audits import Evidence, run_audits

GOOD = {"number": 1, "ndcg": [0.3, 0.2, 0.4], "error": None}
FAILED = {"number": 2, "ndcg": None, "error": "ValueError: no luck"}


def said(**changed: Any) -> dict[str, str]:
    """Messages by audit; those that hold the version back are marked with an exclamation mark."""
    document = {
        "ndcg": [0.3, 0.2, 0.4],
        "gain": [0.05, 0.01, 0.09],
        "succeeded": 1,
        "failed": 0,
        "holdout_users": 500,
        "trials": [GOOD],
    }
    evidence = Evidence({}, parameters={"min_holdout_users": 100}, document={**document, **changed})
    failed = [result for result in run_audits(TUNING_AUDITS, evidence) if not result.passed]
    return {f"{result.name}{'!' if result.blocking else ''}": result.message for result in failed}


def test_a_gain_that_is_clear() -> None:
    assert said() == {}


def test_a_gain_that_may_be_chance() -> None:
    assert said(gain=[0.05, -0.01, 0.11]) == {
        "gain_clear": "for 500 users the NDCG of the best trial, less that of the default parameters, is +0.0500 (95 % "
        "interval -0.0100 to +0.1100): it may be chance"
    }
    assert list(said(gain=[0.0, 0.0, 0.0])) == ["gain_clear"]
    assert said(holdout_users=20) == {
        "gain_clear": "the validation holdout has 20 users, and a verdict takes 100 (ECOMMERCE_MIN_HOLDOUT_USERS)"
    }
    assert "nothing is known of the default parameters" in said(gain=None)["gain_clear"]


def test_trials_that_failed() -> None:
    assert said(failed=1, trials=[GOOD, FAILED]) == {
        "no_trial_failed": "1 of 2 trials failed; trial 2: ValueError: no luck"
    }
    none = {"ndcg": None, "gain": None, "succeeded": 0}
    assert said(**none, failed=1, trials=[FAILED])["trials_succeeded!"] == (
        "all 1 trials failed; the first: ValueError: no luck"
    )
    assert said(**none, trials=[], holdout="none: there is nobody")["trials_succeeded!"] == (
        "no trial could be judged; holdout: none: there is nobody"
    )


def test_a_best_that_is_not() -> None:
    better = {"number": 0, "ndcg": [0.4, 0.3, 0.5], "error": None}
    assert said(trials=[better, GOOD]) == {
        "best_is_best!": "the best trial's NDCG is 0.3000, and higher is that of trial 0 (0.4000)"
    }

"""The closing summary of a run."""

from __future__ import annotations

import pytest

from ecommerce_assets.recommendation.evaluation_checks import BETTER
from ecommerce_assets.recommendation.systems import TITLES
from ecommerce_assets.settings import DEFAULT_DATA_DIR
from ecommerce_assets.training_metadata.closing import closing_summary
from ecommerce_assets_tests.training_metadata.test_card import document, evaluation

VERSIONS = {"recommendations": {"version": "12", "inputs": []}}


def summary(lake: str = "/shop/lake", **changed: object) -> str:
    return closing_summary(document(versions=VERSIONS, **changed).model_dump(), lake)


def test_the_summary_has_results_folder_comparison_and_next_commands() -> None:
    text = summary()
    parts = ["12,000 recommendations", "1,200 users", "300 similar products", "45,000 events", "30 days", "2026-01-30"]
    parts += ["/shop/lake", "version 12", "30.0 % of 300", f"{TITLES['latest']}: 15.0 %"]
    parts += [f"{TITLES['als_with_fallback']}: 10.0 %", f"{TITLES['popularity']}: 10.0 %"]
    parts += ["0.1500 (0.1000 to 0.2000)", BETTER]
    parts += ["ECOMMERCE_DATA_DIR=/shop uv run ecommerce-assets lookup user"]
    assert [part for part in parts if part not in text] == []


@pytest.mark.parametrize(("users", "is_compared"), [(99, False), (100, True)])
def test_with_few_holdout_users_there_is_no_comparison(users: int, is_compared: bool) -> None:
    text = summary(evaluation=evaluation(holdout_users=users))
    assert f"{users} holdout users" in text
    assert (BETTER in text) == is_compared


def test_commands_for_the_sample_do_not_set_the_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/my home")
    text = summary(f"{DEFAULT_DATA_DIR}/lake")
    assert "DAGSTER_HOME='/my home' uv run dagster dev" in text
    assert "ECOMMERCE_DATA_DIR" not in text


def test_the_summary_has_failed_checks_and_the_reason_for_a_missing_evaluation() -> None:
    failed = [{"asset": "als_evaluation", "check": "better_than_best_baseline", "message": "…"}]
    text = summary(failed_checks=failed, evaluation={"holdout": "none: nobody came back"}, data={})
    assert "nobody came back" in text
    assert "als_evaluation better_than_best_baseline" in text

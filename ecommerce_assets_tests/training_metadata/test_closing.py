"""The closing summary of a run, of made-up documents."""

from __future__ import annotations

import pytest

from ecommerce_assets.recommendation.evaluation_checks import BETTER
from ecommerce_assets.recommendation.systems import TITLES
from ecommerce_assets.settings import DEFAULT_DATA_DIR
from ecommerce_assets.training_metadata.closing import closing_words
from ecommerce_assets_tests.training_metadata.test_card import document, evaluation

VERSIONS = {"recommendations": {"version": "12", "inputs": []}}


def test_the_summary_has_what_was_made_where_it_is_and_how_the_lists_compare() -> None:
    text = closing_words(document(versions=VERSIONS).model_dump(), "/shop/lake")
    parts = ["12,000 recommendations", "1,200 users", "300 similar products", "45,000 events", "30 days", "2026-01-30"]
    parts += ["/shop/lake", "version 12 of the table recommendations"]
    parts += ["30.0 % of 300", f"{TITLES['latest']}: 15.0 %", f"{TITLES['als_with_fallback']}: 10.0 %"]
    parts += [f"{TITLES['popularity']}: 10.0 %", "0.1500 (0.1000 to 0.2000)", BETTER]
    assert [part for part in parts if part not in text] == []
    assert max(map(len, text.splitlines())) < 180
    assert "ECOMMERCE_DATA_DIR=/shop uv run ecommerce-assets lookup user" in text


@pytest.mark.parametrize(("users", "compared"), [(2, False), (99, False), (100, True)])
def test_few_users_are_no_comparison(users: int, compared: bool) -> None:
    few = document(versions=VERSIONS, evaluation=evaluation(holdout_users=users))
    text = closing_words(few.model_dump(), "/shop/lake")
    assert f"{users} holdout users" in text
    assert (BETTER in text) == compared


def test_commands_for_the_sample_have_no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/my home")
    text = closing_words(document(versions=VERSIONS).model_dump(), f"{DEFAULT_DATA_DIR}/lake")
    assert "DAGSTER_HOME='/my home' uv run dagster dev" in text
    assert "ECOMMERCE_DATA_DIR" not in text


def test_the_summary_names_failed_checks_and_why_there_is_no_evaluation() -> None:
    failed = [{"asset": "als_evaluation", "check": "better_than_best_baseline", "message": "…"}]
    nothing = document(
        versions=VERSIONS, failed_checks=failed, evaluation={"holdout": "none: nobody came back"}, data={}
    )
    text = closing_words(nothing.model_dump(), "/shop/lake")
    assert "nobody came back" in text
    assert "als_evaluation better_than_best_baseline" in text

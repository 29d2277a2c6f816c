"""The last lines of a run, of made-up documents."""

from __future__ import annotations

import pytest

from ecommerce_assets.settings import SAMPLE_DATA_DIR
from ecommerce_assets.training_metadata.closing import closing_words
from ecommerce_assets_tests.training_metadata.test_card import document

VERSIONS = {"recommendations": {"version": "12", "inputs": []}}


def test_closing_words_name_what_was_made_where_it_is_and_how_good() -> None:
    text = closing_words(document(versions=VERSIONS).model_dump(), "/shop/lake")
    parts = ["12,000 recommendations", "1,200 users", "300 similar products", "45,000 events", "30 days", "2026-01-30"]
    parts += ["/shop/lake", "version 12 of the table recommendations"]
    parts += ["30.0% of 300 users", "10.0%", "better than popularity"]
    assert [part for part in parts if part not in text] == []
    assert "beats_popularity" not in text
    assert max(map(len, text.splitlines())) < 160
    assert "ECOMMERCE_DATA_DIR=/shop uv run python -m ecommerce_assets.lookup user" in text


def test_commands_for_the_sample_have_no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/my home")
    text = closing_words(document(versions=VERSIONS).model_dump(), f"{SAMPLE_DATA_DIR}/lake")
    assert "DAGSTER_HOME='/my home' uv run dagster dev" in text
    assert "ECOMMERCE_DATA_DIR" not in text


def test_closing_words_name_failed_checks_and_a_missing_evaluation() -> None:
    failed = [{"asset": "als_evaluation", "check": "beats_popularity", "message": "…"}]
    nothing = document(versions=VERSIONS, failed_checks=failed, evaluation={"holdout": "nobody came back"}, data={})
    text = closing_words(nothing.model_dump(), "/shop/lake")
    assert "nobody came back" in text
    assert "als_evaluation beats_popularity" in text

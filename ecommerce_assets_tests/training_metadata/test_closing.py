"""The last words of a run, of documents of one's own making."""

from __future__ import annotations

import pytest

from ecommerce_assets.settings import SAMPLE_DATA_DIR
from ecommerce_assets.training_metadata.closing import closing_words
from ecommerce_assets_tests.training_metadata.test_card import document

VERSIONS = {"recommendations": {"version": "20260131_060000_1f0c2a9b", "inputs": []}}


def test_what_was_made_where_and_how_good_it_is() -> None:
    said = closing_words(document(versions=VERSIONS).model_dump(), "/shop/lake")
    assert "12,000 recommendations for 1,200 users in 1 segments, and 300 similar products" in said
    assert "from 45,000 events of 30 days to 2026-01-30" in said
    assert "/shop/lake, a folder per asset; the lists in recommendations/20260131_060000_1f0c2a9b" in said
    assert "30.0% of 300 users went for one of the 5 products in their list" in said
    assert "10.0% for one of the 5 most popular" in said
    assert "better than popularity" in said
    assert "Look at" not in said
    assert max(map(len, said.splitlines())) < 160
    assert "ECOMMERCE_DATA_DIR=/shop uv run python -m ecommerce_assets.lookup user" in said


def test_the_sample_needs_no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/my home")
    said = closing_words(document(versions=VERSIONS).model_dump(), f"{SAMPLE_DATA_DIR}/lake")
    assert "DAGSTER_HOME='/my home' uv run dagster dev" in said
    assert "ECOMMERCE_DATA_DIR" not in said


def test_lists_that_could_not_be_judged_and_checks_that_warn() -> None:
    failed = [{"asset": "als_evaluation", "check": "beats_popularity", "message": "…"}]
    nothing = document(versions=VERSIONS, failed_checks=failed, evaluation={"holdout": "nobody came back"}, data={})
    said = closing_words(nothing.model_dump(), "/shop/lake")
    assert "The lists could not be judged: nobody came back" in said
    assert "Look at    the warnings of als_evaluation beats_popularity" in said

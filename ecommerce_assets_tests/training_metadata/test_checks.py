"""The checks of the document: totals, numbers that are not finite, and the schema."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.storage.checks import CheckContext, run_checks
from ecommerce_assets.storage.version import Stats
from ecommerce_assets.training_metadata.checks import TRAINING_METADATA_CHECKS
from ecommerce_assets_tests.helpers import version_of
from ecommerce_assets_tests.training_metadata.test_card import SEGMENT, document

INPUT_STATS = {
    "user_index": Stats(rows=1200, numbers={"events": 45_000}),
    "product_index": Stats(rows=30, numbers={"events": 45_000}),
    "segmented_users": Stats(rows=1200),
}


def failed(**changed: Any) -> dict[str, str]:
    versions = {name: version_of(name, "1", stats=stats) for name, stats in INPUT_STATS.items()}
    changed_document = {**document().model_dump(mode="json"), **changed}
    context = CheckContext(Stats(), versions=versions, document=changed_document)
    return {result.name: result.message for result in run_checks(TRAINING_METADATA_CHECKS, context) if result.message}


def test_totals_must_be_those_of_the_tables() -> None:
    assert failed() == {}
    assert failed(total_users=6, segments_count=3) == {
        "totals_agree": "total_users is 6, not 1,200; segments_count is 3, not 1"
    }
    assert list(failed(total_products=31)) == list(failed(total_interactions=1)) == ["totals_agree"]
    assert list(failed(segments=[{**SEGMENT, "users": 1199}])) == ["totals_agree"]


def test_numbers_must_be_finite() -> None:
    messages = failed(rmse=float("nan"), evaluation={"metrics": {"ndcg": {"als": [0.1, None, float("inf")]}}})
    assert messages["numbers_finite"].endswith(": rmse, evaluation.metrics.ndcg.als[2]")


def test_fields_must_have_the_type_of_the_schema() -> None:
    assert failed(rmse="many")["as_documented"].startswith("rmse: ")

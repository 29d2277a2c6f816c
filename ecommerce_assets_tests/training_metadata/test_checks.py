"""The audits of the document: totals that differ from the tables', numbers that JSON does not know."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.storage.audits import Evidence, run_audits
from ecommerce_assets.training_metadata.checks import TRAINING_METADATA_AUDITS
from ecommerce_assets_tests.training_metadata.test_card import document


class Read:
    """Stands for a manifest."""

    def __init__(self, rows: int, events: int = 0) -> None:
        self.rows, self.facts = rows, {"measures": {"events": events}}


def failed(**changed: Any) -> dict[str, str]:
    audits = [audit for audit in TRAINING_METADATA_AUDITS if audit.name != "as_documented"]
    inputs: Any = {"user_index": [Read(5, 100)], "product_index": [Read(3, 100)], "segmented_users": [Read(5)]}
    segments = [{"users": 2, "mean": {"recency": 1.0}}, {"users": 3, "mean": {"recency": 2.0}}]
    document = {"total_users": 5, "total_products": 3, "total_interactions": 100, "segments_count": 2, "rmse": None}
    evidence = Evidence({}, inputs=inputs, document={**document, "segments": segments, **changed})
    return {result.name: result.message for result in run_audits(audits, evidence) if result.message}


def test_totals() -> None:
    assert failed() == {}
    assert failed(total_users=6, segments_count=3) == {
        "totals_agree": "total_users is 6, not 5; segments_count is 3, not 2"
    }


def test_numbers() -> None:
    assert failed(rmse=float("nan"), evaluation={"ndcg": {"als": [0.1, float("inf")]}}) == {
        "numbers_finite": "no finite number: rmse, evaluation.ndcg.als[1]"
    }


def test_schema() -> None:
    [audit] = [audit for audit in TRAINING_METADATA_AUDITS if audit.name == "as_documented"]
    whole = document().model_dump(mode="json")
    assert audit.judge(Evidence({}, document=whole)) is None
    assert audit.judge(Evidence({}, document={**whole, "total_users": "many"})) == (
        "total_users: Input should be a valid integer, unable to parse string as an integer"
    )

"""The model card of documents with all numbers, and with as few as possible."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.recommendation.evaluation_checks import BETTER, DIFFERENCE
from ecommerce_assets.recommendation.scores import USER_METRICS
from ecommerce_assets.recommendation.systems import PUBLISHED, SYSTEMS, TITLES
from ecommerce_assets.training_metadata.card import model_card, summarize
from ecommerce_assets.training_metadata.document import TrainingMetadata

SEGMENT = {
    "segment_id": 0,
    "segment": "VIP_Customers",
    "users": 1200,
    "share": 1.0,
    "mean": {"recency": 1.0},
    "revenue_share": 1.0,
    "description": "Everybody.",
}


def evaluation(**changed: Any) -> dict[str, Any]:
    """Returns stats of als_evaluation. The best baseline is `latest`."""
    interval = {**dict.fromkeys(SYSTEMS, (0.1, 0.05, 0.15)), PUBLISHED: (0.3, 0.2, 0.4), "latest": (0.15, 0.1, 0.2)}
    compared = {**interval, DIFFERENCE: (0.15, 0.1, 0.2)}
    shares = dict.fromkeys(SYSTEMS, (0.5, None, None))
    return {
        "cutoff": "2026-01-25T00:00:00+00:00",
        "holdout_users": 300,
        "best_baseline": "latest",
        "metrics": {**dict.fromkeys(USER_METRICS, compared), "coverage": shares, "novelty": shares},
        "ndcg_by_slice": {"all": {"users": 300, **compared}, "events: few": {"users": 40, **compared}},
        **changed,
    }


def document(**changed: Any) -> TrainingMetadata:
    fields: dict[str, Any] = {
        "training_date": "2026-01-31T06:00:00Z",
        "total_users": 1200,
        "total_products": 30,
        "total_interactions": 45000,
        "segments_count": 1,
        "data": {"first_day": "2026-01-01", "last_day": "2026-01-30", "days": 30},
        "silhouette": 0.5,
        "segments": [SEGMENT],
        "rmse": 2.5,
        "evaluation": evaluation(),
        "coverage": 0.9,
        "recommendations": {
            "users": 1200,
            "entries": 12000,
            "coverage": 0.9,
            "sources": {"neighbours": 9000, "latest": 3000},
        },
        "similar_products": {"entries": 300, "same_category": 0.8, "same_category_by_chance": 0.1},
        "als": {"objective": [200.0, 150.0], "engine_reason": "Engine local, because."},
        "failed_checks": [],
        "parameters": {
            "als_evaluation": {"k": 5, "min_holdout_users": 100},
            "als_model": {"rank": 8, "tuned_by": None},
        },
        "seconds": {"als_model": 2.0},
        "rows": {"recommendations": 12000},
        "versions": {"als_model": {"version": "v", "inputs": ["interaction_data/w"]}},
    }
    return TrainingMetadata.model_validate({**fields, **changed})


def test_the_summary_compares_the_lists_with_the_best_baseline() -> None:
    text = summarize(document())
    for part in ("45,000", "1,200", "30 ", TITLES["latest"], "0.3000", "0.1500 (0.1000 to 0.2000)", BETTER):
        assert part in text
    assert "nobody came back" in summarize(document(evaluation={"holdout": "none: nobody came back"}))


def test_with_few_holdout_users_there_is_no_comparison() -> None:
    few = document(evaluation=evaluation(holdout_users=2))
    for text in (summarize(few), model_card(few.model_dump(mode="json"))):
        assert "2 holdout users" in text
        assert BETTER not in text


def test_the_card_has_the_numbers_of_the_document() -> None:
    card = model_card(document().model_dump(mode="json"))
    assert card.startswith("# Segments and recommendations, 2026-01-31 06:00 UTC\n")
    assert "|VIP_Customers|1,200|100.0 %|100.0 %|Everybody.|" in card
    values = "0.3000|0.1500|0.1000|0.1000|0.1500 (0.1000 to 0.2000)"
    assert f"|NDCG|{values}|" in card
    assert "|products shown|50.0 %|50.0 %|50.0 %|50.0 %||" in card
    assert f"|1 to 4 past events|40|{values}|" in card
    for part in ("neighbours 9,000 (75.0 %)", "80.0 %", "10.0 %", "rank 8", "200 → 150", "Engine local, because."):
        assert part in card


def test_the_card_without_an_evaluation_has_the_reason_and_the_warnings() -> None:
    warning = {"asset": "als_evaluation", "check": "better_than_best_baseline", "message": "brand <b> is new"}
    nothing = document(
        evaluation={"holdout": "none: nobody came back"},
        silhouette=None,
        rmse=None,
        failed_checks=[warning],
        similar_products={"entries": 0},
        als={},
    )
    card = model_card(nothing.model_dump(mode="json"))
    assert "nobody came back" in card
    assert "Silhouette none" in card
    assert "- als_evaluation, better_than_best_baseline: brand \\<b> is new" in card
    assert "NDCG" not in card

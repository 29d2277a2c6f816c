"""The model card of made-up documents: with all numbers, and with none."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.training_metadata.card import in_short, model_card
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


def document(**changed: Any) -> TrainingMetadata:
    interval = {"als": (0.1, 0.05, 0.15), "published": (0.3, 0.2, 0.4), "popularity": (0.1, 0.05, 0.15)}
    differences = {"als - popularity": (0.0, -0.1, 0.1), "published - popularity": (0.2, 0.1, 0.3)}
    ranking = ("precision", "recall", "ndcg", "map", "hit_rate")
    shares = dict.fromkeys(interval, (0.5, None, None))
    metrics = {**{name: {**interval, **differences} for name in ranking}, "coverage": shares, "served": shares}
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
        "evaluation": {
            "cutoff": "2026-01-25T00:00:00+00:00",
            "holdout_users": 300,
            "metrics": metrics,
            "ndcg_by_slice": {
                "all": {"users": 300, **interval, **differences},
                "events: few": {"users": 40, **interval, **differences},
            },
        },
        "coverage": 0.9,
        "recommendations": {
            "users": 1200,
            "entries": 12000,
            "coverage": 0.9,
            "sources": {"als": 11000, "popular": 1000},
        },
        "similar_products": {"entries": 300, "same_category": 0.8, "same_category_by_chance": 0.1},
        "als": {"objective": [200.0, 150.0], "engine_reason": "Engine local, because."},
        "failed_checks": [],
        "parameters": {"als_evaluation": {"k": 5}, "als_model": {"rank": 8, "tuned_by": None}},
        "seconds": {"als_model": 2.0},
        "rows": {"recommendations": 12000},
        "versions": {"als_model": {"version": "v", "inputs": ["interaction_data/w"]}},
    }
    return TrainingMetadata.model_validate({**fields, **changed})


def test_in_short_compares_the_lists_with_popularity() -> None:
    for part in ("45,000 events", "1,200 users", "30 products", "1 segments", "NDCG at 5", "0.300", "0.100 to 0.300"):
        assert part in in_short(document())
    assert in_short(document()).endswith("better than popularity.")
    assert "none: nobody came back" in in_short(document(evaluation={"holdout": "none: nobody came back"}))


def test_card_has_every_section_with_its_numbers() -> None:
    card = model_card(document().model_dump(mode="json"))
    assert card.startswith("# Segments and recommendations, 2026-01-31 06:00 UTC\n")
    assert "|VIP_Customers|1,200|100.0%|100.0%|Everybody.|" in card
    assert "|NDCG|0.100 [0.050, 0.150]|0.300 [0.200, 0.400]|0.100 [0.050, 0.150]|0.200 [0.100, 0.300]|" in card
    assert "|1 to 4 events before|40|0.100 [0.050, 0.150]|" in card
    for part in ("80.0%", "10.0%", "rank 8", "200 → 150", "Engine local, because."):
        assert part in card
    assert "verdict_clear" not in card


def test_card_without_an_evaluation_gives_the_reason_and_the_warnings() -> None:
    warning = {"asset": "als_evaluation", "check": "verdict_clear", "message": "brand <b> is new"}
    nothing = document(
        evaluation={"holdout": "none: nobody came back"},
        silhouette=None,
        rmse=None,
        failed_checks=[warning],
        similar_products={"entries": 0},
        als={},
    )
    card = model_card(nothing.model_dump(mode="json"))
    assert "none: nobody came back" in card
    assert "Silhouette none" in card
    assert "- als_evaluation, verdict_clear: brand \\<b> is new" in card
    assert "For whom they are good" not in card

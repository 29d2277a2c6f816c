"""The model card of documents of one's own making: what it says where all is well, and where nothing is."""

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
    told = dict.fromkeys(interval, (0.5, None, None))
    metrics = {**{name: {**interval, **differences} for name in ranking}, "coverage": told, "served": told}
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


def test_in_short() -> None:
    made = "45,000 events of 1,200 users and 30 products; 1 segments"
    assert in_short(document()).removeprefix(made) == (
        ". NDCG at 5: published lists 0.300, popularity 0.100; difference 0.200, 95 % interval 0.100 to 0.300: better "
        "than popularity."
    )
    nothing = document(evaluation={"holdout": "none: nobody came back"})
    assert in_short(nothing) == f"{made}. The lists could not be judged: none: nobody came back."


def test_card_says_all_of_it() -> None:
    card = model_card(document().model_dump(mode="json"))
    assert card.startswith("# Segments and recommendations, 2026-01-31 06:00 UTC\n")
    assert "| VIP_Customers | 1,200 | 100.0% | 100.0% | Everybody. |" in card
    assert (
        "| NDCG | 0.100 [0.050, 0.150] | 0.300 [0.200, 0.400] | 0.100 [0.050, 0.150] | 0.200 [0.100, 0.300] |" in card
    )
    assert "| 1 to 4 events before | 40 | 0.100 [0.050, 0.150] |" in card
    assert "80.0% are of the same category as their product, by chance it would be 10.0%" in card
    assert "Implicit ALS, rank 8. Objective 200 → 150. Engine local, because." in card
    assert "None: all checks passed." in card


def test_card_where_there_was_nothing_to_judge() -> None:
    warning = {"asset": "als_evaluation", "check": "verdict_clear", "message": "it could not be judged"}
    told = document(
        evaluation={"holdout": "none: nobody came back"},
        silhouette=None,
        rmse=None,
        failed_checks=[warning],
        similar_products={"entries": 0},
        als={},
    )
    card = model_card(told.model_dump(mode="json"))
    assert "The lists could not be judged: none: nobody came back." in card
    assert "Silhouette none (too few users or clusters)" in card
    assert "- als_evaluation, verdict_clear: it could not be judged" in card
    assert "For whom they are good" not in card

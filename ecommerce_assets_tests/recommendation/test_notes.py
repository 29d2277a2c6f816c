"""What is said of the lists in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from ecommerce_assets.recommendation.notes import ALS_EVALUATION_NOTES, RECOMMENDATIONS_NOTES, against_popularity
from ecommerce_assets.storage import notes
from ecommerce_assets.storage.audits import Evidence


def said(found: tuple[notes.Note, ...], evidence: Evidence) -> dict[str, str]:
    return notes.markdown(found, evidence, pytest.fail)


def metrics(lower: float, upper: float) -> dict[str, Any]:
    systems = {"als": [0.1, 0.0, 0.2], "published": [0.15, 0.1, 0.2], "popularity": [0.137, 0.1, 0.2]}
    difference = {"published - popularity": [0.013, lower, upper]}
    shares = {system: [0.5, None, None] for system in systems}
    return {"ndcg": {**systems, **difference}, "coverage": shares, "served": shares}


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (0.001, 0.02, "better than popularity"),
        (-0.02, -0.001, "worse than popularity"),
        (-0.01, 0.01, "no clear difference"),
    ],
)
def test_the_verdict_is_the_intervals(lower: float, upper: float, verdict: str) -> None:
    assert (against_popularity(metrics(lower, upper), 10) or "").endswith(f"{lower:.3f} to {upper:.3f}: {verdict}")


def test_an_evaluation_in_short() -> None:
    evidence = Evidence({}, {"metrics": metrics(0.001, 0.02)}, {"k": 5})
    told = said(ALS_EVALUATION_NOTES, evidence)
    assert told["in short"].startswith("NDCG at 5: published lists 0.150, popularity 0.137")
    assert told["metrics at a glance"].splitlines() == [
        "|at 5|ALS alone|published lists|popularity|",
        "|:--|--:|--:|--:|",
        "|NDCG|0.100|0.150|0.137|",
        "|products shown|50.0%|50.0%|50.0%|",
        "|users served|50.0%|50.0%|50.0%|",
    ]


def test_an_evaluation_without_a_holdout_says_why() -> None:
    told = said(ALS_EVALUATION_NOTES, Evidence({}, {"holdout": "there are no events"}, {"k": 10}))
    assert told == {"in short": "The lists could not be judged: there are no events."}


def test_where_the_entries_come_from() -> None:
    told = said(RECOMMENDATIONS_NOTES, Evidence({"rows": 1000, "source als": 900, "source popular": 100}))
    assert told["entries by source"].splitlines()[2:] == [
        "|als|900|90.0%|",
        "|segment_popular|0|0.0%|",
        "|popular|100|10.0%|",
    ]
    assert said(RECOMMENDATIONS_NOTES, Evidence({"rows": 0})) == {}

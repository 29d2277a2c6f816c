"""The notes about als_evaluation and the lists."""

from __future__ import annotations

from typing import Any

import pytest

from ecommerce_assets.recommendation.notes import ALS_EVALUATION_NOTES, RECOMMENDATIONS_NOTES, against_popularity
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note, write_notes
from ecommerce_assets.storage.version import Stats


def written(notes: tuple[Note, ...], stats: Stats, k: int = 10) -> dict[str, str]:
    return write_notes(notes, CheckContext(stats, {"k": k}), pytest.fail)


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
def test_the_interval_decides_on_the_verdict(lower: float, upper: float, verdict: str) -> None:
    assert (against_popularity(metrics(lower, upper), 10) or "").endswith(f"{lower:.3f} to {upper:.3f}: {verdict}")


def test_an_evaluation_is_compared_with_popularity() -> None:
    notes = written(ALS_EVALUATION_NOTES, Stats(results={"metrics": metrics(0.001, 0.02)}), k=5)
    for part in ("NDCG at 5", "0.150", "0.137", "better than popularity"):
        assert part in notes["in short"]
    assert notes["metrics at a glance"].splitlines()[2:] == [
        "|NDCG|0.100|0.150|0.137|",
        "|products shown|50.0%|50.0%|50.0%|",
        "|users served|50.0%|50.0%|50.0%|",
    ]


def test_an_evaluation_without_a_holdout_gives_the_reason() -> None:
    notes = written(ALS_EVALUATION_NOTES, Stats(results={"holdout": "there are no events"}))
    assert list(notes) == ["in short"]
    assert "there are no events" in notes["in short"]


def test_entries_are_counted_by_source() -> None:
    notes = written(RECOMMENDATIONS_NOTES, Stats(rows=1000, shares={"source": {"als": 900, "popular": 100}}))
    assert notes["entries by source"].splitlines()[2:] == [
        "|als|900|90.0%|",
        "|segment_popular|0|0.0%|",
        "|popular|100|10.0%|",
    ]
    assert written(RECOMMENDATIONS_NOTES, Stats(rows=0)) == {}

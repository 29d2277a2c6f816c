"""The notes on als_evaluation, blend_model and recommendations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecommerce_assets.recommendation.blend import FEATURES, Blend
from ecommerce_assets.recommendation.evaluation_checks import BETTER, DIFFERENCE
from ecommerce_assets.recommendation.notes import (
    ALS_EVALUATION_NOTES,
    BLEND_MODEL_NOTES,
    METRIC_NAMES,
    PERCENTAGES,
    RECOMMENDATIONS_NOTES,
    main_systems,
)
from ecommerce_assets.recommendation.systems import ALS_LIST, POPULARITY, PUBLISHED, SYSTEMS, TITLES
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note, write_notes
from ecommerce_assets.storage.version import Stats

PARAMETERS = {"k": 5, "min_holdout_users": 100, "recommendations": {"ranker": "blend"}}


def written(notes: tuple[Note, ...], stats: Stats, document: Any = None, **parameters: Any) -> dict[str, str]:
    return write_notes(notes, CheckContext(stats, {**PARAMETERS, **parameters}, document=document), pytest.fail)


def rows(table: str) -> list[list[str]]:
    """Without the head."""
    return [line[1:-1].split("|") for line in table.splitlines()[2:]]


def evaluation(**changed: Any) -> dict[str, Any]:
    """Results in which the first system of `SYSTEMS` is the best, and the last the worst; the best baseline: latest."""
    values = {system: [0.5 - place / 100, 0.1, 0.6] for place, system in enumerate(SYSTEMS)}
    metrics = {metric: {**values, DIFFERENCE: [0.013, 0.001, 0.02]} for metric in METRIC_NAMES}
    return {
        "holdout_users": 300,
        "best_baseline": "latest",
        "metrics": metrics,
        "ndcg_by_exclude": {"purchased": metrics["ndcg"], "seen": metrics["ndcg"]},
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({}, ("at 5", TITLES["latest"], "0.0130 (0.0010 to 0.0200)", BETTER)),
        (
            {
                "compared": {
                    "changes": {"als_model.rank": [50, 8]},
                    "ndcg": {"promoted": [0.5, 0.4, 0.6], "difference": [-0.01, -0.02, -0.005]},
                }
            },
            ("als_model.rank 8 instead of 50", "-0.0100 (-0.0200 to -0.0050), worse"),
        ),
        ({"holdout_users": 2}, ("2 ", "100")),
    ],
)
def test_the_short_note_has_the_comparison(changed: dict[str, Any], parts: tuple[str, ...]) -> None:
    note = written(ALS_EVALUATION_NOTES, Stats(results=evaluation(**changed)))["in short"]
    assert all(part in note for part in parts)


def test_the_main_systems_have_a_row_for_each_metric() -> None:
    table = written(ALS_EVALUATION_NOTES, Stats(results=evaluation()))["metrics at a glance"]
    systems = [PUBLISHED, "latest", ALS_LIST, POPULARITY]
    values = [0.5 - SYSTEMS.index(system) / 100 for system in systems]
    assert rows(table) == [
        [name, *(f"{100 * v:.1f} %" if metric in PERCENTAGES else f"{v:.4f}" for v in values)]
        for metric, name in METRIC_NAMES.items()
    ]


def test_popularity_may_be_the_best_baseline() -> None:
    assert list(main_systems(POPULARITY)) == [PUBLISHED, POPULARITY, ALS_LIST]


def test_all_systems_are_listed_best_first_for_each_exclusion() -> None:
    table = written(ALS_EVALUATION_NOTES, Stats(results=evaluation()))["NDCG of all systems"]
    assert rows(table) == [[TITLES[system], *[f"{0.5 - place / 100:.4f}"] * 2] for place, system in enumerate(SYSTEMS)]


def test_an_evaluation_without_a_holdout_gives_the_reason() -> None:
    notes = written(ALS_EVALUATION_NOTES, Stats(results={"holdout": "none: nobody came back"}))
    assert list(notes) == ["in short"]
    assert "nobody came back" in notes["in short"]


def test_entries_are_counted_for_the_sources_that_occur() -> None:
    counts = {"als": 100, "neighbours": 900, "popular": 0}
    notes = written(RECOMMENDATIONS_NOTES, Stats(rows=1000, shares={"source": counts}))
    assert rows(notes["entries by source"]) == [["neighbours", "900", "90.0 %"], ["als", "100", "10.0 %"]]
    assert written(RECOMMENDATIONS_NOTES, Stats(rows=0)) == {}


def test_weights_are_listed_by_their_size() -> None:
    weights = np.linspace(-1, 0.5, len(FEATURES))
    ones = np.ones(len(FEATURES))
    document = {**Blend(weights, ones, ones).document(), "training_users": 1234}
    notes = written(BLEND_MODEL_NOTES, Stats(), document)
    table = rows(notes["weights"])
    assert table[0] == [FEATURES[0], "-1.000"]
    assert {name for name, _ in table} == set(FEATURES)
    sizes = [abs(float(weight)) for _, weight in table]
    assert sizes == sorted(sizes, reverse=True)
    assert "1,234" in notes["in short"]


def test_without_weights_the_note_has_the_number_of_training_users() -> None:
    document = {**Blend().document(), "training_users": 42}
    few, als = (
        written(BLEND_MODEL_NOTES, Stats(), document, recommendations={"ranker": ranker}) for ranker in ("blend", "als")
    )
    assert list(few) == list(als) == ["in short"]
    assert "42" in few["in short"]
    assert "42" not in als["in short"]

"""The plots of als_model and als_evaluation, from their results alone."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.recommendation.als_plots import objective_by_iteration
from ecommerce_assets.recommendation.evaluation_plots import (
    ALS_EVALUATION_PLOTS,
    against_popularity,
    by_slice,
    catalogue,
)
from ecommerce_assets.recommendation.judging import SYSTEMS
from ecommerce_assets.recommendation.metrics import RANKING_METRICS
from ecommerce_assets.recommendation.verdict import DIFFERENCE
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import png
from ecommerce_assets.storage.version import Stats

MOST_BYTES = 100_000
INTERVAL = [0.2, 0.1, 0.3]
EVALUATION = {
    "metrics": {name: dict.fromkeys(SYSTEMS, INTERVAL) for name in (*RANKING_METRICS, "coverage")},
    "ndcg_by_slice": {
        "all": {"users": 1200, DIFFERENCE: INTERVAL},
        "events: none": {"users": 300, DIFFERENCE: [-0.2, -0.3, -0.1]},
        "a slice of an older version": {"users": 1, DIFFERENCE: INTERVAL},
    },
    "shown_by_popularity": {name: [0.5, 0.3, 0.2] for name in ("touched", *SYSTEMS)},
}


def context(**results: Any) -> CheckContext:
    return CheckContext(Stats(results=results), {"k": 10})


def test_the_objective_has_one_point_for_each_iteration() -> None:
    figure = objective_by_iteration(context(objective=[90.0, 60.0, 59.4]))
    assert figure is not None
    [axes] = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 90], [2, 60], [3, 59.4]]  # type: ignore[union-attr]
    assert "1.00%" in axes.get_title(loc="right")
    assert len(png(figure)) < MOST_BYTES


def test_all_plots_of_an_evaluation_are_drawn_and_light() -> None:
    for plot in ALS_EVALUATION_PLOTS:
        figure = plot.draw(context(**EVALUATION))
        assert figure is not None
        assert len(png(figure)) < MOST_BYTES


def test_each_metric_has_a_bar_for_each_system() -> None:
    figure = against_popularity(context(**EVALUATION))
    assert figure is not None
    assert [len(axes.patches) for axes in figure.axes] == [len(SYSTEMS)] * len(RANKING_METRICS)


def test_slices_of_users_are_named_with_their_number() -> None:
    figure = by_slice(context(**EVALUATION))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["all users  (1,200)", "no events before  (300)"]


def test_without_results_nothing_is_drawn() -> None:
    for draw in (objective_by_iteration, against_popularity, by_slice, catalogue):
        assert draw(context()) is None
    assert objective_by_iteration(context(objective=[90.0])) is None

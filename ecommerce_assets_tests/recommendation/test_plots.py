"""The plots of als_model and als_evaluation, from their results alone."""

from __future__ import annotations

from typing import Any

from ecommerce_assets.recommendation.evaluation_checks import DIFFERENCE
from ecommerce_assets.recommendation.metrics import RANKING_METRICS
from ecommerce_assets.recommendation.plots import (
    ALS_EVALUATION_PLOTS,
    MAIN,
    all_systems,
    by_slice,
    catalogue,
    objective_by_iteration,
)
from ecommerce_assets.recommendation.systems import SYSTEMS, TITLES
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import png
from ecommerce_assets.storage.version import Stats

MOST_BYTES = 100_000
INTERVALS = {system: [0.2 + place / 100, 0.1, 0.4] for place, system in enumerate(SYSTEMS)}
EVALUATION = {
    "best_baseline": "latest",
    "metrics": dict.fromkeys((*RANKING_METRICS, "coverage"), INTERVALS),
    "ndcg_by_slice": {
        "all": {"users": 1200, DIFFERENCE: [0.2, 0.1, 0.3]},
        "events: none": {"users": 300, DIFFERENCE: [-0.2, -0.3, -0.1]},
        "a slice of an older version": {"users": 1, DIFFERENCE: [0.2, 0.1, 0.3]},
    },
    "shown_by_popularity": {name: [0.5, 0.3, 0.2] for name in ("touched", *MAIN)},
}


def context(**results: Any) -> CheckContext:
    return CheckContext(Stats(results=results), {"k": 10, "min_holdout_users": 100})


def test_the_objective_has_one_point_for_each_iteration() -> None:
    figure = objective_by_iteration(context(objective=[90.0, 60.0, 59.4]))
    assert figure is not None
    [axes] = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 90], [2, 60], [3, 59.4]]  # type: ignore[union-attr]
    assert "1.00 %" in axes.get_title(loc="right")
    assert len(png(figure)) < MOST_BYTES


def test_all_plots_of_an_evaluation_are_drawn_and_light() -> None:
    for plot in ALS_EVALUATION_PLOTS:
        figure = plot.draw(context(**EVALUATION))
        assert figure is not None
        assert len(png(figure)) < MOST_BYTES


def test_every_system_has_a_bar_and_the_highest_ndcg_is_first() -> None:
    figure = all_systems(context(**EVALUATION))
    assert figure is not None
    left, right = figure.axes
    lengths = [0.2 + place / 100 for place in reversed(range(len(SYSTEMS)))]
    assert [bar.get_width() for bar in left.patches] == lengths  # type: ignore[attr-defined]
    assert len(right.patches) == len(SYSTEMS)
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[0] == TITLES[SYSTEMS[-1]]
    assert [label for label in labels if "best baseline" in label] == [f"{TITLES['latest']} (best baseline)"]


def test_slices_of_users_are_named_with_their_number() -> None:
    figure = by_slice(context(**EVALUATION))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["all users  (1,200)", "no past events  (300)"]


def test_coverage_has_a_bar_and_popularity_bias_a_line_for_each_main_system() -> None:
    figure = catalogue(context(**EVALUATION))
    assert figure is not None
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [INTERVALS[name][0] for name in MAIN]  # type: ignore[attr-defined]
    assert len(right.lines) == 1 + len(MAIN)


def test_without_results_nothing_is_drawn() -> None:
    for draw in (objective_by_iteration, all_systems, by_slice, catalogue):
        assert draw(context()) is None
    assert objective_by_iteration(context(objective=[90.0])) is None

"""The pictures of als_evaluation, from its facts alone."""

from __future__ import annotations

from ecommerce_assets.recommendation.evaluation_plots import (
    ALS_EVALUATION_PICTURES,
    against_popularity,
    by_slice,
    catalogue,
)
from ecommerce_assets.recommendation.judging import SYSTEMS
from ecommerce_assets.recommendation.metrics import RANKING_METRICS
from ecommerce_assets.recommendation.verdict import DIFFERENCE
from ecommerce_assets.storage.audits import Evidence
from ecommerce_assets.storage.pictures import png

INTERVAL = [0.2, 0.1, 0.3]
FACTS = {
    "metrics": {name: dict.fromkeys(SYSTEMS, INTERVAL) for name in (*RANKING_METRICS, "coverage")},
    "ndcg_by_slice": {
        "all": {"users": 1200, DIFFERENCE: INTERVAL},
        "events: none": {"users": 300, DIFFERENCE: [-0.2, -0.3, -0.1]},
        "a slice of an older version": {"users": 1, DIFFERENCE: INTERVAL},
    },
    "shown_by_popularity": {name: [0.5, 0.3, 0.2] for name in ("touched", *SYSTEMS)},
}


def test_all_pictures_are_there_and_light() -> None:
    for picture in ALS_EVALUATION_PICTURES:
        figure = picture.draw(Evidence({}, FACTS, {"k": 10}))
        assert figure is not None
        assert len(png(figure)) < 100_000


def test_each_metric_has_a_bar_for_each_system() -> None:
    figure = against_popularity(Evidence({}, FACTS, {"k": 10}))
    assert figure is not None
    assert [len(axes.patches) for axes in figure.axes] == [len(SYSTEMS)] * len(RANKING_METRICS)


def test_groups_of_users_are_named_with_their_number() -> None:
    figure = by_slice(Evidence({}, FACTS, {"k": 10}))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["all users  (1,200)", "no events before  (300)"]


def test_nothing_to_show() -> None:
    for draw in (against_popularity, by_slice, catalogue):
        assert draw(Evidence({}, {}, {"k": 10})) is None

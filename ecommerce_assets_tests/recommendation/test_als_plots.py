"""The picture of how the fit converged."""

from __future__ import annotations

from ecommerce_assets.recommendation.als_plots import objective_by_iteration
from ecommerce_assets.storage.audits import Evidence
from ecommerce_assets.storage.pictures import png


def test_one_point_for_each_iteration() -> None:
    figure = objective_by_iteration(Evidence({}, {"objective": [90.0, 60.0, 59.4]}))
    assert figure is not None
    [axes] = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 90], [2, 60], [3, 59.4]]  # type: ignore[union-attr]
    assert "1.00%" in axes.get_title(loc="right")
    assert len(png(figure)) < 100_000


def test_nothing_to_show() -> None:
    assert objective_by_iteration(Evidence({}, {})) is None
    assert objective_by_iteration(Evidence({}, {"objective": [90.0]})) is None

"""The plots of als_tuning: drawn from any document, and light."""

from __future__ import annotations

import pytest

from ecommerce_assets.recommendation.tuning import search
from ecommerce_assets.recommendation.tuning_document import describe_tuning
from ecommerce_assets.recommendation.tuning_plots import ALS_TUNING_PLOTS
from ecommerce_assets.recommendation.tuning_trials import Found
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Plot, png
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.recommendation.test_tuning import landscape, trial

ABOUT = {"k": 10, "holdout_users": 2000}


@pytest.mark.parametrize("plot", ALS_TUNING_PLOTS, ids=lambda plot: plot.name)
class TestPlots:
    @pytest.mark.parametrize("trials", [1, 30])
    def test_it_is_drawn_and_light(self, plot: Plot, trials: int) -> None:
        document = describe_tuning(search(landscape, trials, say=lambda _: None), ABOUT)
        figure = plot.draw(CheckContext(Stats(), document=document))
        assert figure is not None
        assert len(png(figure)) < 100_000

    def test_without_the_default(self, plot: Plot) -> None:
        document = describe_tuning(Found([trial(3, 0.2), trial(4, 0.3, False)]), ABOUT)
        assert document["default"] is None
        assert plot.draw(CheckContext(Stats(), document=document)) is not None

    def test_nothing_to_show(self, plot: Plot) -> None:
        assert plot.draw(CheckContext(Stats(), document=describe_tuning(Found([]), ABOUT))) is None

"""The document of als_tuning, its table, checks and plots."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.scores import BUCKETS
from ecommerce_assets.recommendation.tuning import Trial, Tuning
from ecommerce_assets.recommendation.tuning_document import (
    ALS_TUNING_PLOTS,
    TUNING_CHECKS,
    describe_tuning,
    trials_table,
)
from ecommerce_assets.storage.checks import CheckContext, run_checks
from ecommerce_assets.storage.display import Plot, png
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.recommendation.test_backtest import Window, at
from ecommerce_assets_tests.recommendation.test_tuning import scores

FAILED = Trial(1, AlsParameters(), 0.5, error="ValueError: a | b")


def trial(number: int, *values: float, nonnegative: bool = True, half_life: float | None = None) -> Trial:
    """A trial with these NDCGs, one for each window."""
    parameters = AlsParameters(rank=8 + number, nonnegative=nonnegative, halfLife=half_life)
    return Trial(number, parameters, 1.0, [scores(value, spread=0.3) for value in values])


def described(*trials: Trial, users: int = 10 * BUCKETS) -> dict[str, Any]:
    return describe_tuning(Tuning(trials, [(Window(at(0), at(1)), users)], at(1).isoformat()))


class TestDocument:
    def test_differences_are_between_the_same_users(self) -> None:
        document = described(trial(0, 0.20), trial(1, 0.21), trial(2, 0.20))
        assert (document["trial"], document["params"]["rank"]) == (1, 9)
        value, lower, upper = document["ndcg"]
        assert lower < 0.20 < value < upper, "its interval alone does not exclude the default"
        # All users gain the same: the interval of the difference is no wider than that.
        assert document["gain"] == pytest.approx([0.01, 0.01, 0.01])
        assert document["trials"][2]["gain"] == pytest.approx([0, 0, 0], abs=1e-12)
        assert document["popularity"] == pytest.approx([0.1, 0.1, 0.1])
        assert document["default"][0] == pytest.approx(document["trials"][0]["ndcg"][0])
        assert document["trials"][0]["coverage"] == 0.5
        json.dumps(document)

    def test_values_are_means_over_the_windows(self) -> None:
        document = described(trial(0, 0.1, 0.3), trial(1, 0.3, 0.2))
        assert document["gain"] == pytest.approx([0.05, 0.05, 0.05])
        assert document["ndcg"][0] - document["default"][0] == pytest.approx(0.05)

    def test_gains_of_the_constraint_and_of_a_half_life(self) -> None:
        document = described(
            trial(0, 0.1), trial(1, 0.22, nonnegative=False), trial(2, 0.2), trial(3, 0.25, half_life=7.0)
        )
        assert document["nonnegative"] == pytest.approx([0.03, 0.03, 0.03])
        assert document["half_life"] == pytest.approx([0.03, 0.03, 0.03])
        assert described(trial(0, 0.1))["half_life"] is None

    def test_failed_trials_are_counted(self) -> None:
        document = described(trial(0, 0.2), FAILED)
        assert (document["succeeded"], document["failed"]) == (1, 1)
        assert document["trials"][1]["error"] == "ValueError: a | b"
        assert document["trials"][1]["ndcg"] is document["trials"][1]["gain"] is None

    def test_table_has_the_best_first_and_the_failed_last(self) -> None:
        lines = trials_table(described(trial(0, 0.20), FAILED, trial(2, 0.21, half_life=7.0))).splitlines()[2:]
        assert [line.split("|")[1].strip() for line in lines] == ["2 (best)", "0 (default)", "1"]
        assert "|yes|7|" in lines[0]
        assert "|+0.0100|" in lines[0]
        assert "|yes|none|" in lines[1]
        assert "failed: ValueError: a \\| b" in lines[2]

    def test_table_of_many_trials_has_the_best_and_the_default(self) -> None:
        text = trials_table(described(*(trial(number, 0.2 + number / 1_000) for number in range(13))))
        sentence, _, *lines = text.splitlines()
        assert "10 of 13 trials" in sentence
        numbers = [line.split("|")[1].strip() for line in lines[2:]]
        assert numbers == ["12 (best)", *map(str, range(11, 2, -1)), "0 (default)"]


class TestChecks:
    @staticmethod
    def failed(document: dict[str, Any]) -> dict[str, str]:
        context = CheckContext(Stats(), {"min_holdout_users": 100}, document=document)
        return {result.name: result.message for result in run_checks(TUNING_CHECKS, context) if not result.passed}

    def test_a_clear_gain_passes(self) -> None:
        assert self.failed(described(trial(0, 0.20), trial(1, 0.21))) == {}

    def test_a_gain_that_may_be_chance_warns(self) -> None:
        assert list(self.failed(described(trial(0, 0.20)))) == ["gain_clear"]
        assert list(self.failed(described(FAILED, trial(2, 0.20)))) == ["no_trial_failed", "gain_clear"]

    def test_few_users_warn(self) -> None:
        message = self.failed(described(trial(0, 0.20), trial(1, 0.21), users=20))["gain_clear"]
        assert "100 holdout users (ECOMMERCE_MIN_HOLDOUT_USERS), got 20" in message

    def test_no_successful_trial_blocks(self) -> None:
        [blocking] = [check.name for check in TUNING_CHECKS if check.blocking]
        assert "ValueError: a | b" in self.failed(described(FAILED))[blocking]
        assert "no holdout" in self.failed(describe_tuning(Tuning(reason="no holdout")))[blocking]


@pytest.mark.parametrize("plot", ALS_TUNING_PLOTS, ids=lambda plot: plot.name)
class TestPlots:
    def test_it_is_drawn_and_light(self, plot: Plot) -> None:
        trials = [trial(n, 0.2 + n / 1000, nonnegative=n % 2 == 0, half_life=7.0 * (n % 3) or None) for n in range(30)]
        figure = plot.draw(CheckContext(Stats(), document=described(*trials)))
        assert figure is not None
        assert len(png(figure)) < 100_000

    def test_it_is_drawn_without_the_default(self, plot: Plot) -> None:
        document = described(trial(3, 0.2), trial(4, 0.3, nonnegative=False))
        assert document["default"] is None
        assert plot.draw(CheckContext(Stats(), document=document)) is not None

    def test_nothing_is_drawn_without_trials(self, plot: Plot) -> None:
        assert plot.draw(CheckContext(Stats(), document=described())) is None

"""als_tuning: the search, how trials are scored, and how als_model takes its parameters from it."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from ecommerce_assets.cli import main
from ecommerce_assets.definitions import build_defs
from ecommerce_assets.recommendation import holdout
from ecommerce_assets.recommendation import tuning as module
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.evaluation import evaluate_holdout
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.holdout import prepare_holdouts
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.parameters import ListParameters
from ecommerce_assets.recommendation.scores import BUCKETS, USER_METRICS, Scores
from ecommerce_assets.recommendation.systems import ALS_LIST, POPULARITY
from ecommerce_assets.recommendation.tuning import Trial, Tuning, best_of, no_categories, search, tune
from ecommerce_assets.recommendation.tuning_assets import COMMAND
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.settings import load_settings
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.promoted import read_promoted
from ecommerce_assets.storage.reading import read_document
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, event, events_frame, run_graph
from ecommerce_assets_tests.recommendation.test_backtest import at, generated

PROJECT = Path(__file__).parents[2]
SEGMENTATION = SegmentationParameters(k=2)


def scores(value: float, spread: float = 0.0) -> Scores:
    """Ten users in each bucket with this NDCG on average; it differs by bucket, for all trials in the same way."""
    sums = np.full((BUCKETS, 1 + 2 * len(USER_METRICS)), 10.0)
    made = Scores((ALS_LIST, POPULARITY), {"all": sums}, shown=np.array([[1, 0, 3, 0], [0, 0, 0, 1]]))
    sums[:, made.column(ALS_LIST, "ndcg")] *= value + spread * np.sin(np.arange(BUCKETS))
    sums[:, made.column(POPULARITY, "ndcg")] *= 0.1
    return made


def landscape(parameters: AlsParameters) -> list[Scores]:
    """Best at rank 24, alpha 10 and a half-life of 14 days, the same with and without the constraint."""
    miss = math.log(parameters.rank / 24) ** 2 + math.log(parameters.alpha / 10) ** 2
    return [scores(0.3 * math.exp(-miss / 4) + 0.02 * (parameters.halfLife == 14))]


class TestSearch:
    @pytest.fixture(scope="class")
    @classmethod
    def trials(cls) -> list[Trial]:
        return search(landscape, 30, log=lambda _: None)

    def test_the_defaults_come_first(self, trials: list[Trial]) -> None:
        defaults = {"rank": 50, "regParam": 0.1, "alpha": 1.0, "nonnegative": True, "halfLife": None}
        assert trials[0].parameters == AlsParameters()
        assert [trial.params for trial in trials[:3]] == [
            defaults,
            {**defaults, "nonnegative": False},
            {**defaults, "halfLife": 30.0},
        ]

    def test_better_parameters_are_found_inside_the_space(self, trials: list[Trial]) -> None:
        best = best_of(trials)
        assert best is not None
        assert best.value > 0.25 > trials[0].value
        assert [trial.number for trial in trials] == list(range(30))
        for trial in trials:
            p = trial.parameters
            assert 8 <= p.rank <= 256
            assert 0.001 <= p.regParam <= 1
            assert 0.1 <= p.alpha <= 40
            assert p.halfLife in (None, 7, 14, 30, 60, 120)
            assert (p.maxIter, p.seed) == (15, 42)

    def test_the_seed_decides(self, trials: list[Trial]) -> None:
        again, other = (search(landscape, 12, seed=seed, log=lambda _: None) for seed in (42, 1))
        assert [t.params for t in again] == [t.params for t in trials[:12]]
        assert [t.params for t in other[:3]] == [t.params for t in trials[:3]]
        assert [t.params for t in other] != [t.params for t in again]

    def test_the_search_continues_after_a_failed_trial(self) -> None:
        def score(parameters: AlsParameters) -> list[Scores]:
            if not parameters.nonnegative:
                raise ValueError("no luck\nand more")
            return [scores(math.nan)] if parameters.rank > 60 else landscape(parameters)

        lines: list[str] = []
        trials = search(score, 12, log=lines.append)
        assert trials[1].error == "ValueError: no luck"
        assert {t.error for t in trials} == {None, "ValueError: no luck", "its ndcg is nan"}
        assert all(bool(t.scores) != bool(t.error) for t in trials)
        assert "12 of 12 trials" in lines[-1]

    def test_the_value_is_the_mean_over_the_windows(self) -> None:
        assert Trial(0, AlsParameters(), 1.0, [scores(0.1), scores(0.2)]).value == pytest.approx(0.15)

    def test_no_trial_begins_after_the_timeout(self) -> None:
        assert len(search(landscape, 5, timeout_seconds=0, log=lambda _: None)) == 1


def tuned_by_trials(spark: SparkSession, trials: int = 3, cutoffs: int = 1) -> Tuning:
    """The first three trials have the defaults, no constraint and a half-life."""
    events = events_frame(spark, generated())
    return tune(events, SEGMENTATION, Exclude.purchased, 5, trials, cutoffs=cutoffs, log=lambda _: None)


def evaluated(spark: SparkSession, end: int) -> Scores:
    """The scores of als_evaluation on the last 80 events before this number, with the default parameters."""
    events = events_frame(spark, generated()[:end])
    with prepare_holdouts(events, at(end - 81), None, SEGMENTATION, in_process=True) as holdouts:
        lists = ListParameters(5, Exclude.purchased, Ranker.als)
        return evaluate_holdout(holdouts, no_categories(), AlsParameters(), lists, Engine.auto).scores[lists.exclude]


def assert_equal_scores(one: Scores, other: Scores) -> None:
    """Asserts that ALS and popularity have the same metrics in each bucket of users, and the same products shown."""
    assert one.users == other.users > 10
    for system in (ALS_LIST, POPULARITY):
        for metric in USER_METRICS:
            ours, theirs = (each.sums["all"][:, each.column(system, metric)] for each in (one, other))
            assert ours == pytest.approx(theirs), (metric, system)
        np.testing.assert_array_equal(*(each.shown[each.systems.index(system)] for each in (one, other)))


class TestTune:
    @pytest.fixture(scope="class")
    @classmethod
    def tuning(cls, spark: SparkSession) -> Tuning:
        return tuned_by_trials(spark)

    def test_the_windows_end_before_the_cutoff_of_als_evaluation(self, spark: SparkSession) -> None:
        tuning = tuned_by_trials(spark, trials=1, cutoffs=2)
        assert tuning.test_cutoff == at(399).isoformat()
        # 400 events are before it: two windows of a fifth of them.
        assert [(w.cutoff, w.end) for w, _ in tuning.windows] == [(at(239), at(319)), (at(319), at(399))]
        [trial] = tuning.trials
        assert [count for _, count in tuning.windows] == [each.users for each in trial.scores]
        for result, end in zip(trial.scores, (320, 400), strict=True):
            assert_equal_scores(result, evaluated(spark, end))

    def test_trials_are_scored_like_als_evaluation(self, spark: SparkSession, tuning: Tuning) -> None:
        [(window, users)] = tuning.windows
        assert (window.cutoff, window.end, tuning.trials[0].error) == (at(319), at(399), None)
        [default] = tuning.trials[0].scores
        assert_equal_scores(default, evaluated(spark, 400))
        assert users == default.users
        assert 0.1 < default.mean(ALS_LIST, "ndcg") < 1

    def test_trials_have_the_same_scores_by_spark(
        self, spark: SparkSession, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "fits_in_process", lambda *_: False)
        by_spark = tuned_by_trials(spark)
        assert by_spark.windows == tuning.windows
        for one, other in zip(by_spark.trials, tuning.trials, strict=True):
            assert (one.params, one.error, other.error) == (other.params, None, None)
            assert_equal_scores(one.scores[0], other.scores[0])

    @pytest.mark.spark_only
    def test_spark_scores_trials_if_the_largest_model_does_not_fit_in_memory(
        self, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events = events_frame(spark, generated())
        for free, fits in ((10**9, True), (2 * len(generated()) * holdout.BYTES_PER_EVENT, False)):
            monkeypatch.setattr(holdout, "free_memory", lambda free=free: free)
            assert module._windows_fit_in_process(events, 1) == fits

    @pytest.mark.parametrize("events", [[], [event("2020-01-01 10:00:00")] * 9])
    def test_without_a_holdout_there_are_no_trials(self, spark: SparkSession, events: list[dict[str, Any]]) -> None:
        tuning = tune(events_frame(spark, events), SEGMENTATION, Exclude.purchased, 10, trials=2, log=lambda _: None)
        assert (tuning.trials, tuning.windows) == ((), ())
        assert tuning.reason is not None
        assert tuning.reason.startswith("none: ")


TUNED = {"ops": {"als_model": {"config": {"params": "tuned", "maxIter": 2, "rank": 99}}}}


@pytest.fixture(scope="module")
def shop_that_tuned(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dg.ExecuteInProcessResult]:
    """A copy of the shop, and what the job did in it."""
    data_dir = tmp_path_factory.mktemp("tuned") / "shop"
    shutil.copytree(ran[0], data_dir)
    window = {"first_day": dt.date(2019, 10, 1), "last_day": dt.date(2019, 12, 29)}
    job = build_defs(load_settings(data_dir=str(data_dir), **window)).resolve_job_def("als_tuning")
    return data_dir, job.execute_in_process(run_config={"ops": {"tune_als": {"config": {"trials": 1}}}})


def users_between(data_dir: Path, begin: str, end: str) -> int:
    """Users with a view, cart or purchase between two times of a product that they had not purchased before."""
    events: Any = DeltaTable(str(data_dir / "lake" / "cleaned_events")).to_pandas()
    key = ["user_id", "product_id"]
    past = events[events.event_time < begin]
    touched = events[(events.event_time >= begin) & (events.event_time < end)]
    touched = touched[touched.event_type != "remove_from_cart"][key].drop_duplicates()
    bought = past[past.event_type == "purchase"][key].drop_duplicates()
    new = touched.merge(bought, on=key, how="left", indicator=True)
    return int(new[new["_merge"] == "left_only"].user_id.nunique())


@pytest.mark.trial
class TestJob:
    def test_it_reads_all_days_and_has_the_holdout_of_als_evaluation(
        self, shop_that_tuned: tuple[Path, dg.ExecuteInProcessResult]
    ) -> None:
        lake = Lake(str(shop_that_tuned[0]))
        version, evaluated = lake.latest("als_tuning"), lake.latest("als_evaluation")
        assert [step.asset for step in version.inputs] == ["cleaned_events"]
        [days] = [step.partitions for step in version.inputs]
        assert (days[0], days[-1], len(days)) == (FIRST_DAY, LAST_DAY, 8)
        document = read_document(lake, version)
        assert document["test_cutoff"] == evaluated.stats.results["cutoff"]
        [window] = document["windows"]
        assert window["users"] == users_between(shop_that_tuned[0], window["cutoff"], document["test_cutoff"])
        assert version.parameters["exclude"] == evaluated.parameters["exclude"]
        assert version.parameters["segmentation"] == evaluated.parameters["segmentation"]
        assert len(document["trials"]) == document["succeeded"] == 1
        assert version.stats.results["params"] == document["params"]

    def test_the_ui_shows_trials_plots_and_parameters(
        self, shop_that_tuned: tuple[Path, dg.ExecuteInProcessResult]
    ) -> None:
        [made] = shop_that_tuned[1].asset_materializations_for_node("tune_als")
        assert made.metadata["trials"].value.count("\n") == 2  # type: ignore[union-attr]
        assert made.metadata["plots"].value.count("data:image/png") == 2  # type: ignore[union-attr]
        passed = {e.check_name for e in shop_that_tuned[1].get_asset_check_evaluations() if e.passed}
        assert passed >= {"trials_succeeded", "no_trial_failed"}

    def test_als_model_is_trained_with_it_and_records_it(
        self, shop_that_tuned: tuple[Path, dg.ExecuteInProcessResult]
    ) -> None:
        data_dir, _ = shop_that_tuned
        lake = Lake(str(data_dir))
        assert run_graph(data_dir, FIRST_DAY, select=["als_model"], run_config=TUNED).success
        model, tuning = lake.latest("als_model"), lake.latest("als_tuning")
        assert model.parameters["tuned_by"] == {"version": tuning.version, "trial": tuning.stats.results["trial"]}
        assert AlsParameters.of(model.parameters) == AlsParameters.of({**tuning.stats.results["params"], "maxIter": 2})
        assert model.input_version("als_tuning") == tuning.version
        # Its index is that of interaction_data, not one that the tuning leads to.
        assert lake.ancestor(model, "user_index").version == lake.latest("user_index").version

    def test_its_best_trial_can_be_promoted(
        self, shop_that_tuned: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path
    ) -> None:
        shutil.copytree(shop_that_tuned[0], tmp_path / "shop")
        lake = Lake(str(tmp_path / "shop"))
        done = CliRunner().invoke(main, ["promote", "tuning", "--data-dir", str(tmp_path / "shop")])
        assert done.exit_code == 0, done.output
        tuning, promoted = lake.latest("als_tuning"), read_promoted(lake)
        decided = AlsParameters.of(promoted.of("als_model"))
        assert decided == AlsParameters.of({**tuning.stats.results["params"], "maxIter": 2})
        assert promoted.assets["als_model"]["rank"].source == f"als_tuning {tuning.version}"

    def test_without_a_tuning_the_error_names_the_command(
        self, spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]
    ) -> None:
        with pytest.raises(VersionNotFoundError, match="no version of als_tuning") as raised:
            run_graph(ran[0], FIRST_DAY, select=["als_model"], run_config=TUNED)
        assert COMMAND in str(raised.value)


@pytest.mark.trial
def test_by_the_command_on_the_sample(tmp_path: Path) -> None:
    """The whole graph, the tuning, and the end of the graph again with the best trial."""
    shutil.copytree(PROJECT / "data" / "raw", tmp_path / "shop" / "raw")
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "ECOMMERCE_DATA_DIR": str(tmp_path / "shop"),
        "TMPDIR": str(home),  # where this test run has a Spark, it holds the machine's lock
    }

    def dagster(*arguments: str) -> None:
        command = [str(Path(sys.executable).with_name("dagster")), *arguments, "-m", "ecommerce_assets.definitions"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=PROJECT)
        assert done.returncode == 0, done.stderr[-3000:]

    days = ("--partition-range", "2019-10-01...2019-12-29")
    dagster("asset", "materialize", "--select", "*", *days)
    lake = Lake(str(tmp_path / "shop"))
    assert not lake.published("als_tuning")
    config = tmp_path / "tuning.yaml"
    config.write_text("ops: {tune_als: {config: {trials: 6}}}")
    dagster("job", "execute", "-j", "als_tuning", "--config", str(config))
    tuning = lake.latest("als_tuning")
    assert tuning.stats.results["succeeded"] == 6
    assert len(tuning.inputs[0].partitions) == 90
    tuned = json.dumps({"ops": {"als_model": {"config": {"params": "tuned"}}}})
    dagster("asset", "materialize", "--select", "als_model,als_evaluation", *days, "--config-json", tuned)
    assert lake.latest("als_model").parameters["tuned_by"]["version"] == tuning.version
    evaluated = lake.latest("als_evaluation")
    assert AlsParameters.of(evaluated.parameters["als"]) == AlsParameters.of(lake.latest("als_model").parameters)
    assert evaluated.stats.results["cutoff"] == tuning.stats.results["test_cutoff"]

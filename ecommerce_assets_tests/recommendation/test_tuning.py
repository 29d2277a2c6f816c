"""als_tuning: the search, its holdout, and how als_model takes its parameters from it."""

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
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.recommendation.als import AlsParameters, fit_als
from ecommerce_assets.recommendation.judging import SYSTEMS
from ecommerce_assets.recommendation.metrics import ranking_metrics
from ecommerce_assets.recommendation.recommend import Exclude
from ecommerce_assets.recommendation.tuning import search, tune, validation
from ecommerce_assets.recommendation.tuning_assets import COMMAND
from ecommerce_assets.recommendation.tuning_document import COSTS, PAYS, WITHIN_NOISE, describe_tuning, trials_table
from ecommerce_assets.recommendation.tuning_trials import BUCKETS, Found, Scores, Trial, best_of
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.reading import read_document
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, event, events_frame, run_graph

PROJECT = Path(__file__).parents[2]


def scores(value: float, spread: float = 0.0) -> Scores:
    """Ten users in each bucket, with this NDCG on average; it differs by bucket, for all trials in the same way."""
    users = np.full(BUCKETS, 10.0)
    by_bucket = value + spread * np.sin(np.arange(BUCKETS))
    sums = dict.fromkeys(SYSTEMS, users * by_bucket) | {"popularity": users * 0.1}
    return Scores(users, sums, {system: {"ndcg": float(own.sum() / users.sum())} for system, own in sums.items()})


def landscape(parameters: AlsParameters) -> Scores:
    """Best at rank 24 and alpha 10, the same with and without the constraint."""
    miss = math.log(parameters.rank / 24) ** 2 + math.log(parameters.alpha / 10) ** 2
    return scores(0.3 * math.exp(-miss / 4))


class TestSearch:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls) -> Found:
        return search(landscape, 30, say=lambda _: None)

    def test_the_defaults_come_first_with_the_constraint_and_without(self, found: Found) -> None:
        defaults = {"rank": 50, "regParam": 0.1, "alpha": 1.0}
        first, second = (trial.params for trial in found.trials[:2])
        assert first == {**defaults, "nonnegative": True}
        assert second == {**defaults, "nonnegative": False}
        assert found.trials[0].parameters == AlsParameters()

    def test_something_better_is_found_inside_the_space(self, found: Found) -> None:
        best = best_of(found.trials)
        assert best is not None
        assert best.scores is not None
        assert best.scores.value > 0.25 > landscape(AlsParameters()).value
        assert [trial.number for trial in found.trials] == list(range(30))
        for trial in found.trials:
            p = trial.parameters
            assert 8 <= p.rank <= 128
            assert 0.001 <= p.regParam <= 1
            assert 0.1 <= p.alpha <= 40
            assert (p.maxIter, p.seed) == (15, 42)

    def test_what_matters_is_found(self, found: Found) -> None:
        assert set(found.importance) == {"rank", "regParam", "alpha", "nonnegative"}
        assert max(found.importance, key=lambda name: found.importance[name]) == "alpha"

    def test_the_seed_decides(self, found: Found) -> None:
        again = search(landscape, 12, say=lambda _: None)
        assert [t.params for t in again.trials] == [t.params for t in found.trials[:12]]
        other = search(landscape, 12, seed=1, say=lambda _: None)
        assert [t.params for t in other.trials[:2]] == [t.params for t in found.trials[:2]]
        assert [t.params for t in other.trials] != [t.params for t in again.trials]

    def test_failed_trials_are_logged_and_counted(self) -> None:
        def judge(parameters: AlsParameters) -> Scores:
            if not parameters.nonnegative:
                raise ValueError("no luck\nand more")
            return scores(math.nan) if parameters.rank > 60 else landscape(parameters)

        lines: list[str] = []
        found = search(judge, 12, say=lines.append)
        document = describe_tuning(found, {})
        failed = [t for t in document["trials"] if t["error"]]
        assert (document["succeeded"], document["failed"]) == (12 - len(failed), len(failed))
        assert failed[0]["number"] == 1
        assert failed[0]["error"] == "ValueError: no luck"
        assert failed[0]["ndcg"] is failed[0]["gain"] is failed[0]["metrics"] is None
        assert {t["error"] for t in failed} == {"ValueError: no luck", "its ndcg is nan"}
        assert len(lines) == 12
        assert "2 of 12 trials" in lines[1]
        assert "ValueError: no luck" in lines[1]

    def test_without_a_successful_trial_there_are_no_parameters(self) -> None:
        def judge(_: AlsParameters) -> Scores:
            raise MemoryError("too large")

        document = describe_tuning(search(judge, 3, say=lambda _: None), {})
        assert (document["succeeded"], document["failed"], document["params"]) == (0, 3, None)
        assert document["nonnegativity"]["verdict"] is None

    def test_no_trial_begins_after_the_time_is_over(self) -> None:
        assert len(search(landscape, 5, timeout_seconds=0, say=lambda _: None).trials) == 1


def trial(number: int, value: float, nonnegative: bool = True, spread: float = 0.3) -> Trial:
    return Trial(number, AlsParameters(rank=8 + number, nonnegative=nonnegative), 1.0, scores(value, spread))


class TestDocument:
    def test_differences_are_between_the_same_users(self) -> None:
        document = describe_tuning(Found([trial(0, 0.20), trial(1, 0.21), trial(2, 0.20)]), {"k": 10})
        assert (document["trial"], document["params"]["rank"]) == (1, 9)
        value, lower, upper = document["ndcg"]
        assert lower < 0.20 < value < upper, "by itself it may as well be the default's"
        # All users gain the same: the interval of the difference is no wider than that.
        assert document["gain"] == pytest.approx([0.01, 0.01, 0.01])
        assert [t["gain"] for t in document["trials"]][::2] == [pytest.approx([0, 0, 0], abs=1e-12)] * 2
        assert document["popularity"] == pytest.approx([0.1, 0.1, 0.1])
        assert document["default"]["ndcg"][0] == pytest.approx(document["trials"][0]["ndcg"][0])
        json.dumps(document)

    @pytest.mark.parametrize(
        ("with_it", "without", "verdict"),
        [(0.21, 0.2, PAYS), (0.2, 0.21, COSTS), (0.2, 0.2, WITHIN_NOISE)],
    )
    def test_whether_nonnegativity_pays(self, with_it: float, without: float, verdict: str) -> None:
        trials = [trial(0, 0.1), trial(1, 0.1, False), trial(2, with_it), trial(3, without, False)]
        found = describe_tuning(Found(trials), {})["nonnegativity"]
        assert found["verdict"] == verdict
        assert (found["nonnegative"]["trial"], found["unconstrained"]["trial"]) == (2, 3)
        assert found["nonnegative"]["trials"] == found["unconstrained"]["trials"] == 2
        assert found["difference"][0] == pytest.approx(with_it - without)
        assert found["at_defaults"] == pytest.approx([0, 0, 0], abs=1e-12)

    def test_table_has_the_best_first_and_the_failed_last(self) -> None:
        failed = Trial(1, AlsParameters(), 0.5, error="ValueError: a | b")
        lines = trials_table(describe_tuning(Found([trial(0, 0.20), failed, trial(2, 0.21)]), {})).splitlines()[2:]
        assert [line.split("|")[1].strip() for line in lines] == ["2 (best)", "0 (default)", "1"]
        assert "+0.0100 (+0.0100 to +0.0100)" in lines[0]
        assert "failed: ValueError: a \\| b" in lines[2]
        assert {line.replace("\\|", "").count("|") for line in lines} == {10}


def shop() -> list[dict[str, Any]]:
    """64 views by eight users; on the next day 16 by two of them and two others."""
    first = [event(f"2020-01-01 10:{p:02d}:{u:02d}", "view", p % (u + 2), u) for p in range(8) for u in range(8)]
    second = [event(f"2020-01-02 10:00:{n:02d}", "view", n // 4, (0, 1, 50, 51)[n % 4]) for n in range(16)]
    return first + second


class TestJudging:
    def test_a_user_is_in_one_bucket_whichever_model_is_judged(self, spark: SparkSession) -> None:
        events = events_frame(spark, shop())
        cutoff = dt.datetime(2020, 1, 2, 10, tzinfo=dt.UTC)
        with validation(events, cutoff, SegmentationParameters(k=2), Exclude.none) as holdout:
            assert holdout is not None
            assert holdout.user_count == 4
            models = [fit_als(holdout.interactions, AlsParameters(rank=rank, maxIter=2)) for rank in (2, 5)]
            one, other = (Scores.of(holdout.judge(model, 3, BUCKETS)) for model in models)
            plain = holdout.judge(models[0], 3)
            hashed = holdout.users.select(F.pmod(F.xxhash64("user_idx"), F.lit(BUCKETS)).cast("int")).collect()
        assert np.array_equal(one.users, other.users)
        assert np.array_equal(one.users, np.bincount([row[0] for row in hashed], minlength=BUCKETS))
        # What is found does not depend on the buckets.
        for system in SYSTEMS:
            for metric, values in ranking_metrics(plain.hits[system], plain.wanted).items():
                assert one.metrics[system][metric] == pytest.approx(np.average(values, weights=plain.users))
            assert one.sums[system].sum() / 4 == pytest.approx(one.metrics[system]["ndcg"])
        assert one.value > 0

    @pytest.mark.parametrize("events", [[], [event("2020-01-01 10:00:00")] * 9])
    def test_without_a_holdout_there_are_no_trials(self, spark: SparkSession, events: list[dict[str, Any]]) -> None:
        frame = events_frame(spark, events)
        document = tune(frame, SegmentationParameters(), Exclude.purchased, 10, trials=2, say=lambda _: None)
        assert (document["trials"], document["params"], document["holdout_users"]) == ([], None, 0)
        assert document["holdout"].startswith("none: ")


TUNED = {"ops": {"als_model": {"config": {"params": "tuned", "maxIter": 2, "rank": 99}}}}


@pytest.fixture(scope="module")
def shop_that_tuned(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dg.ExecuteInProcessResult]:
    """A copy of the shop, and what the job did there."""
    data_dir = tmp_path_factory.mktemp("tuned") / "shop"
    shutil.copytree(ran[0], data_dir)
    window = {"first_day": dt.date(2019, 10, 1), "last_day": dt.date(2019, 12, 29)}
    job = build_defs(load_settings(data_dir=str(data_dir), **window)).resolve_job_def("als_tuning")
    return data_dir, job.execute_in_process(run_config={"ops": {"tune_als": {"config": {"trials": 2}}}})


def users_between(data_dir: Path, begin: str, end: str) -> int:
    """Users who viewed, carted or bought something between two moments that they had not bought before the first."""
    events: Any = DeltaTable(str(data_dir / "lake" / "cleaned_events")).to_pandas()
    key = ["user_id", "product_id"]
    past = events[events.event_time < begin]
    touched = events[(events.event_time >= begin) & (events.event_time < end)]
    touched = touched[touched.event_type != "remove_from_cart"][key].drop_duplicates()
    bought = past[past.event_type == "purchase"][key].drop_duplicates()
    new = touched.merge(bought, on=key, how="left", indicator=True)
    return int(new[new["_merge"] == "left_only"].user_id.nunique())


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
        assert document["holdout_users"] == users_between(
            shop_that_tuned[0], document["validation_cutoff"], document["test_cutoff"]
        )
        assert version.parameters["exclude"] == evaluated.parameters["exclude"]
        assert version.parameters["segmentation"] == evaluated.parameters["segmentation"]
        assert len(document["trials"]) == document["succeeded"] == 2
        assert version.stats.results["params"] == document["params"]

    def test_the_ui_shows_trials_plots_and_parameters(
        self, shop_that_tuned: tuple[Path, dg.ExecuteInProcessResult]
    ) -> None:
        [made] = shop_that_tuned[1].asset_materializations_for_node("tune_als")
        assert made.metadata["trials"].value.count("\n") == 3  # type: ignore[union-attr]
        assert made.metadata["plots"].value.count("data:image/png") == 2  # type: ignore[union-attr]
        assert made.metadata["params"].value["rank"] == 50  # type: ignore[index, call-overload]
        passed = {e.check_name for e in shop_that_tuned[1].get_asset_check_evaluations() if e.passed}
        assert passed >= {"trials_succeeded", "best_is_best", "no_trial_failed"}

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
        # The index is not found by way of the tuning.
        assert lake.ancestor(model, "user_index").version == lake.latest("user_index").version

    def test_without_a_tuning_the_error_names_the_command(
        self, spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]
    ) -> None:
        with pytest.raises(VersionNotFoundError, match="no version of als_tuning") as raised:
            run_graph(ran[0], FIRST_DAY, select=["als_model"], run_config=TUNED)
        assert COMMAND in str(raised.value)


@pytest.mark.trial
def test_by_the_command_on_the_sample(tmp_path: Path) -> None:
    """The whole graph, the tuning, and the graph's end again with what it found."""
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

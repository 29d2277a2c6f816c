"""backtest: its windows, that each is evaluated like als_evaluation, and its checks."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.recommendation import backtest_assets
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.backtest import (
    BACKTEST_CHECKS,
    BACKTEST_NOTES,
    BACKTEST_PLOTS,
    Window,
    backtest,
    describe_backtest,
    rolling_windows,
)
from ecommerce_assets.recommendation.evaluation import evaluate_holdout, metric_rows
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.holdout import prepare_holdouts
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.parameters import ListParameters, Parameters
from ecommerce_assets.recommendation.systems import BASELINES, SYSTEMS
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.settings import load_settings
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.checks import CheckContext, run_checks
from ecommerce_assets.storage.display import png
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.helpers import event, events_frame

ALS, SEGMENTATION = AlsParameters(rank=3, maxIter=2), SegmentationParameters(k=2)
LISTS = ListParameters(5, Exclude.none, Ranker.als)
FIRST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def generated(events: int = 500, users: int = 30, products: int = 20, seed: int = 7) -> list[dict[str, Any]]:
    """Events one hour apart; each user interacts with a few products."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(events):
        user = int(rng.integers(users))
        product = int(user + rng.integers(4)) % products
        kind = str(rng.choice(["view", "view", "cart", "purchase", "remove_from_cart"]))
        at = FIRST + dt.timedelta(hours=number)
        made.append(event(f"{at:%Y-%m-%d %H:%M:%S}", kind, product, user, category_id=product % 3))
    return made


def at(hour: int) -> dt.datetime:
    """The hour with this number; a cutoff is the second after an event."""
    return FIRST + dt.timedelta(hours=hour, seconds=1)


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> Iterator[DataFrame]:
    frame = events_frame(spark, generated()).persist()
    yield frame
    frame.unpersist()


@pytest.fixture(scope="module")
def categories(spark: SparkSession) -> DataFrame:
    rows = [(product, product % 3, "unknown") for product in range(20)]
    return spark.createDataFrame(rows, "product_id bigint, category_id bigint, category string")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What the backtest logs."""
    return []


@pytest.fixture(scope="module")
def document(events: DataFrame, categories: DataFrame, lines: list[str]) -> dict[str, Any]:
    """Two windows."""
    parameters = Parameters(SEGMENTATION, ALS, LISTS)
    return backtest(events, StoredTable(categories), parameters, cutoffs=2, log=lines.append)


class TestWindows:
    def test_they_divide_the_last_two_fifths_evenly_and_have_a_fifth_at_most(self, events: DataFrame) -> None:
        assert rolling_windows(events, 1) == [Window(at(399), None)]
        assert rolling_windows(events, 4) == [
            Window(at(299), at(349)),
            Window(at(349), at(399)),
            Window(at(399), at(449)),
            Window(at(449), None),
        ]

    def test_cutoffs_that_coincide_make_one_window(self, spark: SparkSession) -> None:
        times = ["2020-01-01 10:00:00"] * 7 + ["2020-01-01 10:00:01"] * 3
        windows = rolling_windows(events_frame(spark, [event(time) for time in times]), 4)
        assert windows == [Window(dt.datetime(2020, 1, 1, 10, 0, 1, tzinfo=dt.UTC), None)]


class TestBacktest:
    def test_windows_and_their_users(self, document: dict[str, Any], lines: list[str]) -> None:
        starts = [row["cutoff"] for row in document["cutoffs"]]
        assert starts == [at(hour).isoformat() for hour in (299, 399)]
        assert [row["end"] for row in document["cutoffs"]] == [*starts[1:], None]
        for row, (first, last) in zip(document["cutoffs"], [(300, 400), (400, 500)], strict=True):
            window = [e for e in generated()[first:last] if e["event_type"] != "remove_from_cart"]
            assert row["users"] == len({e["user_id"] for e in window})
        assert len([line for line in lines if "NDCG of the published lists" in line]) == 2

    def test_a_window_has_the_values_of_a_direct_evaluation(
        self, events: DataFrame, categories: DataFrame, document: dict[str, Any]
    ) -> None:
        until_end = events.where(events.event_time < timestamp(at(399)))
        with prepare_holdouts(until_end, at(299), None, SEGMENTATION, in_process=True) as holdouts:
            evaluated = evaluate_holdout(holdouts, categories.toArrow(), ALS, LISTS, Engine.auto)
        row = document["cutoffs"][0]
        assert row["best_baseline"] == evaluated.best_baseline(Exclude.none)
        assert 0.1 < row["ndcg"]["published"][0] < 1
        expected: dict[str, dict[str, Any]] = {"ndcg": {}, "hit_rate": {}}
        for metric, _, system, part, _, value, lower, upper, _ in metric_rows(evaluated, Exclude.none, 5):
            if part == "all" and metric in expected:
                expected[metric][system] = [value, lower, upper]
        for metric, values in expected.items():
            assert set(row[metric]) - set(values) == set()
            assert set(SYSTEMS) <= set(row[metric])
            for system, interval in row[metric].items():
                assert interval == pytest.approx(values[system], abs=1e-12)

    def test_the_mean_is_over_the_cutoffs(self, document: dict[str, Any]) -> None:
        mean = document["mean"]["ndcg"]
        for name in ("published", "popularity", "published - best baseline", "published - als_with_fallback"):
            value, lower, upper = mean[name]
            assert value == pytest.approx(np.mean([row["ndcg"][name][0] for row in document["cutoffs"]]))
            assert lower <= value <= upper
        assert document["best_baseline"] == max(BASELINES, key=lambda system: mean[system][0])

    def test_the_ui_shows_notes_and_a_plot(self, document: dict[str, Any]) -> None:
        context = CheckContext(Stats(), {"min_holdout_users": 10}, document=document)
        published, ndcg = (note.write(context) for note in BACKTEST_NOTES)
        assert published is not None
        assert published.count("\n") == 1 + 2 + 1
        assert ndcg is not None
        assert f"|published lists|{document['cutoffs'][0]['ndcg']['published'][0]:.4f}|" in ndcg
        [plot] = BACKTEST_PLOTS
        figure = plot.draw(context)
        assert figure is not None
        assert len(png(figure)) < 100_000
        assert [result.name for result in run_checks(BACKTEST_CHECKS, context) if result.blocking] == ["windows_scored"]


class TestJob:
    def test_it_uses_the_parameters_of_the_published_lists(
        self,
        ran: tuple[Path, dg.ExecuteInProcessResult],
        document: dict[str, Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        shutil.copytree(ran[0], tmp_path / "shop")
        calls: list[tuple[Any, ...]] = []

        def stub(*arguments: Any) -> dict[str, Any]:
            calls.append(arguments)
            return {**document, "cutoffs": [*document["cutoffs"], *document["cutoffs"]]}

        monkeypatch.setattr(backtest_assets, "backtest", stub)
        window = {"first_day": dt.date(2019, 10, 1), "last_day": dt.date(2019, 12, 29)}
        job = build_defs(load_settings(data_dir=str(tmp_path / "shop"), **window)).resolve_job_def("backtest")
        config = {"ops": {"run_backtest": {"config": {"cutoffs": 5}}}}
        result = job.execute_in_process(run_config=config)
        lake = Lake(str(tmp_path / "shop"))
        [(events, categories, parameters, cutoffs, engine, _)] = calls
        evaluated = lake.latest("als_evaluation").parameters
        assert parameters == Parameters.of_evaluation(evaluated)
        assert parameters.als_model.rank == 4
        assert (cutoffs, engine) == (5, evaluated["als"]["engine"])
        assert events.select("event_date").distinct().count() == 8
        assert {"product_id", "category_id", "category"} <= set(categories.frame.columns)
        version = lake.latest("backtest")
        assert {step.asset for step in version.inputs} == {"cleaned_events", "product_features"}
        assert version.stats.results["mean"] == document["mean"]
        [made] = result.asset_materializations_for_node("run_backtest")
        assert {note.name for note in BACKTEST_NOTES} | {"plots"} <= set(made.metadata)


class TestChecks:
    @staticmethod
    def failed(*differences: float, users: int = 500) -> dict[str, str]:
        """Messages of failed checks; the NDCG of the published lists less the best baseline at each cutoff is given."""
        metrics = {"published - als_with_fallback": [0.1, 0.0, 0.2]}
        rows = [
            {"cutoff": f"day {day}", "users": users, "ndcg": {**metrics, "published - best baseline": [d, d, d]}}
            for day, d in enumerate(differences)
        ]
        mean = float(np.mean(differences)) if differences else 0.0
        document = {"cutoffs": rows, "mean": {"ndcg": {**metrics, "published - best baseline": [mean] * 3}}}
        results = run_checks(BACKTEST_CHECKS, CheckContext(Stats(), {"min_holdout_users": 100}, document=document))
        return {result.name: result.message for result in results if not result.passed}

    def test_better_at_every_cutoff_passes(self) -> None:
        assert self.failed(0.1, 0.2, 0.3) == {}

    def test_worse_at_one_cutoff_warns(self) -> None:
        message = self.failed(0.1, -0.05, 0.3)["not_worse_than_best_baseline"]
        assert "below zero at day 1" in message

    def test_too_few_users_warn(self) -> None:
        assert list(self.failed(0.1, 0.1, 0.1, users=20)) == ["enough_users"]

    def test_two_windows_are_too_few(self) -> None:
        assert list(self.failed(0.1, 0.1)) == ["windows_scored"]

    def test_nothing_scored_is_described_and_fails(self) -> None:
        document = describe_backtest([(Window(at(1), None), None)], Exclude.none)
        context = CheckContext(Stats(), {"min_holdout_users": 100}, document=document)
        assert [result.name for result in run_checks(BACKTEST_CHECKS, context) if not result.passed] == [
            "windows_scored"
        ]
        assert [note.write(context) for note in BACKTEST_NOTES] == [None, None]
        assert [plot.draw(context) for plot in BACKTEST_PLOTS] == [None]

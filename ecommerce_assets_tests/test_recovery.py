"""What follows when runs are killed, fail or are deleted: the sensor alone, and the real daemon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData

from ecommerce_assets.events.landing import land
from ecommerce_assets.recovery import PATIENCE_SECONDS
from ecommerce_assets.runs import PROCESS_TAG, RunProcess
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.daemon import Dev, dagster_dev
from ecommerce_assets_tests.test_alerts import Endpoint
from ecommerce_assets_tests.test_automation import CLEANING, REFRESHED, Conditions, assets_of

BY_AUTOMATION = {"dagster/from_automation_condition": "true"}
BEFORE_ALS = {"user_features", "product_features", "segmentation_model", "segmented_users"} | {
    "user_index",
    "product_index",
    "product_eligibility",
    "product_pairs",
    "customer_groups",
    "customer_value",
    "interaction_data",
}
FAILED = dg.DagsterRunStatus.FAILURE
CANCELED = dg.DagsterRunStatus.CANCELED


class Refresh(Conditions):
    """The conditions and the sensor `recovery`, with a clock of the tests' own; runs are only recorded."""

    def __init__(self, instance: dg.DagsterInstance, data_dir: Path) -> None:
        super().__init__(instance, data_dir)
        self.sensor: Any = self.defs.resolve_sensor_def("recovery")
        self.sensor_cursor, self.said = "", ""

    def play(
        self,
        made: Iterable[str],
        left: Iterable[str] = (),
        status: dg.DagsterRunStatus = FAILED,
        tags: dict[str, str] = BY_AUTOMATION,
    ) -> str:
        """A run that makes some of its assets and then ends; its id."""
        assets = [*made, *left]
        run = dg.DagsterRun(
            "refresh",
            asset_selection=frozenset(map(dg.AssetKey, assets)),
            tags=tags,
            status=dg.DagsterRunStatus.STARTED,
        )
        self.instance.add_run(run)
        for asset in assets:
            planned = AssetMaterializationPlannedData(dg.AssetKey(asset))
            self._report(run, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, planned)
        for asset in [name for name in self.sorted_names() if name in set(made)]:
            materialization = StepMaterializationData(dg.AssetMaterialization(asset))
            self._report(run, dg.DagsterEventType.ASSET_MATERIALIZATION, materialization)
            self.check(asset)
        if status is FAILED:
            self.instance.report_run_failed(run)
        elif status is CANCELED:
            self.instance.report_run_canceled(run)
        else:
            self._report(run, dg.DagsterEventType.RUN_SUCCESS, None)
        return run.run_id

    def sorted_names(self) -> Sequence[str]:
        return [key.to_user_string() for key in self.graph.toposorted_asset_keys]

    def _report(self, run: dg.DagsterRun, kind: dg.DagsterEventType, data: Any) -> None:
        event = dg.DagsterEvent(kind.value, "refresh", event_specific_data=data)
        self.instance.report_dagster_event(event, run.run_id)

    def look(self) -> tuple[set[str], dict[str, str]]:
        """The assets that the sensor requests at a tick, and the tags of their run."""
        context = dg.build_sensor_context(self.instance, self.sensor_cursor, definitions=self.defs)
        found = self.sensor.evaluate_tick(context)
        self.sensor_cursor, self.said = found.cursor, found.skip_message or ""
        requests = found.run_requests or ()
        assert len(requests) <= 1
        return (
            {key.to_user_string() for request in requests for key in request.asset_selection},
            {name: value for request in requests for name, value in request.tags.items()},
        )

    def recover(self) -> tuple[set[str], dict[str, str]]:
        """What the sensor requests after it has left the conditions their time."""
        assert self.look()[0] == set(), "the conditions come first"
        time_of_the_test.passed += PATIENCE_SECONDS + 1
        return self.look()


class Clock:
    passed = 0.0

    def time(self) -> float:
        return time.time() + self.passed


time_of_the_test = Clock()


@pytest.fixture
def refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Refresh]:
    monkeypatch.setattr("ecommerce_assets.recovery.time", time_of_the_test)
    with dg.DagsterInstance.ephemeral() as instance:
        conditions = Refresh(instance, tmp_path)
        conditions.materialise(CLEANING, ["2019-11-05"])
        assert conditions.tick() == REFRESHED
        yield conditions


def test_after_a_refresh_that_succeeded_nothing_is_left(refresh: Refresh) -> None:
    assert refresh.look()[0] == set()
    assert refresh.said == "Nothing is left undone by a failed run.", "no run was meant to make it so far"
    refresh.play(REFRESHED, status=dg.DagsterRunStatus.SUCCESS)
    assert refresh.recover()[0] == set()
    refresh.materialise(CLEANING, ["2019-11-06"])
    assert refresh.recover()[0] == set(), "new days are for the conditions"


def test_what_an_interrupted_refresh_left_undone_is_requested_three_times_in_all(refresh: Refresh) -> None:
    left = REFRESHED - BEFORE_ALS
    run = refresh.play(BEFORE_ALS, left)
    assert refresh.tick() == set(), "the conditions do not ask again"
    for _ in range(2):
        asked, tags = refresh.recover()
        assert asked == left
        run = refresh.play((), left, tags=tags)
        refresh.sensor_cursor = ""
    assert refresh.recover()[0] == set()
    assert refresh.said.startswith("Gave up on als_model, ")
    assert f"3 attempts failed with the same inputs; see run {run.split('-')[0]}." in refresh.said
    refresh.materialise(CLEANING, ["2019-11-06"])
    assert refresh.tick() == REFRESHED, "new events start a new attempt"
    refresh.play((), REFRESHED)
    assert refresh.recover()[0] == REFRESHED


def test_progress_gives_new_attempts_and_success_ends_them(refresh: Refresh) -> None:
    left = REFRESHED - BEFORE_ALS
    refresh.play(BEFORE_ALS, left)
    asked, tags = refresh.recover()
    refresh.play({"als_model"}, asked - {"als_model"}, tags=tags)
    asked, tags = refresh.recover()
    assert asked == left - {"als_model"}
    refresh.play(asked, tags=tags, status=dg.DagsterRunStatus.SUCCESS)
    assert refresh.recover()[0] == set()
    assert refresh.tick() == set()


def test_a_deleted_run_is_requested_again(refresh: Refresh) -> None:
    run = refresh.play((), REFRESHED)
    refresh.instance.delete_run(run)
    assert refresh.recover()[0] == REFRESHED


def test_what_a_person_canceled_or_started_is_left_alone(refresh: Refresh) -> None:
    refresh.play((), REFRESHED, status=CANCELED)
    assert refresh.recover()[0] == set()
    assert refresh.said.endswith("was canceled.")
    refresh.play((), REFRESHED, tags={})
    assert refresh.recover()[0] == set()


def test_dagster_retries_first(refresh: Refresh) -> None:
    run = refresh.play((), REFRESHED)
    refresh.instance.add_run_tags(run, {"dagster/will_retry": "true"})
    assert refresh.recover()[0] == set()
    assert "about to retry run" in refresh.said
    refresh.instance.add_run(dg.DagsterRun("refresh", status=dg.DagsterRunStatus.STARTED))
    assert refresh.recover()[0] == set()
    assert refresh.said == "A run is in progress or in the queue."


def test_blocked_versions_are_not_requested_again_nor_what_follows_them(refresh: Refresh) -> None:
    behind = {"als_evaluation", "blend_model", "recommendations", "training_metadata"}
    refresh.play(REFRESHED - behind, behind)
    refresh.check("als_evaluation", failed="not_worse_than_best_baseline")
    assert refresh.recover()[0] == set()
    # The next refresh is killed before als_evaluation: the failed check is about other inputs.
    refresh.materialise(CLEANING, ["2019-11-06"])
    refresh.play(BEFORE_ALS, REFRESHED - BEFORE_ALS)
    assert refresh.recover()[0] == REFRESHED - BEFORE_ALS
    refresh.check("cleaned_events", failed="valid_prices")
    assert refresh.recover()[0] == set(), "a blocked day stops all of it"


def test_a_run_whose_process_is_gone_is_ended(refresh: Refresh) -> None:
    gone = RunProcess(run_id="", host=os.uname().nodename, pid=os.getpid(), started="another boot:1")
    runs = []
    for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING):
        run = dg.DagsterRun("refresh", status=status)
        tag = gone.model_copy(update={"run_id": run.run_id}).model_dump_json()
        refresh.instance.add_run(run.with_tags({PROCESS_TAG: tag}))
        runs.append(run.run_id)
    refresh.look()
    ended = [refresh.instance.get_run_by_id(run) for run in runs]
    assert [run.status for run in ended if run] == [FAILED, CANCELED]
    for run in runs:
        assert f"The process of run {run.split('-')[0]} is gone" in refresh.said


def run_in_step(dev: Dev, step: str, after: int = 0) -> dg.DagsterRun:
    """The first of the runs from that number on that has begun the step, as soon as it has."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for run in dev.runs()[after:]:
            starts = dev.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
            if any(start.step_key == step for start in starts):
                return run
        time.sleep(0.05)
    raise AssertionError(f"{step} did not begin:\n{dev.log.read_text()[-5000:]}")


def retry_of(dev: Dev, run: dg.DagsterRun) -> dg.DagsterRun | None:
    """The run that succeeded in place of another."""
    succeeded = [one for one in dev.runs() if one.status is dg.DagsterRunStatus.SUCCESS]
    return next((one for one in succeeded if one.parent_run_id == run.run_id), None)


@pytest.mark.trial
def test_a_killed_worker_and_a_killed_daemon_need_no_one(tmp_path: Path, days_of_events: list[Path]) -> None:
    shop = tmp_path / "shop"
    *first, late = days_of_events[:4]
    land([str(path) for path in first], shop)
    lake = Lake(str(shop))
    with Endpoint() as endpoint:
        settings = {
            "ECOMMERCE_DATA_DIR": str(shop),
            "ECOMMERCE_FIRST_DAY": "2019-10-01",
            "ECOMMERCE_LAST_DAY": "2019-12-29",
            "ECOMMERCE_DRIVER_MEMORY": "2g",
            # Many tiny jobs: compiling code for them takes longer than it saves.
            "ECOMMERCE_SPARK_CONFIG": '{"spark.sql.shuffle.partitions": 2, "spark.sql.codegen.wholeStage": false, '
            '"spark.sql.codegen.factoryMode": "NO_CODEGEN"}',
            "ECOMMERCE_ALERT_URL": endpoint.url,
        }
        with dagster_dev(tmp_path, settings) as dev:
            started = time.monotonic()
            killed = run_in_step(dev, "als_model")
            print(f"\nfrom landing to als_model: {time.monotonic() - started:.0f} s")
            started = time.monotonic()
            os.kill(RunProcess.model_validate_json(killed.tags[PROCESS_TAG]).pid, signal.SIGKILL)
            retry = dev.wait_for("a successful retry", lambda: retry_of(dev, killed), 150)
            print(f"from the death of the worker to new lists: {time.monotonic() - started:.0f} s")
            assert assets_of(dev, killed) == BEFORE_ALS
            assert assets_of(dev, retry) == REFRESHED - BEFORE_ALS
            lists = lake.latest("recommendations").version

            land([str(late)], shop)
            interrupted = run_in_step(dev, "als_model", after=4)
            dev.kill()
        started = time.monotonic()
        with dagster_dev(tmp_path, settings) as dev:
            retry = dev.wait_for("a successful retry", lambda: retry_of(dev, interrupted), 150)
            dev.wait_for("new lists", lambda: lake.latest("recommendations").version != lists, 150)
            print(f"from the new start to new lists: {time.monotonic() - started:.0f} s")
            assert "als_model" not in assets_of(dev, interrupted)
            assert "als_model" in assets_of(dev, retry)
            assert late.stem in [day.day for day in lake.days("cleaned_events")]
        assert endpoint.posted == [], "what Dagster retried is no alert"
        endpoint.shutdown()

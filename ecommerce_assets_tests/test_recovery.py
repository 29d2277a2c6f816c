"""The sensor `recovery` after runs that were killed, failed or deleted: the sensor alone, and the real daemon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ecommerce_assets.alerts import materialized_assets
from ecommerce_assets.events.landing import land
from ecommerce_assets.recovery import GRACE_SECONDS
from ecommerce_assets.runs import PROCESS_TAG, RunProcess, short_id
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.daemon import Dev, dagster_dev, shop_settings
from ecommerce_assets_tests.test_alerts import Endpoint
from ecommerce_assets_tests.test_automation import CLEANING, REFRESHED, Conditions

AUTOMATED = {"dagster/from_automation_condition": "true"}
ALS_AND_DOWNSTREAM = {
    *("als_model", "item_neighbours", "als_evaluation", "blend_model", "recommendations", "similar_products"),
    *("segment_history", "training_metadata"),
}
BEFORE_ALS = REFRESHED - ALS_AND_DOWNSTREAM


class Clock:
    """The time, plus seconds that a test adds."""

    added = 0.0

    def time(self) -> float:
        return time.time() + self.added


class Recovery(Conditions):
    """The conditions and the sensor `recovery`."""

    def __init__(self, instance: dg.DagsterInstance, data_dir: Path) -> None:
        super().__init__(instance, data_dir)
        self.sensor: Any = self.defs.resolve_sensor_def("recovery")
        self.clock, self.sensor_cursor, self.message = Clock(), "", ""

    def sensor_tick(self) -> tuple[set[str], dict[str, str]]:
        """Returns the assets that the sensor requests, and the tags of their run."""
        context = dg.build_sensor_context(self.instance, self.sensor_cursor, definitions=self.defs)
        result = self.sensor.evaluate_tick(context)
        self.sensor_cursor, self.message = result.cursor, result.skip_message or ""
        requests = result.run_requests or ()
        assert len(requests) <= 1
        return (
            {key.to_user_string() for request in requests for key in request.asset_selection},
            {name: value for request in requests for name, value in request.tags.items()},
        )

    def recover(self) -> tuple[set[str], dict[str, str]]:
        """Returns what the sensor requests after the time that it leaves to the conditions."""
        assert self.sensor_tick()[0] == set()
        self.clock.added += GRACE_SECONDS + 1
        return self.sensor_tick()


@pytest.fixture
def refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recovery]:
    """New days, for which the conditions have requested everything."""
    with dg.DagsterInstance.ephemeral() as instance:
        recovery = Recovery(instance, tmp_path)
        monkeypatch.setattr("ecommerce_assets.recovery.time", recovery.clock)
        recovery.report(CLEANING, ["2019-11-05"])
        assert recovery.tick() == REFRESHED
        yield recovery


def test_nothing_is_requested_before_or_after_a_successful_refresh(refresh: Recovery) -> None:
    assert refresh.sensor_tick()[0] == set()  # no run has failed so far
    refresh.run(REFRESHED, tags=AUTOMATED)
    assert refresh.recover()[0] == set()
    refresh.report(CLEANING, ["2019-11-06"])
    assert refresh.recover()[0] == set()  # new days are for the conditions


def test_assets_of_a_failed_refresh_are_requested_until_three_runs_failed(refresh: Recovery) -> None:
    run = refresh.run(BEFORE_ALS, ALS_AND_DOWNSTREAM, AUTOMATED)
    assert refresh.tick() == set()  # the conditions do not request them again
    for _ in range(2):
        requested, tags = refresh.recover()
        assert requested == ALS_AND_DOWNSTREAM
        run = refresh.run((), ALS_AND_DOWNSTREAM, tags)
        refresh.sensor_cursor = ""
    assert refresh.recover()[0] == set()
    assert refresh.message.startswith("Gave up on ")
    assert run.split("-")[0] in refresh.message
    refresh.report(CLEANING, ["2019-11-06"])
    assert refresh.tick() == REFRESHED  # new events start new attempts
    refresh.run((), REFRESHED, AUTOMATED)
    assert refresh.recover()[0] == REFRESHED


def test_a_run_that_makes_some_assets_starts_new_attempts(refresh: Recovery) -> None:
    refresh.run(BEFORE_ALS, ALS_AND_DOWNSTREAM, AUTOMATED)
    _, tags = refresh.recover()
    rest = ALS_AND_DOWNSTREAM - {"als_model"}
    refresh.run({"als_model"}, rest, tags)
    requested, tags = refresh.recover()
    assert requested == rest
    refresh.run(rest, tags=tags)
    assert refresh.recover()[0] == set()
    assert refresh.tick() == set()


def test_a_deleted_run_is_requested_again(refresh: Recovery) -> None:
    refresh.instance.delete_run(refresh.run((), REFRESHED, AUTOMATED))
    assert refresh.recover()[0] == REFRESHED


def test_canceled_and_manual_runs_are_not_requested_again(refresh: Recovery) -> None:
    run = refresh.instance.get_run_by_id(refresh.run((), REFRESHED, AUTOMATED))
    assert run
    refresh.instance.report_run_canceled(run)
    assert refresh.recover()[0] == set()
    assert refresh.message.endswith("was canceled.")
    refresh.run((), REFRESHED)
    assert refresh.recover()[0] == set()


def test_a_run_that_dagster_retries_is_not_requested(refresh: Recovery) -> None:
    run = refresh.run((), REFRESHED, AUTOMATED)
    refresh.instance.add_run_tags(run, {"dagster/will_retry": "true"})
    assert refresh.recover()[0] == set()
    assert "about to retry run" in refresh.message
    refresh.instance.add_run(dg.DagsterRun("refresh", status=dg.DagsterRunStatus.STARTED))
    assert refresh.recover()[0] == set()
    assert "in progress" in refresh.message


def test_blocked_assets_and_their_downstream_are_not_requested(refresh: Recovery) -> None:
    blocked = {"als_evaluation", "blend_model", "recommendations", "training_metadata"}
    refresh.run(REFRESHED - blocked, blocked, AUTOMATED)
    refresh.report_checks("als_evaluation", failed="not_worse_than_best_baseline")
    assert refresh.recover()[0] == set()
    # The next refresh fails before als_evaluation: the failed check is about other inputs.
    refresh.report(CLEANING, ["2019-11-06"])
    refresh.run(BEFORE_ALS, ALS_AND_DOWNSTREAM, AUTOMATED)
    assert refresh.recover()[0] == ALS_AND_DOWNSTREAM
    refresh.report_checks("cleaned_events", failed="few_rejected")
    assert refresh.recover()[0] == set()


def test_runs_without_a_process_are_ended(refresh: Recovery) -> None:
    process = RunProcess(run_id="", host=os.uname().nodename, pid=os.getpid(), started="another boot:1")
    runs = []
    for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING):
        run = dg.DagsterRun("refresh", status=status)
        tag = process.model_copy(update={"run_id": run.run_id}).model_dump_json()
        refresh.instance.add_run(run.with_tags({PROCESS_TAG: tag}))
        runs.append(run)
    refresh.sensor_tick()
    ended = [refresh.instance.get_run_by_id(run.run_id) for run in runs]
    assert [run.status for run in ended if run] == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    assert all(short_id(run) in refresh.message for run in runs)


def run_in_step(dev: Dev, step: str, after: int = 0) -> dg.DagsterRun:
    """Waits for a run, other than the first `after` ones, that has started the step, and returns it."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for run in dev.runs()[after:]:
            starts = dev.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
            if any(start.step_key == step for start in starts):
                return run
        time.sleep(0.05)
    raise AssertionError(f"{step} did not start:\n{dev.log.read_text()[-5000:]}")


def retry_of(dev: Dev, run: dg.DagsterRun) -> dg.DagsterRun | None:
    """Returns the successful retry of a run."""
    succeeded = [retry for retry in dev.runs() if retry.status is dg.DagsterRunStatus.SUCCESS]
    return next((retry for retry in succeeded if retry.parent_run_id == run.run_id), None)


@pytest.mark.trial
def test_runs_are_completed_after_a_killed_worker_and_a_killed_daemon(
    tmp_path: Path, days_of_events: list[Path]
) -> None:
    shop = tmp_path / "shop"
    *first, late = days_of_events[:4]
    land([str(path) for path in first], shop)
    lake = Lake(str(shop))
    with Endpoint() as endpoint:
        settings = {**shop_settings(shop), "ECOMMERCE_ALERT_URL": endpoint.url}
        with dagster_dev(tmp_path, settings) as dev:
            started = time.monotonic()
            killed = run_in_step(dev, "als_model")
            print(f"\nfrom landing to als_model: {time.monotonic() - started:.0f} s")
            started = time.monotonic()
            os.kill(RunProcess.model_validate_json(killed.tags[PROCESS_TAG]).pid, signal.SIGKILL)
            retry = dev.wait_for("a successful retry", lambda: retry_of(dev, killed), 150)
            print(f"from the death of the worker to new lists: {time.monotonic() - started:.0f} s")
            assert materialized_assets(dev.instance, killed) == BEFORE_ALS
            assert materialized_assets(dev.instance, retry) == ALS_AND_DOWNSTREAM
            lists = lake.latest("recommendations").version

            land([str(late)], shop)
            interrupted = run_in_step(dev, "als_model", after=4)
            dev.kill()
        started = time.monotonic()
        with dagster_dev(tmp_path, settings) as dev:
            retry = dev.wait_for("a successful retry", lambda: retry_of(dev, interrupted), 150)
            dev.wait_for("new lists", lambda: lake.latest("recommendations").version != lists, 150)
            print(f"from the new start to new lists: {time.monotonic() - started:.0f} s")
            assert "als_model" not in materialized_assets(dev.instance, interrupted)
            assert "als_model" in materialized_assets(dev.instance, retry)
            assert late.stem in [day.day for day in lake.days("cleaned_events")]
        assert endpoint.posted == []  # Dagster retried the runs
        endpoint.shutdown()

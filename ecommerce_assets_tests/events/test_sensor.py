"""The sensor `new_event_partitions`, tick by tick, on real folders and a real Dagster instance."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.events.landing import land
from ecommerce_assets.events.landing.target import landed_name
from ecommerce_assets.runs import PROCESS_TAG, RunProcess
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.events.shop import CLEANING, Shop

DAY, DAY_RANGE = "2019-10-01", "2019-10-01...2019-10-01"


@pytest.fixture
def shop(tmp_path: Path, instance: dg.DagsterInstance) -> Shop:
    return Shop(tmp_path / "shop", instance)


def days_from(first: str, count: int) -> list[str]:
    return [str(date.fromisoformat(first) + timedelta(days=n)) for n in range(count)]


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def land_events(shop: Shop, folder: Path, count: int) -> Path:
    """Lands events of one day and returns the landed file."""
    lines = ["event_time,event_type,product_id,price,user_id", *[f"{DAY} 10:00:00,view,1,1,1"] * count]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    land([str(folder / "events.csv")], Path(shop.data_dir))
    [file] = Path(shop.data_dir).glob("raw/events/*/*.parquet")
    return file


class TestRequests:
    def test_new_days_are_one_run_per_range(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        for day in days_from(DAY, 90):
            if day not in ("2019-10-11", "2019-11-20", "2019-11-21"):
                shop.raw(day)
        ranges = ["2019-10-01...2019-10-10", "2019-10-12...2019-11-19", "2019-11-22...2019-12-29"]
        with caplog.at_level("INFO", "ecommerce_assets"):
            assert shop.tick() == ranges
        assert f"{shop.data_dir}/raw/events" in caplog.text
        assert shop.tick() == [], "they are running"
        assert "2019-10-01, 2019-10-02, " in shop.message
        assert all(run.run_id.split("-")[0] in shop.message for run in shop.runs())

    def test_run_whose_process_is_gone_is_named_and_a_queued_run_is_not(self, shop: Shop) -> None:
        shop.raw(DAY)
        shop.tick()
        [queued] = shop.runs()
        shop.instance.delete_run(queued.run_id)
        shop.instance.add_run(queued.with_status(dg.DagsterRunStatus.NOT_STARTED))
        dead = dg.DagsterRun("refresh", status=dg.DagsterRunStatus.STARTED)
        process = RunProcess(run_id=dead.run_id, host=os.uname().nodename, pid=os.getpid(), started="another boot:1")
        shop.instance.add_run(dead.with_tags({PROCESS_TAG: process.model_dump_json()}))
        assert shop.tick() == []
        assert f"run {dead.run_id.split('-')[0]} is gone" in shop.message
        assert queued.run_id.split("-")[0] not in shop.message

    def test_failed_run_that_dagster_will_retry_is_not_requested_again(self, shop: Shop) -> None:
        shop.raw(DAY)
        assert shop.tick() == [DAY_RANGE]
        [run] = shop.runs()
        shop.end(dg.DagsterRunStatus.FAILURE)
        shop.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
        assert shop.tick() == []
        shop.cursor = ""
        assert shop.tick() == []

    def test_days_in_a_run_that_a_person_started_are_not_requested(self, shop: Shop) -> None:
        days = days_from(DAY, 3)
        for day in days:
            shop.raw(day)
        tags = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[1]}
        shop.instance.add_run(dg.DagsterRun("__ASSET_JOB", tags=tags, status=dg.DagsterRunStatus.STARTED))
        selection = frozenset({dg.AssetKey("user_features")})
        other = dg.DagsterRun(
            "other", tags={"dagster/partition": days[2]}, status=dg.DagsterRunStatus.STARTED, asset_selection=selection
        )
        shop.instance.add_run(other)
        assert shop.tick() == ["2019-10-03...2019-10-03"]
        shop.publish(*days)
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []

    def test_runs_select_the_two_daily_tables(self, shop: Shop) -> None:
        [target] = shop.sensor.targets
        selected = target.job_def.selection.resolve(build_defs(shop.settings).resolve_asset_graph())
        assert {key.to_user_string() for key in selected} == set(CLEANING)

    def test_cleaned_days_are_not_requested_and_a_late_file_requests_its_day(self, shop: Shop) -> None:
        days = days_from(DAY, 3)
        for number, day in enumerate(days):
            shop.raw(day, user_id=number)
        (Path(shop.data_dir) / f"raw/events/event_date={DAY}/notes.txt").write_text("not Parquet")
        (Path(shop.data_dir) / f"raw/events/event_date={DAY}/_SUCCESS").touch()
        assert shop.tick() == ["2019-10-01...2019-10-03"]
        shop.publish(*days)
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []
        shop.raw(days[1], "late")
        assert shop.tick() == ["2019-10-02...2019-10-02"]
        shop.publish(days[1])
        assert shop.tick() == []
        # With another instance, as in a new clone beside the same data.
        with dg.DagsterInstance.ephemeral() as fresh:
            assert Shop(shop.data_dir, fresh).tick() == []

    def test_replaced_file_of_the_same_size_is_requested_once(self, shop: Shop) -> None:
        path = shop.raw(DAY, price=1.0)
        size = path.stat().st_size
        age(path, 3600)
        shop.tick()
        shop.publish(DAY)
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []
        shop.raw(DAY, price=2.0)
        assert path.stat().st_size == size
        assert shop.tick() == [DAY_RANGE]
        shop.publish(DAY)
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []
        age(path, 86_400 * 365)
        assert shop.tick() == [DAY_RANGE], "the older time may be that of another file"

    def test_time_of_a_landed_file_does_not_matter(self, shop: Shop, tmp_path: Path) -> None:
        file = land_events(shop, tmp_path, 1)
        assert shop.tick() == [DAY_RANGE]
        shop.publish(DAY)
        age(file, 0)
        assert shop.tick() == []

    def test_days_outside_the_partitions_are_named(self, shop: Shop) -> None:
        shop.raw("2019-09-30")
        shop.raw("2019-12-30")
        (Path(shop.data_dir) / "raw/events/event_date=soon").mkdir()
        (Path(shop.data_dir) / "raw/events/event_date=soon/x.parquet").touch()
        assert shop.tick() == []
        assert "2019-09-30, 2019-12-30" in shop.message
        assert "ECOMMERCE_FIRST_DAY" in shop.message
        assert not shop.events

    def test_missing_raw_folder_is_named(self, shop: Shop) -> None:
        assert shop.tick() == []
        assert f"{shop.data_dir}/raw/events" in shop.message


class TestCompleteDays:
    def test_day_is_complete_once_it_is_marked_or_quiet(self, shop: Shop) -> None:
        path = shop.raw(DAY, marked=False)
        assert shop.tick() == []
        assert DAY in shop.message
        for seconds, ranges in ((-60, []), (299, []), (301, [DAY_RANGE])):  # the clock of the store may be ahead
            age(path, seconds)
            assert shop.tick() == ranges

    def test_marker_that_is_older_than_a_file_does_not_count(self, shop: Shop) -> None:
        marker = shop.raw(DAY).parent / "_SUCCESS"
        age(marker, 10)
        assert shop.tick() == []
        marker.touch()
        assert shop.tick() == [DAY_RANGE]

    def test_day_with_temporary_files_is_not_complete(self, shop: Shop) -> None:
        folder = shop.raw(DAY).parent
        age(folder / "_SUCCESS", 5)
        age(folder / "part-0.parquet", 10)
        (folder / "_temporary").mkdir()
        (folder / "_temporary" / "part-1.parquet").touch()
        assert shop.tick() == []
        (folder / "_temporary" / "part-1.parquet").rename(folder / "part-1.parquet")
        (folder / "_SUCCESS").touch()
        (folder / "._SUCCESS.crc").touch()
        assert shop.tick() == [DAY_RANGE]

    def test_quiet_time_is_a_setting(self, tmp_path: Path, instance: dg.DagsterInstance) -> None:
        shop = Shop(tmp_path, instance, quiet_seconds=0)
        shop.raw(DAY, marked=False)
        assert shop.tick() == [DAY_RANGE]

    def test_marked_folder_without_files_replaces_the_stored_day(self, spark: SparkSession, shop: Shop) -> None:
        for day in days_from(DAY, 2):
            path = shop.raw(day)
        shop.tick()
        shop.publish(DAY, "2019-10-02")
        path.unlink()
        (path.parent / "_SUCCESS").touch()
        shop.end(dg.DagsterRunStatus.CANCELED)
        assert shop.tick() == ["2019-10-02...2019-10-02"]
        shop.clean("2019-10-02", "2019-10-02")
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []
        stored = {day.day: day.stats.rows for day in Lake(str(shop.data_dir)).days("cleaned_events")}
        assert stored == {DAY: 1, "2019-10-02": 0}


class TestFailures:
    def test_failed_run_is_requested_three_times_and_again_for_other_files(self, shop: Shop) -> None:
        shop.raw(DAY)
        for _ in range(3):
            assert shop.tick() == [DAY_RANGE]
            assert shop.tick() == []
            shop.end(dg.DagsterRunStatus.FAILURE)
        for _ in range(2):
            assert shop.tick() == []
            assert "3 failed runs" in shop.message
        shop.raw(DAY, "corrected")
        assert shop.tick() == [DAY_RANGE]

    def test_new_day_does_not_add_attempts_to_the_others(self, shop: Shop) -> None:
        days = days_from(DAY, 5)
        for number, day in enumerate(days):
            shop.raw(day)
            assert shop.tick() == [f"{days[max(0, number - 2)]}...{day}"], "each day has three attempts"
            shop.end(dg.DagsterRunStatus.FAILURE)

    def test_canceled_run_is_not_requested_again(self, shop: Shop) -> None:
        shop.raw(DAY)
        shop.tick()
        shop.end(dg.DagsterRunStatus.CANCELED)
        assert shop.tick() == []
        assert DAY in shop.message

    def test_deleted_run_counts_as_failed(self, shop: Shop) -> None:
        shop.raw(DAY)
        for _ in range(3):
            assert shop.tick() == [DAY_RANGE]
            for run in shop.runs():
                shop.instance.delete_run(run.run_id)
        assert shop.tick() == []

    def test_blocked_day_waits_for_other_files_and_unreadable_day_is_retried(
        self, spark: SparkSession, shop: Shop
    ) -> None:
        good, bad, unreadable = days_from(DAY, 3)
        shop.raw(good)
        path = shop.raw(bad, price=-1.0)
        shop.raw(unreadable).write_bytes(b"")
        (Path(shop.data_dir) / f"raw/events/event_date={unreadable}/_SUCCESS").touch()
        assert shop.tick() == [f"{good}...{unreadable}"]
        shop.clean(good, unreadable)
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert [day.day for day in Lake(str(shop.data_dir)).days("cleaned_events")] == [good]
        assert shop.tick() == [f"{unreadable}...{unreadable}"]
        assert shop.tick() == []
        assert f"Blocked by a check of cleaned_events: {bad}." in shop.message
        shop.raw(unreadable)
        shop.publish(unreadable)
        shop.cursor = ""
        assert shop.tick() == [], "the blocked version is enough to know it"
        size = path.stat().st_size
        shop.raw(bad, price=1.0)
        assert path.stat().st_size == size
        assert shop.tick() == [f"{bad}...{bad}"], "corrected in a file of the same name and size"

    def test_day_that_keeps_changing_waits_for_its_run(self, shop: Shop) -> None:
        shop.raw(DAY)
        assert shop.tick() == [DAY_RANGE]
        for number in range(2):
            shop.raw(DAY, f"more-{number}")
            assert shop.tick() == []
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == [DAY_RANGE]

    @pytest.mark.parametrize("cursor", ["", "{", '{"days": 3}', '{"days": {"2019-10-01": {"run": 1}}}', "\0"])
    def test_damaged_cursor_is_reset(self, shop: Shop, cursor: str) -> None:
        shop.raw(DAY)
        shop.tick()
        shop.cursor = cursor
        assert shop.tick() == [], "the run is still unfinished"
        shop.end(dg.DagsterRunStatus.FAILURE)
        shop.cursor = cursor
        assert shop.tick() == [DAY_RANGE], "with a new key, because Dagster would not start the old one"

    def test_second_attempt_is_known_without_the_cursor(self, shop: Shop) -> None:
        days = days_from(DAY, 2)
        for day in days:
            shop.raw(day)
        assert shop.tick() == [f"{days[0]}...{days[1]}"]
        shop.publish(days[0])
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == [f"{days[1]}...{days[1]}"], "the second attempt has another range, and so another key"
        shop.cursor = ""
        for _ in range(2):
            assert shop.tick() == []
            assert f"Running or queued: {days[1]}." in shop.message
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == [f"{days[1]}...{days[1]}"]

    def test_days_of_a_deleted_lake_are_requested_again(self, shop: Shop) -> None:
        shop.raw(DAY)
        shop.tick()
        shop.publish(DAY)
        assert shop.tick() == []
        shutil.rmtree(f"{shop.data_dir}/lake")
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == [DAY_RANGE]


class TestReports:
    def test_new_days_are_reported_once_with_bytes_fingerprint_and_rows(self, shop: Shop, tmp_path: Path) -> None:
        file = land_events(shop, tmp_path, 7)
        shop.raw("2019-10-03")
        shop.tick()
        landed, other = shop.events
        assert (landed.asset_key, landed.partition) == (dg.AssetKey("raw_events"), DAY)
        assert landed.metadata["dagster/partition_row_count"].value == 7
        assert landed.metadata["bytes"].value == file.stat().st_size
        assert len(landed.metadata["fingerprint"].value) == 64
        assert "dagster/partition_row_count" not in other.metadata, "no footer is read"
        assert {name: check.passed for name, check in shop.checks.items()} == {
            "days_have_files": True,
            "no_missing_days": False,
        }
        assert "2019-10-02" in (shop.checks["no_missing_days"].description or "")
        shop.tick()
        assert not shop.events
        assert not shop.checks

    def test_all_changed_days_are_reported(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        days = days_from(DAY, 5)
        for day in days:
            shop.raw(day)
        shop.tick()
        shop.end(dg.DagsterRunStatus.FAILURE)
        for day in days:
            shop.raw(day, "late")
        monkeypatch.setattr("ecommerce_assets.events.sensor.EVENTS_PER_TICK", 2)
        reported = []
        for _ in range(4):
            shop.tick()
            reported.append([event.partition for event in shop.events])
        assert reported == [days[:2], days[2:4], days[4:], []]

    def test_removed_day_is_reported_once(self, shop: Shop) -> None:
        path = shop.raw(DAY)
        shop.raw("2019-10-02")
        shop.tick()
        shop.publish(DAY, "2019-10-02")
        shop.end(dg.DagsterRunStatus.FAILURE)
        path.unlink()
        (path.parent / "_SUCCESS").unlink()
        assert shop.tick() == []
        [removal] = shop.events
        assert isinstance(removal, dg.AssetObservation)
        assert removal.partition == DAY
        assert DAY in shop.message
        shop.tick()
        assert not shop.events
        shop.raw(DAY, "again")
        assert shop.tick() == [DAY_RANGE]


def test_thousands_of_days_are_one_run_and_reported_in_parts(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path, instance, first_day=date(1990, 1, 1), last_day=date(2020, 1, 1))
    for number, day in enumerate(days_from("1990-01-01", 2_000)):
        folder = tmp_path / "raw" / "events" / f"event_date={day}"
        folder.mkdir(parents=True)
        (folder / landed_name("0" * 16, number)).touch()
        (folder / "_SUCCESS").touch()
    assert shop.tick() == ["1990-01-01...1995-06-23"]
    assert len(shop.events) <= 200
    reported = {event.partition for event in shop.events}
    shop.tick()
    assert shop.events
    assert not reported & {event.partition for event in shop.events}


def test_raw_folder_may_be_in_a_bucket(instance: dg.DagsterInstance) -> None:
    shop = Shop(f"memory://{uuid.uuid4().hex}/shop", instance)
    folder = Folder(f"{shop.data_dir}/raw/events/event_date={DAY}")
    folder.write_whole("part-0.parquet", b"x")
    assert shop.tick() == []
    folder.write_whole("_SUCCESS", b"")
    assert shop.tick() == [DAY_RANGE]


def test_tick_does_not_start_spark(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a tick asked for a Spark session")

    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", fail)
    shop.raw(DAY)
    assert shop.tick() == [DAY_RANGE]


@pytest.mark.parametrize("automation", [True, False])
def test_one_setting_starts_or_stops_all_sensors(tmp_path: Path, automation: bool) -> None:
    defs = build_defs(load_settings(data_dir=str(tmp_path), automation=automation))
    status = dg.DefaultSensorStatus.RUNNING if automation else dg.DefaultSensorStatus.STOPPED
    assert {sensor.name: sensor.default_status for sensor in defs.sensors or ()} == {
        "new_event_partitions": status,
        "product_catalog_changes": status,
        "refresh": status,
        "recovery": status,
    }

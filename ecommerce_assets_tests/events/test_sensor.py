"""The sensor, tick by tick, on real folders and a real instance; of runs only the record is made, or the work done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import fsspec
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.events.landing import land
from ecommerce_assets.events.landing.target import landed_name
from ecommerce_assets.runs import PROCESS_TAG, RunProcess
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.buckets import s3_bucket
from ecommerce_assets_tests.events.shop import CLEANING, Shop


@pytest.fixture
def shop(tmp_path: Path, instance: dg.DagsterInstance) -> Shop:
    return Shop(tmp_path / "shop", instance)


def days_from(first: str, count: int) -> list[str]:
    return [str(date.fromisoformat(first) + timedelta(days=n)) for n in range(count)]


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


class TestWhatFires:
    def test_ninety_new_days_are_one_run_and_gaps_make_several(self, shop: Shop) -> None:
        for day in days_from("2019-10-01", 90):
            if day not in ("2019-10-11", "2019-11-20", "2019-11-21"):
                shop.raw(day)
        wanted = ["2019-10-01...2019-10-10", "2019-10-12...2019-11-19", "2019-11-22...2019-12-29"]
        assert shop.tick() == wanted
        assert shop.tick() == [], "they are under way"
        assert shop.said.startswith("Being cleaned, or in the queue: 2019-10-01, 2019-10-02, ")
        in_progress = ", ".join(run.run_id.split("-")[0] for run in shop.runs())
        assert shop.said.endswith(f" In progress: runs {in_progress}.")

    def test_the_run_whose_process_is_gone_is_named_and_not_the_one_that_waits(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        shop.tick()
        [waiting] = shop.runs()
        shop.instance.delete_run(waiting.run_id)
        shop.instance.add_run(waiting.with_status(dg.DagsterRunStatus.NOT_STARTED))
        dead = dg.DagsterRun("refresh", status=dg.DagsterRunStatus.STARTED)
        gone = RunProcess(run_id=dead.run_id, host=os.uname().nodename, pid=os.getpid(), started="another boot:1")
        shop.instance.add_run(dead.with_tags({PROCESS_TAG: gone.model_dump_json()}))
        assert shop.tick() == []
        assert f"The process of run {dead.run_id.split('-')[0]} is gone" in shop.said
        assert waiting.run_id.split("-")[0] not in shop.said

    def test_a_run_that_dagster_is_about_to_retry_is_waited_for(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        assert shop.tick() == ["2019-10-01...2019-10-01"]
        [run] = shop.runs()
        shop.end(dg.DagsterRunStatus.FAILURE)
        shop.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
        assert shop.tick() == []

    def test_a_run_that_a_person_started_is_not_repeated(self, spark: SparkSession, shop: Shop) -> None:
        days = days_from("2019-10-01", 3)
        for day in days:
            shop.raw(day)
        tags = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[1]}
        everything = dg.DagsterRun("__ASSET_JOB", tags=tags, status=dg.DagsterRunStatus.STARTED)
        shop.instance.add_run(everything)
        assert shop.tick() == ["2019-10-03...2019-10-03"]
        shop.clean(days[0], days[2])
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []

    def test_a_run_of_other_assets_is_not_waited_for(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        selection = frozenset({dg.AssetKey("user_features")})
        tags = {"dagster/partition": "2019-10-01"}
        status = dg.DagsterRunStatus.STARTED
        shop.instance.add_run(dg.DagsterRun("other", tags=tags, status=status, asset_selection=selection))
        assert shop.tick() == ["2019-10-01...2019-10-01"]

    def test_it_asks_for_the_two_daily_tables_alone(self, shop: Shop) -> None:
        [target] = shop.sensor.targets
        selected = target.job_def.selection.resolve(build_defs(shop.settings).resolve_asset_graph())
        assert {key.to_user_string() for key in selected} == set(CLEANING)

    def test_what_is_cleaned_does_not_fire_and_a_late_file_fires_its_day_alone(
        self, spark: SparkSession, shop: Shop
    ) -> None:
        days = days_from("2019-10-01", 4)
        for number, day in enumerate(days):
            shop.raw(day, user_id=number)
        assert shop.tick() == ["2019-10-01...2019-10-04"]
        shop.clean(days[0], days[-1])
        assert shop.tick() == []
        assert shop.said == "Nothing new: 4 days are known."
        shop.raw(days[1], "late")
        assert shop.tick() == ["2019-10-02...2019-10-02"]
        shop.clean(days[1], days[1])
        assert shop.tick() == []
        # Another instance, as in a fresh clone beside the same data, or after a run in a shell.
        with dg.DagsterInstance.ephemeral() as fresh:
            assert Shop(shop.data_dir, fresh).tick() == []

    def test_a_file_written_anew_in_the_same_size_fires_once(self, spark: SparkSession, shop: Shop) -> None:
        path = shop.raw("2019-10-01", price=1.0)
        size = path.stat().st_size
        age(path, 3600)
        shop.tick()
        shop.clean("2019-10-01", "2019-10-01")
        assert shop.tick() == []
        shop.raw("2019-10-01", price=2.0)
        assert path.stat().st_size == size
        assert shop.tick() == ["2019-10-01...2019-10-01"]
        shop.clean("2019-10-01", "2019-10-01")
        assert shop.tick() == []
        age(path, 86_400 * 365)
        assert shop.tick() == ["2019-10-01...2019-10-01"], "replaced, it may be, by a file with an older time"
        shop.clean("2019-10-01", "2019-10-01")
        assert shop.tick() == []

    def test_a_file_that_is_not_parquet_does_not_fire_again(self, spark: SparkSession, shop: Shop) -> None:
        path = shop.raw("2019-10-01")
        (path.parent / "notes.txt").write_text("from the warehouse")
        (path.parent / "_SUCCESS").touch()
        assert shop.tick() == ["2019-10-01...2019-10-01"]
        shop.clean("2019-10-01", "2019-10-01")
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []

    def test_landed_files_are_told_apart_by_their_names_whatever_their_times(
        self, spark: SparkSession, shop: Shop, tmp_path: Path
    ) -> None:
        lines = ["event_time,event_type,product_id,price,user_id", "2019-10-01 10:00:00,view,1,1,1"]
        (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
        land([str(tmp_path / "events.csv")], Path(shop.data_dir))
        assert shop.tick() == ["2019-10-01...2019-10-01"]
        shop.clean("2019-10-01", "2019-10-01")
        [file] = Path(shop.data_dir).glob("raw/events/*/*.parquet")
        age(file, 0)
        assert shop.tick() == []

    def test_days_that_dagster_does_not_know_are_named(self, shop: Shop) -> None:
        shop.raw("2019-09-30")
        shop.raw("2019-12-30")
        (Path(shop.data_dir) / "raw/events/event_date=soon").mkdir()
        (Path(shop.data_dir) / "raw/events/event_date=soon/x.parquet").touch()
        assert shop.tick() == []
        assert "Outside the days that Dagster knows: 2019-09-30, 2019-12-30" in shop.said
        assert "ECOMMERCE_FIRST_DAY" in shop.said
        assert not shop.events

    def test_the_first_run_is_announced(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        shop.raw("2019-10-01")
        with caplog.at_level("INFO", "ecommerce_assets"):
            shop.tick()
        assert f"First look at {shop.data_dir}/raw/events: a run cleans what is there." in caplog.text

    def test_no_raw_folder_is_said(self, shop: Shop) -> None:
        assert shop.tick() == []
        assert shop.said == f"There are no raw events in {shop.data_dir}/raw/events."


class TestWholeDays:
    def test_a_day_counts_once_it_is_marked_or_quiet(self, shop: Shop) -> None:
        path = shop.raw("2019-10-01", marked=False)
        assert shop.tick() == []
        assert "Still being written, it seems, or not quiet for long enough: 2019-10-01" in shop.said
        age(path, 299)
        assert shop.tick() == []
        age(path, 301)
        assert shop.tick() == ["2019-10-01...2019-10-01"]

    def test_a_marker_from_before_does_not_count(self, shop: Shop) -> None:
        age(shop.raw("2019-10-01").parent / "_SUCCESS", 10)
        assert shop.tick() == []
        (Path(shop.data_dir) / "raw/events/event_date=2019-10-01/_SUCCESS").touch()
        assert shop.tick() == ["2019-10-01...2019-10-01"]

    def test_a_job_that_still_writes_is_waited_for(self, shop: Shop) -> None:
        folder = shop.raw("2019-10-01").parent
        age(folder / "_SUCCESS", 5)
        age(folder / "part-0.parquet", 10)
        (folder / "_temporary").mkdir()
        (folder / "_temporary" / "part-1.parquet").touch()
        assert shop.tick() == []
        (folder / "_temporary" / "part-1.parquet").rename(folder / "part-1.parquet")
        (folder / "_SUCCESS").touch()
        (folder / "._SUCCESS.crc").touch()
        assert shop.tick() == ["2019-10-01...2019-10-01"]

    def test_a_clock_that_is_ahead_does_not_end_the_quiet_time(self, shop: Shop) -> None:
        age(shop.raw("2019-10-01", marked=False), -60)
        assert shop.tick() == []

    def test_the_quiet_time_is_a_setting(self, tmp_path: Path, instance: dg.DagsterInstance) -> None:
        shop = Shop(tmp_path, instance, quiet_seconds=0)
        shop.raw("2019-10-01", marked=False)
        assert shop.tick() == ["2019-10-01...2019-10-01"]

    def test_a_marked_folder_without_files_replaces_what_was_stored(self, spark: SparkSession, shop: Shop) -> None:
        for day in days_from("2019-10-01", 2):
            path = shop.raw(day)
        shop.tick()
        shop.clean("2019-10-01", "2019-10-02")
        path.unlink()
        (path.parent / "_SUCCESS").touch()
        shop.end(dg.DagsterRunStatus.CANCELED)
        assert shop.tick() == ["2019-10-02...2019-10-02"]
        shop.clean("2019-10-02", "2019-10-02")
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []
        assert "Given up" not in shop.said
        stored = {day.day: day.stats.rows for day in Lake(str(shop.data_dir)).days("cleaned_events")}
        assert stored == {"2019-10-01": 1, "2019-10-02": 0}


class TestFailures:
    def test_a_failed_run_comes_again_and_not_for_ever(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        for _ in range(3):
            assert shop.tick() == ["2019-10-01...2019-10-01"]
            assert shop.tick() == []
            shop.end(dg.DagsterRunStatus.FAILURE)
        for _ in range(2):
            assert shop.tick() == []
            assert "Given up, after at most 3 runs that failed or one that was canceled: 2019-10-01" in shop.said
        shop.raw("2019-10-01", "corrected")
        assert shop.tick() == ["2019-10-01...2019-10-01"], "another content is another matter"

    def test_a_day_that_comes_meanwhile_does_not_give_new_tries_to_the_others(self, shop: Shop) -> None:
        days = days_from("2019-10-01", 6)
        for number, day in enumerate(days):
            shop.raw(day)
            assert shop.tick() == [f"{days[max(0, number - 2)]}...{day}"], "each day has three tries"
            shop.end(dg.DagsterRunStatus.FAILURE)

    def test_a_run_that_a_person_stopped_is_not_started_again(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        shop.tick()
        shop.end(dg.DagsterRunStatus.CANCELED)
        assert shop.tick() == []
        assert "Given up" in shop.said

    def test_a_run_that_is_not_to_be_found_counts_as_failed(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        for _ in range(3):
            assert shop.tick() == ["2019-10-01...2019-10-01"]
            for run in shop.runs():
                shop.instance.delete_run(run.run_id)
        assert shop.tick() == []

    def test_a_day_that_a_check_blocked_waits_for_other_files(self, spark: SparkSession, shop: Shop) -> None:
        good, bad = days_from("2019-10-01", 2)
        shop.raw(good)
        path = shop.raw(bad, price=-1.0)
        assert shop.tick() == [f"{good}...{bad}"]
        shop.clean(good, bad)
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == []
        assert shop.said.startswith(f"Blocked by a check of cleaned_events: {bad}; land them again, corrected")
        assert [day.day for day in Lake(str(shop.data_dir)).days("cleaned_events")] == [good]
        shop.cursor = ""
        assert shop.tick() == [], "the blocked version says it too"
        size = path.stat().st_size
        shop.raw(bad, price=1.0)
        assert path.stat().st_size == size
        assert shop.tick() == [f"{bad}...{bad}"], "corrected, although name and size are the same"

    def test_a_day_with_an_unreadable_file_does_not_block_the_others(self, spark: SparkSession, shop: Shop) -> None:
        days = days_from("2019-10-01", 3)
        for day in days:
            path = shop.raw(day)
        path.write_bytes(b"")
        (path.parent / "_SUCCESS").touch()
        assert shop.tick() == [f"{days[0]}...{days[2]}"]
        shop.clean(days[0], days[2])
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert [day.day for day in Lake(str(shop.data_dir)).days("cleaned_events")] == days[:2]
        assert shop.tick() == [f"{days[2]}...{days[2]}"]

    def test_a_day_that_keeps_changing_waits_for_its_run(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        assert shop.tick() == ["2019-10-01...2019-10-01"]
        for number in range(3):
            shop.raw("2019-10-01", f"more-{number}")
            assert shop.tick() == []
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == ["2019-10-01...2019-10-01"]

    @pytest.mark.parametrize("cursor", ["", "{", "[]", '{"days": 3}', '{"days": {"2019-10-01": {"run": 1}}}', "\0"])
    def test_a_damaged_cursor_recovers(self, shop: Shop, cursor: str) -> None:
        shop.raw("2019-10-01")
        shop.tick()
        shop.cursor = cursor
        assert shop.tick() == [], "the run of before is still under way"
        shop.end(dg.DagsterRunStatus.FAILURE)
        shop.cursor = cursor
        assert shop.tick() == ["2019-10-01...2019-10-01"], "under a new key, or Dagster would not start it"

    def test_what_was_stored_and_is_lost_is_made_again(self, spark: SparkSession, shop: Shop) -> None:
        shop.raw("2019-10-01")
        shop.tick()
        shop.clean("2019-10-01", "2019-10-01")
        assert shop.tick() == []
        fsspec.filesystem("file").rm(f"{shop.data_dir}/lake", recursive=True)
        shop.end(dg.DagsterRunStatus.FAILURE)
        assert shop.tick() == ["2019-10-01...2019-10-01"]


class TestWhatDagsterIsTold:
    def test_raw_days_are_reported_with_bytes_fingerprint_and_rows(self, shop: Shop, tmp_path: Path) -> None:
        lines = ["event_time,event_type,product_id,price,user_id", *["2019-10-01 10:00:00,view,1,1,1"] * 7]
        (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
        land([str(tmp_path / "events.csv")], Path(shop.data_dir))
        shop.raw("2019-10-03")
        shop.tick()
        landed, other = shop.events
        assert (landed.asset_key, landed.partition) == (dg.AssetKey("raw_events"), "2019-10-01")
        assert landed.metadata["dagster/partition_row_count"].value == 7
        [file] = Path(shop.data_dir).glob("raw/events/event_date=2019-10-01/*.parquet")
        assert landed.metadata["bytes"].value == file.stat().st_size
        assert len(landed.metadata["fingerprint"].value) == 64
        assert "dagster/partition_row_count" not in other.metadata, "no footer is read"
        shop.tick()
        assert not shop.events, "once"

    def test_the_checks_of_the_raw_days_are_reported_when_days_arrive(self, shop: Shop) -> None:
        for day in ("2019-10-01", "2019-10-02", "2019-10-04"):
            shop.raw(day)
        shop.tick()
        assert {name: check.passed for name, check in shop.checks.items()} == {
            "files_there": True,
            "no_day_missing": False,
        }
        assert shop.checks["no_day_missing"].description == "missing days (1): 2019-10-03"
        shop.tick()
        assert not shop.checks

    def test_changed_days_are_all_told_of(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        days = days_from("2019-10-01", 5)
        for day in days:
            shop.raw(day)
        shop.tick()
        shop.end(dg.DagsterRunStatus.FAILURE)
        for day in days:
            shop.raw(day, "late")
        monkeypatch.setattr("ecommerce_assets.events.sensor.EVENTS_PER_TICK", 2)
        told = []
        for _ in range(4):
            shop.tick()
            told.append([event.partition for event in shop.events])
        assert told == [days[:2], days[2:4], days[4:], []]

    def test_a_removed_day_is_reported_once(self, spark: SparkSession, shop: Shop) -> None:
        path = shop.raw("2019-10-01")
        shop.raw("2019-10-02")
        shop.tick()
        shop.clean("2019-10-01", "2019-10-02")
        path.unlink()
        (path.parent / "_SUCCESS").unlink()
        assert shop.tick() == []
        [gone] = shop.events
        assert isinstance(gone, dg.AssetObservation)
        assert gone.partition == "2019-10-01"
        assert shop.said == "Removed from the raw folder: 2019-10-01; what is stored of them stays."
        shop.tick()
        assert not shop.events
        shop.raw("2019-10-01", "again")
        assert shop.tick() == ["2019-10-01...2019-10-01"]


class TestAtScaleAndElsewhere:
    def test_ten_thousand_days_in_one_tick(self, tmp_path: Path, instance: dg.DagsterInstance) -> None:
        shop = Shop(tmp_path, instance, first_day=date(1990, 1, 1), last_day=date(2020, 1, 1))
        for number, day in enumerate(days_from("1990-01-01", 10_000)):
            folder = tmp_path / "raw" / "events" / f"event_date={day}"
            folder.mkdir(parents=True)
            (folder / landed_name("0" * 16, number)).touch()
            (folder / "_SUCCESS").touch()
        started = time.monotonic()
        assert shop.tick() == ["1990-01-01...2017-05-18"]
        print(f"\n10,000 new days: {time.monotonic() - started:.1f} s")
        assert len(shop.events) <= 200, "the events of one tick are stored within seconds"
        told = {told.partition for told in shop.events}
        shop.tick()
        assert not told & {told.partition for told in shop.events}, "the rest follows"

    def test_a_bucket_is_no_special_case(self, instance: dg.DagsterInstance) -> None:
        with s3_bucket() as bucket:
            shop = Shop(bucket, instance)
            folder = Folder(bucket) / "raw/events/event_date=2019-10-01"
            folder.write_whole("part-0.parquet", b"x")
            assert shop.tick() == []
            folder.write_whole("_SUCCESS", b"")
            assert shop.tick() == ["2019-10-01...2019-10-01"]

    def test_no_tick_starts_spark(self, shop: Shop) -> None:
        shop.raw("2019-10-01")
        code = (
            "import sys, datetime, dagster as dg; from pyspark.sql import SparkSession\n"
            "from ecommerce_assets.events.sensor import new_event_partitions\n"
            "from ecommerce_assets.settings import load_settings\n"
            "days = {'first_day': datetime.date(2019, 10, 1), 'last_day': datetime.date(2019, 12, 29)}\n"
            "sensor = new_event_partitions(load_settings(data_dir=sys.argv[1], **days))\n"
            "with dg.DagsterInstance.ephemeral() as instance:\n"
            "    tick = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))\n"
            "assert len(tick.run_requests) == 1\n"
            "assert SparkSession.getActiveSession() is None\n"
        )
        subprocess.run([sys.executable, "-c", code, str(shop.data_dir)], check=True, capture_output=True)

    @pytest.mark.parametrize("on", [True, False])
    def test_one_setting_turns_it_all_off(self, tmp_path: Path, on: bool) -> None:
        defs = build_defs(load_settings(data_dir=str(tmp_path), automation=on))
        wanted = dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
        assert {s.name: s.default_status for s in defs.sensors or ()} == {
            "new_event_partitions": wanted,
            "product_catalog_changes": wanted,
            "refresh": wanted,
            "recovery": wanted,
        }

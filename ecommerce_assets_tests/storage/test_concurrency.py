"""Concurrent readers and writers: every read is consistent, all writers finish, and readers get the last commit."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.storage.children import reader, writer
from ecommerce_assets_tests.storage.generations import (
    ALL,
    DAYS,
    EVENTS,
    land,
    leftovers,
    materialise,
    run,
    seen,
)

TABLES = (*EVENTS, "user_features")


def check_order(lake: Lake, asset: str) -> None:
    """Asserts that later versions have later times."""
    times = [version.committed_at for version in lake.published(asset)]
    assert times == sorted(times, reverse=True), times


def check_reads(watched: dict[str, Any], at_least: int) -> None:
    assert watched["failures"] == []
    assert watched["reads"] >= at_least
    for asset, order in watched["seen"].items():
        assert order == sorted(set(order)), f"{asset} went back in time"


@pytest.mark.trial
def test_a_reader_sees_whole_versions_while_a_writer_publishes(spark: SparkSession, tmp_path: Path) -> None:
    with reader(tmp_path, again_after=0.5) as watched:
        for generation in (1, 2):
            run(tmp_path, generation, EVENTS)
    check_reads(watched, at_least=20)
    assert watched["rereads"] > 0
    assert watched["seen"] == {"cleaned_events": [1, 2], "rejected_events": [1, 2]}


def test_two_concurrent_runs_both_finish(spark: SparkSession, tmp_path: Path) -> None:
    land(tmp_path, 1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: materialise(tmp_path, 1, EVENTS), range(2)))
    lake = Lake(str(tmp_path))
    for asset in EVENTS:
        published = lake.published(asset)
        assert len({version.run_id for version in published}) == 2
        check_order(lake, asset)
        assert {day.version.version for day in lake.days(asset)} == {published[0].version}
        assert [day.day for day in lake.days(asset)] == list(DAYS)
    [one, other] = lake.published("cleaned_events")
    assert {day: stats.content for day, stats in one.days.items()} == {d: s.content for d, s in other.days.items()}
    assert seen(tmp_path) == dict.fromkeys(EVENTS, 1)
    assert leftovers(tmp_path) == []


@pytest.mark.trial
def test_two_minutes_of_reading_while_a_process_writes(tmp_path: Path) -> None:
    data_dir = tmp_path / "shop"
    with reader(data_dir, again_after=3) as watched, writer(data_dir, ALL, 1, "--keep=3") as child:
        child.next("ends")
        started, done = time.monotonic(), child.next("ends")
        # On a busy machine two minutes are too short for anything to be superseded and removed.
        while time.monotonic() - started < 120 or done["ends"] < 8:
            done = child.next("ends")
    print({**watched, "seen": {asset: len(order) for asset, order in watched["seen"].items()}}, done)
    check_reads(watched, at_least=200)
    assert watched["rereads"] > 0
    # Superseded versions were removed meanwhile.
    assert len(Lake(str(data_dir)).published("segmentation_model")) < len(watched["seen"]["segmentation_model"])


@pytest.mark.trial
def test_two_processes_write_the_same_assets(tmp_path: Path) -> None:
    data_dir, runs = tmp_path / "shop", 6
    land(data_dir, 1)
    options = ("--keep-raw", f"--runs={runs}", "--grace=24")
    with (
        reader(data_dir, again_after=3) as watched,
        writer(data_dir, TABLES, 1, *options, name="one") as one,
        writer(data_dir, TABLES, 1, *options, name="other") as other,
    ):
        for child in (one, other):
            child.next("done")
            child.end()
    check_reads(watched, at_least=50)
    lake = Lake(str(data_dir))
    for asset in TABLES:
        published = lake.published(asset)
        assert len({version.run_id for version in published}) == 2 * runs, asset
        check_order(lake, asset)
        assert len({version.spark_application_id for version in published[1:]}) == 2, "two Sparks"
        rows = {tuple((day, stats.content) for day, stats in version.days.items()) for version in published}
        assert len(rows) == len({version.stats.content for version in published}) == 1, "the same rows compare equal"
    assert leftovers(data_dir) == []

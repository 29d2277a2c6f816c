"""Readers and writers at once: no read fails or is torn, both of two writers finish, and the later commit serves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import content, writers
from ecommerce_assets.storage.asset_spec import AssetSpec
from ecommerce_assets.storage.io_managers import JsonIOManager
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import COMMITTED
from ecommerce_assets.storage.retention import prune
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
SAME_MOMENT = 0.2  # seconds


def put_in_place(lake: Lake, asset: str, version: str) -> float:
    """When its manifest came to be there, in seconds."""
    return (Path(lake.folder(asset, version).path) / COMMITTED).stat().st_mtime


def check_order_of_commit(lake: Lake, asset: str) -> None:
    """No version counts as older than one that was there before it; a writer looks at the clock just before it commits,
    and two that do so in the same moment may pass each other."""
    placed = [put_in_place(lake, asset, m.version) for m in lake.committed(asset)]
    assert all(older < newer + SAME_MOMENT for older, newer in combinations(placed, 2)), placed


def check_reads(watched: dict[str, Any], at_least: int) -> None:
    assert watched["failures"] == []
    assert watched["reads"] >= at_least
    for asset, order in watched["seen"].items():
        assert order == sorted(set(order)), f"{asset} went back in time"


def test_a_reader_is_never_disturbed_by_a_writer(spark: SparkSession, tmp_path: Path) -> None:
    with reader(tmp_path, again_after=0.5) as watched:
        for generation in range(1, 5):
            run(tmp_path, generation, EVENTS)
    check_reads(watched, at_least=20)
    assert watched["rereads"] > 0
    assert watched["seen"] == {"cleaned_events": [1, 2, 4], "rejected_events": [1, 2, 3, 4]}


def test_two_runs_at_once_both_finish(spark: SparkSession, tmp_path: Path) -> None:
    land(tmp_path, 1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: materialise(tmp_path, 1, EVENTS), range(2)))
    lake = Lake(str(tmp_path))
    for asset in EVENTS:
        committed = lake.committed(asset)
        assert len({m.run_id for m in committed}) == 2
        check_order_of_commit(lake, asset)
        assert {day.manifest.version for day in lake.days(asset)} == {committed[-1].version}
        assert [day.day for day in lake.days(asset)] == list(DAYS)
    assert seen(tmp_path) == dict.fromkeys(EVENTS, 1)
    assert leftovers(tmp_path) == []


def test_the_later_commit_is_the_latest_although_its_writer_had_longer_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_one_looks, quick_one_is_done = threading.Event(), threading.Event()
    plain = content.fingerprint

    def fingerprint(*arguments: Any) -> str:
        if threading.current_thread().name.startswith("slow"):
            slow_one_looks.set()
            assert quick_one_is_done.wait(20)
            time.sleep(0.01)
        return plain(*arguments)

    monkeypatch.setattr(content, "fingerprint", fingerprint)

    def write(name: str) -> None:
        context = dg.build_output_context(
            asset_key="document",
            asset_spec=dg.AssetSpec("document"),
            run_id=name,
            step_key="document",
            resources={"spark": dg.ResourceDefinition.hardcoded_resource(SparkResource())},
        )
        JsonIOManager(str(tmp_path), {"document": AssetSpec()}).handle_output(context, {"generation": 1})

    with ThreadPoolExecutor(1, thread_name_prefix="slow") as pool:
        slow = pool.submit(write, "slow")
        assert slow_one_looks.wait(20)
        write("quick")
        quick_one_is_done.set()
        slow.result()
    lake = Lake(str(tmp_path))
    placed = sorted(lake.committed("document"), key=lambda m: put_in_place(lake, "document", m.version))
    assert [manifest.run_id for manifest in placed] == ["quick", "slow"]
    assert lake.latest("document").run_id == "slow"


WRITE = """
import sys
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.writers import writing
lake = Lake(sys.argv[1])
version = lake.new_version()
with writing(lake.root / "a", version):
    lake.folder("a", version).write_whole("part-0.parquet", b"x")
    print(version, flush=True)
    sys.stdin.read()
"""


def test_a_living_writer_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        version = process.stdout.readline().strip()
        assert prune(lake, grace=timedelta(0)) == []
        assert lake.versions("a") == [version]
        assert (tmp_path / "lake" / "a" / writers.WRITERS / f"{version}.lock").exists()
        process.kill()
        process.wait()
    assert [removal.reason for removal in prune(lake)] == ["left by a writer that died"]
    assert leftovers(tmp_path) == []


@pytest.mark.trial
def test_two_minutes_of_reading_beside_a_writer(tmp_path: Path) -> None:
    data_dir = tmp_path / "shop"
    with reader(data_dir, again_after=3) as watched, writer(data_dir, ALL, 1, "--grace=10") as child:
        child.next("ends")
        started, done = time.monotonic(), child.next("ends")
        # On a busy machine two minutes are too short for anything to be superseded and removed.
        while time.monotonic() - started < 120 or done["ends"] < 8:
            done = child.next("ends")
    print({**watched, "seen": {asset: len(order) for asset, order in watched["seen"].items()}}, done)
    check_reads(watched, at_least=200)
    assert watched["rereads"] > 0
    # Superseded versions were removed meanwhile.
    assert len(Lake(str(data_dir)).committed("segmentation_model")) < len(watched["seen"]["segmentation_model"])


@pytest.mark.trial
def test_two_processes_write_the_same_assets(tmp_path: Path) -> None:
    data_dir, runs = tmp_path / "shop", 6
    land(data_dir, 1)
    options = ("--keep-raw", f"--runs={runs}", "--grace=3600")
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
        committed = lake.committed(asset)
        assert len({m.run_id for m in committed}) == 2 * runs, asset
        check_order_of_commit(lake, asset)
        assert len({m.spark_application_id for m in committed[:-1]}) == 2, "two Sparks"
    assert leftovers(data_dir) == []

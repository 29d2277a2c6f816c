"""Publishing to Delta tables: one transaction, single days, concurrent and killed writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.stored import put_table

WRITERS, RUNS = 4, 5


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "my shop [1] é"))


def test_file_statistics_agree_with_the_rows(lake: Lake) -> None:
    at = datetime(2019, 10, 1, 12, 0, 0, 123456, UTC)
    rows = pa.table(
        {
            "number": pa.array([3, None, 1], pa.int64()),
            "ratio": [0.5, float("nan"), 1.5],
            "text": ["b", "a", "x" * 100],
            "at": pa.array([at, at, None], pa.timestamp("us", "UTC")),
            "nothing": pa.array([None, None, None], pa.string()),
        }
    )
    put_table(lake, "a", rows)
    [stats] = pa.table(DeltaTable(lake.asset("a").path).get_add_actions(flatten=True)).to_pylist()
    assert (stats["num_records"], stats["min.number"], stats["max.number"], stats["null_count.number"]) == (3, 1, 3, 1)
    assert (stats["min.at"], stats["max.at"], stats["null_count.at"]) == (at, at, 1)
    assert stats["null_count.nothing"] == 3
    assert stats.get("max.text") is None, "long texts have no bounds"
    assert lake.latest("a").stats.nulls == {"number": 1, "ratio": 0, "text": 0, "at": 1, "nothing": 3}


def test_replacing_a_day_keeps_the_files_of_other_days(lake: Lake) -> None:
    days = {day: pa.table({"a": [1, 2]}) for day in ("2019-10-01", "2019-10-02", "2019-10-03")}
    put_table(lake, "e", days=days)
    before = {file.day: file.path for file in lake.files(lake.latest("e"))}
    put_table(lake, "e", days={"2019-10-02": pa.table({"a": [3]})})
    after = {file.day: file.path for file in lake.files(lake.latest("e"))}
    assert {day for day in days if before[day] != after[day]} == {"2019-10-02"}
    assert DeltaTable(lake.asset("e").path).to_pyarrow_table().num_rows == 5


def test_writing_all_days_may_change_the_schema(lake: Lake) -> None:
    put_table(lake, "e", days={"2019-10-01": pa.table({"a": [1]})})
    put_table(lake, "e", days={"2019-10-01": pa.table({"a": ["x"]}), "2019-10-02": pa.table({"a": ["y"]})})
    assert DeltaTable(lake.asset("e").path).to_pyarrow_table(columns=["a"]).to_pydict() == {"a": ["x", "y"]}


@pytest.mark.parametrize("days", ["same day", "different days", "no days"])
def test_concurrent_writers_all_finish_without_duplicates(lake: Lake, days: str) -> None:
    numbers: dict[str, str] = {}

    def write(writer: int) -> None:
        for run in range(RUNS):
            rows = pa.table({"a": [writer, run]})
            day = "2019-10-01" if days == "same day" else f"2019-10-{writer + 1:02d}"
            other = Lake(lake.data.uri)
            written = put_table(other, "e", rows) if days == "no days" else put_table(other, "e", days={day: rows})
            numbers[written.folder] = written.version

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    published = lake.published("e")
    assert [int(version.version) for version in published] == list(range(WRITERS * RUNS))[::-1]
    assert numbers == {version.folder: version.version for version in published}, "each writer got its version number"
    times = [version.committed_at for version in published]
    assert times == sorted(times, reverse=True), "later versions have later times"
    rows = DeltaTable(lake.asset("e").path).to_pyarrow_table().num_rows
    assert rows == (2 * WRITERS if days == "different days" else 2)


KILLED_WRITER = """
import sys, pyarrow as pa
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.stored import put_table
lake, writer, run = Lake(sys.argv[1]), int(sys.argv[2]), 0
print("ready", flush=True)
while True:
    run += 1
    put_table(lake, "e", days={f"2019-10-{day:02d}": pa.table({"a": [writer, run]}) for day in range(1, 11)})
"""


@pytest.mark.parametrize("many", [4, pytest.param(60, marks=pytest.mark.trial)])
def test_every_version_is_complete_after_repeated_kills(tmp_path: Path, many: int) -> None:
    """Two processes rewrite the same ten days in a loop and are killed at different moments."""
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path)]
    put_table(Lake(str(tmp_path)), "e", days={f"2019-10-{day:02d}": pa.table({"a": [0, 0]}) for day in range(1, 11)})
    kills = 0
    while kills < many:
        children = [
            subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(2)
        ]
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        for child in children:
            time.sleep(0.05 + 0.01 * (kills % 7))
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
            days = Lake(str(tmp_path)).days("e")
            assert len(days) == 10
            seen = {
                tuple(pq.read_table(tmp_path / "lake/e" / file.path, partitioning=None)["a"].to_pylist())
                for day in days
                for file in day.files
            }
            assert len(seen) == 1, f"days of several versions: {seen}"
    lake = Lake(str(tmp_path))
    published = lake.published("e")
    assert [int(version.version) for version in published] == list(range(len(published)))[::-1]
    assert not any(lake.damage(version) for version in published)

"""Landing that is killed at any moment, days that are published atomically, and files larger than memory.

The long tests are trials: `uv run pytest -m trial ecommerce_assets_tests/events/test_landing_killed.py`.
"""

import gzip
import os
import random
import resource
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.events.landing import staging, target
from ecommerce_assets.events.landing.target import Target
from ecommerce_assets_tests.command import PROGRAM
from ecommerce_assets_tests.command import land as main
from ecommerce_assets_tests.events.landing_files import ROW, csv_file, files, land_one, landed

DAYS = 40
ROWS_PER_DAY = 400
COMMAND = (PROGRAM, "land")


def is_complete(partition: Path) -> bool:
    """The rule of the sensor."""
    marker = partition / "_SUCCESS"
    newest = max(file.stat().st_mtime_ns for file in partition.glob("*.parquet"))
    return marker.exists() and marker.stat().st_mtime_ns >= newest


def visible(data_dir: Path) -> dict[str, int]:
    """Rows of every file that a reader can see, each file read in full."""
    rows = {}
    for file in data_dir.glob("raw/events/*/*"):
        if file.name != "_SUCCESS":
            rows[f"{file.parent.name}/{file.name}"] = pq.read_table(file, partitioning=None).num_rows
    return rows


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Two files with the same days, so that a day is published in two moves; one of them is read line by line."""
    lines = [
        ROW.replace("2019-10-01", str(date.fromordinal(date(2019, 10, 1).toordinal() + number % DAYS)))
        for number in range(DAYS * ROWS_PER_DAY)
    ]
    return [
        str(csv_file(tmp_path, *lines, name="valid.csv")),
        str(csv_file(tmp_path, *reversed(lines), ROW.replace("acme", '"acme'), name="invalid.csv")),
    ]


def start_landing(sources: list[str], data_dir: Path) -> subprocess.Popen[bytes]:
    """Starts a landing, and returns when it writes its first file: the imports before it take a varying time."""
    command = [*COMMAND, *sources, "--data-dir", str(data_dir)]
    landing = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while landing.poll() is None and not any(data_dir.glob("raw/**/*")):
        time.sleep(0.01)
    return landing


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.trial)])
def test_killed_at_any_moment_and_landed_again(tmp_path: Path, sources: list[str], kills: int) -> None:
    whole = tmp_path / "whole"
    landing = start_landing(sources, whole)
    started = time.monotonic()
    assert landing.wait() == 0
    seconds = time.monotonic() - started
    expected = visible(whole)
    assert sum(expected.values()) == 2 * DAYS * ROWS_PER_DAY + 1
    dice = random.Random(7)
    killed = 0
    for number in range(kills):
        data_dir = tmp_path / f"killed-{number}"
        landing = start_landing(sources, data_dir)
        try:
            landing.wait(dice.random() * seconds)
        except subprocess.TimeoutExpired:
            landing.send_signal(signal.SIGKILL)
        killed += landing.wait() == -signal.SIGKILL
        assert visible(data_dir).items() <= expected.items()
        for partition in data_dir.glob("raw/events/*"):
            names = {f"{partition.name}/{file.name}" for file in partition.glob("*.parquet")}
            if names and is_complete(partition):
                assert names == {name for name in expected if name.startswith(f"{partition.name}/")}
        assert main([*sources, "--data-dir", str(data_dir)]) == 0
        assert visible(data_dir) == expected
        assert all(is_complete(partition) for partition in data_dir.glob("raw/events/*"))
        assert not list(data_dir.glob("raw/.landing-*/"))
    assert killed


class TestDayIsPublishedAtomically:
    def test_interrupt_between_two_moves_leaves_the_day_incomplete(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data_dir = tmp_path / "shop"
        day = data_dir / "raw/events/event_date=2019-10-01"
        land_one(csv_file(tmp_path, ROW, name="first.csv"), data_dir)
        assert is_complete(day)
        two = [str(csv_file(tmp_path, *[ROW] * n, name=f"{n}.csv")) for n in (2, 3)]
        real_move = target._move
        moved: list[Path] = []

        def die_before_the_second(staged: Path, final: Path) -> None:
            if moved:
                raise KeyboardInterrupt
            real_move(staged, final)
            moved.append(final)

        monkeypatch.setattr(target, "_move", die_before_the_second)
        assert main([*two, "--data-dir", str(data_dir)]) == 130
        monkeypatch.undo()
        assert moved[0].exists()
        assert not is_complete(day)
        assert main([*two, "--data-dir", str(data_dir)]) == 0
        assert is_complete(day)
        assert len(landed(data_dir)) == 6

    def test_clock_that_stands_still_does_not_complete_a_day(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop, day, now = Target(str(tmp_path / "shop")), date(2019, 10, 1), time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: now)
        first, second = (tmp_path / name for name in ("first.parquet", "second.parquet"))
        for file in (first, second):
            pq.write_table(pa.table({"one": [1]}), file)
        shop.publish_day([first], day)
        partition = Path(shop.partition(day).path)
        os.utime(partition / "_SUCCESS", ns=(now, now))
        with monkeypatch.context() as dying:
            dying.setattr(Path, "touch", _die)
            with pytest.raises(KeyboardInterrupt):
                shop.publish_day([second], day)
        assert not is_complete(partition)
        shop.publish_day([second], day)
        assert is_complete(partition)


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


class TestNothingIsLeftBehind:
    def test_ctrl_c_in_duckdb_removes_the_staging_folder(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(*_: object) -> None:
            raise RuntimeError("Query interrupted")

        monkeypatch.setattr(staging, "parse", interrupted)
        assert main([str(csv_file(tmp_path, ROW)), "--data-dir", str(data_dir)]) == 130
        assert "Run the same command again" in capsys.readouterr().err
        assert not files(data_dir)
        assert not list(data_dir.glob("raw/.landing-*"))

    def test_staging_folder_of_a_killed_landing_is_removed(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW)
        killed = (
            "import os, sys; from ecommerce_assets.events.landing import land, run;"
            "run._publish = lambda *_: os._exit(9); land([sys.argv[1]], sys.argv[2])"
        )
        assert subprocess.run([sys.executable, "-c", killed, str(path), str(data_dir)], check=False).returncode == 9
        assert list(data_dir.glob("raw/.landing-*/*/event_date=2019-10-01/land-*.parquet"))
        assert not landed(data_dir)
        land_one(path, data_dir)
        assert len(landed(data_dir)) == 1
        assert not list(data_dir.glob("raw/.landing-*/"))

    def test_lost_rows_stop_the_landing(self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(staging.Staging, "_distribute", lambda *_: {})
        with pytest.raises(AssertionError):
            land_one(csv_file(tmp_path, ROW, ROW + ",x"), data_dir)
        assert not (data_dir / "raw/events").exists()


@pytest.mark.trial
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize("flaw", ["", '2019-10-09 00:00:00 UTC,view,1,2,a,"b,1,2,s'])
def test_ten_million_rows(tmp_path: Path, ending: str, flaw: str) -> None:
    """Rows add up and memory stays bounded for 1.3 GB of CSV; with a flaw the file is read line by line.

    `uv run pytest -m trial -s ecommerce_assets_tests/events/test_landing_killed.py -k ten_million`; it prints the
    seconds and the peak memory. It needs 5 GB of disk space.
    """
    rows, path = 10_000_000, tmp_path / f"events.{ending}"
    packed = ", COMPRESSION gzip" if ending.endswith("gz") else ""
    columns = (
        f"SELECT strftime(TIMESTAMP '2019-10-01' + to_milliseconds(i * {31 * 86_400_000} // {rows}), "
        "'%Y-%m-%d %H:%M:%S UTC') AS event_time, "
        "CASE WHEN hash(i) % 100 < 96 THEN 'view' ELSE 'cart' END AS event_type, hash(i) % 200000 AS product_id, "
        "2053013552326770905 AS category_id, 'electronics.smartphone' AS category_code, 'acme' AS brand, "
        "hash(i) % 100000 / 100 AS price, hash(i) % 50000000 AS user_id, uuid() AS user_session "
    )
    duckdb.execute(f"COPY ({columns} FROM range({rows}) AS rows(i)) TO '{path}' (FORMAT csv, HEADER{packed})")
    if flaw:
        _append(path, flaw)
    started = time.monotonic()
    landing = subprocess.run(
        [*COMMAND, str(path), "--data-dir", str(tmp_path / "shop")], check=True, text=True, stdout=subprocess.PIPE
    )
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{path.name}{' with a flaw' if flaw else ''}: {seconds:.0f} s, at most {peak:,.0f} MB\n{landing.stdout}")
    parts = (tmp_path / "shop").glob("raw/events/*/*.parquet")
    assert sum(pq.read_metadata(file).num_rows for file in parts) == rows + bool(flaw)
    assert ("unreadable line: 1" in landing.stdout) == bool(flaw)
    assert peak < 3_500


def _append(path: Path, line: str) -> None:
    # Members of a gzip file follow one another.
    with gzip.open(path, "at") if path.suffix == ".gz" else path.open("a") as file:
        file.write(f"{line}\n")

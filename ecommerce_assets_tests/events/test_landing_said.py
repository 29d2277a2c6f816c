"""What landing says about itself: progress on the way, and at the end the days that no run will read."""

import io
import logging
import pty
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from rich.console import Console
from rich.progress import Progress

from ecommerce_assets.events.landing import LandingError, LandingSummary, progress
from ecommerce_assets.events.landing.progress import LandingProgress
from ecommerce_assets.events.landing.window import Window
from ecommerce_assets_tests.events.landing_files import ROW, csv_file, land_one

TODAY = date(2026, 3, 10)
FIRST = date(2026, 3, 1)


def remarks(window: Window, *days: date) -> list[str]:
    return list(window.remarks([(day, 1000) for day in days]))


class TestWindow:
    def test_days_inside_need_no_word(self) -> None:
        assert not remarks(Window(FIRST, None, TODAY), FIRST, date(2026, 3, 9))
        assert not remarks(Window(FIRST, date(2026, 3, 5), TODAY), FIRST, date(2026, 3, 5))

    def test_both_ends(self) -> None:
        window = Window(FIRST, date(2026, 3, 5), TODAY)
        assert remarks(window, date(2026, 2, 27), date(2026, 2, 28), FIRST, date(2026, 3, 6)) == [
            "2 days (2026-02-27 to 2026-02-28, 2,000 rows) lie before the first partition, 2026-03-01: "
            "set ECOMMERCE_FIRST_DAY=2026-02-27, for `dagster dev` too.",
            "2026-03-06 (1,000 rows) lies after the last partition, 2026-03-05: "
            "set ECOMMERCE_LAST_DAY=2026-03-06, for `dagster dev` too.",
        ]

    @pytest.mark.parametrize("last", [None, date(2026, 3, 5)])
    def test_today_and_the_future(self, last: date | None) -> None:
        assert remarks(Window(FIRST, last, TODAY), TODAY, date(2026, 3, 11)) == [
            "2026-03-10 is today (UTC): it becomes a partition when the day is over.",
            "2026-03-11 (1,000 rows) lies in the future: look at the times, or wait until then.",
        ]

    def test_the_next_command_changes_what_must_be_and_leaves_today_out(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, *(ROW.replace("2019-10-01", str(FIRST + timedelta(days=n))) for n in (0, 8, 9)))
        (source,) = land_one(path, tmp_path / "shop").sources
        summary = LandingSummary(tmp_path, (source,), Window(date(2026, 3, 2), date(2026, 3, 5), TODAY))
        command = summary.next_command or ""
        assert "ECOMMERCE_FIRST_DAY=2026-03-01 ECOMMERCE_LAST_DAY=2026-03-09 ECOMMERCE_DATA_DIR=" in command
        assert command.endswith("--partition-range 2026-03-01...2026-03-09")
        only_today = LandingSummary(tmp_path, (source,), Window(FIRST, None, FIRST))
        assert only_today.next_command is None
        assert "Next:" not in str(only_today)

    def test_the_settings_in_force_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = csv_file(tmp_path, ROW, ROW.replace("2019-10-01", "2019-12-31"))
        monkeypatch.setenv("ECOMMERCE_FIRST_DAY", "2019-09-01")
        monkeypatch.setenv("ECOMMERCE_LAST_DAY", "2019-12-01")
        summary = land_one(path, tmp_path / "shop")
        assert "ECOMMERCE_FIRST_DAY" not in str(summary)
        assert "set ECOMMERCE_LAST_DAY=2019-12-31" in str(summary)
        monkeypatch.setenv("ECOMMERCE_LAST_DAY", "soon")
        with pytest.raises(LandingError, match="ECOMMERCE_LAST_DAY='soon' cannot be used"):
            land_one(path, tmp_path / "shop")


class TestProgress:
    def test_a_bar_moves_with_the_bytes(self) -> None:
        bar = Progress(console=Console(file=io.StringIO(), force_terminal=True))
        with LandingProgress(bar).step("reading [x].csv", 200) as step:
            step.advance(50)
            step.advance(50)
            assert bar.tasks[0].percentage == 50
        assert not bar.tasks

    def test_duckdb_is_asked_how_far_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class HalfWay(duckdb.DuckDBPyConnection):
            def query_progress(self) -> float:
                return 50.0

        monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LOOKS", 0.01)
        bar = Progress(console=Console(file=io.StringIO()))
        with LandingProgress(bar).duckdb_step("splitting", HalfWay.__new__(HalfWay)):
            time.sleep(0.1)
            assert bar.tasks[0].completed == 50

    def test_plain_lines_are_few(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        caplog.set_level(logging.INFO)
        clock = iter(range(1000))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
        with LandingProgress().step("reading x.csv", 100) as step:
            for _ in range(25):
                step.advance(4)
        assert caplog.messages[0] == "reading x.csv"
        assert 2 <= len(caplog.messages) <= 4
        assert caplog.messages[1].startswith("  reading x.csv: ")

    @pytest.mark.parametrize("terminal", [True, False])
    def test_on_a_terminal_and_elsewhere(self, tmp_path: Path, terminal: bool) -> None:
        path = csv_file(tmp_path, *[ROW] * 1000)
        command = [
            sys.executable,
            "-m",
            "ecommerce_assets.events.landing",
            str(path),
            "--data-dir",
            str(tmp_path / "s"),
        ]
        ours, theirs = pty.openpty()
        log = tmp_path / "log"
        with log.open("wb") as file:
            environment = {"TERM": "xterm", "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=theirs if terminal else file, env=environment, check=True
            )
        assert b"\x1b" not in done.stdout
        said = _read(ours) if terminal else log.read_bytes()
        assert (b"\x1b[" in said) == terminal
        assert b"reading " in said


def _read(terminal: int) -> bytes:
    with open(terminal, "rb", buffering=0) as stream:
        return stream.read(65536)

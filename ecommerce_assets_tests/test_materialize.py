"""`ecommerce-assets run`: its days, the folder of the history of runs, and its exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click
import pytest

from ecommerce_assets.materialize import available_days
from ecommerce_assets.settings import load_settings
from ecommerce_assets_tests.command import PROGRAM
from ecommerce_assets_tests.helpers import event, write_day

PROJECT = Path(__file__).parents[1]


def make_days(data_dir: Path, *days: str) -> None:
    for day in days:
        (data_dir / "raw" / "events" / f"event_date={day}").mkdir(parents=True)


def test_the_range_is_from_the_first_to_the_last_day_with_raw_files(tmp_path: Path) -> None:
    make_days(tmp_path, "2019-10-05", "2019-10-02", "2019-10-09")
    assert available_days(load_settings(data_dir=str(tmp_path))) == "2019-10-02...2019-10-09"


def test_folders_that_are_not_daily_partitions_are_ignored_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_days(tmp_path, "2019-09-30", "2019-10-02", "2019-10-03", "2019-10-04", "unknown")
    settings = load_settings(data_dir=str(tmp_path), last_day="2019-10-03")
    assert available_days(settings) == "2019-10-02...2019-10-03"
    assert capsys.readouterr().err == (
        "Ignored folders, which are not daily partitions (2019-10-01 to 2019-10-03): 2019-09-30, 2019-10-04, unknown\n"
    )


def test_without_raw_files_the_error_has_the_commands_to_run(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException) as error:
        available_days(load_settings(data_dir=str(tmp_path), last_day="2019-10-03"))
    assert error.value.message.startswith(f"There are no raw events from 2019-10-01 to 2019-10-03 in {tmp_path}")
    assert "uv run ecommerce-assets land FILE" in error.value.message


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ECOMMERCE"))}
    environment |= {"ECOMMERCE_DATA_DIR": str(folder / "shop"), "ECOMMERCE_DRIVER_MEMORY": "2g", "TMPDIR": str(folder)}
    return subprocess.run(
        [PROGRAM, "run", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_mistake_is_one_sentence_and_the_history_is_in_the_current_folder(tmp_path: Path) -> None:
    make_days(tmp_path / "shop", "2019-10-02")
    done = run(tmp_path, "--select", "user_featurs", "--partition-range", "2019-10-02...2019-10-02")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: there is no asset 'user_featurs'; did you mean user_features?"
    assert "Traceback" not in done.stderr
    assert "Supers" not in done.stderr
    original = (PROJECT / ".dagster" / "dagster.yaml").read_text()
    assert (tmp_path / ".dagster" / "dagster.yaml").read_text() == original


@pytest.mark.trial
def test_runs_of_selections_and_a_blocked_day(tmp_path: Path) -> None:
    for day in ("2019-10-01", "2019-10-02"):
        write_day(tmp_path / "shop", day, [event(f"{day} 10:00:00", user_id=n) for n in range(4)])
    days = run(tmp_path, "--select", "cleaned_events,rejected_events")
    assert days.returncode == 0, days.stderr
    assert "cleaned_events (1 of 2)" in days.stderr or "cleaned_events (2 of 2)" in days.stderr
    features = run(tmp_path, "--select", "user_features")
    assert features.returncode == 0, features.stderr
    write_day(tmp_path / "shop", "2019-10-02", [event("2019-10-02 11:00:00", price=-1.0)] * 40, "bad")
    blocked = run(
        tmp_path, "--select", "cleaned_events,rejected_events", "--partition-range", "2019-10-02...2019-10-02"
    )
    assert blocked.returncode == 1
    assert "cleaned_events is blocked by few_rejected" in blocked.stderr

"""One Spark at a time: the second waits, says for what, and goes on when the first ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ecommerce_assets.spark.machine_lock import MachineLock, private_folder

HOLD = """
import time
from ecommerce_assets.spark.machine_lock import MachineLock
lock = MachineLock("run 4711")
lock.acquire(print)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def hold_elsewhere() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def test_waits_for_another_process_and_says_for_which_run() -> None:
    other = hold_elsewhere()
    said: list[str] = []
    mine = MachineLock("run 2")
    waiter = threading.Thread(target=lambda: mine.acquire(said.append, remind_seconds=0.3), daemon=True)
    waiter.start()
    time.sleep(1)
    assert waiter.is_alive()
    assert said[0].startswith(f"Waiting for run 4711 (process {other.pid}, since ")
    assert len(said) >= 2, "it says so again"
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    waiter.join(10)
    assert not waiter.is_alive(), "a killed holder holds nothing"
    mine.release()


def test_released_lock_is_free_at_once() -> None:
    said: list[str] = []
    for holder in ("run 1", "run 2"):
        lock = MachineLock(holder)
        lock.acquire(said.append)
        lock.release()
        lock.release()  # releasing twice does no harm
    assert said == []


def test_its_files_are_in_a_folder_that_only_the_user_can_use(temporary_folder: Path) -> None:
    lock = MachineLock("run 1")
    lock.acquire(print)
    [folder] = temporary_folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o077 for file in folder.iterdir()} == {0}
    lock.release()


@pytest.mark.parametrize("planted", ["link", "open folder"])
def test_a_folder_that_somebody_else_can_use_is_refused(temporary_folder: Path, planted: str) -> None:
    folder, target = private_folder(), temporary_folder / "target"
    folder.rmdir()
    target.mkdir(mode=0o755)
    if planted == "link":
        folder.symlink_to(target)
    else:
        target.rename(folder)
    with pytest.raises(PermissionError, match="must be a folder that only you can use: remove it, or set TMPDIR"):
        MachineLock("run 1")


def test_a_planted_link_is_not_followed_and_a_note_that_cannot_be_written_is_no_error(temporary_folder: Path) -> None:
    target = temporary_folder / "target"
    target.write_text("precious")
    (private_folder() / "spark.holder").symlink_to(target)
    lock = MachineLock("run 1")
    lock.acquire(print)
    assert target.read_text() == "precious"
    lock.release()

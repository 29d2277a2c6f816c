"""One Spark at a time: the second run waits until the first ends or is killed."""

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

from ecommerce_assets.spark.machine_lock import machine_lock, private_folder

HOLD = """
import time
from ecommerce_assets.spark.machine_lock import machine_lock
with machine_lock("run 4711", print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_run_waits_for_the_run_of_another_process_until_that_is_killed() -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline().strip() == "held"
    lines: list[str] = []
    held = threading.Event()

    def wait() -> None:
        with machine_lock("run 2", lines.append):
            held.set()

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    time.sleep(0.5)
    assert not held.is_set()
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert held.wait(10)
    waiter.join(10)
    [line] = lines
    assert line.startswith(f"Waiting for run 4711 (process {other.pid}, since ")


def test_a_released_lock_is_free_at_once() -> None:
    lines: list[str] = []
    for holder in ("run 1", "run 2"):
        with machine_lock(holder, lines.append):
            pass
    assert lines == []


def test_its_files_are_in_a_folder_that_only_the_user_can_use(temporary_folder: Path) -> None:
    with machine_lock("run 1", print):
        [folder] = temporary_folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["link", "open folder"])
def test_a_folder_that_somebody_else_can_use_is_refused(temporary_folder: Path, planted: str) -> None:
    folder, target = private_folder(), temporary_folder / "target"
    folder.rmdir()
    target.mkdir(mode=0o755)
    if planted == "link":
        folder.symlink_to(target)
    else:
        target.rename(folder)
    with pytest.raises(PermissionError, match="must be a folder that only you can use"), machine_lock("run 1", print):
        pass

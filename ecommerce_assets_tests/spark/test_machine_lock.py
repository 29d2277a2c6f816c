"""One Spark at a time: the second waits, says for what, and goes on when the first ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ecommerce_assets.spark.machine_lock import MachineLock

HOLD = """
import sys, time
from pathlib import Path
from ecommerce_assets.spark.machine_lock import MachineLock
lock = MachineLock("run 4711", Path(sys.argv[1]))
lock.acquire(print)
print("held", flush=True)
time.sleep(60)
"""


def hold_elsewhere(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def test_waits_for_another_process_and_says_for_which_run(tmp_path: Path) -> None:
    other = hold_elsewhere(tmp_path)
    said: list[str] = []
    mine = MachineLock("run 2", tmp_path)
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


def test_released_lock_is_free_at_once(tmp_path: Path) -> None:
    said: list[str] = []
    for holder in ("run 1", "run 2"):
        lock = MachineLock(holder, tmp_path)
        lock.acquire(said.append)
        lock.release()
        lock.release()  # releasing twice does no harm
    assert said == []

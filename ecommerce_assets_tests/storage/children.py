"""Child processes of the trials: one that writes with a Spark of its own, one that reads all the time without Spark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JAVA_ENDS_WITHIN = 30.0
MODULES = "ecommerce_assets_tests.storage"


class Writer:
    """A process that materialises one generation after the other until it is killed (see victim.py)."""

    def __init__(self, data_dir: Path, name: str, assets: Sequence[str], first: int, *options: str) -> None:
        # A temporary folder of its own: the machine's lock lets one Spark run at a time, and a test has one already.
        own = data_dir.parent / f"{data_dir.name}-{name}"
        own.mkdir(exist_ok=True)
        self.errors = own / "stderr"
        command = [sys.executable, "-m", f"{MODULES}.victim", str(data_dir), ",".join(assets), f"--first={first}"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "TMPDIR": str(own)},
            )
        self.told: list[dict[str, Any]] = []

    def dies_or(self, key: str) -> dict[str, Any] | None:
        """What it tells next under this key; None where it dies before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.told.append(json.loads(line))
                if key in self.told[-1]:
                    return self.told[-1]
        return None

    def next(self, key: str) -> dict[str, Any]:
        """The same, where it is not to die."""
        if (found := self.dies_or(key)) is not None:
            return found
        raise AssertionError(f"ended ({self.process.wait()}) before {key}: {self.errors.read_text()[-3000:]}")

    def end(self) -> None:
        """Let it end when its runs are done."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0, self.errors.read_text()[-3000:]

    def kill(self) -> None:
        self.process.kill()

    def wait_until_dead(self) -> None:
        """Until the process and its Java are gone; AssertionError where either stays, or ended otherwise."""
        assert self.process.wait(60) == -signal.SIGKILL, self.errors.read_text()[-3000:]
        deadline = time.monotonic() + JAVA_ENDS_WITHIN
        while _runs(self.told[0]["java"]):
            assert time.monotonic() < deadline, "Java outlives the process that started it"
            time.sleep(0.1)


@contextmanager
def writer(data_dir: Path, assets: Sequence[str], first: int, *options: str, name: str = "tmp") -> Iterator[Writer]:
    child = Writer(data_dir, name, assets, first, *options)
    try:
        yield child
    finally:
        child.kill()
        child.process.wait()


@contextmanager
def reader(data_dir: Path, again_after: float) -> Iterator[dict[str, Any]]:
    """A process that reads as long as the block runs (see watching.py); afterwards the dictionary says what it saw."""
    found: dict[str, Any] = {}
    command = [sys.executable, "-m", f"{MODULES}.watching", str(data_dir), str(again_after)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        yield found
        found.update(json.loads(process.communicate()[0]))


def _runs(pid: int) -> bool:
    try:
        # A process that ended and that nobody waited for is still listed, as a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

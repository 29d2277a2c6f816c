"""Child processes of the trials: a writer with its own Spark, and a reader without Spark."""

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
    """A process that materialises one generation after the other until it is killed; see victim.py."""

    def __init__(self, data_dir: Path, name: str, assets: Sequence[str], first: int, *options: str) -> None:
        # Its own temporary folder, because machine_lock allows one Spark at a time, and the test already has one.
        folder = data_dir.parent / f"{data_dir.name}-{name}"
        folder.mkdir(exist_ok=True)
        self.errors = folder / "stderr"
        command = [sys.executable, "-m", f"{MODULES}.victim", str(data_dir), ",".join(assets), f"--first={first}"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "TMPDIR": str(folder)},
            )
        self.messages: list[dict[str, Any]] = []

    def dies_or(self, key: str) -> dict[str, Any] | None:
        """Returns its next message with this key; None if it dies before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.messages.append(json.loads(line))
                if key in self.messages[-1]:
                    return self.messages[-1]
        return None

    def next(self, key: str) -> dict[str, Any]:
        """Returns its next message with this key. Fails if it dies before."""
        if (message := self.dies_or(key)) is not None:
            return message
        raise AssertionError(f"ended ({self.process.wait()}) before {key}: {self.errors.read_text()[-3000:]}")

    def end(self) -> None:
        """Lets it end after its runs."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0, self.errors.read_text()[-3000:]

    def kill(self) -> None:
        self.process.kill()

    def wait_until_dead(self) -> None:
        """Waits until the process and its Java are gone. Fails if one stays, or if it was not killed."""
        assert self.process.wait(60) == -signal.SIGKILL, self.errors.read_text()[-3000:]
        deadline = time.monotonic() + JAVA_ENDS_WITHIN
        while _runs(self.messages[0]["java"]):
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
    """Runs a process that reads during the block; then the dictionary has the result of watching.py."""
    result: dict[str, Any] = {}
    command = [sys.executable, "-m", f"{MODULES}.watching", str(data_dir), str(again_after)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        yield result
        result.update(json.loads(process.communicate()[0]))


def _runs(pid: int) -> bool:
    try:
        # A zombie has ended.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

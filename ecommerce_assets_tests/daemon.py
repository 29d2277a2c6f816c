"""Starts `dagster dev` (web server, daemon and code server) for trials. `dagster_dev` is the entry point."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.request import urlopen

import dagster as dg

PROJECT = Path(__file__).parents[1]
POLL_SECONDS = 1.0
Value = TypeVar("Value")


@dataclass(frozen=True)
class Dev:
    """A running `dagster dev`, with the file of its output."""

    instance: dg.DagsterInstance
    log: Path
    port: int
    process: subprocess.Popen[bytes]

    def wait_for(self, what: str, read: Callable[[], Value | None], seconds: float) -> Value:
        """Returns the first true value of `read`. Raises AssertionError with the end of the log after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"dagster dev ended:\n{self.log.read_text()[-5000:]}"
            if value := read():
                return value
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"no {what} within {seconds:.0f} s:\n{self.log.read_text()[-5000:]}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        """Returns whether the web server answers."""
        with suppress(OSError), urlopen(f"{self.url}/server_info", timeout=5):
            return True
        return False

    def kill(self) -> None:
        """Kills it and its children with SIGKILL: the daemon, the code server and the run."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def runs(self) -> list[dg.DagsterRun]:
        """Returns all runs, oldest first."""
        return list(self.instance.get_runs())[::-1]

    def is_idle(self) -> bool:
        return all(run.is_finished for run in self.runs())


def shop_settings(data_dir: Path) -> dict[str, str]:
    """Returns the settings of a small shop."""
    return {
        "ECOMMERCE_DATA_DIR": str(data_dir),
        "ECOMMERCE_FIRST_DAY": "2019-10-01",
        "ECOMMERCE_LAST_DAY": "2019-12-29",
        "ECOMMERCE_DRIVER_MEMORY": "2g",
        # For many small jobs, compiling takes longer than it saves.
        "ECOMMERCE_SPARK_CONFIG": '{"spark.sql.shuffle.partitions": 2, "spark.sql.codegen.wholeStage": false, '
        '"spark.sql.codegen.factoryMode": "NO_CODEGEN"}',
    }


@contextmanager
def dagster_dev(folder: Path, settings: Mapping[str, str]) -> Iterator[Dev]:
    """Yields `dagster dev` in the project's folder, with an instance in `folder`, which a second call uses again."""
    home = folder / "dagster_home"
    home.mkdir(exist_ok=True)
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # With a separate temporary folder, it does not wait for the lock of the tests' Spark.
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    log = folder / "dagster_dev.log"
    environment = {**os.environ, **settings, "DAGSTER_HOME": str(home), "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as output, dg.DagsterInstance.from_config(str(home)) as instance:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield Dev(instance, log, port, process)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

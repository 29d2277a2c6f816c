"""A standalone Spark cluster for trials: processes of a master and workers, from the pip package."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
DEPLOY = "org.apache.spark.deploy"
STARTS_WITHIN = 60.0


@dataclass
class Cluster:
    """A running cluster; `url` is its Spark master URL."""

    url: str
    workers: list[subprocess.Popen[bytes]]

    def kill_worker(self, number: int) -> None:
        """Sends SIGKILL to a worker and its executors, as if its machine failed."""
        os.killpg(self.workers[number].pid, signal.SIGKILL)


@contextmanager
def standalone_cluster(folder: Path, workers: int = 2, cores: int = 1, memory: str = "2g") -> Iterator[Cluster]:
    """Runs a cluster during the block; its logs are in `folder`."""
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, kind: str, *arguments: str) -> str:
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            command = [str(SPARK_CLASS), f"{DEPLOY}.{kind}", "--host", "127.0.0.1", *arguments]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        started.append(process)
        deadline = time.monotonic() + STARTS_WITHIN
        message = (
            r"Starting Spark master at (spark://\S+)" if kind.endswith("Master") else "registered with master (.*)"
        )
        while time.monotonic() < deadline:
            if match := re.search(message, log.read_text(), re.IGNORECASE):
                return match[1]
            time.sleep(0.2)
        raise AssertionError(f"{name} did not start:\n{log.read_text()[-3000:]}")

    try:
        url = start("master", "master.Master", "--port", "0", "--webui-port", "0")
        for number in range(workers):
            work_dir = folder / f"worker-{number}"
            size = ("--cores", str(cores), "--memory", memory, "--work-dir", str(work_dir), "--webui-port", "0")
            start(f"worker-{number}", "worker.Worker", *size, url)
        yield Cluster(url, started[1:])
    finally:
        for process in started:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

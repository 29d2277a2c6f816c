"""A real standalone Spark cluster for trials: a master and workers as processes of their own, from the pip package."""

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
    """A running cluster; `url` is what Spark's master setting takes."""

    url: str
    workers: list[subprocess.Popen[bytes]]

    def kill_worker(self, number: int) -> None:
        """SIGKILL to a worker and to its executors: as if its machine was gone."""
        os.killpg(self.workers[number].pid, signal.SIGKILL)


@contextmanager
def standalone_cluster(folder: Path, workers: int = 2, cores: int = 1, memory: str = "2g") -> Iterator[Cluster]:
    """Ended with all its processes; logs lie in `folder`."""
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, kind: str, *arguments: str) -> str:
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            command = [str(SPARK_CLASS), f"{DEPLOY}.{kind}", "--host", "127.0.0.1", *arguments]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        started.append(process)
        deadline = time.monotonic() + STARTS_WITHIN
        told = r"Starting Spark master at (spark://\S+)" if kind.endswith("Master") else "registered with master (.*)"
        while time.monotonic() < deadline:
            if found := re.search(told, log.read_text(), re.IGNORECASE):
                return found[1]
            time.sleep(0.2)
        raise AssertionError(f"{name} did not start:\n{log.read_text()[-3000:]}")

    try:
        url = start("master", "master.Master", "--port", "0", "--webui-port", "0")
        for number in range(workers):
            place = folder / f"worker-{number}"
            size = ("--cores", str(cores), "--memory", memory, "--work-dir", str(place), "--webui-port", "0")
            start(f"worker-{number}", "worker.Worker", *size, url)
        yield Cluster(url, started[1:])
    finally:
        for process in started:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

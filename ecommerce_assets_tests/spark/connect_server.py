"""A Spark Connect server in a separate process, from the pip package."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

SPARK_SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"
SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"
LOOPBACK = "127.0.0.1"
STARTS_WITHIN = 90.0


@contextmanager
def connect_server(folder: Path, master: str = "local[2]", memory: str = "2g", **settings: str) -> Iterator[str]:
    """Runs a server on the loopback address during the block and yields its URL. Its log is in `folder`.

    Parameters
    ----------
    settings
        Spark settings by their names, with two underscores for a dot.
    """
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    given = {
        "spark.connect.grpc.binding.address": LOOPBACK,
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.ui.enabled": "false",
        "spark.checkpoint.dir": str(folder / "checkpoints"),
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    command = [str(SPARK_SUBMIT), "--class", SERVER, "--master", master, "--driver-memory", memory]
    for name, value in given.items():
        command += ["--conf", f"{name}={value}"]
    log = folder / "connect-server.log"
    environment = {
        **os.environ,
        "PYSPARK_PYTHON": os.environ.get("CONNECT_TEST_PYTHON", sys.executable),
        "SPARK_LOCAL_IP": LOOPBACK,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "spark-internal"],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"The server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield f"sc://{LOOPBACK}:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((LOOPBACK, port)) == 0

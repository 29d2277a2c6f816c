"""Sail, an engine for one machine that needs no Java: a Spark Connect server in this process. Use `running_sail`.

https://docs.lakesail.com/sail. The README of this package lists the differences from Spark.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from urllib.parse import quote

import pyspark
from pyspark.sql import SparkSession

MASTER = "sail"
"""The Spark master that selects Sail."""

USE_SPARK = "ECOMMERCE_SPARK_MASTER=local[*]"

_SCRATCH = "spark.local.dir"
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@contextmanager
def running_sail(memory: str, scratch: str, log: Callable[[str], object]) -> Iterator[SparkSession]:
    """Starts Sail with all cores of this machine; yields a session, and stops both at the end of the block.

    Parameters
    ----------
    memory
        Size of its memory pool, such as `8g`. Sorts, joins and aggregations that need more write to `scratch`.
    scratch
        Folder on this machine for intermediate files.

    Raises
    ------
    RuntimeError
        If pysail is not installed, or a PySpark that it does not work with.
    """
    if find_spec("pysail") is None or pyspark.__version__ >= "4.3":
        raise RuntimeError(
            f"ECOMMERCE_SPARK_MASTER={MASTER} needs the package pysail and PySpark 4.0 to 4.2 (installed: "
            f"{pyspark.__version__}). Install them: uv sync --no-group newest --extra sail"
        )
    from pysail.spark import SparkConnectServer

    log(f"Starting Sail with {memory} of memory.")
    scratch = os.path.abspath(scratch)
    os.makedirs(scratch, exist_ok=True)
    os.environ |= {
        "SAIL_RUNTIME__MEMORY_POOL__TYPE": "fair",
        "SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": str(int(memory[:-1]) * _UNITS[memory[-1]]),
        "SAIL_RUNTIME__TEMPORARY_FILES__PATHS": f'["{scratch}"]',
        # A session must outlive long steps of this process, such as the fit of a model.
        "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(10**7),
        "RUST_LOG": os.environ.get("RUST_LOG", "error"),
    }
    with ExitStack() as stack:
        # PySpark sets it, and would not start Java afterwards.
        stack.callback(os.environ.pop, "SPARK_CONNECT_MODE_ENABLED", None)
        server = SparkConnectServer()
        server.start(background=True)
        stack.callback(server.stop)
        host, port = server.listening_address
        session = SparkSession.builder.remote(f"sc://{host}:{port}").getOrCreate()
        stack.callback(session.stop)
        session.conf.set("spark.master", MASTER)
        session.conf.set(_SCRATCH, scratch)
        yield session


def is_sail(spark: SparkSession) -> bool:
    """Returns whether a session runs on Sail."""
    return spark.conf.get("spark.master", None) == MASTER


def path(uri: str) -> str:
    """Returns the URI of one file or folder for Sail, which reads a plain path as a pattern."""
    return f"file://{quote(uri)}" if uri.startswith("/") else uri


def scratch_path(spark: SparkSession) -> str:
    """Returns a new path for a file or folder that is removed when Sail stops."""
    return f"{spark.conf.get(_SCRATCH)}/{uuid.uuid4().hex}"

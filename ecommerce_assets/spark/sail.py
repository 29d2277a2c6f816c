"""Sail, an engine for one machine that needs no Java: a Spark Connect server in this process. Use `start`.

https://docs.lakesail.com/sail. The README of this package lists the differences from Spark.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import pyspark
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

if TYPE_CHECKING:
    import pyarrow as pa

MASTER = "sail"
"""The Spark master that selects Sail."""

USE_SPARK = "ECOMMERCE_SPARK_MASTER=local[*]"

_SCRATCH = "spark.local.dir"
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

_MEMORY_ERRORS = ("available for the total memory pool", "Resources exhausted", "spilling process has exceeded")
"""Parts of DataFusion's messages if memory or space for temporary files is exhausted."""


class SailMemoryError(MemoryError):
    """A query does not fit in Sail's memory pool; the message says what to do."""


def is_sail(spark: SparkSession) -> bool:
    """Returns whether a session runs on Sail."""
    return spark.conf.get("spark.master", None) == MASTER


def start(memory: str, scratch: str, log: Callable[[str], object]) -> tuple[SparkSession, Callable[[], None]]:
    """Starts Sail with all cores of this machine; returns a session, and a function that stops both.

    A query of the session that does not fit in the memory pool raises SailMemoryError.

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
    _check_packages()
    from pysail.spark import SparkConnectServer
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    log(f"Starting Sail with {memory} of memory.")
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
        # `SparkSession.builder.remote` sets it too, but takes no channel: PySpark's functions then make its columns.
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
        stack.callback(os.environ.pop, "SPARK_CONNECT_MODE_ENABLED", None)
        server = SparkConnectServer()
        server.start(background=True)
        stack.callback(server.stop)
        host, port = server.listening_address
        channel = DefaultChannelBuilder(f"sc://{host}:{port}")
        channel.add_interceptor(_memory_errors(memory))
        session = cast(SparkSession, ConnectSession.builder.channelBuilder(channel).create())
        stack.callback(session.stop)
        session.conf.set("spark.master", MASTER)
        session.conf.set(_SCRATCH, scratch)
        return session, stack.pop_all().close


def _check_packages() -> None:
    if find_spec("pysail") is None or find_spec("grpc") is None:
        problem = "the package pysail, which is missing"
    elif not pyspark.__version__.startswith(("4.0", "4.1", "4.2")):
        problem = f"PySpark 4.0 to 4.2, and {pyspark.__version__} is installed"
    else:
        return
    raise RuntimeError(
        f"ECOMMERCE_SPARK_MASTER={MASTER} needs {problem}. Install it: uv sync --no-group newest --extra sail"
    )


def _memory_errors(memory: str) -> Any:
    """Returns an interceptor of gRPC that raises SailMemoryError for Sail's errors about memory."""
    import grpc

    class Interceptor(grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]  # grpc has no types
        def intercept_unary_stream(
            self, continuation: Callable[[Any, Any], Iterator[Any]], client_call_details: Any, request: Any
        ) -> Iterator[Any]:
            try:
                yield from continuation(client_call_details, request)
            except grpc.RpcError as error:
                if any(message in str(error.details()) for message in _MEMORY_ERRORS):
                    raise SailMemoryError(
                        f"The data do not fit in Sail's memory of {memory}: increase ECOMMERCE_DRIVER_MEMORY, or use "
                        f"Spark, {USE_SPARK}."
                    ) from error
                raise

    return Interceptor()


def path(uri: str) -> str:
    """Returns the URI of one file or folder for Sail, which reads a plain path as a pattern."""
    return f"file://{quote(uri)}" if uri.startswith("/") else uri


def read_files(spark: SparkSession, schema: str, files: Mapping[str, Mapping[str, Any]]) -> DataFrame:
    """Returns Parquet files with constant columns per file: Sail does not tell which file a row is from.

    Parameters
    ----------
    files
        For each URI the name and value of each constant column.
    """
    frames = [
        spark.read.schema(schema).parquet(path(uri)).withColumns({name: F.lit(value) for name, value in values.items()})
        for uri, values in files.items()
    ]
    while len(frames) > 1:  # in pairs: a plan of a thousand nested unions would be too deep
        pairs = zip_longest(frames[::2], frames[1::2])
        frames = [left.union(right) if right is not None else left for left, right in pairs]
    return frames[0]


def frame_of(spark: SparkSession, table: pa.Table, schema: str | StructType) -> DataFrame:
    """Returns an Arrow table as a frame. It is passed as a file, because messages to Sail have a size limit."""
    import pyarrow.parquet as pq

    file = scratch_path(spark)
    pq.write_table(table, file)
    return spark.read.schema(schema).parquet(path(file))


def stored(frame: DataFrame) -> tuple[DataFrame, str]:
    """Returns the frame, written to files, and their folder: Sail's `persist` keeps nothing."""
    spark = frame.sparkSession
    folder = scratch_path(spark)
    frame.write.parquet(path(folder))
    return spark.read.schema(frame.schema).parquet(path(folder)), folder


def scratch_path(spark: SparkSession) -> str:
    """Returns a new path for a file or folder that is removed when Sail stops."""
    return f"{spark.conf.get(_SCRATCH)}/{uuid.uuid4().hex}"

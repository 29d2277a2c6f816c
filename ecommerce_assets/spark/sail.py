"""Sail, an engine for one machine that needs no Java: a Spark Connect server in this process. Use `start`.

https://docs.lakesail.com/sail. What Spark can do and Sail cannot is in the README of this package.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import quote

import pyspark
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

if TYPE_CHECKING:
    import pyarrow as pa

Value = TypeVar("Value")

MASTER = "sail"
"""The Spark master that asks for Sail."""

_NEWEST_PYSPARK = (4, 2)
_SCRATCH = "spark.local.dir"
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def is_sail(spark: SparkSession) -> bool:
    """Returns whether a session is Sail's."""
    return spark.conf.get("spark.master", None) == MASTER


def start(
    memory: str, scratch: str, out_of_memory: Callable[[], Exception], log: Callable[[str], object]
) -> tuple[SparkSession, Callable[[], None]]:
    """Starts Sail with all cores of this machine; returns a session, and a function that ends both.

    Parameters
    ----------
    memory
        Size of its memory pool, such as `8g`. Sorts, joins and aggregations that need more write to `scratch`.
    scratch
        Folder on this machine for intermediate files.
    out_of_memory
        Makes the error of a query that does not fit into the memory pool.

    Raises
    ------
    RuntimeError
        If pysail is not installed, or a PySpark that it does not work with.
    """
    _check_packages()
    from pysail.spark import SparkConnectServer
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    from ecommerce_assets.spark.sail_errors import MemoryErrors

    log(f"Starting Sail with {memory} of memory.")
    os.makedirs(scratch, exist_ok=True)
    os.environ.update(_configuration(memory, scratch))
    with ExitStack() as stack:
        # As `SparkSession.builder.remote` does, which takes no channel: PySpark's functions then make columns for it.
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
        stack.callback(os.environ.pop, "SPARK_CONNECT_MODE_ENABLED", None)
        server = SparkConnectServer()
        server.start(background=True)
        stack.callback(server.stop)
        host, port = server.listening_address
        channel = DefaultChannelBuilder(f"sc://{host}:{port}")
        channel.add_interceptor(MemoryErrors(out_of_memory))
        session = cast(SparkSession, ConnectSession.builder.channelBuilder(channel).create())
        stack.callback(session.stop)
        session.conf.set("spark.master", MASTER)
        session.conf.set(_SCRATCH, scratch)
        return session, stack.pop_all().close


def _check_packages() -> None:
    version = tuple(map(int, pyspark.__version__.split(".")[:2]))
    if find_spec("pysail") is None or find_spec("grpc") is None:
        problem = "the package pysail, which is missing"
    elif version > _NEWEST_PYSPARK:
        problem = f"PySpark 4.0 to 4.2, and {pyspark.__version__} is installed"
    else:
        return
    raise RuntimeError(
        f"ECOMMERCE_SPARK_MASTER={MASTER} needs {problem}. Install it: uv sync --no-group newest --extra sail"
    )


def _configuration(memory: str, scratch: str) -> Mapping[str, str]:
    """Returns the environment variables that a server reads when it is made."""
    amount = re.fullmatch(r"(\d+)([kmgt])", memory)
    if amount is None:
        raise RuntimeError(f"ECOMMERCE_DRIVER_MEMORY must be a size such as 8g, got {memory!r}.")
    return {
        "SAIL_RUNTIME__MEMORY_POOL__TYPE": "fair",
        "SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": str(int(amount[1]) * _UNITS[amount[2]]),
        "SAIL_RUNTIME__TEMPORARY_FILES__PATHS": f'["{scratch}"]',
        # A session that waits for a long step of this process, such as the fit of a model, stays.
        "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(10**7),
        "RUST_LOG": os.environ.get("RUST_LOG", "error"),
    }


def path(uri: str) -> str:
    """Returns the URI of one file or folder as Sail must be given it, which takes a plain path for a pattern."""
    return f"file://{quote(uri)}" if uri.startswith("/") else uri


def read_files(spark: SparkSession, schema: str, files: Mapping[str, Mapping[str, Any]]) -> DataFrame:
    """Returns Parquet files with columns that their paths stand for: Sail does not tell which file a row is from.

    Parameters
    ----------
    files
        For each URI the name and value of each column.
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
    """Returns an Arrow table as a frame, by way of a file that lives as long as Sail: a message has a limit of size."""
    import pyarrow.parquet as pq

    file = f"{spark.conf.get(_SCRATCH)}/{uuid.uuid4().hex}.parquet"
    pq.write_table(table, file)
    return spark.read.schema(schema).parquet(path(file))


def stored(frame: DataFrame) -> tuple[DataFrame, str]:
    """Returns the frame from files, and their folder, which lives as long as Sail: its `persist` keeps nothing."""
    spark = frame.sparkSession
    folder = f"{spark.conf.get(_SCRATCH)}/{uuid.uuid4().hex}"
    frame.write.parquet(path(folder))
    return spark.read.schema(frame.schema).parquet(path(folder)), folder


class Held(Generic[Value]):
    """A value for the functions of a query, which Sail runs in this process: it is not copied."""

    _values: ClassVar[dict[str, Any]] = {}

    def __init__(self, value: Value) -> None:
        self._name = uuid.uuid4().hex
        self._values[self._name] = value

    @property
    def value(self) -> Value:
        """The value."""
        held: Value = self._values[self._name]
        return held

    def destroy(self) -> None:
        """Forgets the value."""
        self._values.pop(self._name, None)

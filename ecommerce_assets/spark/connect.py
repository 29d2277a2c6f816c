"""One way for what a classic session, Spark Connect and Sail do differently, with public means of PySpark alone.

`open_session` connects to a server; the other functions work with any kind of session.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import tempfile
import uuid
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pyspark import Broadcast, SparkFiles
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, is_remote
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from ecommerce_assets.spark import sail

if TYPE_CHECKING:
    import pyarrow as pa

Value = TypeVar("Value")

SCHEME = "sc://"
"""Of a server's URL."""

NEEDED = ("grpc", "grpc_status", "google.rpc")
"""Modules of the optional dependencies `connect`."""

ROWS_TO_SPREAD = 1_000_000
"""More than any cluster has cores."""


def is_connect_url(master: str) -> bool:
    """Whether a Spark master is a Spark Connect server."""
    return master.startswith(SCHEME)


def active_session() -> SparkSession | None:
    """The Spark Connect session that this process has already, such as a notebook's."""
    if not is_remote():
        return None
    try:
        return SparkSession.active()
    except PySparkException:
        return None


def open_session(url: str) -> SparkSession:
    """A session on a Spark Connect server.

    Raises
    ------
    RuntimeError
        If the packages that Spark Connect needs are missing.
    """
    missing = [name for name in NEEDED if not _is_installed(name)]
    if missing:
        raise RuntimeError(
            f"ECOMMERCE_SPARK_MASTER={url} needs Python packages that are missing ({', '.join(missing)}). "
            "Install them: uv sync --extra connect"
        )
    # It warns of windows over small tables, as Java does in its own log.
    warnings.filterwarnings("ignore", "WARN WindowExpression: No Partition Defined")
    return SparkSession.builder.remote(url).getOrCreate()


def configure(session: SparkSession, settings: Mapping[str, str]) -> list[str]:
    """Change the settings that a session can change; returns the names of the others, which are the server's."""
    kept = []
    for name, value in settings.items():
        try:
            session.conf.set(name, value)
        except PySparkException:
            kept.append(name)
    return kept


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def master_of(spark: SparkSession) -> str:
    """Where Spark runs, such as `local[2]`: for Spark Connect the server's master, for Sail `sail`."""
    return str(spark.conf.get("spark.master"))


def parallelism(spark: SparkSession) -> int:
    """Number of tasks that Spark runs at the same time by default. Spark Connect answers it with a small query."""
    if not is_remote():
        return spark.sparkContext.defaultParallelism
    if sail.is_sail(spark):
        return os.cpu_count() or 1
    return spark.range(ROWS_TO_SPREAD).select(F.spark_partition_id()).distinct().count()


def has_workers(spark: SparkSession) -> bool:
    """Whether Python functions run in processes of their own, side by side: not with Sail."""
    return not sail.is_sail(spark)


def ship_package(spark: SparkSession, folder: Path) -> None:
    """Send this package to Spark's Python workers, which need not have it; numpy, pandas and pyarrow they must have.

    A cluster fetches it from the archive in `folder` whenever an executor starts, so that stays as long as the session.
    """
    package = Path(__file__).parents[1]
    archive = folder / f"{package.name}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(package.rglob("*.py")):
            packed.write(file, file.relative_to(package.parent))
    spark.addArtifacts(str(archive), pyfile=True)


def spark_path(uri: str) -> str:
    r"""The URI of one file or folder as Spark's readers must be given it, which take what they get for a pattern.

    Not for the option basePath, nor for writing: there Spark takes a path as it stands.

    Examples
    --------
    >>> print(spark_path("/data/my shop [1]/part-0.parquet"))
    /data/my shop \[1\]/part-0.parquet
    """
    return re.sub(r"[\\\[\]{}*?]", r"\\\g<0>", uri)


def path_to_read(spark: SparkSession, uri: str) -> str:
    """The URI of one file or folder as the readers of this session must be given it."""
    return sail.path(uri) if sail.is_sail(spark) else spark_path(uri)


def path_to_write(spark: SparkSession, uri: str) -> str:
    """The URI of a folder as writers must be given it."""
    return sail.path(uri) if sail.is_sail(spark) else uri


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, kept from its first use to the end of the block; by Sail in files, from the start."""
    if sail.is_sail(frame.sparkSession):
        kept, folder = sail.stored(frame)
        try:
            yield kept
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    kept = frame.persist()
    try:
        yield kept
    finally:
        with suppress(Exception):  # where Spark has died, the error of the block is the one to show
            kept.unpersist()


def used_again(frame: DataFrame) -> DataFrame:
    """The frame, for several uses in one query: Spark computes it once anyway, Sail each time, so it gets files."""
    return sail.stored(frame)[0] if sail.is_sail(frame.sparkSession) else frame


def frame_of(spark: SparkSession, table: pa.Table, schema: str | StructType) -> DataFrame:
    """An Arrow table of this process as a frame."""
    return sail.frame_of(spark, table, schema) if sail.is_sail(spark) else spark.createDataFrame(table, schema)


def send_to_workers(spark: SparkSession, value: Value) -> Broadcast[Value] | SharedFile[Value] | sail.Held[Value]:
    """A value for Spark's Python workers, each of which fetches it once: a broadcast, over Spark Connect a file.

    Functions read `.value`; `.destroy()` frees what it takes, when no job reads it any more. A function that holds the
    value itself would be sent with each plan, and a server accepts plans of up to 128 MB.
    """
    if not is_remote():
        return spark.sparkContext.broadcast(value)
    if sail.is_sail(spark):
        return sail.Held(value)
    name = f"shared-{uuid.uuid4().hex}.pickle"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        with file.open("wb") as stream:
            pickle.dump(value, stream, protocol=pickle.HIGHEST_PROTOCOL)
        spark.addArtifacts(str(file), file=True)
    return SharedFile(name)


class SharedFile(Generic[Value]):
    """A value in a file of a Spark Connect session; the server removes it when the session ends."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def value(self) -> Value:
        """The value, read once in each process."""
        found: Value = _read_shared(self._name)
        return found

    def destroy(self) -> None:
        """Does nothing: the file stays until the session ends."""


@lru_cache(maxsize=1)
def _read_shared(name: str) -> Any:
    with open(SparkFiles.get(name), "rb") as stream:
        return pickle.load(stream)

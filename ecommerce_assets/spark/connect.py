"""Hides the differences between classic Spark, Spark Connect and Sail, with PySpark's public API only.

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

ROWS_TO_SPREAD = 1_000_000
"""More than any cluster has cores."""


def open_session(url: str) -> SparkSession:
    """Returns a session on a Spark Connect server.

    Raises
    ------
    RuntimeError
        If the packages that Spark Connect needs are missing.
    """
    # It warns of windows over small tables, as Java does in its own log.
    warnings.filterwarnings("ignore", "WARN WindowExpression: No Partition Defined")
    try:
        return SparkSession.builder.remote(url).getOrCreate()
    except ImportError as error:
        raise RuntimeError(f"ECOMMERCE_SPARK_MASTER={url}: {error} Install it: uv sync --extra connect") from error


def configure(session: SparkSession, settings: Mapping[str, str]) -> list[str]:
    """Changes the settings of a session; returns the names of those that only its server can change."""
    unchanged = []
    for name, value in settings.items():
        try:
            session.conf.set(name, value)
        except PySparkException:
            unchanged.append(name)
    return unchanged


def master_of(spark: SparkSession) -> str:
    """Returns the Spark master, such as `local[2]`: for Spark Connect the server's, for Sail `sail`."""
    return str(spark.conf.get("spark.master"))


def parallelism(spark: SparkSession) -> int:
    """Returns the number of tasks that run at the same time by default. Spark Connect needs a small query for it."""
    if not is_remote():
        return spark.sparkContext.defaultParallelism
    if sail.is_sail(spark):
        return os.cpu_count() or 1
    return spark.range(ROWS_TO_SPREAD).select(F.spark_partition_id()).distinct().count()


def has_workers(spark: SparkSession) -> bool:
    """Returns whether Python functions run in parallel processes; Sail runs them in this process."""
    return not sail.is_sail(spark)


def ship_package(spark: SparkSession, folder: Path) -> None:
    """Sends this package to Spark's Python workers. They must have numpy, pandas and pyarrow.

    Parameters
    ----------
    folder
        Folder for the archive. A cluster fetches it whenever an executor starts: keep it as long as the session.
    """
    package = Path(__file__).parents[1]
    archive = folder / f"{package.name}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(package.rglob("*.py")):
            packed.write(file, file.relative_to(package.parent))
    spark.addArtifacts(str(archive), pyfile=True)


def spark_path(uri: str) -> str:
    r"""Returns the URI of one file or folder for Spark's readers, which read a plain path as a pattern.

    Do not use it for the option basePath, nor for writing: there Spark takes a path literally.

    Examples
    --------
    >>> print(spark_path("/data/my shop [1]/part-0.parquet"))
    /data/my shop \[1\]/part-0.parquet
    """
    return re.sub(r"[\\\[\]{}*?]", r"\\\g<0>", uri)


def path_to_read(spark: SparkSession, uri: str) -> str:
    """Returns the URI of one file or folder for the readers of this session."""
    return sail.path(uri) if sail.is_sail(spark) else spark_path(uri)


def path_to_write(spark: SparkSession, uri: str) -> str:
    """Returns the URI of a folder for the writers of this session."""
    return sail.path(uri) if sail.is_sail(spark) else uri


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """Keeps a frame until the end of the block, from its first use on. On Sail it is written to files at once."""
    if sail.is_sail(frame.sparkSession):
        stored, folder = sail.stored(frame)
        try:
            yield stored
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    frame.persist()
    try:
        yield frame
    finally:
        with suppress(Exception):  # if Spark has died, the error of the block is the one to show
            frame.unpersist()


def reusable(frame: DataFrame) -> DataFrame:
    """Returns a frame for several uses in one query. Sail would compute it for each, so it is written to files."""
    return sail.stored(frame)[0] if sail.is_sail(frame.sparkSession) else frame


def frame_of(spark: SparkSession, table: pa.Table, schema: str | StructType) -> DataFrame:
    """Returns an Arrow table of this process as a frame."""
    return sail.frame_of(spark, table, schema) if sail.is_sail(spark) else spark.createDataFrame(table, schema)


def send_to_workers(spark: SparkSession, value: Value) -> Broadcast[Value] | SharedFile[Value]:
    """Returns a handle on a value for Spark's Python workers, each of which fetches it once.

    Functions read `.value`; call `.destroy()` when no job reads it any more. A function that holds the value itself
    would be sent with each plan, and Spark Connect accepts plans of up to 128 MB.
    """
    if not is_remote():
        return spark.sparkContext.broadcast(value)
    if sail.is_sail(spark):
        file = Path(sail.scratch_path(spark))
        file.write_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
        return SharedFile(str(file))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"shared-{uuid.uuid4().hex}.pickle"
        file.write_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
        spark.addArtifacts(str(file), file=True)
    return SharedFile(file.name)


class SharedFile(Generic[Value]):
    """A value in a file, which is removed when the session ends.

    Parameters
    ----------
    name
        Name of an artifact of the session, or an absolute path.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def value(self) -> Value:
        """The value, read once per process."""
        value: Value = _read_shared(self._name)
        return value

    def destroy(self) -> None:
        """Frees the memory of this process; the file stays until the session ends."""
        _read_shared.cache_clear()


@lru_cache(maxsize=1)
def _read_shared(name: str) -> Any:
    path = name if os.path.isabs(name) else SparkFiles.get(name)
    with open(path, "rb") as stream:
        return pickle.load(stream)

"""Hides the differences between classic Spark, Spark Connect and Sail, with PySpark's public API only."""

from __future__ import annotations

import pickle
import re
import tempfile
import uuid
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
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

VERIFY_PAGES = "parquet.page.verify-checksum.enabled"
"""Option of Spark's Parquet reader: a page with a wrong checksum is an error."""

ROWS_TO_SPREAD = 1_000_000
"""More than any cluster has cores."""


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
    """Returns the number of tasks that run at the same time by default, from a small query."""
    return spark.range(ROWS_TO_SPREAD).select(F.spark_partition_id()).distinct().count()


def has_workers(spark: SparkSession) -> bool:
    """Returns whether Python functions run in parallel processes; Sail runs them in this process."""
    return not sail.is_sail(spark)


def ship_package(spark: SparkSession, folder: Path) -> None:
    """Sends this package to Spark's Python workers. They must have numpy, pandas, pyarrow and numba.

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


def path_to_write(spark: SparkSession, uri: str) -> str:
    """Returns the URI of a folder for the writers of this session."""
    return sail.path(uri) if sail.is_sail(spark) else uri


def read_files(
    spark: SparkSession, uris: Collection[str], schema: str | StructType | None = None, path_column: str | None = None
) -> DataFrame:
    """Returns the rows of Parquet files; damaged pages are an error, on Spark.

    Parameters
    ----------
    uris
        One or more files or folders.
    schema
        Columns to read; None: those of the files.
    path_column
        Name of an additional column with the URI of the row's file.
    """
    reader = spark.read.option(VERIFY_PAGES, "true")
    reader = reader if schema is None else reader.schema(schema)
    if not sail.is_sail(spark):
        frame = reader.parquet(*map(spark_path, uris))
        return frame.withColumn(path_column, F.col("_metadata.file_path")) if path_column else frame
    if not path_column:
        return reader.parquet(*map(sail.path, uris))
    # Sail does not tell which file a row is from.
    frames = [reader.parquet(sail.path(uri)).withColumn(path_column, F.lit(uri)) for uri in uris]
    while len(frames) > 1:  # in pairs: a plan of a thousand nested unions would be too deep
        pairs = zip_longest(frames[::2], frames[1::2])
        frames = [left.union(right) if right is not None else left for left, right in pairs]
    return frames[0]


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """Keeps a frame until the end of the block, from its first use on; see `reusable` for Sail."""
    kept = reusable(frame).persist()
    try:
        yield kept
    finally:
        with suppress(Exception):  # if Spark has died, the error of the block is the one to show
            kept.unpersist()


def reusable(frame: DataFrame) -> DataFrame:
    """Returns a frame for several uses. Sail would compute it for each, so it is written to files, at once."""
    spark = frame.sparkSession
    if not sail.is_sail(spark):
        return frame
    folder = sail.path(sail.scratch_path(spark))
    frame.write.parquet(folder)
    return spark.read.schema(frame.schema).parquet(folder)


def frame_of(spark: SparkSession, table: pa.Table, schema: str | StructType) -> DataFrame:
    """Returns an Arrow table of this process as a frame. Sail gets a file: messages to it have a size limit."""
    if not sail.is_sail(spark):
        return spark.createDataFrame(table, schema)
    import pyarrow.parquet as pq

    file = sail.scratch_path(spark)
    pq.write_table(table, file)
    return spark.read.schema(schema).parquet(sail.path(file))


def send_to_workers(spark: SparkSession, value: Value) -> Broadcast[Value] | Shared[Value]:
    """Returns a handle on a value for Spark's Python workers, each of which fetches it once.

    Functions read `.value`; call `.destroy()` when no job reads it any more. A function that holds the value itself
    would be sent with each plan, and Spark Connect accepts plans of up to 128 MB.
    """
    if not is_remote():
        return spark.sparkContext.broadcast(value)
    shared: Shared[Value] = Shared(f"shared-{uuid.uuid4().hex}")
    if sail.is_sail(spark):
        _values[shared.name] = value  # Sail runs Python functions in this process
        return shared
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, shared.name)
        file.write_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
        spark.addArtifacts(str(file), file=True)
    return shared


@dataclass(frozen=True)
class Shared(Generic[Value]):
    """A value that is an artifact of a session of Spark Connect, with this name, until the session ends."""

    name: str

    @property
    def value(self) -> Value:
        """The value, read once per process."""
        if self.name not in _values:
            _values.clear()
            _values[self.name] = pickle.loads(Path(SparkFiles.get(self.name)).read_bytes())
        value: Value = _values[self.name]
        return value

    def destroy(self) -> None:
        """Frees the memory of this process."""
        _values.pop(self.name, None)


_values: dict[str, Any] = {}
"""Values of this process by name."""

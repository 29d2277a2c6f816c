"""One way for what a classic session and Spark Connect do differently, with public means of PySpark alone.

`open_session` connects to a server; the other functions work with either kind of session.
"""

from __future__ import annotations

import pickle
import tempfile
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pyspark import SparkFiles
from pyspark.sql import SparkSession, is_remote
from pyspark.sql import functions as F

Value_co = TypeVar("Value_co", covariant=True)

SCHEME = "sc://"
"""Of a server's URL."""

NEEDED = ("grpc", "grpc_status", "google.rpc", "zstandard")
"""Modules of the optional dependencies `connect`."""

ROWS_TO_SPREAD = 1_000_000
"""More than any cluster has cores."""


def is_connect_url(master: str) -> bool:
    """Whether a Spark master is a Spark Connect server."""
    return master.startswith(SCHEME)


def open_session(url: str, settings: Mapping[str, str], names: Iterable[str]) -> SparkSession:
    """A session on a Spark Connect server, with the settings of these names that a session can change.

    All other settings are the server's.

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
    session = SparkSession.builder.remote(url).getOrCreate()
    for name in names:
        if session.conf.isModifiable(name):
            session.conf.set(name, settings[name])
    return session


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def master_of(spark: SparkSession) -> str:
    """Where Spark runs, such as `local[2]`: for Spark Connect the server's master."""
    return str(spark.conf.get("spark.master"))


def parallelism(spark: SparkSession) -> int:
    """Number of tasks that Spark runs at the same time by default. Spark Connect answers it with a small query."""
    if not is_remote():
        return spark.sparkContext.defaultParallelism
    [row] = spark.range(ROWS_TO_SPREAD).agg(F.max(F.spark_partition_id()).alias("last")).collect()
    return int(row["last"]) + 1


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


class Shared(Protocol[Value_co]):
    """A value that Spark's Python workers can read."""

    @property
    def value(self) -> Value_co:
        """The value; each worker fetches it once."""

    def destroy(self) -> None:
        """Free what it takes. No job may read it any more."""


def share(spark: SparkSession, value: Value_co) -> Shared[Value_co]:
    """Hand a value to Spark's Python workers: by a broadcast, over Spark Connect by a file of the session.

    A function that holds the value itself would be sent with each plan, whose size a server limits to 128 MB.
    """
    if not is_remote():
        return spark.sparkContext.broadcast(value)
    name = f"shared-{uuid.uuid4().hex}.pickle"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        with file.open("wb") as stream:
            pickle.dump(value, stream, protocol=pickle.HIGHEST_PROTOCOL)
        spark.addArtifacts(str(file), file=True)
    return _SharedFile(name)


class _SharedFile(Generic[Value_co]):
    """A value in a file that Spark Connect hands to the workers; it is there until the session ends."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def value(self) -> Value_co:
        found: Value_co = _read_shared(self._name)
        return found

    def destroy(self) -> None:
        """Nothing to do: the server removes the file with the session."""


@lru_cache(maxsize=1)
def _read_shared(name: str) -> Any:
    with open(SparkFiles.get(name), "rb") as stream:
        return pickle.load(stream)

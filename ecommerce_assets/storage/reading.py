"""Reading stored versions, from assets and from notebooks: the newest, an exact one, or the one of a given time.

`read` is for Spark, `dataset` for pandas, Polars and DuckDB, `paths` for what takes files. Which version serves is
lake.py's decision.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ecommerce_assets.settings import load_settings
from ecommerce_assets.spark.java import ensure_java
from ecommerce_assets.storage.filesystem import spark_path
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import FileEntry, Manifest

if TYPE_CHECKING:  # both take a second to import
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyspark.sql import DataFrame, SparkSession

MODEL_FOLDER = "model"

Chosen = Sequence[tuple[Manifest, Sequence[FileEntry]]]
"""Versions, and the files of each that are read."""

_VERSIONS_NAMED = 5


def read(
    asset: str,
    *,
    version: str | None = None,
    as_of: datetime | str | None = None,
    data_dir: str | None = None,
    spark: SparkSession | None = None,
) -> Any:
    """An asset as readers see it now, as it was at a time, or one exact version of it.

    Parameters
    ----------
    asset
        Its name, such as `user_features`.
    version
        An exact version, as `python -m ecommerce_assets.storage versions ASSET` lists them.
    as_of
        What readers saw then: a datetime or ISO text, UTC where it has no zone. Superseded versions are kept for a
        while, not for ever.
    data_dir
        By default the project's setting.
    spark
        By default the session that runs, or a new one in UTC.

    Returns
    -------
    DataFrame, Spark ML model or dict
        A table, a model, training_metadata (which starts no Spark). A daily table comes whole, each day from the
        version that serves it.

    Raises
    ------
    VersionNotFoundError
        Where there is no such asset, or no such version (any more); the message says what there is.

    Examples
    --------
    >>> read("user_features", as_of="2026-01-31 06:00")  # doctest: +SKIP
    """
    lake = Lake(data_dir or load_settings().data_dir)
    chosen = choose(lake, asset, version, as_of)
    if _format(chosen) == "json":
        return read_document(lake, chosen[0][0])
    return read_chosen(spark or _session(), lake, chosen)


def dataset(
    asset: str,
    *,
    version: str | None = None,
    as_of: datetime | str | None = None,
    data_dir: str | None = None,
) -> ds.Dataset:
    """A table as `read` would read it, as an Arrow dataset: for pandas, Polars and DuckDB, without Spark.

    Nothing is read before it is asked for. It has the same columns and types for all of them, also where the table is
    empty, daily, or in a bucket.

    Parameters
    ----------
    asset, version, as_of, data_dir
        As for `read`.

    Raises
    ------
    VersionNotFoundError
        As `read` does.
    ValueError
        Where the asset is no table.

    Examples
    --------
    >>> dataset("user_features").to_table().to_pandas()  # doctest: +SKIP
    >>> polars.scan_pyarrow_dataset(dataset("user_features"))  # doctest: +SKIP
    >>> duckdb.from_arrow(dataset("user_features"))  # doctest: +SKIP
    """
    import pyarrow.dataset as ds

    lake = Lake(data_dir or load_settings().data_dir)
    chosen = choose(lake, asset, version, as_of)
    if _format(chosen) != "parquet":
        kind = "a document" if _format(chosen) == "json" else "a model"
        raise ValueError(f"{asset} is {kind}, not a table: read({asset!r}) gives it.")
    schema = arrow_schema(chosen[0][0].columns or {})
    files = []
    for manifest, entries in chosen:
        folder = lake.folder(asset, manifest.version)
        files += [f"{folder.path}/{file.path}" for file in entries]
    # Without partitioning, so that the day in the path of a file adds no column.
    return ds.dataset(files, schema=schema, format="parquet", filesystem=lake.root.fs, partitioning=None)


def paths(
    asset: str,
    *,
    version: str | None = None,
    as_of: datetime | str | None = None,
    data_dir: str | None = None,
) -> list[str]:
    """The data files of what `read` would read, as Spark names them; none where a daily table has no rows.

    Some libraries make a column of the day in a path: to have the table itself, take `dataset`.

    Raises VersionNotFoundError as `read` does.

    Examples
    --------
    >>> polars.scan_parquet(paths("recommendations"))  # doctest: +SKIP
    """
    lake = Lake(data_dir or load_settings().data_dir)
    found = []
    for manifest, files in choose(lake, asset, version, as_of):
        folder = lake.folder(asset, manifest.version).uri
        found += [f"{folder}/{file.path}" for file in files]
    return found


def choose(lake: Lake, asset: str, version: str | None = None, as_of: datetime | str | None = None) -> Chosen:
    """The versions and files that `read` reads, which raises what this raises."""
    if version is not None and as_of is not None:
        raise ValueError("a version is exact already: give version or as_of, not both")
    if asset not in lake.assets():
        raise VersionNotFoundError(lake.nothing_stored_of(asset))
    if version is not None:
        manifest = _exactly(lake, asset, version)
        return [(manifest, _published_files(manifest))]
    moment = None if as_of is None else _utc(as_of)
    manifest = lake.latest(asset, as_of=moment)
    if not manifest.partitions:
        return [(manifest, manifest.files)]
    return files_by_version(lake.days(asset, as_of=moment))


def files_by_version(days: Sequence[Any]) -> Chosen:
    """The files of these days, under the version that serves each."""
    chosen: dict[str, tuple[Manifest, list[FileEntry]]] = {}
    for day in days:
        chosen.setdefault(day.manifest.version, (day.manifest, []))[1].extend(day.manifest.files_of(day.day))
    return list(chosen.values())


def read_chosen(spark: SparkSession, lake: Lake, chosen: Chosen) -> Any:
    """The value of the chosen files: what the format of their versions says."""
    if not chosen:
        raise VersionNotFoundError("no version was chosen")
    return _READERS[chosen[0][0].format](spark, lake, chosen)


def _read_table(spark: SparkSession, lake: Lake, chosen: Chosen) -> DataFrame:
    frames = []
    for manifest, files in chosen:
        folder = lake.folder(manifest.asset, manifest.version)
        uris = [spark_path(f"{folder.uri}/{f.path}") for f in files]
        schema = ", ".join(f"`{name}` {kind}" for name, kind in (manifest.columns or {}).items())
        # Files are named one by one and without basePath, so that the day in their path adds no column.
        frames.append(spark.read.schema(schema).parquet(*uris) if uris else spark.createDataFrame([], schema))
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame)
    return whole


def _read_model(spark: SparkSession, lake: Lake, chosen: Chosen) -> Any:
    from pyspark.ml.util import DefaultParamsReader

    [(manifest, _)] = chosen
    uri = (lake.folder(manifest.asset, manifest.version) / MODEL_FOLDER).uri
    return DefaultParamsReader.loadParamsInstance(spark_path(uri), spark)


def read_document(lake: Lake, manifest: Manifest) -> Any:
    """The JSON document that a version is."""
    return json.loads(lake.folder(manifest.asset, manifest.version).read_bytes(f"{manifest.asset}.json"))


_READERS: dict[str, Callable[[SparkSession, Lake, Chosen], Any]] = {
    "parquet": _read_table,
    "spark-ml": _read_model,
    "json": lambda _, lake, chosen: read_document(lake, chosen[0][0]),
}


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """From the names and Spark types of a table's columns."""
    import pyarrow as pa

    types = {
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "double": pa.float64(),
        "float": pa.float32(),
        "int": pa.int32(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def _format(chosen: Chosen) -> str:
    return chosen[0][0].format


def _exactly(lake: Lake, asset: str, version: str) -> Manifest:
    try:
        return lake.version(asset, version)
    except VersionNotFoundError:
        newest = [manifest.version for manifest in lake.committed(asset)][: -_VERSIONS_NAMED - 1 : -1]
        raise VersionNotFoundError(
            f"{asset} has no whole version {version} in {lake.root.uri}; the newest are {', '.join(newest) or 'none'}."
        ) from None


def _session() -> SparkSession:
    """The session that runs in this process, or a new one, with the Java that our runs take."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from ecommerce_assets.spark.java_output import start_quietly

    if SparkSession.getActiveSession() is None and SparkContext._active_spark_context is None:
        ensure_java(logging.getLogger(__name__).info)
        start_quietly(
            {
                "spark.sql.session.timeZone": "UTC",
                "spark.log.level": "ERROR",
                "spark.ui.showConsoleProgress": "false",
            }
        )
    return SparkSession.builder.getOrCreate()


def _published_files(manifest: Manifest) -> Sequence[FileEntry]:
    if not manifest.partitions:
        return manifest.files
    return [file for day in manifest.published_days for file in manifest.files_of(day)]


def _utc(moment: datetime | str) -> datetime:
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        raise ValueError(f"as_of={moment!r} is no time: write it as 2026-01-31 or 2026-01-31 06:00, in UTC.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

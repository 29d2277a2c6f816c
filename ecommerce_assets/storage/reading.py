"""Reading stored versions, from assets and from notebooks: the newest, an exact one, or the one of a given time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.filesystem import spark_path
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import FileEntry, Manifest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MODEL_FOLDER = "model"

Chosen = Sequence[tuple[Manifest, Sequence[FileEntry]]]
"""Versions, and the files of each that are read."""


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
        By default the session that runs, or a new one.

    Returns
    -------
    DataFrame, Spark ML model or dict
        A table, a model, training_metadata. A daily table comes whole, each day from the version that serves it.

    Raises
    ------
    VersionNotFoundError
        Where there is no such version (any more).

    Examples
    --------
    >>> read("user_features", as_of="2026-01-31 06:00")  # doctest: +SKIP
    """
    from pyspark.sql import SparkSession

    lake = Lake(data_dir or load_settings().data_dir)
    chosen = choose(lake, asset, version, as_of)
    return read_chosen(spark or SparkSession.builder.getOrCreate(), lake, chosen)


def paths(
    asset: str,
    *,
    version: str | None = None,
    as_of: datetime | str | None = None,
    data_dir: str | None = None,
) -> list[str]:
    """The data files of what `read` would read, for pandas, Polars or DuckDB; no Spark is started.

    Examples
    --------
    >>> pl.read_parquet(paths("recommendations"))  # doctest: +SKIP
    """
    lake = Lake(data_dir or load_settings().data_dir)
    found = []
    for manifest, files in choose(lake, asset, version, as_of):
        folder = lake.folder(asset, manifest.version).uri
        found += [f"{folder}/{file.path}" for file in files]
    return found


def choose(lake: Lake, asset: str, version: str | None = None, as_of: datetime | str | None = None) -> Chosen:
    """The versions and files that `read` reads."""
    if version is not None and as_of is not None:
        raise ValueError("a version is exact already: give version or as_of, not both")
    if version is not None:
        manifest = lake.version(asset, version)
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


def _published_files(manifest: Manifest) -> Sequence[FileEntry]:
    if not manifest.partitions:
        return manifest.files
    return [file for day in manifest.published_days for file in manifest.files_of(day)]


def _utc(moment: datetime | str) -> datetime:
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return found if found.tzinfo else found.replace(tzinfo=UTC)

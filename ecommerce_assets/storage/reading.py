"""Reads stored versions: the newest, an exact one, or that of a given time. The entry point is `read`.

Other tools open tables as Delta tables; `read` is for models, documents and Spark without a Delta package.
"""

from __future__ import annotations

import atexit
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ecommerce_assets.settings import FIXED_SPARK_SETTINGS, load_settings
from ecommerce_assets.storage import delta
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Day, Lake, VersionNotFoundError
from ecommerce_assets.storage.stored_table import StoredTable, parquet_dataset
from ecommerce_assets.storage.version import PARTITION_COLUMN, Version

if TYPE_CHECKING:  # each takes a second to import
    import pyarrow.dataset as ds
    from pyspark.sql import DataFrame, SparkSession

MODEL_FOLDER = "model"

_FILE = "_file"


def read(
    asset: str,
    *,
    version: str | int | None = None,
    as_of: datetime | str | None = None,
    data_dir: str | None = None,
    spark: SparkSession | None = None,
) -> Any:
    """Returns an asset as readers see it now, as they saw it at a time, or an exact version of it.

    Parameters
    ----------
    asset
        Its name, such as `user_features`.
    version
        Delta version of a table, folder of a model or document.
    as_of
        Time as a datetime or ISO text, UTC if it has no zone. Retention removes superseded versions.
    data_dir
        By default the setting ECOMMERCE_DATA_DIR.
    spark
        By default the running session, or a new one in UTC.

    Returns
    -------
    DataFrame, Spark ML model or dict
        For a table, a model or a document (without Spark). A daily table also has the column `event_date`.

    Raises
    ------
    VersionNotFoundError
        If there is no such asset or version; the message has those that exist.

    Examples
    --------
    >>> read("user_features", as_of="2026-01-31 06:00")  # doctest: +SKIP
    """
    if version is not None and as_of is not None:
        raise ValueError("Give either version or as_of, not both.")
    lake = Lake(data_dir or load_settings().data_dir)
    if asset not in lake.assets():
        raise VersionNotFoundError(lake.not_stored_message(asset))
    moment = None if as_of is None else _utc(as_of)
    chosen = lake.version(asset, str(version)) if version is not None else lake.latest(asset, as_of=moment)
    if chosen.kind == "document":
        return read_document(lake, chosen)
    spark = spark or _session()
    if chosen.days:
        return read_days(spark, lake, lake.days(asset, at=chosen.version))
    return read_version(spark, lake, chosen)


def read_version(spark: SparkSession, lake: Lake, version: Version) -> Any:
    """Returns the value of a version that is not daily."""
    if version.kind == "document":
        return read_document(lake, version)
    if version.kind == "model":
        from pyspark.ml.util import DefaultParamsReader

        from ecommerce_assets.spark.connect import spark_path
        from ecommerce_assets.spark.sail import is_sail

        folder = f"{lake.folder(version).uri}/{MODEL_FOLDER}"
        if is_sail(spark):
            raise ValueError(
                f"{version.asset} is a model of Spark ML, which Sail cannot load; its files are in {folder}."
            )
        return DefaultParamsReader.loadParamsInstance(spark_path(folder), spark)
    paths = [file.path for file in lake.files(version)]
    return read_parquet(spark, lake.asset(version.asset), paths, version.columns or {})


def read_table(spark: SparkSession, lake: Lake, version: Version) -> StoredTable:
    """Returns a version of a table that is not daily, to be read with or without Spark."""
    dataset = arrow_dataset(lake, version) if lake.files(version) else None
    return StoredTable(read_version(spark, lake, version), dataset, version.parameters)


def read_without_spark(lake: Lake, version: Version) -> StoredTable:
    """Returns a version of a table that is not daily, without Spark: `frame` is None, the rows are in the dataset."""
    frame: Any = None
    return StoredTable(frame, arrow_dataset(lake, version), version.parameters)


def read_days(spark: SparkSession, lake: Lake, days: Sequence[Day]) -> DataFrame:
    """Returns days of a daily table, with the column `event_date`."""
    newest = max((day.version for day in days), key=lambda version: version.committed_at)
    paths = [file.path for day in days for file in day.files]
    return read_parquet(spark, lake.asset(newest.asset), paths, newest.columns or {}, daily=True)


def read_parquet(
    spark: SparkSession, table: Folder, paths: Sequence[str], columns: Mapping[str, str], daily: bool = False
) -> DataFrame:
    """Returns Parquet files of a table.

    Parameters
    ----------
    paths
        Paths relative to the table.
    columns
        Spark types by name.
    daily
        Whether to add `event_date`, which is in the paths and not in the files.
    """
    from pyspark.sql import functions as F

    from ecommerce_assets.spark.connect import read_files

    schema = ", ".join(f"`{name}` {kind}" for name, kind in columns.items())
    if not paths:
        return spark.createDataFrame([], f"{schema}, {PARTITION_COLUMN} date" if daily else schema)
    # Files without a base path, so that Spark does not look for partition columns: it would take the folders of
    # different versions for conflicting partitions.
    frame = read_files(spark, [f"{table.uri}/{path}" for path in paths], schema, _FILE if daily else None)
    if not daily:
        return frame
    day = F.regexp_extract(_FILE, rf"{PARTITION_COLUMN}=([0-9-]+)", 1).cast("date")
    return frame.withColumn(PARTITION_COLUMN, day).drop(_FILE)


def arrow_dataset(lake: Lake, version: Version, paths: Sequence[str] | None = None) -> ds.Dataset:
    """Returns Parquet files of a table's version as an Arrow dataset that verifies pages, without `event_date`.

    Parameters
    ----------
    paths
        Paths relative to the table; None: all files of the version.
    """
    import pyarrow as pa

    schema = pa.schema(delta.open_table(lake.asset(version.asset), int(version.version)).schema().to_arrow())
    if version.days:
        schema = schema.remove(schema.get_field_index(PARTITION_COLUMN))
    paths = [file.path for file in lake.files(version)] if paths is None else paths
    files = [f"{lake.asset(version.asset).path}/{path}" for path in paths]
    return parquet_dataset(files, schema, lake.root.fs)


def read_document(lake: Lake, version: Version) -> Any:
    """Returns the JSON document of a version."""
    return json.loads(lake.folder(version).read_bytes(f"{version.asset}.json"))


def _session() -> SparkSession:
    """Returns the session of this process, or a new one on this machine, on Sail if that is the setting."""
    from ecommerce_assets.spark import sail
    from ecommerce_assets.spark.session import active_session, start

    existing, log, settings = active_session(), logging.getLogger(__name__).info, load_settings()
    if existing is not None:
        return existing
    if settings.spark_master == sail.MASTER:
        until_exit = ExitStack()
        atexit.register(until_exit.close)
        scratch = until_exit.enter_context(tempfile.TemporaryDirectory())
        return until_exit.enter_context(sail.running_sail(settings.driver_memory, scratch, log))
    return start({**FIXED_SPARK_SETTINGS, "spark.master": "local[*]", "spark.ui.showConsoleProgress": "false"}, log)


def _utc(moment: datetime | str) -> datetime:
    try:
        time = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        raise ValueError(
            f"as_of must be a time such as 2026-01-31 or 2026-01-31 06:00 (UTC), got {moment!r}."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)

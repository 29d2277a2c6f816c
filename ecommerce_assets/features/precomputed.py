"""Finds and validates feature tables that another job exported, to use them instead of computing features.

Exports are files or folders named `user_behavior_…YYYYMMDD_HHMMSS…` and `product_data_…YYYYMMDD_HHMMSS…` in
`<data dir>/processed/parquet/`. Entry point: `newest_export`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.events.raw import fingerprint
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, USER_FEATURES
from ecommerce_assets.progress import Log
from ecommerce_assets.spark.connect import read_files
from ecommerce_assets.spark.sail import is_sail
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.stored_asset import Artifact
from ecommerce_assets.storage.version import FileEntry, Input

PRECOMPUTED = "precomputed"
"""Name of the result with the URI of the export. Checks that only computed features must pass are then warnings."""

_TIMESTAMP = re.compile(r"\d{8}_\d{6}")


@dataclass(frozen=True)
class FeatureExport:
    """A kind of export: the prefix of its names, the table that it replaces, and the columns that it must have."""

    prefix: str
    table: TableSpec
    required: tuple[str, ...]


USER_BEHAVIOR = FeatureExport("user_behavior", USER_FEATURES, ("user_id", *CLUSTERING_FEATURES))
PRODUCT_DATA = FeatureExport("product_data", PRODUCT_FEATURES, ("product_id", "category", "enhanced_popularity_score"))


ParquetType = tuple[str, str]
"""Physical and logical type of a Parquet column. The Arrow type would depend on the writer of the file."""


class _UnusableError(Exception):
    """An export cannot be used; the message says why."""


def newest_export(
    kind: FeatureExport, folder_uri: str, id_type: str, spark: SparkSession, info: Log, warn: Log
) -> Artifact | None:
    """Returns the newest readable export of a kind, with the columns of the table that it replaces; None without one.

    Optional columns that the export lacks are null.

    Parameters
    ----------
    folder_uri
        Folder or bucket of the exports, as a URI or a path.
    id_type
        Spark type of the ids, `bigint` or `string`.
    info, warn
        Log functions. `info` gets one sentence about the choice, `warn` one for each export that cannot be used.
    """
    folder = Folder(folder_uri)
    for name in _newest_first(folder, kind.prefix, warn):
        uri = f"{folder.uri}/{name}"
        try:
            files, types = _inspect(folder, name, kind)
        except _UnusableError as problem:
            warn(f"{uri} is skipped: {problem}.")
            continue
        info(f"Read from {uri} instead of computed from cleaned_events.")
        entries = tuple(FileEntry(path=file.path, bytes=file.bytes) for file in files)
        export = Input(asset=name.partition(".")[0], fingerprint=fingerprint(files), files=entries)
        # Spark refuses files with timestamps in nanoseconds, as pandas writes them, unless it reads them as integers.
        spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
        frame = read_files(spark, [f"{folder.uri}/{file.path}" for file in files])
        return Artifact(_as_table(frame, kind, types, id_type), results={PRECOMPUTED: uri}, inputs=[export])
    info(f"Computed from cleaned_events: {folder.uri} has no readable {kind.prefix}_… export.")
    return None


def _as_table(frame: DataFrame, kind: FeatureExport, types: Mapping[str, ParquetType], id_type: str) -> DataFrame:
    def value(name: str) -> Column:
        if name not in types:
            return F.lit(None)
        if "nanoseconds" not in types[name][1] or is_sail(frame.sparkSession):  # Sail reads them as timestamps
            return F.col(name)
        # Integer division, because a double is too coarse for the nanoseconds since 1970.
        return F.expr(f"timestamp_micros(`{name}` div 1000)")

    # try_cast: a value that does not fit becomes null, and the checks count it.
    columns = kind.table.with_id_type(id_type).columns
    return frame.select(*[value(c.name).try_cast(c.type).alias(c.name) for c in columns])


def _newest_first(folder: Folder, prefix: str, warn: Log) -> Iterator[str]:
    dated = []
    for name in [*folder.folders(), *folder.file_names()]:
        stamp = _TIMESTAMP.search(name) if name.startswith(f"{prefix}_") else None
        if stamp is None:
            continue
        try:
            dated.append((datetime.strptime(stamp.group(), "%Y%m%d_%H%M%S"), name))
        except ValueError:
            warn(f"{folder.uri}/{name} is skipped: {stamp.group()} in its name is not a valid YYYYMMDD_HHMMSS time.")
    for _, name in sorted(dated, reverse=True):
        yield name


def _inspect(folder: Folder, name: str, kind: FeatureExport) -> tuple[list[FileInfo], dict[str, ParquetType]]:
    """The Parquet files of an export, and the types of the columns to read.

    Decodes all these columns, so that a damaged file is skipped here and does not fail the run later.
    """
    files = [f for f in folder.data_files() if f.path == name or f.path.startswith(f"{name}/")]
    files = [f for f in files if f.path.endswith((".parquet", ".parq")) or f.path == name]
    if not files:
        raise _UnusableError("it has no Parquet file")
    common: dict[str, ParquetType] = {}
    rows, not_finite = 0, Counter[str]()
    for file in files:
        try:
            with folder.open(file.path) as source:
                parquet = pq.ParquetFile(source, page_checksum_verification=True)
                types = _parquet_types(parquet)
                missing = [column for column in kind.required if column not in types]
                if missing:
                    raise _UnusableError(f"{file.path} lacks the columns {', '.join(missing)}")
                types = {column: types[column] for column in kind.table.names if column in types}
                common = {column: kept for column, kept in (common or types).items() if column in types}
                # Spark reads all files with one schema and would fail on other types in the middle of a run.
                mixed = [column for column, kept in common.items() if kept != types[column]]
                if mixed:
                    raise _UnusableError(
                        f"the types of {', '.join(mixed)} in {file.path} differ from those in {files[0].path}"
                    )
                for batch in parquet.iter_batches(columns=list(common)):
                    for column in common:
                        not_finite[column] += _count_not_finite(batch.column(column))
                rows += parquet.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _UnusableError(f"{file.path} is not readable as Parquet ({str(error).splitlines()[0]})") from None
    if not rows:
        raise _UnusableError("it has no rows")
    if bad := [f"{column} is NaN or infinite in {count:,} rows" for column, count in not_finite.items() if count]:
        raise _UnusableError(", ".join(bad))
    return files, common


def _count_not_finite(values: pa.Array) -> int:
    if pa.types.is_floating(values.type):
        return int(pc.sum(pc.invert(pc.is_finite(values))).as_py() or 0)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        words = pc.match_substring_regex(values, r"(?i)^\s*[+-]?(nan|inf|infinity)\s*$")
        return int(pc.sum(words).as_py() or 0)
    return 0


def _parquet_types(parquet: pq.ParquetFile) -> dict[str, ParquetType]:
    columns = [parquet.schema.column(number) for number in range(len(parquet.schema))]
    return {column.path: (column.physical_type, str(column.logical_type)) for column in columns}

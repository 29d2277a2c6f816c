"""Feature tables that were computed elsewhere: found, checked, and used instead of our own where they are readable.

They are in one folder, by default `<data dir>/processed/parquet/`, as files or folders named
`user_behavior_…YYYYMMDD_HHMMSS…` and `product_data_…YYYYMMDD_HHMMSS…`. See user_features.py and
product_features.py for our own tables.
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
from ecommerce_assets.spark.connect import path_to_read
from ecommerce_assets.spark.sail import is_sail
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.stored_asset import Artifact
from ecommerce_assets.storage.version import FileEntry, Input

PRECOMPUTED = "precomputed"
"""The result that such a table reports. Checks of what only our own computation can promise are then warnings."""

_TIMESTAMP = re.compile(r"\d{8}_\d{6}")


@dataclass(frozen=True)
class FeatureExport:
    """A kind of export: how its names begin, which table it stands for, and which columns it must have."""

    prefix: str
    schema: TableSpec
    needed: tuple[str, ...]


USER_BEHAVIOR = FeatureExport("user_behavior", USER_FEATURES, ("user_id", *CLUSTERING_FEATURES))
PRODUCT_DATA = FeatureExport("product_data", PRODUCT_FEATURES, ("product_id", "category", "enhanced_popularity_score"))


StoredType = tuple[str, str]
"""Parquet's physical and logical type of a column. What Arrow makes of it depends on who wrote it."""


class _UnusableError(Exception):
    """This export cannot be used; the message says why."""


@dataclass(frozen=True)
class PrecomputedFeatures:
    """Looks for exports in a folder.

    Parameters
    ----------
    folder
        Folder or bucket, as a URI or a path.
    enabled
        False: nothing is ever found.
    id_type
        Spark type of the ids.
    """

    folder: str
    enabled: bool = True
    id_type: str = "bigint"

    def newest(self, kind: FeatureExport, spark: SparkSession, info: Log, warn: Log) -> Artifact | None:
        """The newest readable export of a kind as the table that it stands for; None where there is none.

        Columns that it lacks and may lack are null. One sentence to `info` says which way it went, one to `warn` for
        each export that cannot be used.
        """
        if not self.enabled:
            return None
        folder = Folder(self.folder)
        for name in _newest_first(folder, kind.prefix, warn):
            try:
                files, there = _inspect(folder, name, kind)
            except _UnusableError as problem:
                warn(f"{folder.uri}/{name} cannot be used: {problem}.")
                continue
            info(f"Taken from {folder.uri}/{name}, not computed from cleaned_events.")
            entries = tuple(FileEntry(path=file.path, bytes=file.bytes) for file in files)
            made_of = Input(asset=name.partition(".")[0], fingerprint=fingerprint(files), files=entries)
            # The nanoseconds that pandas writes are read as integers; without this Spark refuses the file.
            spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
            frame = spark.read.parquet(*[path_to_read(spark, f"{folder.uri}/{file.path}") for file in files])
            return Artifact(
                self._table(frame, kind, there), results={PRECOMPUTED: f"{folder.uri}/{name}"}, inputs=[made_of]
            )
        info(f"Computed from cleaned_events: there is no readable {kind.prefix}_… in {folder.uri}.")
        return None

    def _table(self, frame: DataFrame, kind: FeatureExport, there: Mapping[str, StoredType]) -> DataFrame:
        def value(name: str) -> Column:
            if name not in there:
                return F.lit(None)
            if "nanoseconds" not in there[name][1] or is_sail(frame.sparkSession):  # Sail reads them as times
                return F.col(name)
            # As integers: a double holds the nanoseconds of our time to 256 only.
            return F.expr(f"timestamp_micros(`{name}` div 1000)")

        # try_cast: a value that does not fit becomes null, and the checks count it.
        columns = kind.schema.with_id_type(self.id_type).columns
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
            warn(f"{folder.uri}/{name} is skipped: {stamp.group()} is no date and time (YYYYMMDD_HHMMSS).")
    for _, name in sorted(dated, reverse=True):
        yield name


def _inspect(folder: Folder, name: str, kind: FeatureExport) -> tuple[list[FileInfo], dict[str, StoredType]]:
    """The Parquet files of an export, and the columns that are read of it.

    All of them are decoded here, so that no run finds out later what is wrong with them.
    """
    files = [f for f in folder.data_files() if f.path == name or f.path.startswith(f"{name}/")]
    files = [f for f in files if f.path.endswith((".parquet", ".parq")) or f.path == name]
    if not files:
        raise _UnusableError("it holds no Parquet file")
    common: dict[str, StoredType] = {}
    rows, not_finite = 0, Counter[str]()
    for file in files:
        try:
            with folder.open(file.path) as source:
                parquet = pq.ParquetFile(source, page_checksum_verification=True)
                own = _stored_types(parquet)
                missing = [column for column in kind.needed if column not in own]
                if missing:
                    raise _UnusableError(f"{file.path} lacks the columns {', '.join(missing)}")
                own = {column: own[column] for column in kind.schema.names if column in own}
                common = {column: stored for column, stored in (common or own).items() if column in own}
                # Spark reads all files with one schema: types that differ it finds in the middle of a run.
                mixed = [column for column, stored in common.items() if stored != own[column]]
                if mixed:
                    raise _UnusableError(f"{file.path} has other types than {files[0].path} for {', '.join(mixed)}")
                for batch in parquet.iter_batches(columns=list(common)):
                    for column in common:
                        not_finite[column] += _count_not_finite(batch.column(column))
                rows += parquet.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _UnusableError(f"{file.path} is no readable Parquet ({str(error).splitlines()[0]})") from None
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


def _stored_types(parquet: pq.ParquetFile) -> dict[str, StoredType]:
    columns = [parquet.schema.column(number) for number in range(len(parquet.schema))]
    return {column.path: (column.physical_type, str(column.logical_type)) for column in columns}

"""Timestamped drops (`cleaned_data_YYYYMMDD_HHMMSS.parquet`) as raw events: their union, split by day as it is read.

In place of daily folders, for the training in one go (../training.py). To make daily folders of them is landing's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from glob import has_magic
from itertools import takewhile

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.events.cleaning import day_of
from ecommerce_assets.events.raw import RawDataError, RawEvents, describe, fingerprint, is_raw_file
from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN
from ecommerce_assets.settings import EARLIEST_DAY
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.version import FileEntry, Input


@dataclass(frozen=True)
class DroppedEvents(RawEvents):
    """The rows of some drops, by the day of their event_time.

    Attributes
    ----------
    rows_by_day
        Raw rows of each day. Those without a readable time, or with one that cannot be (before 1990, after tomorrow),
        count for the first day, where cleaning rejects them.
    """

    rows_by_day: dict[str, int] = field(default_factory=dict)

    def rows(self, day: str) -> int:
        """Raw rows of a day."""
        return self.rows_by_day.get(day, 0)

    def inputs(self) -> list[Input]:
        """All files, which may hold rows of any day, as one input; with whole paths, for they may lie anywhere."""
        names = [FileEntry(path=file.path, bytes=file.bytes) for file in self.files]
        files = tuple(file.model_copy(update={"path": f"{self.folder.uri}/{file.path}"}) for file in names)
        return [Input(asset="raw_events", partitions=self.days, files=files, fingerprint=fingerprint(names))]

    def frames(self, spark: SparkSession) -> list[DataFrame]:
        """As of RawEvents, with the day of each row."""
        return [
            frame.withColumn(PARTITION_COLUMN, F.coalesce(PARTITION_COLUMN, F.lit(self.days[0]).cast("date")))
            for frame in _frames(spark, self)
        ]


def find_drops(spark: SparkSession, path: str) -> DroppedEvents:
    """All rows of the drops that the path stands for: a Parquet file, a folder of them, or a glob of either.

    Raises RawDataError where there is none, one is no Parquet or lacks a needed column, or no row has a readable time.
    """
    root, files = _find(path)
    raw = RawEvents(root, (), (), describe(root, files))
    counted = reduce(DataFrame.unionByName, [f.select(PARTITION_COLUMN) for f in _frames(spark, raw)])
    by_day = {row[PARTITION_COLUMN]: row["count"] for row in counted.groupBy(PARTITION_COLUMN).count().collect()}
    undated = by_day.pop(None, 0)
    if not by_day:
        raise RawDataError(f"{path} holds {undated:,} rows and none of them has a readable event_time.")
    days = [str(day) for day in sorted(by_day)]
    rows = {str(day): count for day, count in by_day.items()}
    rows[days[0]] += undated
    return DroppedEvents(root, tuple(days), (), raw.files, rows_by_day=rows)


def _find(path: str) -> tuple[Folder, list[FileInfo]]:
    """The deepest folder above all drops, and their Parquet files relative to it."""
    # Absolute, because Java's current folder is the one in which it was started.
    absolute = path if "://" in path else os.path.abspath(path)
    *above, name = absolute.rstrip("/").split("/")
    fixed = list(takewhile(lambda part: not has_magic(part), above))
    root = Folder("/".join(fixed) or "/")
    matches = sorted(root.fs.glob("/".join([root.path.rstrip("/"), *above[len(fixed) :], name])))
    found = [file for match in matches for file in _files_of(root, match[len(root.path.rstrip("/")) + 1 :])]
    files = list(dict.fromkeys(found))  # `**` finds a folder and what is in it
    if not files:
        raise RawDataError(f"There are no Parquet files at {path}.")
    return root, files


def _files_of(root: Folder, drop: str) -> list[FileInfo]:
    inside = [FileInfo(f"{drop}/{file.path}", file.bytes) for file in (root / drop).data_files() if file.path]
    if inside:
        return [file for file in inside if is_raw_file(file.path)]
    info = root.fs.info(f"{root.path}/{drop}")
    return [FileInfo(drop, int(info["size"]))] if info["type"] == "file" else []


def _frames(spark: SparkSession, raw: RawEvents) -> list[DataFrame]:
    """One frame per set of column types; `event_date` is null where the time is not readable."""
    frames = []
    for frame in raw.read_files(spark):
        day = day_of("event_time", frame.schema["event_time"].dataType)
        # A clock that is wrong by a century is no reason to have partitions for one.
        is_plausible = day.between(F.lit(EARLIEST_DAY), F.lit(datetime.now(UTC).date() + timedelta(days=1)))
        day = F.when(is_plausible, day).alias(PARTITION_COLUMN)
        # The files lie outside the data dir, where nothing says whose columns they are.
        named = made_from(frame, {name: [f"raw_events.{name}"] for name in EVENTS.names})
        frames.append(named.select(day, *named.columns))
    return frames

"""The raw event log on disk: which days have files, what is in them, and how Spark reads them as they came.

No value is judged here; that is cleaning.py's business. How a run is handed the files is that of readers.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN, REQUIRED_COLUMNS
from ecommerce_assets.storage.filesystem import FileInfo, Folder, spark_path
from ecommerce_assets.storage.version import FileEntry, Input

RAW_COLUMNS = "raw_columns"
"""Name of the fact that tells a day's raw columns."""

THREADS = 8
_NO_ROWS = ", ".join([f"{PARTITION_COLUMN} date, source_file string", *(f"{name} string" for name in EVENTS.names)])
LAND_COMMAND = "python -m ecommerce_assets.events.landing FILE… --data-dir DIR"


class RawDataError(Exception):
    """Raw events cannot be read; the message says which folder or file, and what to do."""


@dataclass(frozen=True)
class RawFile:
    """One raw file: its path below the raw folder, its size, its rows, and the type of each event column in it."""

    path: str
    bytes: int
    rows: int
    types: tuple[tuple[str, str], ...]

    @property
    def day(self) -> str:
        """`YYYY-MM-DD`, the folder it lies in."""
        return day_of_path(self.path)


@dataclass(frozen=True)
class RawEvents:
    """The raw files of some days.

    `days` are those whose folder is there, `absent` those asked for and not there. `unreadable` are days of which a
    file cannot be read, with what is wrong; they are not among `days`, so that they do not block the others.
    """

    folder: Folder
    days: tuple[str, ...]
    absent: tuple[str, ...]
    files: tuple[RawFile, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def rows(self, day: str) -> int:
        """Rows in the files of a day, from the Parquet footers."""
        return sum(file.rows for file in self.files if file.day == day)

    def columns(self, day: str) -> dict[str, str]:
        """Event columns in the files of a day with their Arrow types; several, in order, where the files differ."""
        kinds: dict[str, set[str]] = {}
        for file in self.files:
            for name, kind in file.types if file.day == day else ():
                kinds.setdefault(name, set()).add(kind)
        return {name: " or ".join(sorted(found)) for name, found in kinds.items()}

    def inputs(self) -> list[Input]:
        """What a table made from these files records of them: one entry per day."""
        found = []
        for day in self.days:
            files = tuple(FileEntry(path=f.path, bytes=f.bytes) for f in self.files if f.day == day)
            found.append(Input(asset="raw_events", partitions=(day,), files=files, fingerprint=fingerprint(files)))
        return found

    def frames(self, spark: SparkSession) -> list[DataFrame]:
        """The rows as they came, with `event_date` (date) and `source_file`; one frame per set of column types.

        Files of one shop differ (a price that is text in one and a number in the next), and Spark reads one schema
        at a time. Columns that a file lacks and may lack come as null strings.
        """
        # Not as Spark's own partition column: folders inside a day's folder are no columns.
        after = F.substring_index("source_file", f"/{PARTITION_COLUMN}=", -1)
        day = F.substring(after, 1, len("YYYY-MM-DD")).cast("date").alias(PARTITION_COLUMN)
        frames = [frame.select(day, *frame.columns) for frame in self.read_files(spark)]
        return frames or [spark.createDataFrame([], _NO_ROWS)]  # days that are there and hold no file

    def read_files(self, spark: SparkSession) -> list[DataFrame]:
        """`source_file` and the event columns as they came; one frame per set of column types."""
        read_nanoseconds(spark)
        by_types: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for file in self.files:
            by_types.setdefault(file.types, []).append(spark_path(f"{self.folder.uri}/{file.path}"))
        path = F.col("_metadata.file_path").alias("source_file")
        return [
            spark.read.parquet(*uris).select(path, *_event_columns(dict(types))) for types, uris in by_types.items()
        ]


def find_raw_events(data_dir: str, days: Sequence[str]) -> RawEvents:
    """The raw files of the given days (`YYYY-MM-DD`).

    Raises RawDataError: no day; no raw folder; none of the days in it; in each of them a file that is no Parquet or
    lacks a needed column.
    """
    if not days:
        raise RawDataError("No day was asked for: a range is its first day, three dots and its last, in this order.")
    folder = Folder(data_dir) / "raw" / "events"
    there = days_there(folder)
    if not there:
        raise RawDataError(f"There are no raw events in {folder.uri}: land some with {LAND_COMMAND}.")
    present, absent = [d for d in days if d in there], [d for d in days if d not in there]
    if not present:
        asked = days[0] if len(days) == 1 else f"any day from {days[0]} to {days[-1]}"
        name = f"{PARTITION_COLUMN}={days[0] if len(days) == 1 else 'YYYY-MM-DD'}"
        raise RawDataError(
            f"There is no raw data for {asked}: {folder.uri}/{name} does not exist "
            f"(days there: {min(there)} to {max(there)}). Nothing was written."
        )
    with ThreadPoolExecutor(THREADS) as pool:
        by_day = pool.map(lambda day: _files_of_day(folder, day), present)
        listed = [(day, file) for day, files in zip(present, by_day, strict=True) for file in files]
        found = list(pool.map(lambda one: _try_to_describe(folder, one[1]), listed))
    unreadable = {day: str(file) for (day, _), file in zip(listed, found, strict=True) if isinstance(file, Exception)}
    if len(unreadable) == len(present):
        raise RawDataError(" ".join(unreadable.values()))
    readable = tuple(day for day in present if day not in unreadable)
    described = tuple(file for file in found if isinstance(file, RawFile) and file.day in readable)
    return RawEvents(folder, readable, tuple(absent), described, unreadable)


def days_there(folder: Folder) -> list[str]:
    """What the folders in the raw folder are called, a day each; nobody has looked whether it is one."""
    return [name.removeprefix(f"{PARTITION_COLUMN}=") for name in folder.folders() if name.startswith(PARTITION_COLUMN)]


def day_of_path(path: str) -> str:
    """Of a file, by its path below the raw folder."""
    return path.partition("/")[0].removeprefix(f"{PARTITION_COLUMN}=")


def _try_to_describe(folder: Folder, file: FileInfo) -> RawFile | RawDataError:
    try:
        return _describe(folder, file)
    except RawDataError as error:
        return error


def describe(folder: Folder, files: Sequence[FileInfo]) -> tuple[RawFile, ...]:
    """Rows and column types of each file, from its footer.

    Raises RawDataError where one is no Parquet or lacks a needed column.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return tuple(pool.map(lambda file: _describe(folder, file), files))


def fingerprint(files: Sequence[FileEntry]) -> str:
    """SHA-256 over names and sizes of a day's files; landing puts a hash of the content into the names."""
    listing = "\n".join(sorted(f"{file.path} {file.bytes}" for file in files))
    return hashlib.sha256(listing.encode()).hexdigest()


StoredType = tuple[str, str]
"""Parquet's physical and logical type of a column."""


def stored_types(parquet: pq.ParquetFile) -> dict[str, StoredType]:
    """How Parquet itself stores each column; what Arrow makes of it depends on who wrote it."""
    columns = [parquet.schema.column(number) for number in range(len(parquet.schema))]
    return {column.path: (column.physical_type, str(column.logical_type)) for column in columns}


def read_nanoseconds(spark: SparkSession) -> None:
    """Let this session read the nanoseconds that pandas writes, which Spark otherwise refuses: as whole numbers."""
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")


def from_nanoseconds(name: str) -> Column:
    """The timestamp of a column that is read so, to the microsecond."""
    # As integers: a double holds the nanoseconds of our time to 256 only, and an event would move by a microsecond.
    return F.expr(f"timestamp_micros(`{name}` div 1000)")


def is_raw_file(name: str) -> bool:
    """Whether a file in a day's folder counts as raw events, by its name."""
    return name.endswith((".parquet", ".parq"))


def _files_of_day(folder: Folder, day: str) -> list[FileInfo]:
    name = f"{PARTITION_COLUMN}={day}"
    files = (folder / name).data_files()
    return [FileInfo(f"{name}/{f.path}", f.bytes) for f in files if is_raw_file(f.path)]


def _describe(folder: Folder, file: FileInfo) -> RawFile:
    uri = f"{folder.uri}/{file.path}"
    try:
        with folder.open(file.path) as source:
            parquet = pq.ParquetFile(source)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
            stored = stored_types(parquet)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RawDataError(f"{uri} is not a readable Parquet file ({reason}): remove it or land it again.") from None
    # Spark's own way to write times, which it reads as such and pyarrow calls nanoseconds.
    spark_times = {name: "timestamp[int96]" for name, (physical, _) in stored.items() if physical == "INT96"}
    types = tuple(
        (name, spark_times.get(name, str(schema.field(name).type))) for name in EVENTS.names if name in schema.names
    )
    missing = [name for name in REQUIRED_COLUMNS if name not in schema.names]
    if missing:
        raise RawDataError(
            f"{uri} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"it has {', '.join(schema.names)}."
        )
    return RawFile(file.path, file.bytes, rows, types)


def _event_columns(types: Mapping[str, str]) -> list[Column]:
    """The event columns of files with these columns; what they lack, and may lack, as null strings."""
    columns = []
    for name in EVENTS.names:
        if name not in types:
            columns.append(F.lit(None).cast("string").alias(name))
        elif types[name].startswith("timestamp[ns"):
            columns.append(from_nanoseconds(name).alias(name))
        else:
            columns.append(F.col(name))
    return columns

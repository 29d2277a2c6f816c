"""Finds and reads the raw files of given days. Entry point: `find_raw_events`.

Landed files hold parsed events and are read directly. Files of other jobs are first parsed, with the same parser, into
a folder that the run removes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.env_file import RUN
from ecommerce_assets.events.landing.target import is_landed
from ecommerce_assets.events.parquet import (
    MAGIC,
    PARQUET_ENDINGS,
    check_pages,
    holds_bad_text,
    read_parquet_sql,
    texts_as_bytes,
)
from ecommerce_assets.events.parsing import ID_TYPES, IdType, connect, literal, parse, parsed_schema
from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN, REQUIRED_COLUMNS
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.spark.connect import read_files
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.version import FileEntry, Input

RAW_COLUMNS = "raw_columns"
"""Name of the result with the raw columns of a day and their types."""

THREADS = 8
LAND_COMMAND = f"{RUN}ecommerce-assets land"

_ORIGINAL = ", ".join(f"{name}: string" for name in EVENTS.names)


class RawDataError(Exception):
    """Raw events cannot be read; the message names the folder or file and what to do."""


@dataclass(frozen=True)
class RawFile:
    """One raw Parquet file.

    Attributes
    ----------
    path
        Relative to the raw folder.
    modified
        Seconds since 1970; None if the store does not say.
    types
        Name and Arrow type of each event column.
    is_parsed
        Whether landing wrote it, so that its events are already parsed.
    has_event_ids
        Whether some events have an `event_id`.
    """

    path: str
    bytes: int
    modified: float | None
    rows: int
    types: tuple[tuple[str, str], ...]
    is_parsed: bool = False
    has_event_ids: bool = False

    @property
    def day(self) -> str:
        """Day of the partition, `YYYY-MM-DD`."""
        return day_of_path(self.path)


@dataclass(frozen=True)
class RawEvents:
    """The raw files of the requested days (`YYYY-MM-DD`).

    Attributes
    ----------
    days
        Days that have a folder and whose files are readable.
    absent
        Requested days without a folder.
    unreadable
        Days with an unreadable file, and the error. They do not block the other days.
    other_files
        Files that are not Parquet; they are not read.
    """

    folder: Folder
    days: tuple[str, ...]
    absent: tuple[str, ...]
    files: tuple[RawFile, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    other_files: tuple[FileInfo, ...] = ()

    def rows(self, day: str) -> int:
        """Returns the rows of a day, from the Parquet footers."""
        return sum(file.rows for file in self.files if file.day == day)

    def columns(self, day: str) -> dict[str, str]:
        """Returns the event columns of a day and their Arrow types, such as `double or string` if its files differ."""
        types: dict[str, set[str]] = {}
        for file in self.files:
            for name, kind in file.types if file.day == day else ():
                types.setdefault(name, set()).add(kind)
        return {name: " or ".join(sorted(kinds)) for name, kinds in types.items()}

    def inputs(self) -> list[Input]:
        """Returns the inputs to record with a table made from these files, one per day."""
        inputs = []
        for day in self.days:
            of_day = [file for file in self.files if file.day == day]
            files = tuple(FileEntry(path=f.path, bytes=f.bytes) for f in of_day)
            # Over all files in the folder, because the sensor compares it and cannot tell which ones are Parquet.
            listed = fingerprint([*of_day, *(file for file in self.other_files if day_of_path(file.path) == day)])
            inputs.append(Input(asset="raw_events", partitions=(day,), files=files, fingerprint=listed))
        return inputs

    def without(self, unreadable: Mapping[str, str]) -> RawEvents:
        """Returns the raw events without some days, given with their errors."""
        return replace(
            self,
            days=tuple(day for day in self.days if day not in unreadable),
            files=tuple(file for file in self.files if file.day not in unreadable),
            unreadable={**self.unreadable, **unreadable},
        )

    def parsed(self, folder: str, id_type: IdType) -> ParsedEvents:
        """Returns the parsed events; files that are not parsed yet are parsed into `folder`, which is emptied first.

        Raises
        ------
        RawDataError
            No day can be read.
        """
        unparsed = [file for file in self.files if not file.is_parsed]
        unreadable, _ = parse_files(self.folder, unparsed, Folder(folder), id_type)
        parsed = ParsedEvents(self, Folder(folder), id_type)
        return parsed.without({day_of_path(path): error for path, error in unreadable.items()})

    def damaged_days(self) -> dict[str, str]:
        """Returns the days with a damaged file and the error, after reading every page of all files."""
        damaged: dict[str, str] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            for file, error in zip(self.files, pool.map(self._read_whole, self.files), strict=True):
                if error:
                    damaged.setdefault(file.day, error)
        return damaged

    def _read_whole(self, file: RawFile) -> str | None:
        try:
            with self.folder.open(file.path) as source:
                check_pages(source)
        except (pa.ArrowException, OSError) as error:
            return _unreadable(f"{self.folder.uri}/{file.path}", error)
        return None


@dataclass(frozen=True)
class ParsedEvents:
    """Parsed raw events: `raw` are their files, and `folder` holds the events that this run parsed."""

    raw: RawEvents
    folder: Folder
    id_type: IdType

    def without(self, unreadable: Mapping[str, str]) -> ParsedEvents:
        """Returns the events without some days, given with their errors. Raises RawDataError if no day is left."""
        raw = self.raw.without(unreadable)
        if not raw.days:
            raise RawDataError(" ".join(unreadable.values()))
        return replace(self, raw=raw)

    def frame(self, spark: SparkSession) -> DataFrame:
        """Returns one row per raw row: `event_date` (date), the typed event columns, `reject_reason` (string),
        `original` (struct of strings; null unless the event is rejected or a value became null) and `source_file`."""
        raw = self.raw
        landed = [f"{raw.folder.uri}/{file.path}" for file in raw.files if file.is_parsed]
        parsed = len(landed) < len(raw.files)
        frames = []
        columns = [*EVENTS.names, "reject_reason", "original"]
        if landed:
            frame = read_files(spark, landed, self._schema(), "path")
            # From the path, because Spark's partition discovery would turn folders inside that of a day into columns.
            day = F.substring(F.substring_index("path", f"/{PARTITION_COLUMN}=", -1), 1, len("YYYY-MM-DD"))
            file = F.regexp_replace("path", "^file:/+", "/").alias("source_file")
            frames.append(frame.select(day.cast("date").alias(PARTITION_COLUMN), *columns, file))
        if parsed or not frames:
            schema = f"{PARTITION_COLUMN} date, source_file string, {self._schema()}"
            frame = read_files(spark, [self.folder.uri], schema) if parsed else spark.createDataFrame([], schema)
            # Events of exports that have no day belong to the first day.
            day = F.coalesce(PARTITION_COLUMN, F.lit(raw.days[0] if raw.days else None).cast("date"))
            # An unreadable day may have readable files, which were parsed.
            dated = frame.select(day.alias(PARTITION_COLUMN), *columns, "source_file")
            if raw.unreadable:
                dated = dated.where(~F.col(PARTITION_COLUMN).isin([date.fromisoformat(d) for d in raw.unreadable]))
            frames.append(dated)
        union = frames[0].unionByName(frames[1]) if len(frames) > 1 else frames[0]
        origins = {name: [f"raw_events.{name}"] for name in EVENTS.names}
        origins["reject_reason"] = [f"raw_events.{name}" for name in REQUIRED_COLUMNS]
        origins["original"] = [f"raw_events.{name}" for name in EVENTS.names]
        return made_from(union, origins)

    @property
    def has_event_ids(self) -> bool:
        """Whether any event has an `event_id`."""
        return any(file.has_event_ids for file in self.raw.files)

    def _schema(self) -> str:
        return f"{EVENTS.with_id_type(self.id_type).ddl}, reject_reason string, original struct<{_ORIGINAL}>"


def parse_files(
    raw: Folder, files: Sequence[RawFile], target: Folder, id_type: IdType, by_time: bool = False
) -> tuple[dict[str, str], dict[str | None, int]]:
    """Parses raw files of other jobs, each into one file of parsed events with `event_date` and `source_file`.

    Parameters
    ----------
    target
        Folder for the parsed files; it is emptied first.
    by_time
        True: `event_date` is the day of `event_time`, or null if there is none or it is after tomorrow. False: the day
        of the file's folder.

    Returns
    -------
    tuple of dict
        Error by path of each unreadable file, and number of events by day (`YYYY-MM-DD` or None).
    """
    target.remove()
    unreadable: dict[str, str] = {}
    rows_by_day: Counter[str | None] = Counter()
    with tempfile.TemporaryDirectory() as local, connect(Path(local, "spill")) as connection:
        parser = _FileParser(raw, target, Path(local), connection, id_type, by_time)
        with ThreadPoolExecutor(THREADS) as pool:
            for file, result in zip(files, pool.map(parser.parse, files), strict=True):
                if isinstance(result, str):
                    unreadable[file.path] = result
                else:
                    rows_by_day.update(result)
    return unreadable, dict(rows_by_day)


@dataclass(frozen=True)
class _FileParser:
    raw: Folder
    target: Folder
    local: Path
    connection: duckdb.DuckDBPyConnection
    id_type: IdType
    by_time: bool

    def parse(self, file: RawFile) -> Counter[str | None] | str:
        """Parses one file and returns its events by day, or the error if it cannot be read."""
        uri = f"{self.raw.uri}/{file.path}"
        connection = self.connection.cursor()  # each thread needs its own
        name = hashlib.sha256(file.path.encode()).hexdigest()[:16]
        path = Path(self.raw.path, file.path) if self.raw.is_local else self.local / f"{name}.raw"
        # Written directly into a local target, because a move from another disk would be a copy.
        out = Path(self.target.path if self.target.is_local else self.local, f"{name}.parquet")
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not self.raw.is_local:
                self.raw.fs.get_file(f"{self.raw.path}/{file.path}", str(path))
            check_pages(path)
            try:
                self._parse(connection, read_parquet_sql([path]), file, uri, out)
            except duckdb.InvalidInputException as error:
                if not holds_bad_text(error):
                    raise
                connection.register("bytes", texts_as_bytes(path))
                self._parse(connection, "bytes", file, uri, out)
            days = connection.execute(
                f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), count(*) FROM {read_parquet_sql([out])} GROUP BY ALL"
            ).fetchall()
            if not self.target.is_local:
                self.target.put(out)
                out.unlink()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            out.unlink(missing_ok=True)
            if "no space left" in str(error).lower():
                raise RawDataError(f"The disk of {out.parent} is full: free some space and run again.") from error
            return _unreadable(uri, error)
        finally:
            connection.close()
            if not self.raw.is_local:
                path.unlink(missing_ok=True)
        if sum(count for _, count in days) != file.rows:
            raise AssertionError(f"{uri} has {file.rows:,} rows, of which DuckDB read {days}")
        return Counter(dict(days))

    def _parse(self, connection: duckdb.DuckDBPyConnection, from_sql: str, file: RawFile, uri: str, out: Path) -> None:
        columns = ", ".join(f'"{name}"' for name, _ in file.types)
        raw = f"SELECT {columns}, {literal(uri)} AS source_file FROM {from_sql}"
        # Times after tomorrow are errors and must not create partitions up to then.
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        day = f"CASE WHEN CAST(event_time AS DATE) <= DATE '{tomorrow}' THEN CAST(event_time AS DATE) END"
        day = day if self.by_time else f"DATE '{file.day}'"
        parsed = (
            f"SELECT *, {day} AS {PARTITION_COLUMN} FROM ({parse(connection, raw, self.id_type, ('source_file',))})"
        )
        connection.execute(f"COPY ({parsed}) TO {literal(str(out))} (FORMAT parquet)")


def find_raw_events(data_dir: str, days: Sequence[str], id_type: IdType = "bigint") -> RawEvents:
    """Returns the raw files of the given days (`YYYY-MM-DD`).

    Raises
    ------
    RawDataError
        No days are given, the raw folder or all the days are absent, or each day has a file that cannot be read or
        lacks a required column.
    """
    if not days:
        raise RawDataError(
            "The range of days is empty: the first day must not be after the last, as in 2019-10-01...2019-10-31."
        )
    folder = Folder(data_dir) / "raw" / "events"
    existing = list_days(folder)
    if not existing:
        raise RawDataError(f"There are no raw events in {folder.uri}: land some with {LAND_COMMAND} FILE.")
    present, absent = [d for d in days if d in existing], [d for d in days if d not in existing]
    if not present:
        requested = days[0] if len(days) == 1 else f"any day from {days[0]} to {days[-1]}"
        name = f"{PARTITION_COLUMN}={days[0] if len(days) == 1 else 'YYYY-MM-DD'}"
        raise RawDataError(
            f"There is no raw data for {requested}: {folder.uri}/{name} does not exist. Choose days from "
            f"{min(existing)} to {max(existing)}, or land files with {LAND_COMMAND} FILE."
        )
    with ThreadPoolExecutor(THREADS) as pool:
        by_day = list(pool.map(lambda day: _files_of_day(folder, day), present))
        listed = [file for files in by_day for file in files]
        results = list(pool.map(lambda file: _try_to_inspect(folder, file, id_type), listed))
    unreadable: dict[str, str] = {}
    others = []
    for file, result in zip(listed, results, strict=True):
        if isinstance(result, RawDataError):
            unreadable.setdefault(day_of_path(file.path), str(result))
        elif result is None:
            others.append(file)
    raw_files = tuple(file for file in results if isinstance(file, RawFile))
    days_with_parquet = {file.day for file in raw_files}
    for day, files in zip(present, by_day, strict=True):
        if files and day not in days_with_parquet and day not in unreadable:
            names = ", ".join(file.path.partition("/")[2] for file in files)
            unreadable[day] = (
                f"{folder.uri}/{PARTITION_COLUMN}={day} has no Parquet file, only {names}. Land these files with "
                f"{LAND_COMMAND}, or remove them."
            )
    raw = RawEvents(folder, tuple(present), tuple(absent), raw_files, {}, tuple(others)).without(unreadable)
    if unreadable and not raw.days:
        raise RawDataError(" ".join(unreadable.values()))
    return raw


def list_days(folder: Folder) -> list[str]:
    """Returns the days of the folders in the raw folder, from their names; some may not be dates."""
    return [name.removeprefix(f"{PARTITION_COLUMN}=") for name in folder.folders() if name.startswith(PARTITION_COLUMN)]


def is_day(text: str) -> bool:
    """Returns whether a string is a day, `YYYY-MM-DD`."""
    try:
        return str(date.fromisoformat(text)) == text
    except ValueError:
        return False


def day_of_path(path: str) -> str:
    """Returns the day of a file from its path relative to the raw folder."""
    return path.partition("/")[0].removeprefix(f"{PARTITION_COLUMN}=")


def fingerprint(files: Sequence[RawFile | FileInfo]) -> str:
    """Returns the SHA-256 of the names, sizes and modification times of files.

    The time of a landed file is left out, because its name has a hash of the content.
    """
    listing = sorted(f"{f.path} {f.bytes} {'' if is_landed(f.path) else f.modified}" for f in files)
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def _files_of_day(folder: Folder, day: str) -> list[FileInfo]:
    name = f"{PARTITION_COLUMN}={day}"
    return [FileInfo(f"{name}/{f.path}", f.bytes, f.modified) for f in (folder / name).data_files()]


def _try_to_inspect(folder: Folder, file: FileInfo, id_type: IdType) -> RawFile | RawDataError | None:
    try:
        return inspect_file(folder, file, id_type)
    except RawDataError as error:
        return error


def inspect_file(folder: Folder, file: FileInfo, id_type: IdType = "bigint") -> RawFile | None:
    """Returns rows and column types of a file from its footer; None if neither content nor name are those of Parquet.

    Raises
    ------
    RawDataError
        The file cannot be read, lacks a required column, or was landed with another type of ids.
    """
    uri = f"{folder.uri}/{file.path}"
    try:
        with folder.open(file.path) as source:
            if source.read(len(MAGIC)) != MAGIC and not file.path.lower().endswith(PARQUET_ENDINGS):
                return None
            source.seek(0)
            parquet = pq.ParquetFile(source)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise RawDataError(_unreadable(uri, error)) from None
    missing = [name for name in REQUIRED_COLUMNS if name not in schema.names]
    if missing:
        raise RawDataError(
            f"{uri} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; it has "
            f"{', '.join(schema.names)}. Land it with {LAND_COMMAND}, which can rename and compute columns."
        )
    has_event_ids = _has_values(parquet, "event_id")
    names = [name for name in EVENTS.names if name in schema.names and (has_event_ids or name != "event_id")]
    types = tuple((name, str(schema.field(name).type)) for name in names)
    kinds = [kind for kind in ID_TYPES if schema.remove_metadata().equals(parsed_schema(kind))]
    if kinds and kinds != [id_type]:
        raise RawDataError(
            f"{uri} was landed with ECOMMERCE_ID_TYPE={kinds[0]}, but ECOMMERCE_ID_TYPE is now {id_type}. Set it to "
            f"{kinds[0]}, or remove the file and land it again."
        )
    return RawFile(file.path, file.bytes, file.modified, rows, types, bool(kinds), has_event_ids)


def _has_values(parquet: pq.ParquetFile, name: str) -> bool:
    """Whether a column may have values other than null, according to the footer."""
    groups = [parquet.metadata.row_group(group) for group in range(parquet.metadata.num_row_groups)]
    # By name, because a preceding struct takes several columns of the file.
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    chunks = [column for column in columns if column.path_in_schema == name]
    return any(
        c.statistics is None or not c.statistics.has_null_count or c.statistics.null_count < c.num_values
        for c in chunks
    )


def _unreadable(uri: str, error: Exception) -> str:
    reason = str(error).splitlines()[0].rstrip(".")
    return f"{uri} cannot be read ({reason}): remove it or land it again."

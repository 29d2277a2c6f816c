"""Rows into one Parquet file per day, by DuckDB, so that sources larger than memory work. All SQL of landing is here.

The day of a row comes from its event_time in UTC. Values are written as they were read; whether they are right is
cleaning's question. Line numbers, hashes and the partitions themselves are dealt with elsewhere.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from ecommerce_assets.events.landing.sources import CsvSource, ParquetGroup
from ecommerce_assets.events.landing.text import compression
from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN

MEMORY_LIMIT = "2GB"

_NO_DAY = "__HIVE_DEFAULT_PARTITION__"

_SPARK_READABLE = {"TIMESTAMP_NS": "TIMESTAMP", "TIMESTAMPTZ_NS": "TIMESTAMP WITH TIME ZONE", '"NULL"': "VARCHAR"}
"""The one change of types: Spark refuses any file with nanosecond timestamps, and has only microseconds itself."""


_ZONE_FORMS = (
    (r"\s*(utc?|gmt|z)$", "Z"),  # `00:00:00utc`
    (r"\s*(utc?|gmt)?([+-]\d\d?(:?\d\d)?)$", r"\2"),  # `00:00:00 +03:00`, `00:00:00UTC+3`
    (r"([+-])(\d(:\d\d)?)$", r"\10\2"),  # `+3`
)
"""Ways to write a zone that Spark reads and DuckDB does not, and what DuckDB reads instead."""


@dataclass(frozen=True)
class Relation:
    """Something that DuckDB can select from: the FROM clause, and the SQL that gives each event column."""

    from_sql: str
    columns: Mapping[str, str]
    day_sql: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """Parts of one relation by day, several files per day at times; `undated` are the parts without a readable time."""

    dated: Mapping[date, tuple[Path, ...]]
    undated: tuple[Path, ...]

    @property
    def rows(self) -> int:
        return count_rows([*(part for parts in self.dated.values() for part in parts), *self.undated])


def connect(spill: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute(f"SET temp_directory = {_text(spill)}")
    # The bar would go to stdout, where the summary goes.
    connection.execute("SET enable_progress_bar = false")
    # The order of rows means nothing in raw data, and to keep it costs memory.
    connection.execute("SET preserve_insertion_order = false")
    return connection


def csv_relation(source: CsvSource, path: Path) -> Relation:
    """The CSV file at `path` (the source itself or its mended copy), every column as text.

    All options are given: DuckDB's guessing skips lines that it takes for a preamble. `new_line` is not among them,
    because with it DuckDB 2.0.0 reads a file with CRLF line ends as no rows at all.
    """
    types = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(source.header)))
    from_sql = (
        f"read_csv({_file_text(path)}, auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', "
        f"strict_mode = true, compression = '{compression(path)}', columns = {{{types}}})"
    )
    columns = {name: f"c{source.header.index(name)}" for name in EVENTS.names if name in source.header}
    return Relation(from_sql, columns, _day_of_text(columns["event_time"]))


def parquet_relation(group: ParquetGroup, hive: bool, connection: duckdb.DuckDBPyConnection) -> Relation:
    """The group's Parquet files, with their own types."""
    files = ", ".join(map(_file_text, group.files))
    from_sql = (
        f"read_parquet([{files}], union_by_name = true, hive_partitioning = {str(hive).lower()}"
        f"{', hive_types_autocast = false' if hive else ''})"
    )
    types: dict[str, str] = {
        name: kind for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {from_sql}").fetchall()
    }
    wanted = [name for name in EVENTS.names if name in types]
    columns = {n: f"CAST({n} AS {_SPARK_READABLE[types[n]]})" if types[n] in _SPARK_READABLE else n for n in wanted}
    is_temporal = types["event_time"].startswith(("TIMESTAMP", "DATE"))
    day_sql = _day(columns["event_time"]) if is_temporal else _day_of_text("CAST(event_time AS VARCHAR)")
    nanoseconds = [n for n in wanted if types[n].endswith("_NS")]
    note = f"{', '.join(nanoseconds)}: nanoseconds are cut to microseconds, the finest that Spark reads"
    return Relation(from_sql, columns, day_sql, (note,) if nanoseconds else ())


def split(connection: duckdb.DuckDBPyConnection, relation: Relation, folder: Path) -> Split:
    """Write the relation into `folder`, one folder per day."""
    selected = ", ".join(f"{sql} AS {name}" for name, sql in relation.columns.items())
    connection.execute(
        f"COPY (SELECT {selected}, {relation.day_sql} AS {PARTITION_COLUMN} FROM {relation.from_sql}) "
        f"TO {_text(folder)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({PARTITION_COLUMN}))"
    )
    parts = {
        entry.name.partition("=")[2]: tuple(sorted(entry.glob("*.parquet")))
        for entry in folder.glob(f"{PARTITION_COLUMN}=*")
    }
    undated = parts.pop(_NO_DAY, ())
    return Split({date.fromisoformat(day): files for day, files in sorted(parts.items())}, undated)


def first_day(connection: duckdb.DuckDBPyConnection, relation: Relation) -> date | None:
    """The day of the first row, in the file's order, whose time is readable."""
    connection.execute("SET preserve_insertion_order = true")
    found = connection.execute(
        f"SELECT day FROM (SELECT {relation.day_sql} AS day FROM {relation.from_sql}) WHERE day IS NOT NULL LIMIT 1"
    ).fetchone()
    connection.execute("SET preserve_insertion_order = false")
    return found[0] if found else None


def first_time_text(connection: duckdb.DuckDBPyConnection, relation: Relation) -> str | None:
    """What stands where a time should be, to be shown to people."""
    found = connection.execute(f"SELECT {relation.columns['event_time']} FROM {relation.from_sql} LIMIT 1").fetchone()
    return None if found is None or found[0] is None else str(found[0])


def merge(connection: duckdb.DuckDBPyConnection, parts: Sequence[Path], into: Path) -> None:
    """One file from a day's parts; they all have the same types."""
    into.parent.mkdir(parents=True, exist_ok=True)
    if len(parts) == 1:
        parts[0].replace(into)
        return
    files = ", ".join(map(_file_text, parts))
    connection.execute(
        f"COPY (FROM read_parquet([{files}], hive_partitioning = false)) TO {_text(into)} "
        f"(FORMAT parquet, COMPRESSION zstd)"
    )


def count_rows(files: Sequence[Path]) -> int:
    return sum(pq.read_metadata(file).num_rows for file in files)


def _day_of_text(sql: str) -> str:
    """Zone names and offsets count, no zone is UTC. What DuckDB does not read at once gets a second try in the form
    that it does read: a row whose time cleaning reads must find its day, or it would be rejected there."""
    second = f"trim({sql}, ' \t\r\n\f\v')"
    for pattern, replacement in _ZONE_FORMS:
        second = f"regexp_replace({second}, '{pattern}', '{replacement}', 'i')"
    return _day(f"coalesce(TRY_CAST({sql} AS TIMESTAMPTZ), TRY_CAST({second} AS TIMESTAMPTZ))")


def _day(sql: str) -> str:
    moment = f"CAST({sql} AS TIMESTAMPTZ)"
    # Infinity and years that no folder name can say are no readable time.
    return f"CASE WHEN isfinite({moment}) AND year({moment}) BETWEEN 1 AND 9999 THEN CAST({moment} AS DATE) END"


def _file_text(path: Path) -> str:
    # A file may be called `events [1].csv`, and DuckDB takes any path for a pattern.
    return _text(glob.escape(str(path)))


def _text(value: Path | str) -> str:
    return "'" + str(value).replace("'", "''") + "'"

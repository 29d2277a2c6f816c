"""Rows into one Parquet file per day, by DuckDB, so that sources larger than memory work; and what is in those files.

What is selected, and which day a row belongs to, is said by relations.py. Line numbers, hashes and the partitions
themselves are dealt with elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from ecommerce_assets.events.landing.relations import Relation, file_text, sql_text
from ecommerce_assets.events.schema import EVENT_TYPES, PARTITION_COLUMN

MEMORY_LIMIT = "2GB"

_NO_DAY = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Split:
    """Parts of one relation by day, several files per day at times; `undated` are the parts without a readable time."""

    dated: Mapping[date, tuple[Path, ...]]
    undated: tuple[Path, ...]

    @property
    def rows(self) -> int:
        """All that were split, dated or not."""
        return count_rows([*(part for parts in self.dated.values() for part in parts), *self.undated])


def connect(spill: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, in UTC, that spills into the folder."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute(f"SET temp_directory = {sql_text(spill)}")
    # Progress is asked for and shown by us: DuckDB's own bar would go to stdout, where the summary goes.
    connection.execute("SET enable_progress_bar = true")
    connection.execute("SET enable_progress_bar_print = false")
    # The order of rows means nothing in raw data, and to keep it costs memory.
    connection.execute("SET preserve_insertion_order = false")
    return connection


def split(connection: duckdb.DuckDBPyConnection, relation: Relation, folder: Path) -> Split:
    """Write the relation into `folder`, one folder per day."""
    selected = ", ".join(f"{sql} AS {name}" for name, sql in relation.columns.items())
    connection.execute(
        f"COPY (SELECT {selected}, {relation.day_sql} AS {PARTITION_COLUMN} FROM {relation.from_sql}) "
        f"TO {sql_text(folder)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({PARTITION_COLUMN}))"
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
    connection.execute(f"COPY (FROM {_parquet(parts)}) TO {sql_text(into)} (FORMAT parquet, COMPRESSION zstd)")


def count_rows(files: Sequence[Path]) -> int:
    """From the footers of Parquet files."""
    return sum(pq.read_metadata(file).num_rows for file in files)


def unknown_events(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> dict[str, int]:
    """Event names that cleaning will reject, with their rows; rows without a name are not among them."""
    name = "trim(CAST(event_type AS VARCHAR), ' \t\r\n')"
    known = ", ".join(map(sql_text, EVENT_TYPES))
    found = connection.execute(
        f"SELECT {name}, count(*) FROM {_parquet(files)} WHERE {name} NOT IN ({known}, '') GROUP BY ALL"
    ).fetchall()
    return dict(found)


def decimal_commas(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> tuple[int, str]:
    """Prices such as 1,50, which cleaning cannot read: how many rows, and one of them."""
    if str(pq.read_schema(files[0]).field("price").type) != "string":
        return 0, ""
    found: tuple[int, str | None] = connection.execute(
        f"SELECT count(*), min(price) FROM {_parquet(files)} WHERE contains(price, ',')"
    ).fetchall()[0]
    return found[0], found[1] or ""


def _parquet(files: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(map(file_text, files))}], hive_partitioning = false)"

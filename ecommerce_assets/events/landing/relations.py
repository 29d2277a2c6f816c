"""What DuckDB reads: a source as a FROM clause, SQL for each event column, and SQL for the day of a row.

Values stay as they came, but for what was asked for (event names, defaults) and for times that are numbers since 1970,
which cleaning does not read. Writing, counting and files by day belong to splitting.py.
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from ecommerce_assets.events.landing.layout import Columns, Layout
from ecommerce_assets.events.landing.sources import CsvSource, ParquetGroup
from ecommerce_assets.events.landing.text import compression
from ecommerce_assets.events.schema import EVENTS
from ecommerce_assets.settings import EARLIEST_DAY

_SPARK_READABLE = {"TIMESTAMP_NS": "TIMESTAMP", "TIMESTAMPTZ_NS": "TIMESTAMP WITH TIME ZONE", '"NULL"': "VARCHAR"}
"""The only changes of types: Spark refuses any file with nanosecond timestamps, and has only microseconds itself; a
column without any value has no type, and is text."""

_ZONE_FORMS = (
    (r"\s*(utc?|gmt|z)$", "Z"),  # `00:00:00utc`
    (r"\s*(utc?|gmt)?([+-]\d\d?(:?\d\d)?)$", r"\2"),  # `00:00:00 +03:00`, `00:00:00UTC+3`
    (r"([+-])(\d(:\d\d)?)$", r"\10\2"),  # `+3`
)
"""Ways to write a zone that Spark reads and DuckDB does not, and what DuckDB reads instead."""

_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_FROM, _TO = 946_684_800, 4_102_444_800
"""2000 to 2100 in seconds since 1970. The numbers of these years in one unit are no such numbers in another one, nor is
a date without its hyphens (20191001, 20191001120000) such a number."""

_FIRST_YEAR = EARLIEST_DAY.year
"""Earlier times are the zero times of programs (0001-01-01, 1970-01-01, 1980-01-01), not events. To land them in days
of their own would make the first partition a day of that kind, and all days since then partitions."""

_DIGITS = r"\d{9,19}(\.\d*)?"
_ROWS_LOOKED_AT = 1000


@dataclass(frozen=True)
class Relation:
    """Something that DuckDB can select from: the FROM clause, and the SQL that gives each event column."""

    from_sql: str
    columns: Mapping[str, str]
    day_sql: str
    has_typed_times: bool = False
    event_names: tuple[tuple[str, int], ...] = ()
    """Each event name that `--map-event` gives another one, with its rows."""
    notes: tuple[str, ...] = ()


def csv_relation(
    source: CsvSource, layout: Layout, connection: duckdb.DuckDBPyConnection, mended: Path | None = None
) -> Relation:
    """The CSV file or its mended copy, every column as text.

    All options are given: DuckDB's guessing skips lines that it takes for a preamble. `new_line` is not among them,
    because with it DuckDB 2.0.0 reads a file with CRLF line ends as no rows at all.
    """
    path = mended or source.path
    types = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(source.header)))
    from_sql = (
        f"read_csv({file_text(path)}, auto_detect = false, header = true, delim = {sql_text(source.delimiter)}, "
        f"quote = '\"', escape = '\"', strict_mode = true, compression = '{compression(path)}', columns = {{{types}}})"
    )
    columns = {name: f"c{source.header.index(found)}" for name, found in source.columns.sources.items()}
    relation = Relation(from_sql, columns, _day_of_text(columns["event_time"]))
    if source.delimiter != ",":
        name = {"\t": "tabs"}.get(source.delimiter, f"'{source.delimiter}'")
        relation = replace(relation, notes=(f"columns are separated by {name}",))
    return _laid_out(relation, source.columns, layout, connection)


def parquet_relation(
    group: ParquetGroup, hive: bool, layout: Layout, connection: duckdb.DuckDBPyConnection
) -> Relation:
    """The group's Parquet files, with their own types."""
    files = ", ".join(map(file_text, group.files))
    from_sql = (
        f"read_parquet([{files}], union_by_name = true, hive_partitioning = {str(hive).lower()}"
        f"{', hive_types_autocast = false' if hive else ''})"
    )
    described = connection.execute(f"DESCRIBE SELECT * FROM {from_sql}").fetchall()
    types: dict[str, str] = {name: kind for name, kind, *_ in described}
    columns = {name: _as_spark_reads(source, types[source]) for name, source in group.columns.sources.items()}
    time_type = types[group.columns.sources["event_time"]]
    has_typed_times = time_type.startswith(("TIMESTAMP", "DATE"))
    if not has_typed_times and time_type not in ("VARCHAR", '"NULL"'):
        columns["event_time"] = _number_as_text(columns["event_time"], time_type)
    day_sql = _day(columns["event_time"]) if has_typed_times else _day_of_text(columns["event_time"])
    nanoseconds = [name for name, source in group.columns.sources.items() if types[source].endswith("_NS")]
    note = f"{', '.join(nanoseconds)}: nanoseconds are cut to microseconds, the finest that Spark reads"
    relation = Relation(from_sql, columns, day_sql, has_typed_times, notes=(note,) if nanoseconds else ())
    return _laid_out(relation, group.columns, layout, connection)


def _as_spark_reads(column: str, kind: str) -> str:
    name = '"' + column.replace('"', '""') + '"'
    return f"CAST({name} AS {_SPARK_READABLE[kind]})" if kind in _SPARK_READABLE else name


def _number_as_text(sql: str, kind: str) -> str:
    """Without exponent and without loss: DuckDB makes a decimal by multiplying, and beyond 2^53 that is not exact."""
    if kind != "DOUBLE":
        return f"CAST({sql} AS VARCHAR)"
    whole = f"CAST(TRY_CAST({sql} AS BIGINT) AS VARCHAR)"
    parts = f"CASE WHEN {sql} < 1e11 THEN CAST(TRY_CAST({sql} AS DECIMAL(28, 6)) AS VARCHAR) "
    parts += f"ELSE CAST(TRY_CAST({sql} AS DECIMAL(28, 3)) AS VARCHAR) END"
    return f"coalesce(CASE WHEN {sql} = floor({sql}) THEN {whole} ELSE {parts} END, CAST({sql} AS VARCHAR))"


def _laid_out(relation: Relation, columns: Columns, layout: Layout, connection: duckdb.DuckDBPyConnection) -> Relation:
    """With the shop's event names, defaults, and times that are numbers made what cleaning reads."""
    may_be_numbers = not relation.has_typed_times and _starts_with_numbers(relation, connection)
    if may_be_numbers or (layout.events and "event_type" in relation.columns):
        relation = _surveyed(relation, layout, may_be_numbers, connection)
    added = {name: sql_text(value) for name, value in columns.defaults.items()}
    both = {**relation.columns, **added}
    return replace(relation, columns={name: both[name] for name in EVENTS.names if name in both})


def _starts_with_numbers(relation: Relation, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether more of the first times are numbers than dates; it spares nearly all files the whole count."""
    connection.execute("SET preserve_insertion_order = true")
    dates, numbers = connection.execute(
        f"SELECT count({relation.day_sql}), count({_unit(relation.columns['event_time'])}) "
        f"FROM (FROM {relation.from_sql} LIMIT {_ROWS_LOOKED_AT})"
    ).fetchall()[0]
    connection.execute("SET preserve_insertion_order = false")
    return bool(numbers > dates)


def _surveyed(
    relation: Relation, layout: Layout, may_be_numbers: bool, connection: duckdb.DuckDBPyConnection
) -> Relation:
    """One pass over the source: how often each event name to be mapped occurs, and of which unit the times are."""
    columns, time = dict(relation.columns), relation.columns["event_time"]
    event = f"trim(CAST({columns['event_type']} AS VARCHAR), ' \t\r\n')" if "event_type" in columns else "NULL"
    mapped = ", ".join(map(sql_text, layout.events)) or "NULL"
    unit = _unit(time) if may_be_numbers else "NULL"
    day = relation.day_sql if may_be_numbers else "NULL"
    rows: list[tuple[str | None, str | None, int, int]] = connection.execute(
        f"SELECT CASE WHEN {event} IN ({mapped}) THEN {event} END, {unit}, count({day}), count(*) "
        f"FROM {relation.from_sql} GROUP BY ALL"
    ).fetchall()
    if layout.events and "event_type" in columns:
        cases = " ".join(f"WHEN {sql_text(name)} THEN {sql_text(to)}" for name, to in layout.events.items())
        columns["event_type"] = f"CASE {event} {cases} ELSE CAST({columns['event_type']} AS VARCHAR) END"
    counts = {name: sum(n for event, _, _, n in rows if event == name) for name in layout.events}
    relation = replace(relation, columns=columns, event_names=tuple(counts.items()))
    of_unit = {name: sum(n for _, unit, _, n in rows if unit == name) for name in _UNITS}
    commonest = max(of_unit, key=lambda name: of_unit[name])
    if of_unit[commonest] <= sum(dates for _, _, dates, _ in rows):
        return relation
    columns["event_time"] = _moment_text(time, commonest)
    cut = ", cut to microseconds" if commonest == "nanoseconds" else ""
    note = f"event_time: {commonest} since 1970, landed as times in UTC{cut}"
    day_sql = _day_of_text(columns["event_time"])
    return replace(relation, columns=columns, day_sql=day_sql, notes=(*relation.notes, note))


def _number(sql: str) -> str:
    text = f"trim({sql}, ' \t\r\n')"
    return f"CASE WHEN regexp_full_match({text}, '{_DIGITS}') THEN TRY_CAST({text} AS DECIMAL(28, 6)) END"


def _unit(sql: str) -> str:
    number = _number(sql)
    cases = (f"WHEN {number} >= {_FROM * of} AND {number} < {_TO * of} THEN '{name}'" for name, of in _UNITS.items())
    return f"CASE {' '.join(cases)} END"


def _moment_text(sql: str, unit: str) -> str:
    """The time as the REES46 logs write it, exact; what is no number of the unit stays as it is."""
    number, of = _number(sql), _UNITS[unit]
    in_range = f"{number} >= {_FROM * of} AND {number} < {_TO * of}"
    whole = f"CAST(floor({number}{f' * {10**6 // of}' if of <= 10**6 else ''}) AS BIGINT)"
    microseconds = whole if of <= 10**6 else f"{whole} // {of // 10**6}"
    return f"CASE WHEN {in_range} THEN CAST(make_timestamp({microseconds}) AS VARCHAR) || ' UTC' ELSE {sql} END"


def _day_of_text(sql: str) -> str:
    """Zone names and offsets count, no zone is UTC. What DuckDB does not read at once gets a second try in the form
    that it does read: a row whose time cleaning reads must find its day, or it would be rejected there."""
    second = f"trim({sql}, ' \t\r\n\f\v')"
    for pattern, replacement in _ZONE_FORMS:
        second = f"regexp_replace({second}, '{pattern}', '{replacement}', 'i')"
    return _day(f"coalesce(TRY_CAST({sql} AS TIMESTAMPTZ), TRY_CAST({second} AS TIMESTAMPTZ))")


def _day(sql: str) -> str:
    moment = f"CAST({sql} AS TIMESTAMPTZ)"
    # Zero times, infinity and years that no folder name can say are no readable time.
    readable = f"isfinite({moment}) AND year({moment}) BETWEEN {_FIRST_YEAR} AND 9999"
    return f"CASE WHEN {readable} THEN CAST({moment} AS DATE) END"


def file_text(path: Path) -> str:
    """The path as SQL text that stands for this one file."""
    # A file may be called `events [1].csv`, and DuckDB takes any path for a pattern.
    return sql_text(glob.escape(str(path)))


def sql_text(value: Path | str) -> str:
    """Quoted for SQL."""
    return "'" + str(value).replace("'", "''") + "'"

"""Parses raw values with DuckDB SQL: times, prices, ids, strings and null markers.

Landing and cleaning use `parse` for events, the catalogue uses `parse_values`; `parse_id` parses one id in Python.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa

from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS
from ecommerce_assets.settings import EARLIEST_DAY

IdType = Literal["bigint", "string"]
ID_TYPES: tuple[IdType, ...] = ("bigint", "string")

NULL_MARKERS = ("null", "\\n", "na", "n/a", "nan", "none", "nil", "nat", "<na>", "#n/a", "(null)", "undefined")
"""Strings that mean a missing value, case-insensitive. The empty string is missing too."""

DELIMITERS = ",;\t|"
"""Delimiters that a CSV file may have."""

TRUE_WORDS, FALSE_WORDS = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
"""Strings that mean true and false, case-insensitive."""

MEMORY_LIMIT = "2GB"
"""Memory limit of DuckDB, which may run beside Spark."""

MAX_PRICE = 1e12
"""A larger price is unreadable."""

UNREADABLE_LINE = "unreadable line"
"""Reject reason of a line of a CSV file that does not have the columns of its header."""

_REQUIRED_IN_ORDER = ("event_time", "event_type", "user_id", "product_id", "price")
WHITESPACE = "' \t\r\n\f\v'"
"""SQL string of the characters that are trimmed. DuckDB's trim without it removes others too."""

_EXACT_UP_TO = {"DOUBLE": 2**53, "FLOAT": 2**24}

_UNITS = {1: 10**6, 10**3: 10**3, 10**6: 1}
"""Units per second of a number since 1970, and the microseconds per unit. Nanoseconds are handled separately."""
_FROM, _TO = 946_684_800, 4_102_444_800
"""2000 to 2100 in seconds since 1970. The ranges of seconds, milliseconds, microseconds and nanoseconds do not
overlap and do not contain dates without hyphens (20191001, 20191001120000)."""
_NUMBER = "DECIMAL(28, 9)"

_TIME = (
    r"(?i)(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"(?:(?:T|\s+)(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(?:UTC|GMT|Z)?(?:([+-])(\d{1,2})(?::?(\d{2}))?)?"
)
"""Year-first dates with `-` or `/`, an optional time, and an optional zone: UTC, GMT, Z or an offset."""
_TIME_GROUPS = ("year", "month", "day", "hour", "minute", "second", "fraction", "sign", "hours", "minutes")


@dataclass(frozen=True)
class _Raw:
    """SQL expressions for one raw column with its DuckDB type: the raw value, and its trimmed text."""

    name: str
    type: str

    @property
    def value(self) -> str:
        return f"raw_{self.name}"

    @property
    def is_text(self) -> bool:
        return self.type in ("VARCHAR", "BLOB")

    @property
    def is_integer(self) -> bool:
        return self.type.removeprefix("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")

    @property
    def is_number(self) -> bool:
        return self.is_integer or self.is_float or self.type.startswith("DECIMAL")

    @property
    def is_float(self) -> bool:
        return self.type in ("DOUBLE", "FLOAT")

    @property
    def as_text(self) -> str:
        """The raw value as text."""
        if self.type == "BLOB":
            return f"coalesce(TRY(decode({self.value})), CAST({self.value} AS VARCHAR))"
        return self.value if self.type == "VARCHAR" else f"CAST({self.value} AS VARCHAR)"

    @property
    def trimmed(self) -> str:
        if self.type == "BLOB":
            return f"trim(TRY(decode({self.value})), {WHITESPACE})"
        text = self.as_text
        # Comparing the first and the last character is faster than a trim.
        return f"CASE WHEN {text} >= '!' AND {text}[-1] > ' ' THEN {text} ELSE trim({text}, {WHITESPACE}) END"

    @property
    def text(self) -> str:
        """The trimmed text, computed in an inner SELECT; null for a missing value."""
        return f"text_{self.name}"

    @property
    def is_missing(self) -> str:
        if self.type == "BLOB":
            return f"{self.text} IS NULL AND NOT ({self.is_undecodable})"
        return f"{self.text if self.is_text else self.value} IS NULL"

    @property
    def is_undecodable(self) -> str:
        return f"trimmed_{self.name} IS NULL AND {self.value} IS NOT NULL" if self.type == "BLOB" else "false"


def connect(spill: Path) -> duckdb.DuckDBPyConnection:
    """Returns an in-memory DuckDB connection in UTC that spills to the folder `spill` above `MEMORY_LIMIT`."""
    connection = duckdb.connect()
    for setting in (
        "TimeZone = 'UTC'",
        f"memory_limit = '{MEMORY_LIMIT}'",
        f"temp_directory = {literal(spill)}",
        # The order of raw events does not matter, and preserving it costs memory.
        "preserve_insertion_order = false",
    ):
        connection.execute(f"SET {setting}")
    return connection


def parse(connection: duckdb.DuckDBPyConnection, raw: str, id_type: IdType, others: Sequence[str] = ()) -> str:
    """Returns the SELECT that parses a SELECT of raw event columns.

    Rules about the day of an event are in cleaning.py.

    Parameters
    ----------
    raw
        A SELECT of event columns of any type, and of the columns `others`. Missing event columns become null.
    id_type
        Type of the shop's ids.
    others
        Columns of `raw` to return unchanged.

    Returns
    -------
    str
        A SELECT of `others`; the event columns (`event_time` as TIMESTAMPTZ, ids as `id_type`); `reject_reason`
        (VARCHAR, null if the event is accepted); and `original` (struct of VARCHAR): the raw values, if the event is
        rejected or a value became null, else null.
    """
    columns, inner = _texts(connection, raw, EVENTS.names, others)
    by_name = {column.name: column for column in columns}
    time = by_name["event_time"]
    for step in (
        [f"{_parts(time.text)} AS parts"] if time.is_text else [],
        [f"{_moment(time)} AS moment"],
        [f"{_value(c, id_type)} AS {c.name}" for c in columns],
        [f"{_reject_reason(by_name)} AS reject_reason"],
    ):
        inner = f"SELECT {', '.join(['*', *step])} FROM ({inner})"
    unchanged = "".join(f"{name}, " for name in others)
    nulls = {name: f"CAST(NULL AS {kind}) AS {name}" for name, kind in sql_types(id_type).items()}
    values = ", ".join(name if name in by_name else nulls[name] for name in EVENTS.names)
    lost = " OR ".join(f"({c.value} IS NOT NULL AND {c.name} IS NULL AND {_has_text(c)})" for c in columns)
    original = ", ".join(
        f"{name} := {by_name[name].as_text if name in by_name else 'CAST(NULL AS VARCHAR)'}" for name in EVENTS.names
    )
    return (
        f"SELECT {unchanged}{values}, reject_reason, "
        f"CASE WHEN reject_reason IS NOT NULL OR {lost} THEN struct_pack({original}) END AS original FROM ({inner})"
    )


def parse_values(
    connection: duckdb.DuckDBPyConnection,
    raw: str,
    kinds: Mapping[str, str],
    id_type: IdType,
    others: Sequence[str] = (),
) -> str:
    """Returns the SELECT that parses some columns of a SELECT, each column independently.

    Parameters
    ----------
    raw
        The SELECT of the rows to parse.
    kinds
        Kind of each column to parse: `id`, `timestamp`, `double`, `boolean` or `string`.
    id_type
        Type of the shop's ids.
    others
        Columns of `raw` to return unchanged.

    Returns
    -------
    str
        A SELECT of `others`; the columns of `kinds`, null where the value is missing or unreadable; and for each of
        them `unreadable_<column>` (VARCHAR): the raw value where it is unreadable, else null.
    """
    columns, inner = _texts(connection, raw, list(kinds), others)
    readers = {"double": _amount, "string": _text, "timestamp": _any_time, "boolean": _boolean}
    readers["id"] = _integer if id_type == "bigint" else _text_id
    for column in columns:
        if kinds[column.name] == "timestamp":
            parts = f"{_parts(column.text)} AS parts" if column.is_text else "NULL AS parts"
            inner = f"SELECT *, {_moment(column)} AS moment FROM (SELECT *, {parts} FROM ({inner}))"
        inner = f"SELECT *, {readers[kinds[column.name]](column)} AS {column.name} FROM ({inner})"
        if kinds[column.name] == "timestamp":
            inner = f"SELECT * EXCLUDE (parts, moment) FROM ({inner})"
    unreadable = [
        f"CASE WHEN {c.name} IS NULL AND NOT ({c.is_missing}) THEN {c.as_text} END AS unreadable_{c.name}"
        for c in columns
    ]
    return f"SELECT {', '.join([*others, *kinds, *unreadable])} FROM ({inner})"


def _texts(
    connection: duckdb.DuckDBPyConnection, raw: str, names: Sequence[str], others: Sequence[str]
) -> tuple[list[_Raw], str]:
    """The given columns of `raw`, and a SELECT of `others` and of their values, trimmed texts and texts."""
    types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {raw}").fetchall()}
    described = [_Raw(name, types[name]) for name in names if name in types]
    values = ", ".join(f"{_plain(column)} AS {column.value}" for column in described)
    inner = f"SELECT {''.join(f'{name}, ' for name in others)}{values} FROM ({raw})"
    columns = [_Raw(column.name, _plain_type(column.type)) for column in described]
    texts = [column for column in columns if column.is_text]
    # Nested SELECTs, because DuckDB would compute an expression that a CASE repeats twice.
    for step in (
        [f"{column.trimmed} AS trimmed_{column.name}" for column in texts],
        [f"{_without_marker(f'trimmed_{column.name}')} AS {column.text}" for column in texts],
    ):
        inner = f"SELECT {', '.join(['*', *step])} FROM ({inner})"
    return columns, inner


def sql_types(id_type: IdType) -> dict[str, str]:
    """Returns the DuckDB type of each parsed event column."""
    names = {"timestamp": "TIMESTAMP WITH TIME ZONE", "string": "VARCHAR", "bigint": "BIGINT", "double": "DOUBLE"}
    return {column.name: names[column.type] for column in EVENTS.with_id_type(id_type).columns}


def parsed_schema(id_type: IdType) -> pa.Schema:
    """Returns the Arrow schema of Parquet files with parsed events."""
    kinds = {"timestamp": pa.timestamp("us", tz="UTC"), "string": pa.string(), "bigint": pa.int64()}
    kinds["double"] = pa.float64()
    events = [pa.field(column.name, kinds[column.type]) for column in EVENTS.with_id_type(id_type).columns]
    original = pa.struct([(name, pa.string()) for name in EVENTS.names])
    return pa.schema([*events, ("reject_reason", pa.string()), ("original", original)])


def parse_id(value: object, id_type: str) -> int | str | None:
    """Returns an id in the type of the shop's ids, such as "00123" or 123; None if the value cannot be an id."""
    if isinstance(value, bool) or not isinstance(value, str | Integral):
        return None
    text = str(value).strip()
    if id_type == "string":
        return text
    is_number = re.fullmatch(r"[+-]?0*\d{1,19}", text, re.ASCII)
    return int(text) if is_number and -(2**63) <= int(text) < 2**63 else None


def split_header(line: str) -> tuple[str, list[str]]:
    """Returns the delimiter of a CSV file, the one that splits its header into most columns, and the columns.

    Raises
    ------
    csv.Error
        The header cannot be read.
    """
    columns = {mark: next(csv.reader([line], delimiter=mark), []) for mark in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda mark: len(columns[mark]))
    return delimiter, columns[delimiter]


def literal(value: object) -> str:
    """Returns a value as a SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Returns the name of a column as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def is_null_marker(sql: str) -> str:
    """Returns SQL that is true if a string is a null marker after trimming."""
    return _is_trimmed_null_marker(f"trim({sql}, {WHITESPACE})")


def _is_trimmed_null_marker(text: str) -> str:
    # contains() in one string, because DuckDB turns a list of strings, also in IN, into a join.
    markers = "|".join(NULL_MARKERS)
    return f"(contains('|{markers}|', '|' || lower({text}) || '|') AND NOT contains({text}, '|'))"


def _without_marker(text: str) -> str:
    longest = max(map(len, NULL_MARKERS))
    # Skips long values and those that begin with a digit, such as ids, prices and times.
    is_other = f"strlen({text}) > {longest} OR ({text} >= '0' AND {text} < ':')"
    is_null = f"{text} = '' OR {_is_trimmed_null_marker(text)}"
    return f"CASE WHEN {is_other} THEN {text} WHEN {is_null} THEN NULL ELSE {text} END"


def _plain(column: _Raw) -> str:
    kind = _plain_type(column.type)
    if kind.startswith("TIMESTAMP") and "_NS" in column.type:
        return f"make_timestamp(epoch_ns({column.name}) // 1000)"  # a cast would round, possibly to the next day
    if column.is_float and column.name != "price":
        return f"CASE WHEN NOT isnan({column.name}) THEN {column.name} END"  # pandas writes missing values as NaN
    return column.name if kind == column.type else f"CAST({column.name} AS {kind})"


def _plain_type(kind: str) -> str:
    """The type to which a raw column is cast before parsing: dictionaries, UUIDs, booleans and nulls become text."""
    if kind.startswith(("TIMESTAMP", "DATE")):
        has_zone = "TIME ZONE" in kind or kind.startswith("TIMESTAMPTZ")
        return "TIMESTAMP WITH TIME ZONE" if has_zone and "_NS" not in kind else "TIMESTAMP"
    known = _Raw("", kind)
    return kind if known.is_text or known.is_number else "VARCHAR"


def _has_text(column: _Raw) -> str:
    return f"trimmed_{column.name} IS DISTINCT FROM ''" if column.is_text else "true"


def _value(column: _Raw, id_type: IdType) -> str:
    kind = {c.name: c.type for c in EVENTS.columns}[column.name]
    if column.name == "event_id":
        return _text_id(column)
    if kind == "id":
        return _integer(column) if id_type == "bigint" else _text_id(column)
    readers = {"timestamp": _time, "bigint": _integer, "double": _price, "string": _text}
    return readers[kind](column)


def _text(column: _Raw) -> str:
    return column.text if column.is_text else column.as_text


def _integer(column: _Raw) -> str:
    value = column.value
    if column.is_float:
        # pandas stores ids with missing values as doubles, which are exact up to 2^53.
        is_exact = f"{value} = floor({value}) AND abs({value}) <= {_EXACT_UP_TO[column.type]}"
        return f"CASE WHEN {is_exact} THEN TRY_CAST({value} AS BIGINT) END"
    if column.is_number:
        return f"CASE WHEN {value} = floor({value}) THEN TRY_CAST({value} AS BIGINT) END"
    if not column.is_text:
        return "CAST(NULL AS BIGINT)"
    text = column.text
    # Nearly every id is a plain integer, and this comparison is faster than a regular expression.
    return (
        f"CASE WHEN CAST(TRY_CAST({text} AS BIGINT) AS VARCHAR) = {text} THEN TRY_CAST({text} AS BIGINT) "
        rf"WHEN regexp_full_match({text}, '[+-]?\d+(\.0*)?') THEN TRY_CAST(split_part({text}, '.', 1) AS BIGINT) END"
    )


def _text_id(column: _Raw) -> str:
    if column.is_integer:
        return column.as_text
    if column.is_number:
        text = f"coalesce(CAST({_integer(column)} AS VARCHAR), {column.as_text})"
        exact = _EXACT_UP_TO.get(column.type)
        return f"CASE WHEN abs({column.value}) <= {exact} THEN {text} END" if exact else text
    text = _text(column)
    is_whole = rf"contains({text}, '.') AND regexp_full_match({text}, '[+-]?\d+\.0*')"
    return f"CASE WHEN {is_whole} THEN split_part({text}, '.', 1) ELSE {text} END"


def _price(column: _Raw) -> str:
    if column.is_number:
        return f"CAST({column.value} AS DOUBLE) + 0.0"  # turns -0.0 into 0.0
    text = _text(column)
    number = rf"regexp_full_match({text}, '[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?')"
    infinite = rf"regexp_full_match({text}, '(?i)[+-]?inf(inity)?')"
    return f"CASE WHEN {number} OR {infinite} THEN TRY_CAST({text} AS DOUBLE) + 0.0 END"


def _boolean(column: _Raw) -> str:
    """SQL of a boolean, from a word or a number; a positive number, such as pieces in stock, is true."""
    if column.is_number:
        return f"{column.value} > 0"
    text = _text(column)
    yes, no = (", ".join(map(literal, words)) for words in (TRUE_WORDS, FALSE_WORDS))
    return (
        f"CASE WHEN lower({text}) IN ({yes}) THEN true WHEN lower({text}) IN ({no}) THEN false "
        f"ELSE {_price(column)} > 0 END"
    )


def _amount(column: _Raw) -> str:
    """SQL of a price; null if it is negative or not finite."""
    return f"(SELECT CASE WHEN isfinite(p) AND p >= 0 THEN p END FROM (SELECT {_price(column)} AS p))"


def _time(column: _Raw) -> str:
    return f"CASE WHEN moment >= TIMESTAMP '{EARLIEST_DAY}' THEN {_any_time(column)} END"


def _any_time(_: _Raw) -> str:
    """SQL of a time, also before EARLIEST_DAY: catalogues write 1900-01-01 for "always available"."""
    return "CASE WHEN isfinite(moment) AND moment < TIMESTAMP '10000-01-01' THEN moment AT TIME ZONE 'UTC' END"


def _moment(column: _Raw) -> str:
    """SQL of the time in UTC; null if it cannot be read."""
    if column.type.startswith("TIMESTAMP"):
        return f"CAST({column.value} AS TIMESTAMP)"
    if column.type == "FLOAT":
        return "CAST(NULL AS TIMESTAMP)"  # seven digits are too few for a time
    if column.is_number:
        # Smaller types would overflow when multiplied.
        return _since_1970(f"TRY_CAST({column.value} AS {'DOUBLE' if column.is_float else _NUMBER})")
    text = column.text
    number = rf"CASE WHEN regexp_full_match({text}, '\d{{9,19}}(\.\d*)?') THEN TRY_CAST({text} AS {_NUMBER}) END"
    return (
        f"CASE WHEN {_is_usual(text)} THEN TRY_CAST(left({text}, 19) AS TIMESTAMP) "
        f"WHEN parts.year <> '' THEN {_moment_of_parts()} ELSE {_since_1970(number)} END"
    )


def _is_usual(text: str) -> str:
    """SQL that is true for the most frequent time formats, which DuckDB casts without a regular expression."""
    return (
        f"substr({text}, 17, 1) = ':' AND (strlen({text}) = 19 OR (strlen({text}) = 23 AND suffix({text}, ' UTC')) "
        f"OR (strlen({text}) = 20 AND suffix({text}, 'Z')))"
    )


def _parts(text: str) -> str:
    """SQL of the struct of the parts of a time in another format; its year is empty if the text is not a date."""
    groups = ", ".join(f"'{name}'" for name in _TIME_GROUPS)
    return f"CASE WHEN NOT ({_is_usual(text)}) THEN regexp_extract({text}, '^{_TIME}$', [{groups}]) END"


def _moment_of_parts() -> str:
    def part(name: str, digits: int = 2) -> str:
        return f"lpad(parts.{name}, {digits}, '0')"

    day = f"parts.year || '-' || {part('month')} || '-' || {part('day')}"
    clock = f"{part('hour')} || ':' || {part('minute')} || ':' || {part('second')}"
    written = f"TRY_CAST({day} || ' ' || {clock} || '.' || left(rpad(parts.fraction, 6, '0'), 6) AS TIMESTAMP)"
    hours, minutes = f"CAST({part('hours')} AS INTEGER)", f"CAST({part('minutes')} AS INTEGER)"
    offset = f"to_seconds(CASE parts.sign WHEN '-' THEN -1 ELSE 1 END * ({hours} * 3600 + {minutes} * 60))"
    return f"CASE WHEN {hours} <= 18 AND {minutes} < 60 THEN {written} - {offset} END"


def _since_1970(number: str) -> str:
    """SQL of the time of a number since 1970, truncated to microseconds; its magnitude determines the unit."""
    cases = [
        f"WHEN {number} >= {_FROM * unit} AND {number} < {_TO * unit} "
        f"THEN make_timestamp(CAST(floor({number} * {microseconds}) AS BIGINT))"
        for unit, microseconds in _UNITS.items()
    ]
    cases.append(
        f"WHEN {number} >= {_FROM * 10**9} AND {number} < {_TO * 10**9} "
        f"THEN make_timestamp(CAST(floor({number} * 0.001) AS BIGINT))"
    )
    return f"CASE {' '.join(cases)} END"


def _reject_reason(columns: Mapping[str, _Raw]) -> str:
    cases = []
    for name in _REQUIRED_IN_ORDER:
        column = columns[name]
        undecodable = column.is_undecodable
        if name == "event_type":
            known = ", ".join(f"'{kind}'" for kind in EVENT_TYPES)
            cases.append(f"WHEN event_type IS NULL OR event_type NOT IN ({known}) THEN 'unknown event_type'")
            continue
        cases.append(f"WHEN {column.is_missing} THEN 'missing {name}'")
        if undecodable != "false":
            cases.append(f"WHEN {undecodable} THEN '{name} is not UTF-8'")
        cases.append(f"WHEN {name} IS NULL THEN 'unreadable {name}'")
    cases.append("WHEN isnan(price) THEN 'price is not a number' WHEN isinf(price) THEN 'infinite price'")
    cases.append(f"WHEN price < 0 THEN 'negative price' WHEN price > {MAX_PRICE!r} THEN 'unreadable price'")
    return f"CASE {' '.join(cases)} END"

"""Values of every kind and type in the parser of events."""

import math
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecommerce_assets.events.parsing import NULL_MARKERS, IdType, parse, parsed_schema
from ecommerce_assets.events.schema import EVENTS

EVENT = {
    "event_time": "2019-10-01 10:00:00",
    "event_type": "view",
    "product_id": "1",
    "category_id": "2",
    "category_code": "a.b",
    "brand": "acme",
    "price": "1.5",
    "user_id": "3",
    "user_session": "s",
    "event_id": "e",
}
NAN = math.nan
UNREADABLE, MISSING = "unreadable", "missing"


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def parse_rows(connection: duckdb.DuckDBPyConnection, columns: dict[str, Any], id_type: IdType) -> list[dict[str, Any]]:
    """The parsed rows of a table, as dictionaries."""
    rows = len(next(iter(columns.values())))
    raw = pa.table({**columns, "number": pa.array(range(rows))})
    connection.register("raw", raw)
    sql = f"SELECT * FROM ({parse(connection, 'SELECT * FROM raw', id_type, ('number',))}) ORDER BY number"
    result = connection.execute(sql)
    names = [name for name, *_ in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def parse_values(
    connection: duckdb.DuckDBPyConnection,
    column: str,
    values: Sequence[Any],
    kind: pa.DataType | None = None,
    id_type: IdType = "bigint",
) -> list[dict[str, Any]]:
    """Events that differ from EVENT in one column."""
    usual = {name: pa.array([value] * len(values)) for name, value in EVENT.items()}
    return parse_rows(connection, {**usual, column: pa.array(values, kind)}, id_type)


def check(
    connection: duckdb.DuckDBPyConnection,
    column: str,
    expected: Sequence[tuple[Any, Any]],
    kind: pa.DataType | None = None,
    id_type: IdType = "bigint",
) -> None:
    """Asserts that each value is parsed as its expected value, or is null for the reason UNREADABLE or MISSING."""
    rows = parse_values(connection, column, [value for value, _ in expected], kind, id_type)
    for (value, result), row in zip(expected, rows, strict=True):
        parsed = row[column] if row[column] is not None else (row["reject_reason"] or "").partition(" ")[0]
        assert parsed == result, (value, row)
        assert row["reject_reason"] == (f"{result} {column}" if result in (UNREADABLE, MISSING) else None), value


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


TEN = utc(2019, 10, 1, 10)
TIMES = [
    ("2019-10-01 10:00:00", TEN),
    ("2019-10-01 10:00:00 UTC", TEN),
    ("2019/10/01 10:00:00", TEN),
    ("2019-10-1T10:00", TEN),
    ("\t2019-10-01  10:00:00Z\r", TEN),
    ("2019-10-01 10:00:00 gmt", TEN),
    ("2019-10-01T13:00:00+03:00", TEN),
    ("2019-10-01 13:00:00 +0300", TEN),
    ("2019-10-01 13:00:00UTC+3", TEN),
    ("2019-10-01 04:30 -05:30", TEN),
    ("2019-10-01", utc(2019, 10, 1)),
    ("2019/1/2 3:04", utc(2019, 1, 2, 3, 4)),
    ("2019-10-01 24:00:00", utc(2019, 10, 2)),
    ("2019-10-01 23:59:59.9999999", utc(2019, 10, 1, 23, 59, 59, 999_999)),
    ("2019-10-01T10:00:00,5Z", utc(2019, 10, 1, 10, 0, 0, 500_000)),
    ("1569924000", TEN),
    (" 1569924000000 ", TEN),
    ("1569924000000000", TEN),
    ("1569924000000000000", TEN),
    ("1569974399999999999", utc(2019, 10, 1, 23, 59, 59, 999_999)),
    ("1569924000.25", utc(2019, 10, 1, 10, 0, 0, 250_000)),
    ("1569974399.9999999", utc(2019, 10, 1, 23, 59, 59, 999_999)),
    *((f"2019-10-01 10:00:00 {zone}", UNREADABLE) for zone in ("BST", "CET", "CEST", "America/New_York", "PM")),
    *((f"2019-10-01 {time}", UNREADABLE) for time in ("25:00:00", "10:60", "10:00:60", "10:00:00+19:00", "1:2:3")),
    *((day, UNREADABLE) for day in ("2019-02-30", "2019-13-01", "01/10/2019", "10/01/2019 10:00", "12345-01-01")),
    *((zero, UNREADABLE) for zero in ("1970-01-01 00:00:00", "0001-01-01", "0000-00-00 00:00:00", "0")),
    *((text, UNREADABLE) for text in ("20191001", "20191001100000", "soon", "infinity", "1.5e9", "-1569924000")),
    *((text, MISSING) for text in ("", " ", "NULL", "NaT", None)),
]


def test_times_in_strings(connection: duckdb.DuckDBPyConnection) -> None:
    check(connection, "event_time", TIMES)


LATE = datetime(2019, 10, 1, 23, 59, 59)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *((pa.timestamp(unit), [(LATE, utc(2019, 10, 1, 23, 59, 59))]) for unit in ("s", "ms", "us", "ns")),
        *((pa.timestamp(unit, "Asia/Tokyo"), [(TEN, TEN), (None, MISSING)]) for unit in ("ms", "us", "ns")),
        (pa.timestamp("ns"), [(1569974399_999_999_999, utc(2019, 10, 1, 23, 59, 59, 999_999))]),
        (pa.timestamp("ns", "UTC"), [(1569974399_999_999_999, utc(2019, 10, 1, 23, 59, 59, 999_999))]),
        (pa.timestamp("ms"), [(0, UNREADABLE), (1569924000, UNREADABLE)]),
        (pa.timestamp("us"), [(2**62, UNREADABLE)]),
        (pa.date32(), [(date(2019, 10, 1), utc(2019, 10, 1))]),
        (pa.int32(), [(1569924000, TEN), (17, UNREADABLE)]),
        (pa.int64(), [(1569974399_999_999_999, utc(2019, 10, 1, 23, 59, 59, 999_999)), (20191001, UNREADABLE)]),
        (pa.uint64(), [(1569924000_000, TEN), (2**64 - 1, UNREADABLE)]),
        (pa.float64(), [(1569924000.25, utc(2019, 10, 1, 10, 0, 0, 250_000)), (NAN, MISSING), (math.inf, UNREADABLE)]),
        (pa.decimal128(30, 9), [(Decimal("1569924000.123456789"), utc(2019, 10, 1, 10, 0, 0, 123_456))]),
        (pa.binary(), [(b"2019-10-01 10:00:00", TEN)]),
        (pa.dictionary(pa.int8(), pa.string()), [("2019-10-01 10:00:00", TEN)]),
        (pa.bool_(), [(True, UNREADABLE)]),
        (pa.null(), [(None, MISSING)]),
    ],
    ids=str,
)
def test_times_in_columns_of_every_type(
    connection: duckdb.DuckDBPyConnection, kind: pa.DataType, values: Sequence[tuple[Any, Any]]
) -> None:
    check(connection, "event_time", values, kind)


BIGINTS: list[tuple[Any, Any]] = [
    *((text, 17) for text in ("17", "17.0", "17.", "017", "+17", " 17\t")),
    ("-5", -5),
    ("9223372036854775807", 2**63 - 1),
    ("9007199254740993.0", 9007199254740993),
    *((text, UNREADABLE) for text in ("9223372036854775808", "99999999999999999999", "17.5", "1e3", "0x1", "anna")),
    *((text, MISSING) for text in ("", "NA", "nan", r"\N")),
]
STRINGS = [
    *((text, "17") for text in ("17", "17.0", "17.", " 17\t")),
    *((text, text) for text in ("017", "85123A", "17.5", "1.0.0", "99999999999999999999", "日本")),
    *((text, MISSING) for text in ("", "NA", "None")),
]
TYPED_IDS: list[tuple[pa.DataType, IdType, list[tuple[Any, Any]]]] = [
    (pa.float64(), "bigint", [(17.0, 17), (17.5, UNREADABLE), (2.0**53 + 2, UNREADABLE), (NAN, MISSING)]),
    (pa.float64(), "string", [(17.0, "17"), (17.5, "17.5"), (NAN, MISSING)]),
    (pa.decimal128(20, 2), "bigint", [(Decimal("17.00"), 17), (Decimal("17.50"), UNREADABLE)]),
    (pa.decimal128(20, 2), "string", [(Decimal("17.00"), "17"), (Decimal("17.50"), "17.50")]),
    (pa.uint64(), "bigint", [(17, 17), (2**64 - 1, UNREADABLE)]),
    (pa.uint64(), "string", [(2**64 - 1, "18446744073709551615")]),
    (pa.int8(), "bigint", [(17, 17), (None, MISSING)]),
    (pa.binary(), "bigint", [(b"17", 17), (b"NA", MISSING)]),
    (pa.binary(), "string", [(b"17.0", "17"), ("日本".encode(), "日本")]),
    (pa.uuid(), "string", [(uuid.UUID(int=5).bytes, "00000000-0000-0000-0000-000000000005")]),
    (pa.dictionary(pa.int8(), pa.string()), "bigint", [("17", 17), ("NA", MISSING)]),
    (pa.bool_(), "bigint", [(True, UNREADABLE)]),
    (pa.list_(pa.int64()), "bigint", [([17], UNREADABLE)]),
    (pa.null(), "bigint", [(None, MISSING)]),
]


@pytest.mark.parametrize("column", ["user_id", "product_id"])
def test_ids_in_strings(connection: duckdb.DuckDBPyConnection, column: str) -> None:
    check(connection, column, BIGINTS)
    check(connection, column, STRINGS, id_type="string")


@pytest.mark.parametrize(("kind", "id_type", "values"), TYPED_IDS, ids=str)
def test_ids_in_columns_of_every_type(
    connection: duckdb.DuckDBPyConnection, kind: pa.DataType, id_type: IdType, values: Sequence[tuple[Any, Any]]
) -> None:
    check(connection, "user_id", values, kind, id_type)


def test_bytes_that_are_not_utf8_are_unreadable(connection: duckdb.DuckDBPyConnection) -> None:
    for column, reason in (("user_id", "user_id is not UTF-8"), ("brand", None), ("category_id", None)):
        for id_type in ("bigint", "string"):
            (row,) = parse_values(connection, column, [b"caf\xe9"], id_type=id_type)
            assert (row[column], row["reject_reason"]) == (None, reason)
            assert row["original"][column] == r"caf\xE9"


@pytest.mark.parametrize(
    ("value", "price", "reason"),
    [
        ("1.50", 1.5, None),
        ("1e5", 100_000.0, None),
        ("0", 0.0, None),
        (".5", 0.5, None),
        ("1e12", 1e12, None),
        (7, 7.0, None),
        (Decimal("1.10"), 1.1, None),
        (b"1.5", 1.5, None),
        ("1,5", None, "unreadable price"),
        ("$5", None, "unreadable price"),
        (True, None, "unreadable price"),
        ("nan", None, "missing price"),
        (None, None, "missing price"),
        ("inf", math.inf, "infinite price"),
        (-math.inf, -math.inf, "infinite price"),
        ("-0.01", -0.01, "negative price"),
        ("1e300", 1e300, "unreadable price"),
    ],
)
def test_price_is_a_finite_number_of_at_least_zero(
    connection: duckdb.DuckDBPyConnection, value: Any, price: float | None, reason: str | None
) -> None:
    (row,) = parse_values(connection, "price", [value])
    assert (row["price"], row["reject_reason"]) == (price, reason)


def test_price_nan_is_not_a_number_and_minus_zero_is_zero(connection: duckdb.DuckDBPyConnection) -> None:
    assert parse_values(connection, "price", [NAN])[0]["reject_reason"] == "price is not a number"
    for zero in ("-0.0", -0.0):
        assert math.copysign(1, parse_values(connection, "price", [zero])[0]["price"]) == 1


@pytest.mark.parametrize("column", EVENTS.names)
def test_null_markers_are_null_in_every_column(connection: duckdb.DuckDBPyConnection, column: str) -> None:
    texts = [form for marker in NULL_MARKERS for form in (marker, marker.upper(), f" {marker.title()}\t")]
    for row, text in zip(parse_values(connection, column, texts, id_type="string"), texts, strict=True):
        assert row[column] is None
        assert row["original"][column] == text


@pytest.mark.parametrize("column", ["category_code", "brand", "user_session"])
def test_strings_are_trimmed_and_empty_ones_are_null(connection: duckdb.DuckDBPyConnection, column: str) -> None:
    rows = parse_values(connection, column, [" Acme é ", "", " \t", None, "nano"])
    assert [row[column] for row in rows] == ["Acme é", None, None, None, "nano"]
    assert all(row["reject_reason"] is None and row["original"] is None for row in rows)


def test_event_type_must_match_exactly_after_trimming(connection: duckdb.DuckDBPyConnection) -> None:
    rows = parse_values(connection, "event_type", [" view ", "remove_from_cart", "VIEW", "wish", "", None, "NA"])
    assert [row["reject_reason"] for row in rows] == [None, None, *["unknown event_type"] * 5]


def test_unreadable_optional_ids_are_null(connection: duckdb.DuckDBPyConnection) -> None:
    rows = parse_values(connection, "category_id", ["2053013552326770905", "1.0", "x", ""])
    assert [row["category_id"] for row in rows] == [2053013552326770905, 1, None, None]
    assert [row["original"] and row["original"]["category_id"] for row in rows] == [None, None, "x", None]
    assert all(row["reject_reason"] is None for row in rows)
    assert [row["event_id"] for row in parse_values(connection, "event_id", [1.0, 2.5])] == ["1", "2.5"]


def test_first_reason_is_reported_in_a_fixed_order(connection: duckdb.DuckDBPyConnection) -> None:
    broken = {"event_time": "soon", "event_type": "wish", "user_id": "anna", "product_id": "", "price": "-1"}
    reasons = ["unreadable event_time", "unknown event_type", "unreadable user_id", "missing product_id"]
    for reason in [*reasons, "negative price"]:
        (row,) = parse_rows(connection, {name: [value] for name, value in {**EVENT, **broken}.items()}, "bigint")
        assert row["reject_reason"] == reason
        assert row["original"] == {**EVENT, **broken}
        del broken[next(iter(broken))]


def test_absent_columns_become_null(connection: duckdb.DuckDBPyConnection) -> None:
    needed = ("event_time", "event_type", "product_id", "price", "user_id")
    accepted, rejected = parse_rows(
        connection, {name: pa.array([EVENT[name], "" if name == "price" else EVENT[name]]) for name in needed}, "bigint"
    )
    assert accepted["reject_reason"] is None
    assert accepted["original"] is None
    assert all(accepted[name] is None for name in set(EVENT) - set(needed))
    assert rejected["original"] == {**dict.fromkeys(EVENT), **{n: EVENT[n] for n in needed}, "price": ""}


@pytest.mark.parametrize("id_type", ["bigint", "string"])
def test_parsed_schema_is_the_schema_of_parse(connection: duckdb.DuckDBPyConnection, id_type: IdType) -> None:
    connection.register("raw", pa.table({name: [value] for name, value in EVENT.items()}))
    parsed = connection.sql(parse(connection, "SELECT * FROM raw", id_type)).to_arrow_table()
    assert parsed.schema == parsed_schema(id_type)


FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31))
FORMS = {
    "%Y-%m-%d %H:%M:%S": timedelta(seconds=1),
    "%Y-%m-%d %H:%M:%S UTC": timedelta(seconds=1),
    "%Y-%m-%dT%H:%M:%SZ": timedelta(seconds=1),
    "%Y/%m/%d %H:%M": timedelta(minutes=1),
    "%Y-%m-%dT%H:%M:%S.%f": timedelta(microseconds=1),
    "%Y-%m-%d %H:%M:%S,%f GMT": timedelta(microseconds=1),
    "%Y/%m/%d": timedelta(days=1),
    "%Y-%m-%dT%H:%M:%S.%f%z": timedelta(microseconds=1),
}


@FEW
@given(moments=st.lists(MOMENTS, min_size=1, max_size=100), hours=st.integers(-14, 14))
def test_time_in_each_format_is_parsed(
    connection: duckdb.DuckDBPyConnection, moments: list[datetime], hours: int
) -> None:
    texts, expected = [], []
    for form, step in FORMS.items():
        zone = timezone(timedelta(hours=hours)) if "%z" in form else UTC
        texts += [moment.replace(tzinfo=zone).strftime(form) for moment in moments]
        expected += [(moment - (moment - datetime.min) % step).replace(tzinfo=zone) for moment in moments]
    assert [row["event_time"] for row in parse_values(connection, "event_time", texts)] == expected


@FEW
@given(moments=st.lists(MOMENTS, min_size=1, max_size=100), per_second=st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_number_since_1970_is_truncated_to_microseconds(
    connection: duckdb.DuckDBPyConnection, moments: list[datetime], per_second: int
) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    micros = [(moment.replace(tzinfo=UTC) - epoch) // timedelta(microseconds=1) for moment in moments]
    numbers = [micro * per_second // 10**6 + (999 if per_second == 10**9 else 0) for micro in micros]
    expected = [epoch + timedelta(microseconds=number * 10**6 // per_second) for number in numbers]
    for values in (numbers, list(map(str, numbers))):
        assert [row["event_time"] for row in parse_values(connection, "event_time", values)] == expected


@FEW
@given(texts=st.lists(st.text("0123456789.+-e xN", max_size=22) | st.integers().map(str), min_size=1, max_size=100))
def test_id_is_its_integer_or_unreadable(connection: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    for text, row in zip(texts, parse_values(connection, "user_id", texts), strict=True):
        if row["user_id"] is None:
            assert row["reject_reason"] in ("unreadable user_id", "missing user_id")
        else:
            assert Decimal(text.strip()) == row["user_id"]
    for text, row in zip(texts, parse_values(connection, "user_id", texts, id_type="string"), strict=True):
        assert row["user_id"] in (None, text.strip(), text.strip().partition(".")[0])

"""The catalogue of bad input: each kind, what people see of it, and where its rows go.

One table for each place where it is found out; that it is so is tested in test_bad_input.py.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets_tests.events.landing_files import HEADER, ROW, events_table

TIME = "2019-10-01 00:00:00 UTC"
FIRST_ODD_DAY = date(2020, 1, 1)


@dataclass(frozen=True)
class Kind:
    """One kind of bad input; `made` is what makes it. FILE and DIR stand for its path and its folder."""

    name: str
    made: Any
    sees: str
    goes: str


def text(name: str, content: bytes | str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return make


def table(**columns: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pq.write_table(events_table(**columns), folder / "x.parquet")
        return folder / "x.parquet"

    return make


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


PARQUET = pa.BufferOutputStream()
pq.write_table(events_table(1000), PARQUET)
PARQUET_BYTES = PARQUET.getvalue().to_pybytes()

FILES = [
    Kind(
        "no header",
        text("x.csv", f"{ROW}\n{ROW}\n"),
        f"FILE has no header: its first line is data; put a line with the column names before it, such as {HEADER}.",
        "nothing landed",
    ),
    Kind("empty file", text("x.csv", ""), "FILE is empty.", "nothing landed"),
    Kind("header only", text("x.csv", HEADER + "\n"), "FILE is empty but for its header.", "nothing landed"),
    Kind(
        "other column names",
        text("x.csv", f"{HEADER.replace('user_id', 'visitorid')}\n{ROW}\n"),
        "FILE lacks the column user_id; it has event_time, event_type, product_id, category_id, category_code, brand, "
        "price, visitorid, user_session: add --map visitorid=user_id.",
        "nothing landed",
    ),
    Kind(
        "no price",
        text("x.csv", "event_time,event_type,product_id,user_id\n2019-10-01,view,1,2\n"),
        "FILE lacks the column price; it has event_time, event_type, product_id, user_id: add --default price=0.",
        "nothing landed",
    ),
    Kind(
        "a column twice",
        text("x.csv", f"{HEADER},price\n{ROW},1\n"),
        "FILE has more than one column called price.",
        "nothing landed",
    ),
    Kind(
        "no readable time",
        text("x.csv", f"{HEADER}\n{ROW.replace(TIME, '01/10/2019')}\n"),
        "FILE has no row with a readable event_time; the first one is '01/10/2019', and times are dates "
        "from 1990 on, such as 2019-10-01 00:00:00 UTC, or numbers since 1970.",
        "nothing landed",
    ),
    Kind(
        "no line is an event",
        text("x.csv", f"{HEADER}\n{ROW},x\n"),
        "FILE has no line that can be read as an event; line 2: 10 values where the header has 9.",
        "nothing landed",
    ),
    Kind(
        "UTF-16",
        text("x.csv", f"{HEADER}\n{ROW}\n".encode("utf-16")),
        "FILE is not a CSV file in UTF-8: its first line cannot be read; save it again as UTF-8.",
        "nothing landed",
    ),
    Kind(
        "cut-off archive",
        text("x.csv.gz", gzip.compress(f"{HEADER}\n{ROW}\n".encode())[:-9]),
        "FILE cannot be decompressed: it is cut off or no gzip file.",
        "nothing landed",
    ),
    Kind(
        "no archive",
        text("x.csv.zst", f"{HEADER}\n{ROW}\n"),
        "FILE cannot be decompressed: it is cut off or no zstd file.",
        "nothing landed",
    ),
    Kind(
        "zip archive",
        text("x.csv.zip", b"PK"),
        "FILE is a zip archive: unzip it and land what is in it.",
        "nothing landed",
    ),
    Kind(
        "another format",
        text("x.json", "{}"),
        "FILE is neither CSV (.csv, .csv.gz, .csv.zst) nor Parquet (.parquet, .parq) by its name.",
        "nothing landed",
    ),
    Kind(
        "not a Parquet file",
        text("x.parquet", "hello"),
        "FILE is not a Parquet file, or it is cut off.",
        "nothing landed",
    ),
    Kind(
        "cut-off Parquet file",
        text("x.parquet", PARQUET_BYTES[:-20]),
        "FILE is not a Parquet file, or it is cut off.",
        "nothing landed",
    ),
    Kind(
        "Parquet file without rows",
        lambda folder: table(rows=0)(folder),
        "FILE is empty: it has columns but no rows.",
        "nothing landed",
    ),
    Kind(
        "time of a wrong type",
        table(event_time=pa.array([True])),
        "FILE: column event_time is bool; it can be timestamp, date, text, whole number, double, decimal.",
        "nothing landed",
    ),
    Kind(
        "id of a wrong type",
        table(user_id=pa.array([[1]])),
        "FILE: column user_id is list<element: int64>; it can be whole number, double, float, decimal, text, "
        "bytes of text.",
        "nothing landed",
    ),
    Kind(
        "price of a wrong type",
        table(price=pa.array([b"1"])),
        "FILE: column price is binary; it can be whole number, double, float, decimal, text.",
        "nothing landed",
    ),
    Kind("empty folder", empty_folder, "The folder FILE holds no CSV and no Parquet files.", "nothing landed"),
    Kind("no such file", lambda folder: folder / "x.csv", "No file or folder is called FILE.", "nothing landed"),
]

LINES = [
    Kind(
        "too many values",
        f"{ROW},extra\n".encode(),
        "line 3: 10 values where the header has 9",
        "listed as unreadable",
    ),
    Kind(
        "a quote that is not closed",
        ROW.replace("acme", '"acme').encode() + b"\n",
        "line 3: a quote that is not closed",
        "listed as unreadable",
    ),
    Kind(
        "text behind a quote",
        ROW.replace("acme", '"ac"me').encode() + b"\n",
        "line 3: not CSV: ',' expected after '\"'",
        "listed as unreadable",
    ),
    Kind(
        "not UTF-8",
        ROW.replace("acme", "caf\xe9").encode("latin-1") + b"\n",
        "line 3: not UTF-8 text",
        "listed as unreadable",
    ),
    Kind(
        "endless line",
        b"x" * 1_000_001 + b"\n",
        "line 3: longer than 1,000,000 bytes; only its start is copied",
        "listed as unreadable",
    ),
    Kind(
        "cut-off last line",
        b"2019-10-01 00:00:01 UTC,view,1,2,a.b,ac",
        "line 3: 6 values where the header has 9; the file breaks off in this line",
        "listed as unreadable",
    ),
    Kind(
        "too few values",
        b"2019-10-01 00:00:01 UTC,view,1,2,a.b,acme,1.5,3\n",
        "line 3: 8 values where the header has 9",
        "landed with nulls",
    ),
    Kind("empty line", b"\n", "unreadable                0", "no row"),
]


def rejected(name: str, column: str, value: str, reason: str) -> Kind:
    return Kind(name, {column: value}, reason, "rejected")


VALUES = [
    rejected("no time", "event_time", "", "missing event_time"),
    rejected("time is no date", "event_time", "soon", "unreadable event_time"),
    rejected("day that no month has", "event_time", "2019-02-30 10:00:00", "unreadable event_time"),
    rejected("unknown event", "event_type", "wishlist", "unknown event_type"),
    rejected("event in capitals", "event_type", "VIEW", "unknown event_type"),
    rejected("no event", "event_type", "", "unknown event_type"),
    rejected("no user", "user_id", "", "missing user_id"),
    rejected("user is no number", "user_id", "anna", "unreadable user_id"),
    rejected("user has more than 64 bits", "user_id", "99999999999999999999", "unreadable user_id"),
    rejected("no product", "product_id", " ", "missing product_id"),
    rejected("product is a fraction", "product_id", "1.5", "unreadable product_id"),
    rejected("no price value", "price", "", "missing price"),
    rejected("price is no number", "price", "abc", "unreadable price"),
    rejected("price with a comma", "price", '"1,50"', "unreadable price"),
    rejected("price NaN", "price", "NaN", "price is not a number"),
    rejected("infinite price", "price", "inf", "infinite price"),
    rejected("negative price", "price", "-0.01", "negative price"),
    rejected("price beyond all money", "price", "1e300", "unreadable price"),
    Kind("unreadable category_id", {"category_id": "x"}, "category_id is null", "accepted"),
    Kind("empty brand", {"brand": '""'}, "brand is null", "accepted"),
    Kind("the same event twice", {}, "repeats: 1", "accepted once"),
    Kind("id with a decimal point", {"user_id": "17.0"}, "user_id is 17", "accepted"),
]


def at(day: date, **columns: pa.Array) -> pa.Table:
    time = pa.array([datetime(day.year, day.month, day.day)], pa.timestamp("us"))
    return events_table(1, **{"event_time": time, **columns})


PARTITIONS = [
    Kind(
        "event in another day's folder",
        lambda day: at(day + timedelta(days=1)),
        "event outside its day",
        "rejected",
    ),
    Kind("no brand column", lambda day: at(day), "", "accepted"),
    Kind("no session column", lambda day: at(day, brand=pa.array(["acme"])), "", "accepted"),
    Kind(
        "nanosecond times",
        lambda day: at(day, event_time=pa.array([datetime(day.year, day.month, day.day)], pa.timestamp("ns"))),
        "",
        "accepted",
    ),
    Kind("ids as doubles", lambda day: at(day, user_id=pa.array([17.0])), "", "accepted"),
    Kind("ids as fractions", lambda day: at(day, user_id=pa.array([17.5])), "unreadable user_id", "rejected"),
    Kind(
        "ids null in every row",
        lambda day: at(day, user_id=pa.array([None], pa.int64())),
        "missing user_id",
        "rejected",
    ),
    Kind("prices as text", lambda day: at(day, price=pa.array(["cheap"])), "unreadable price", "rejected"),
    Kind("prices NaN", lambda day: at(day, price=pa.array([float("nan")])), "price is not a number", "rejected"),
    Kind("file without rows", lambda day: at(day).slice(0, 0), "", "no row"),
    Kind("folder without files", lambda _: None, "", "no row"),
]

UNREADABLE_PARTITIONS = [
    Kind(
        "raw file that is no Parquet",
        text("x.parquet", "hello"),
        "file://FILE is not a readable Parquet file",
        "the run stops",
    ),
    Kind(
        "raw file without a needed column",
        lambda folder: write_table(events_table().drop_columns(["price"]), folder / "x.parquet"),
        "file://FILE lacks the column price; it has event_time, event_type, product_id, user_id.",
        "the run stops",
    ),
    Kind(
        "no raw data for the day",
        lambda folder: folder.rename(folder.parent / "event_date=2019-10-02"),
        "There is no raw data for 2019-10-01: file://DIR does not exist (days there: 2019-10-02 to 2019-10-02). "
        "Nothing was written.",
        "the run stops",
    ),
]


def write_table(rows: pa.Table, path: Path) -> Path:
    pq.write_table(rows, path)
    return path

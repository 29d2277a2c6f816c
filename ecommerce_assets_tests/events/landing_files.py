"""Files to land, and ways to look at what landed; shared by the tests of landing. No tests here."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.events.landing import LandingSummary, Layout, land
from ecommerce_assets.events.schema import EVENTS

HEADER = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
ROW = "2019-10-01 00:00:00 UTC,view,1,2,a.b,acme,1.50,3,s1"
NEXT_DAY = "2019-10-02 10:00:00 UTC,purchase,1,2,a.b,acme,1.50,3,s1"
SHORT_HEADER = "event_time,event_type,product_id,price,user_id"

Row = tuple[Any, ...]


def csv_file(folder: Path, *lines: str, header: str = HEADER, name: str = "events.csv", end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes((end.join([header, *lines]) + end).encode())
    return path


def parquet_file(path: Path, rows: int = 1, **columns: pa.Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(events_table(rows, **columns), path)
    return path


def events_table(rows: int = 1, **columns: pa.Array) -> pa.Table:
    usual = {
        "event_time": pa.array([datetime(2019, 10, 1)] * rows, pa.timestamp("us")),
        "event_type": pa.array(["view"] * rows),
        "product_id": pa.array([1] * rows, pa.int64()),
        "price": pa.array([1.5] * rows, pa.float64()),
        "user_id": pa.array([9007199254740993123] * rows, pa.int64()),
    }
    return pa.table({**usual, **columns})


def land_one(source: Path | str, data_dir: Path, **options: Any) -> LandingSummary:
    """Land one file, folder or glob; `options` as Layout.parse takes them. No row may be lost on the way."""
    summary = land([str(source)], data_dir, Layout.parse(**options))
    for found in summary.sources:
        assert found.rows_read == found.rows_left_out + found.rows_landed + found.rows_already_landed
    assert dict(summary.rows_by_day) == {
        day: rows for day in dict(summary.rows_by_day) if (rows := _rows(data_dir, summary, str(day)))
    }
    return summary


def landed(data_dir: Path, columns: str = ", ".join(EVENTS.names), day: str = "*") -> list[Row]:
    """Rows of the partitions, in the order of their text; times are in UTC and without a zone."""
    names = re.sub(r"(?<!\.)\bevent_time\b", "event_time AT TIME ZONE 'UTC'", columns)
    files = sorted(map(str, data_dir.glob(f"raw/events/event_date={day}/*.parquet")))
    rows: list[Row] = []
    with duckdb.connect() as connection:
        for file in files:
            rows += connection.execute(f"SELECT {names} FROM read_parquet(?, can_have_nan = true)", [file]).fetchall()
    return sorted(rows, key=str)


def days(data_dir: Path) -> list[str]:
    return sorted(folder.name.partition("=")[2] for folder in data_dir.glob("raw/events/event_date=*"))


def files(data_dir: Path) -> dict[str, tuple[int, int]]:
    """Everything under the data dir but the lock, with what would show a change."""
    return {
        str(path.relative_to(data_dir)): (path.stat().st_size, path.stat().st_ino)
        for path in sorted(data_dir.rglob("*"))
        if path.is_file() and path.name != ".landing.lock"
    }


def _rows(data_dir: Path, summary: LandingSummary, day: str) -> int:
    contents = {source.content for source in summary.sources}
    found = data_dir.glob(f"raw/events/event_date={day}/land-*.parquet")
    return sum(pq.read_metadata(file).num_rows for file in found if file.name.split("-")[1] in contents)

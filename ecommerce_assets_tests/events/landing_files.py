"""Helpers for the tests of landing: files to land, and the landed rows."""

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
    """Lands one file, folder or glob with the options of Layout.parse, and checks that no row is lost."""
    summary = land([str(source)], data_dir, Layout.parse(**options))
    for item in summary.sources:
        assert item.rows_read == item.rows_left_out + item.rows_landed + item.rows_already_landed
    assert dict(summary.rows_by_day) == {
        day: rows for day in dict(summary.rows_by_day) if (rows := _rows(data_dir, summary, str(day)))
    }
    return summary


def landed(data_dir: Path, columns: str = ", ".join(EVENTS.names), day: str = "*") -> list[Row]:
    """Rows of the partitions, sorted by their text; times are naive, in UTC."""
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
    """Size and inode of every file in the data dir, without the lock."""
    return {
        str(path.relative_to(data_dir)): (path.stat().st_size, path.stat().st_ino)
        for path in sorted(data_dir.rglob("*"))
        if path.is_file() and path.name != ".landing.lock"
    }


def _rows(data_dir: Path, summary: LandingSummary, day: str) -> int:
    contents = {source.content for source in summary.sources}
    landed_files = data_dir.glob(f"raw/events/event_date={day}/land-*.parquet")
    return sum(pq.read_metadata(file).num_rows for file in landed_files if file.name.split("-")[1] in contents)

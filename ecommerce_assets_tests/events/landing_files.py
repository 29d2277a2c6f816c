"""Files to land, and ways to look at what landed; shared by the tests of landing. No tests here."""

from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ecommerce_assets.events.landing import LandingSummary, land
from ecommerce_assets.events.schema import EVENTS

HEADER = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
ROW = "2019-10-01 00:00:00 UTC,view,1,2,a.b,acme,1.50,3,s1"
NEXT_DAY = "2019-10-02 10:00:00 UTC,purchase,1,2,a.b,acme,1.50,3,s1"


def csv_file(folder: Path, *lines: str, header: str = HEADER, name: str = "events.csv", end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes((end.join([header, *lines]) + end).encode())
    return path


def landed(data_dir: Path, columns: str = ", ".join(EVENTS.names), day: str = "*") -> list[tuple[Any, ...]]:
    """Rows of the partitions, in the order of their text."""
    files = sorted(map(str, data_dir.glob(f"raw/events/event_date={day}/*.parquet")))
    rows: list[tuple[Any, ...]] = []
    for file in files:
        rows += duckdb.execute(f"SELECT {columns} FROM read_parquet(?, hive_partitioning = false)", [file]).fetchall()
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


def land_one(path: Path, data_dir: Path) -> LandingSummary:
    return land([str(path)], data_dir)


def events_table(rows: int = 1, **columns: pa.Array) -> pa.Table:
    usual = {
        "event_time": pa.array([datetime(2019, 10, 1)] * rows, pa.timestamp("us")),
        "event_type": pa.array(["view"] * rows),
        "product_id": pa.array([1] * rows, pa.int64()),
        "price": pa.array([1.5] * rows, pa.float64()),
        "user_id": pa.array([9007199254740993123] * rows, pa.int64()),
    }
    return pa.table({**usual, **columns})

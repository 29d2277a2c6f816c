"""Publishes versions as the IO managers do, without Spark and Dagster."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.storage import delta
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.lake import COMMIT_FILE, Lake
from ecommerce_assets.storage.version import Stats, StoredFile, Version

SPARK_TYPES = {
    "bool": "boolean",
    "int64": "bigint",
    "int32": "int",
    "string": "string",
    "double": "double",
    "timestamp[us, tz=UTC]": "timestamp",
}


def put_table(
    lake: Lake, asset: str, rows: pa.Table | None = None, days: Mapping[str, pa.Table] | None = None, **fields: Any
) -> Version:
    """Publishes a version of a table.

    Parameters
    ----------
    rows
        The rows; by default one row with the column `a`.
    days
        The rows by day, for a daily table.
    fields
        Fields of `Version`.
    """
    parts = days if days is not None else {"": rows if rows is not None else pa.table({"a": [1]})}
    folder = Lake.new_folder()
    for day, part in parts.items():
        path = f"event_date={day}/part-0.parquet" if day else "part-0.parquet"
        if part.num_rows or not day:
            target = io.BytesIO()
            pq.write_table(part, target, write_page_checksum=True)
            place, _, name = f"{folder}/{path}".rpartition("/")
            (lake.asset(asset) / place).write_whole(name, target.getvalue())
    schema = next(iter(parts.values())).schema
    columns = {field.name: SPARK_TYPES[str(field.type)] for field in schema}
    files = delta.describe_files(lake.asset(asset) / folder)
    table = TableSpec(tuple(ColumnSpec(name, kind, f"The {name}.") for name, kind in columns.items()))
    stats = {day: Stats(rows=part.num_rows, bytes=1, content=f"{folder} {day}") for day, part in parts.items() if day}
    about = {"columns": columns, "days": stats, "stats": delta.footer_stats(files), "files": files, **fields}
    return lake.publish_table(table, version_of(asset, folder, **about))


def put_folder(lake: Lake, asset: str, content: str = "{}", **fields: Any) -> Version:
    """Publishes a document with this content; `fields` are those of `Version`."""
    folder = fields.pop("folder", None) or Lake.new_folder()
    (lake.asset(asset) / folder).write_whole(f"{asset}.json", content.encode())
    files = (StoredFile(path=f"{asset}.json", bytes=len(content.encode())),)
    version = version_of(asset, folder, kind="document", files=files, **fields)
    if "committed_at" not in fields:
        return lake.publish_folder(version)
    lake.folder(version).write_whole(COMMIT_FILE, version.model_dump_json().encode())
    return version


def version_of(asset: str, folder: str, **fields: Any) -> Version:
    """Returns the metadata of a version, with defaults for required fields."""
    now = dt.datetime.now(dt.UTC)
    defaults: dict[str, Any] = {
        "version": folder,
        "folder": folder,
        "run_id": "run",
        "code_version": "1",
        "created_at": now,
        "committed_at": now,
        "seconds": 1.0,
        "spark_application_id": None,
    }
    return Version(asset=asset, **{**defaults, **fields})

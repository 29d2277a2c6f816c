"""Delivery to a folder: each delivery is in a folder of its own, and `current.json` names the newest one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ecommerce_assets.delivery.rows import DeliveredTable, Delivery, DeliveryError, PublishedRows
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import VERSION_FOLDER, Lake

CURRENT = "current.json"
"""Written last of all: readers that follow it never see half a delivery."""

GRACE = timedelta(days=1)
"""Files that no delivery names are removed after this time: a delivery that is still running may be writing them."""

_TIMES = "TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%fZ'"
OPTIONS = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": f"FORMAT csv, HEADER, {_TIMES}",
    "jsonl": f"FORMAT json, {_TIMES}",
}
"""DuckDB's options of COPY for each format, which is also the ending of the files' names."""


class Files:
    """A folder, on any file system that fsspec knows.

    Parameters
    ----------
    address
        As the user wrote it; it has no password.
    kind
        `parquet`, `csv` or `jsonl`.
    """

    def __init__(self, address: str, kind: str, folder: Folder) -> None:
        self.address, self.kind, self.folder = address, kind, folder

    def deliver(self, tables: Sequence[PublishedRows]) -> Delivery:
        """Let readers see exactly these versions, all at once; nothing is written where they do already.

        Raises
        ------
        DeliveryError
            Where that is not possible; readers see what they saw before.
        """
        try:
            return self._deliver(tables)
        except DeliveryError:
            raise
        except Exception as error:  # each object store's client has errors of its own
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
            raise DeliveryError(
                f"Cannot deliver to {self.address}: {reason}. It holds what it held before; deliver again when that is "
                "solved."
            ) from error

    def _deliver(self, tables: Sequence[PublishedRows]) -> Delivery:
        held = self._held()
        if self._is_whole(held, tables):
            return _delivery(self.address, held, changed=False)
        name = Lake.new_folder()
        written = {table.asset: self._write(table, name) for table in tables}
        document = {
            "delivery": name,
            "previous": held.get("delivery"),
            "delivered_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "tables": written,
        }
        self.folder.write_whole(CURRENT, json.dumps(document, indent=2).encode())
        self._remove_old({name, held.get("delivery")}, superseded=held.get("previous"))
        return _delivery(self.address, document, changed=True)

    def _held(self) -> dict[str, Any]:
        try:
            document = json.loads(self.folder.read_bytes(CURRENT))
            return {name: document[name] for name in ("delivery", "previous", "delivered_at", "tables")}
        except FileNotFoundError:
            return {}
        except (ValueError, LookupError, TypeError):
            raise DeliveryError(
                f"{self.folder.uri}/{CURRENT} was not written by a delivery: remove it, or deliver to another folder."
            ) from None

    def _is_whole(self, held: dict[str, Any], tables: Sequence[PublishedRows]) -> bool:
        """Whether the newest delivery has exactly these rows in this format, and its files are as they were written."""
        of_tables = held.get("tables", {})
        if {t.asset: (t.name, self.kind) for t in tables} != {
            asset: (entry["name"], entry["format"]) for asset, entry in of_tables.items()
        }:
            return False
        sizes = {f.path: f.bytes for f in (self.folder / held["delivery"]).all_files()}
        return all(sizes.get(entry["file"].partition("/")[2]) == entry["bytes"] for entry in of_tables.values())

    def _write(self, table: PublishedRows, delivery: str) -> dict[str, Any]:
        """Write the file of a table; what `current.json` says of it."""
        import duckdb

        folder, file = self.folder / delivery, f"{table.asset}.{self.kind}"
        folder.fs.makedirs(folder.path, exist_ok=True)
        path = f"{folder.path}/{file}"
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET threads = 1")  # the same order each time, half the memory, and no slower
            if not folder.is_local:
                connection.register_filesystem(folder.fs)
                path = folder.fs.unstrip_protocol(path)
            with table.reader() as reader:
                connection.register("published", reader)
                quoted = path.replace("'", "''")
                connection.execute(f"COPY published TO '{quoted}' ({OPTIONS[self.kind]})")
        rows = _count_rows(folder, file)
        table.check_count(rows, self.address)
        [size] = [found.bytes for found in folder.all_files() if found.path == file]
        return {
            "file": f"{delivery}/{file}",
            "format": self.kind,
            "version": table.version.version,
            "rows": rows,
            "bytes": size,
            "name": table.name,
        }

    def _remove_old(self, kept: set[str | None], superseded: str | None) -> None:
        oldest = f"{datetime.now(UTC) - GRACE:%Y%m%d_%H%M%S}"
        for name in self.folder.folders():
            left_over = VERSION_FOLDER.fullmatch(name) and name < oldest
            if (name == superseded or left_over) and name not in kept:
                (self.folder / name).remove()


def _count_rows(folder: Folder, file: str) -> int:
    """The rows of a file, counted by reading it."""
    with folder.open(file) as stream:
        if file.endswith(".parquet"):
            import pyarrow.parquet as pq

            return int(pq.ParquetFile(stream).metadata.num_rows)
        if file.endswith(".csv"):
            import pyarrow.csv as csv

            one_column = csv.ConvertOptions(include_columns=["version"])
            rows = csv.open_csv(
                stream, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=one_column
            )
            return sum(batch.num_rows for batch in rows)
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))


def _delivery(address: str, document: dict[str, Any], *, changed: bool) -> Delivery:
    tables = {asset: DeliveredTable(entry["version"], entry["rows"]) for asset, entry in document["tables"].items()}
    return Delivery(address, tables, changed, datetime.fromisoformat(document["delivered_at"]))

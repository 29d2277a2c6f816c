"""Delivers to a folder: each delivery writes its own subfolder, and `current.json` has the newest one. See `Files`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ecommerce_assets.delivery.rows import DeliveredTable, Delivery, DeliveryError, PublishedRows
from ecommerce_assets.events.parsing import identifier, literal
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import VERSION_FOLDER, Lake

CURRENT = "current.json"
"""Index of the newest delivery. It is written last, so that readers never see half a delivery."""

GRACE = timedelta(days=1)
"""Age after which unreferenced folders are removed; a running delivery can be writing a younger one."""

_TIMES = "TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%fZ'"
OPTIONS = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": f"FORMAT csv, HEADER, {_TIMES}",
    "jsonl": f"FORMAT json, {_TIMES}",
}
"""DuckDB's COPY options by format; the format is also the suffix of the files."""

_FORMULA = r"^[=+\-@\t\r]"


def without_formula(column: str) -> str:
    """Returns SQL for a column of texts that puts a `'` before texts which a spreadsheet would read as formulas."""
    name = identifier(column)
    return f"CASE WHEN regexp_matches({name}, {literal(_FORMULA)}) THEN '''' || {name} ELSE {name} END AS {name}"


class Files:
    """A folder, on any file system that fsspec knows.

    Parameters
    ----------
    address
        Address of the target, as the user wrote it, without a password.
    kind
        Format: `parquet`, `csv` or `jsonl`.
    folder
        The folder of the address.
    """

    def __init__(self, address: str, kind: str, folder: Folder) -> None:
        self.address, self.kind, self.folder = address, kind, folder

    def deliver(self, tables: Sequence[PublishedRows]) -> Delivery:
        """Delivers exactly these versions, all at once, and returns what the folder has now.

        Writes nothing if the folder has them already.

        Raises
        ------
        DeliveryError
            If that fails; readers then see the previous delivery.
        """
        try:
            return self._deliver(tables)
        except DeliveryError:
            raise
        except Exception as error:  # each storage client has its own errors
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
            raise DeliveryError.at(self.address, reason) from error

    def _deliver(self, tables: Sequence[PublishedRows]) -> Delivery:
        current = self._read_current()
        if self._is_complete(current, tables):
            return _delivery(self.address, current, changed=False)
        name = Lake.new_folder()
        written = {table.asset: self._write(table, name) for table in tables}
        current = self._read_current()  # again, because another delivery may have ended meanwhile
        for table in tables:
            if table.asset in current.get("tables", {}):
                table.check_not_older(current["tables"][table.asset]["name"], self.address)
        document = {
            "delivery": name,
            "previous": current.get("delivery"),
            "delivered_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "tables": written,
        }
        self.folder.write_whole(CURRENT, json.dumps(document, indent=2).encode())
        self._remove_old({name, current.get("delivery")}, superseded=current.get("previous"))
        return _delivery(self.address, document, changed=True)

    def _read_current(self) -> dict[str, Any]:
        try:
            document = json.loads(self.folder.read_bytes(CURRENT))
            return {name: document[name] for name in ("delivery", "previous", "delivered_at", "tables")}
        except FileNotFoundError:
            return {}
        except (ValueError, LookupError, TypeError):
            raise DeliveryError(
                f"{self.folder.uri}/{CURRENT} was not written by a delivery: remove it, or deliver to another folder."
            ) from None

    def _is_complete(self, current: dict[str, Any], tables: Sequence[PublishedRows]) -> bool:
        """Returns whether the newest delivery has exactly these rows in this format, in files of the recorded sizes."""
        entries = current.get("tables", {})
        if {t.asset: (t.name, self.kind) for t in tables} != {
            asset: (entry["name"], entry["format"]) for asset, entry in entries.items()
        }:
            return False
        sizes = {f.path: f.bytes for f in (self.folder / current["delivery"]).all_files()}
        return all(sizes.get(entry["file"].partition("/")[2]) == entry["bytes"] for entry in entries.values())

    def _write(self, table: PublishedRows, delivery: str) -> dict[str, Any]:
        """Writes the file of a table; returns its entry in `current.json`."""
        import duckdb

        folder, file = self.folder / delivery, f"{table.asset}.{self.kind}"
        folder.fs.makedirs(folder.path, exist_ok=True)
        path = f"{folder.path}/{file}"
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(
                "SET threads = 1"
            )  # keeps the order of the rows, with half the memory and the same speed
            if not folder.is_local:
                connection.register_filesystem(folder.fs)
                path = folder.fs.unstrip_protocol(path)
            with table.reader() as reader:
                connection.register("published", reader)
                columns = "*"
                if self.kind == "csv":
                    # Ids do not change, because programs look up rows by them.
                    texts = [
                        f.name for f in reader.schema if str(f.type).endswith("string") and not f.name.endswith("_id")
                    ]
                    columns = f"* REPLACE ({', '.join(map(without_formula, texts))})"
                connection.execute(f"COPY (SELECT {columns} FROM published) TO {literal(path)} ({OPTIONS[self.kind]})")
        rows = _count_rows(folder, file)
        table.check_count(rows, self.address)
        [size] = [info.bytes for info in folder.all_files() if info.path == file]
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
    """Returns the number of rows of a file, by reading it."""
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

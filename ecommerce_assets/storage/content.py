"""What can be learnt of written files without computing anything again: row counts, types and a content fingerprint.

What is computed of the rows stands in audits.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq

from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.manifest import FileEntry

THREADS = 8
BLOCK = 1 << 20

AnyFile = FileInfo | FileEntry

StoredType = tuple[str, str]
"""Parquet's physical and logical type of a column."""


def stored_types(parquet: pq.ParquetFile) -> dict[str, StoredType]:
    """How Parquet itself stores each column; what Arrow makes of it depends on who wrote it."""
    columns = [parquet.schema.column(number) for number in range(len(parquet.schema))]
    return {column.path: (column.physical_type, str(column.logical_type)) for column in columns}


def parquet_rows(folder: Folder, files: Sequence[AnyFile]) -> dict[str, int]:
    """Rows of each Parquet file, from its footer, by path relative to the folder."""

    def rows(file: AnyFile) -> int:
        with folder.open(file.path) as source:
            return int(pq.read_metadata(source).num_rows)

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip((f.path for f in files), pool.map(rows, files), strict=True))


def fingerprint(folder: Folder, files: Sequence[AnyFile]) -> str:
    """SHA-256 over the contents of the files, in an order and with names that do not matter.

    Spark puts a random identifier into every file name; the same content written twice has the same fingerprint.
    """

    def digest(file: AnyFile) -> str:
        sha = hashlib.sha256()
        with folder.open(file.path) as source:
            while block := source.read(BLOCK):
                sha.update(block)
        return f"{file.path.rpartition('/')[0]}:{sha.hexdigest()}"

    with ThreadPoolExecutor(THREADS) as pool:
        return hashlib.sha256("\n".join(sorted(pool.map(digest, files))).encode()).hexdigest()

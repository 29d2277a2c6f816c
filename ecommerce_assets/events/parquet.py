"""Parquet files of any writer as DuckDB reads them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.events.parsing import literal

MAGIC = b"PAR1"
BATCH_ROWS = 65_536


def is_parquet(path: Path) -> bool:
    """Whether the file begins as a Parquet file does, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_parquet_sql(files: Sequence[Path], hive: bool = False) -> str:
    """The FROM clause that reads files of one schema; `hive`: folder names such as `brand=x` are columns of text."""
    # A file may be called `events [1].parquet`, which DuckDB would take for a pattern.
    listed = ", ".join(literal(glob.escape(str(file))) for file in files)
    types = ", hive_types_autocast = false" if hive else ""
    # By the statistics in the footer, DuckDB would take NaN for a number that does not occur.
    options = f"union_by_name = true, can_have_nan = true, hive_partitioning = {str(hive).lower()}{types}"
    return f"read_parquet([{listed}], {options})"


def check_pages(source: Any) -> None:
    """Read a whole Parquet file, a path or a stream, and verify the checksums of its pages, which DuckDB does not.

    Raises pyarrow.ArrowException or OSError for a page that cannot be read.
    """
    for _ in pq.ParquetFile(source, page_checksum_verification=True).iter_batches():
        pass


def holds_bad_text(error: duckdb.Error) -> bool:
    """Whether DuckDB refused a file because a text in it is not UTF-8."""
    return "utf" in str(error).lower() and "valid" in str(error).lower()


def texts_as_bytes(file: Path) -> pa.RecordBatchReader:
    """The rows of a Parquet file with every text column as bytes, for files with texts that are not UTF-8."""
    parquet = pq.ParquetFile(file)
    fields = [pa.field(f.name, pa.large_binary() if _is_text(f.type) else f.type) for f in parquet.schema_arrow]
    schema = pa.schema(fields)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in parquet.iter_batches(BATCH_ROWS):
            yield pa.record_batch(
                [column.cast(f.type) for column, f in zip(batch.columns, fields, strict=True)], schema
            )

    return pa.RecordBatchReader.from_batches(schema, batches())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

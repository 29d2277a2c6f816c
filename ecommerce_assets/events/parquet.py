"""Helpers to read Parquet files of any writer with DuckDB, including damaged files and invalid UTF-8."""

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
PARQUET_ENDINGS = (".parquet", ".parq", ".pq")
BATCH_ROWS = 65_536


def is_parquet(path: Path) -> bool:
    """Returns whether the content begins as that of a Parquet file."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_parquet_sql(files: Sequence[Path], hive: bool = False) -> str:
    """Returns the FROM clause that reads files of one schema; `hive`: folders such as `brand=x` are string columns."""
    # Escaped, because DuckDB would read a name such as `events [1].parquet` as a glob.
    listed = ", ".join(literal(glob.escape(str(file))) for file in files)
    types = ", hive_types_autocast = false" if hive else ""
    # can_have_nan, because statistics in the footer ignore NaN, and DuckDB would filter by them.
    options = f"union_by_name = true, can_have_nan = true, hive_partitioning = {str(hive).lower()}{types}"
    return f"read_parquet([{listed}], {options})"


def check_pages(source: Any) -> None:
    """Reads a whole Parquet file (path or stream) and verifies the checksums of its pages, which DuckDB does not.

    Raises
    ------
    pyarrow.ArrowException, OSError
        A page cannot be read.
    """
    for _ in pq.ParquetFile(source, page_checksum_verification=True).iter_batches():
        pass


def holds_bad_text(error: duckdb.Error) -> bool:
    """Returns whether DuckDB refused a file because of a string that is not UTF-8."""
    return "utf" in str(error).lower() and "valid" in str(error).lower()


def texts_as_bytes(file: Path) -> pa.RecordBatchReader:
    """Returns the rows of a Parquet file with its string columns as bytes, for strings that are not UTF-8."""
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

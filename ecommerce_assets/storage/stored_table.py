"""`StoredTable`: a table that a step reads with or without Spark. Spark's workers import this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from fsspec import AbstractFileSystem
    from pyspark.sql import DataFrame

    from ecommerce_assets.storage.filesystem import Folder


@dataclass(frozen=True)
class StoredTable:
    """A version of a table that is not daily, to be read with Spark or, if it is small, without.

    Attributes
    ----------
    frame
        The table as a frame.
    dataset
        Its files; None: only the frame has the rows.
    parameters
        Parameters of the version.
    """

    frame: DataFrame
    dataset: ds.Dataset | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows; without a Spark query if there is a dataset."""
        return int(self.dataset.count_rows()) if self.dataset is not None else self.frame.count()

    def maximum(self, column: str) -> int | None:
        """Returns the largest value of an integer column, from the footers of the files; None without rows."""
        if self.dataset is None:
            [row] = self.frame.selectExpr(f"max({column}) as highest").collect()
            return None if row["highest"] is None else int(row["highest"])
        groups = [group for file in self.dataset.get_fragments() for group in file.row_groups if group.num_rows]
        return max((group.statistics[column]["max"] for group in groups), default=None)

    def to_arrow(self, *columns: str) -> pa.Table:
        """Returns these columns as an Arrow table."""
        if self.dataset is None:
            return self.frame.select(*columns).toArrow()
        return self.dataset.to_table(columns=list(columns))


def write_rows(folder: Folder, rows: pa.Table, row_group_size: int | None = None) -> None:
    """Writes an Arrow table as one Parquet file with checksums into a folder, and creates the folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Floats hardly repeat.
    repeating = [f.name for f in rows.schema if pa.types.is_integer(f.type) or pa.types.is_string(f.type)]
    folder.fs.makedirs(folder.path, exist_ok=True)
    with folder.open("part-00000.zstd.parquet", "wb") as file:
        pq.write_table(
            rows,
            file,
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=repeating,
            row_group_size=row_group_size,
        )


def parquet_dataset(files: Sequence[str], schema: pa.Schema | None, filesystem: AbstractFileSystem) -> ds.Dataset:
    """Returns Parquet files as a dataset that verifies pages: reading a page with a wrong checksum raises OSError."""
    import pyarrow.dataset as ds  # imports pandas

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    layout = ds.ParquetFileFormat(default_fragment_scan_options=options)
    return ds.dataset(files, schema=schema, format=layout, filesystem=filesystem, partitioning=None)

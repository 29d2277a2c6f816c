"""`StoredTable`: a table that a step reads with Spark or in its own process. Spark's workers import this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from fsspec import AbstractFileSystem
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class StoredTable:
    """A version of a table that is not daily, for steps that read it with Spark or, where it is small, without.

    Attributes
    ----------
    frame
        The table as a frame.
    dataset
        Its files; None: there are none, and Spark is asked for the rows.
    parameters
        Parameters of the version.
    """

    frame: DataFrame
    dataset: ds.Dataset | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows; without a Spark query where there are files."""
        return int(self.dataset.count_rows()) if self.dataset is not None else self.frame.count()

    def maximum(self, column: str) -> int | None:
        """The largest value of a column of integers, from the footers of the files; None without a row."""
        if self.dataset is None:
            [row] = self.frame.selectExpr(f"max({column}) as highest").collect()
            return None if row["highest"] is None else int(row["highest"])
        groups = [group for file in self.dataset.get_fragments() for group in file.row_groups if group.num_rows]
        return max((group.statistics[column]["max"] for group in groups), default=None)

    def to_arrow(self, *columns: str) -> pa.Table:
        """These columns, in the memory of this process."""
        if self.dataset is None:
            return self.frame.select(*columns).toArrow()
        return self.dataset.to_table(columns=list(columns))


def parquet_dataset(files: Sequence[str], schema: pa.Schema | None, filesystem: AbstractFileSystem) -> ds.Dataset:
    """Returns Parquet files as a dataset that verifies pages: reading a page with a wrong checksum raises OSError."""
    import pyarrow.dataset as ds  # imports pandas

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    layout = ds.ParquetFileFormat(default_fragment_scan_options=options)
    return ds.dataset(files, schema=schema, format=layout, filesystem=filesystem, partitioning=None)

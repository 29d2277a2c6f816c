"""`Version`: the metadata of a version, stored in its Delta commit or, for models and documents, in its commit file."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ecommerce_assets.storage.columns import PARTITION_COLUMN as PARTITION_COLUMN

EXPERIMENT = "experiment"
"""Parameter that marks a version with other parameters than the promoted ones."""

Number = int | float | None


def plain(value: Any) -> Any:
    """Returns a NumPy number as a Python number, because Dagster cannot store it; other values unchanged."""
    return value.item() if hasattr(value, "item") else value


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(_Frozen):
    """A file. Paths of raw files are relative to the raw folder, those of exports are absolute."""

    path: str
    bytes: int


class StoredFile(FileEntry):
    """A file of a version. In `Version.files` its path is relative to the version's folder.

    Attributes
    ----------
    rows, day
        Tables only: the number of rows; for a daily table the day (`YYYY-MM-DD`).
    stats
        Delta's statistics of a Parquet file that is not published yet: numRecords, minValues, maxValues, nullCount.
    """

    rows: int | None = None
    day: str | None = None
    stats: dict[str, Any] | None = Field(default=None, exclude=True)


class Input(_Frozen):
    """What a step read from one upstream asset: exactly one version, or files.

    Attributes
    ----------
    version
        For a daily table, the table version through which its days were read; None for files.
    partitions
        Daily assets only: the days that were read.
    fingerprint
        Equal for equal content: for tables a hash of the rows, for files a hash of names and sizes.
    """

    asset: str
    version: str | None = None
    partitions: tuple[str, ...] = ()
    fingerprint: str
    files: tuple[FileEntry, ...] = ()


class CheckResult(_Frozen):
    """The result of a check, for the version or for one day of it.

    `message` is empty if the check passed; `checked` then says what was checked. `values` has a few numbers or short
    texts by name.
    """

    name: str
    blocking: bool
    passed: bool
    message: str = ""
    checked: str = ""
    partition: str | None = None
    values: dict[str, Any] = {}


class Distribution(_Frozen):
    """The distribution of a numeric column.

    Attributes
    ----------
    known
        Number of rows with a finite value.
    mean, deviation
        Of the finite values; the deviation is that of the population.
    quantiles
        At 0.01, 0.02 … 1 of the finite values, ascending; None if there are none.
    """

    known: int
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] | None = None


class Stats(_Frozen):
    """The numbers recorded with a version, or with one day of it.

    Attributes
    ----------
    rows, bytes
        Of the data files; `rows` is None for models and documents.
    content
        Hash of the rows, independent of their order and encoding; None if it was not computed.
    nulls
        Null values by column, from the Parquet footers.
    numbers
        Sums and counts over the rows, by name.
    shares
        Number of rows by value, for each text column.
    distributions
        Distributions by numeric column.
    results
        Results that the asset reported, such as segments, metrics or reject reasons.
    summaries
        Small tables computed from the rows, for plots and documents.
    """

    rows: int | None = None
    bytes: builtins.int = 0
    content: str | None = None
    nulls: dict[str, int] = {}
    numbers: dict[str, Number] = {}
    shares: dict[str, dict[str, int]] = {}
    distributions: dict[str, Distribution] = {}
    results: dict[str, Any] = {}
    summaries: dict[str, Any] = {}


class Version(_Frozen):
    """A published or blocked version.

    Attributes
    ----------
    version
        Delta version of a table, such as `12`; for a model or document `YYYYMMDD_HHMMSS_` and 8 hex digits.
    folder
        Folder of its files in the asset's folder.
    columns
        Spark types by name; for models the parts that other columns are computed from, such as `itemFactors.features`.
    column_lineage
        Sources `asset.column` by column; empty for a literal. None: unavailable.
    seconds
        Seconds from the first read input to the checked output.
    check_seconds
        Seconds that the checks took; None if no rows are checked.
    days
        Daily assets only: the days that this version wrote.
    files
        Files that it wrote; a table's log has them as add actions.
    """

    asset: str
    version: str = ""
    kind: Literal["table", "model", "document"] = "table"
    folder: str = ""
    run_id: str
    code_version: str | None
    created_at: datetime
    committed_at: datetime
    seconds: float
    check_seconds: float | None = None
    spark_application_id: str | None
    parameters: dict[str, Any] = {}
    inputs: tuple[Input, ...] = ()
    columns: dict[str, str] | None = None
    column_lineage: dict[str, tuple[str, ...]] | None = {}
    stats: Stats = Stats()
    days: dict[str, Stats] = {}
    checks: tuple[CheckResult, ...] = ()
    files: tuple[StoredFile, ...] = ()

    @property
    def failed_blocking(self) -> tuple[CheckResult, ...]:
        """The failed checks that block it, or a day of it."""
        return tuple(check for check in self.checks if check.blocking and not check.passed)

    def input_version(self, asset: str) -> str | None:
        """Returns the version of `asset` that is a direct input, if there is exactly one."""
        versions = [read.version for read in self.inputs if read.asset == asset and read.version]
        return versions[0] if len(versions) == 1 else None

"""The metadata of a version: what it holds, how it was made, from exactly what, and what its checks found.

A table keeps it in the Delta commit that published the version, a model or document in its one commit file.
"""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ecommerce_assets.storage.columns import PARTITION_COLUMN as PARTITION_COLUMN

EXPERIMENT = "experiment"
"""Parameter of a version that was made with other parameters than the promoted ones."""

Number = int | float | None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(_Frozen):
    """A file by its path and size. Raw files' paths are relative to the raw folder, those of exports are absolute."""

    path: str
    bytes: int


class StoredFile(FileEntry):
    """A file of a version. In `Version.files` its path is relative to the version's folder.

    Attributes
    ----------
    rows, day
        Tables only: the number of rows; of a daily table the day (`YYYY-MM-DD`).
    stats
        Delta's statistics of a Parquet file that is not published yet: numRecords, minValues, maxValues, nullCount.
    """

    rows: int | None = None
    day: str | None = None
    stats: dict[str, Any] | None = Field(default=None, exclude=True)


class Input(_Frozen):
    """Exactly what a step read of one upstream asset: one version of it, or files from outside.

    Attributes
    ----------
    version
        Of a daily table, the table version through which its days were read.
    partitions
        Days that were read, for daily assets.
    fingerprint
        Equal where the same was read: of tables a hash of the rows, of files a hash of names and sizes.
    """

    asset: str
    version: str | None = None
    partitions: tuple[str, ...] = ()
    fingerprint: str
    files: tuple[FileEntry, ...] = ()


class CheckResult(_Frozen):
    """What one check found, for the whole version or for one day of it.

    `message` says what is wrong, and is empty where the check passed; `checked` then says what was checked. `values`
    are a few numbers or short texts for people, by name.
    """

    name: str
    blocking: bool
    passed: bool
    message: str = ""
    checked: str = ""
    partition: str | None = None
    values: dict[str, Any] = {}


class Distribution(_Frozen):
    """A numeric column in about a hundred numbers.

    Attributes
    ----------
    known
        Rows whose value is a finite number.
    mean, deviation
        Of the known values; the deviation is that of the population.
    quantiles
        At 0.01, 0.02 … 1 of the known values, ascending; None where there are none.
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
        Hash of the rows, whatever their order and however they are stored; None where it was not computed.
    nulls
        Null values by column, from the Parquet footers.
    numbers
        Sums and counts over the rows, by name.
    shares
        Rows by value of a text column, by column.
    distributions
        By numeric column.
    results
        What the asset reported, such as segments, metrics or reject reasons.
    summaries
        Small tables over the rows, for plots and documents.
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
    """Everything that is known of a version when it is published (or blocked).

    Attributes
    ----------
    version
        Of a table the Delta version, such as `12`; of a model or document `YYYYMMDD_HHMMSS_` and 8 hex digits.
    folder
        Folder in the asset's folder in which its files were written.
    columns
        Name → Spark type; for models the parts that others are computed from, such as `itemFactors.features`.
    column_lineage
        Column → `asset.column` names that it was computed from; empty for a literal, None where it is unavailable.
    seconds
        From the first input read to the checked output.
    check_seconds
        The part of it that the checks took; None where no rows are checked.
    days
        Daily assets only: the days that this version wrote.
    files
        The files that it wrote. A table's log has them as Delta's own add actions.
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
        """The checks that block it, or a day of it."""
        return tuple(check for check in self.checks if check.blocking and not check.passed)

    def input_version(self, asset: str) -> str | None:
        """The version of `asset` that this one was made from directly, if there was exactly one."""
        versions = [read.version for read in self.inputs if read.asset == asset and read.version]
        return versions[0] if len(versions) == 1 else None

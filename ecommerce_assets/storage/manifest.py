"""The manifest: what one version of one asset holds, how it was made, and from exactly what.

It is the file whose presence commits a version. Reading and choosing versions is the lake's business.
"""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

COMMITTED = "_manifest.json"
"""A version folder with this file is committed: readers see it."""
REJECTED = "_rejected.json"
"""A version folder with this file failed a blocking audit: kept for study, never read."""

PARTITION_COLUMN = "event_date"
"""Of daily tables, raw ones too: the Hive partition folders are called `event_date=YYYY-MM-DD`."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(_Frozen):
    """A data file, its path relative to the version folder (of raw files: to the raw folder; of drops: whole)."""

    path: str
    bytes: int


class Input(_Frozen):
    """Exactly what was read of one upstream asset: one of our versions, or files from outside."""

    asset: str
    version: str | None = None
    partitions: tuple[str, ...] = ()
    fingerprint: str
    files: tuple[FileEntry, ...] = ()


class AuditResult(_Frozen):
    """What one audit found, for the whole version or for one partition of it.

    `message` is empty where it passed; `figures` are a few numbers or short texts for people, by name.
    """

    name: str
    blocking: bool
    passed: bool
    message: str = ""
    partition: str | None = None
    figures: dict[str, Any] = {}


class Partition(_Frozen):
    """One daily partition inside a version. An unpublished one failed a blocking audit and is never read.

    `facts` are for people, `measures` are what the audits counted.
    """

    rows: int
    bytes: int
    published: bool = True
    facts: dict[str, Any] = {}
    measures: dict[str, Any] = {}


class Manifest(_Frozen):
    """Everything that is known of a version when it is committed (or rejected).

    Attributes
    ----------
    partitions
        By day for daily assets, empty for all others.
    fingerprint
        SHA-256 over the content of the data files, independent of their names.
    facts
        Numbers about the content that later readers need (silhouette, segment sizes, measures of the audits …).
    columns
        Name → Spark type; for models the parts that others are computed from, such as `itemFactors.features`.
    column_lineage
        Column → `asset.column` names that it was computed from; empty for a literal.
    seconds
        From the first input read to the audited output.
    audit_seconds
        What of it the audits took; None where no rows are looked at, and for versions of before this was kept.
    """

    asset: str
    version: str
    format: Literal["parquet", "spark-ml", "json"] = "parquet"
    run_id: str
    code_version: str | None
    created_at: datetime
    committed_at: datetime
    seconds: float
    audit_seconds: float | None = None
    spark_application_id: str | None
    parameters: dict[str, Any]
    inputs: tuple[Input, ...]
    columns: dict[str, str] | None
    column_lineage: dict[str, tuple[str, ...]] = {}
    rows: int | None
    bytes: int
    files: tuple[FileEntry, ...]
    fingerprint: str
    partitions: dict[str, Partition] = {}
    audits: tuple[AuditResult, ...] = ()
    facts: dict[str, Any] = {}

    @property
    def failed_blocking(self) -> tuple[AuditResult, ...]:
        """The audits that hold it (or a day of it) back."""
        return tuple(a for a in self.audits if a.blocking and not a.passed)

    @property
    def published_days(self) -> list[str]:
        """Days of a daily version that readers see, in order."""
        return sorted(day for day, partition in self.partitions.items() if partition.published)

    @property
    def publishable(self) -> bool:
        """Something in it may be read: a daily version with one good day, any other with no blocking failure."""
        return bool(self.published_days) if self.partitions else not self.failed_blocking

    def files_of(self, day: str) -> tuple[FileEntry, ...]:
        """The files of one day."""
        return tuple(f for f in self.files if f.path.startswith(f"{PARTITION_COLUMN}={day}/"))

    def input_version(self, asset: str) -> str | None:
        """The version of `asset` that this one was made from directly, if there was exactly one."""
        versions = {i.version for i in self.inputs if i.asset == asset and i.version}
        return versions.pop() if len(versions) == 1 else None

    def to_json(self) -> builtins.bytes:
        """As it is stored."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_json(cls, content: builtins.bytes) -> Manifest:
        """Raises pydantic.ValidationError where the content is not a manifest."""
        return cls.model_validate_json(content)

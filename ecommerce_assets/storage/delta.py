"""Delta tables: Spark writes the Parquet files, delta-rs commits them.

`write_version` publishes, `versions_of` and `files_of` read what was published, `vacuum` removes old files.
"""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import FileInfo, Folder, delta_uri, is_hidden
from ecommerce_assets.storage.version import PARTITION_COLUMN, Stats, StoredFile, Version

METADATA_KEY = "ecommerce_assets"
"""Under this name a commit has the version's metadata, as JSON."""

ATTEMPTS = 100
"""Commits that are tried against other writers; each takes about 10 ms."""

CONFIGURATION = {
    # Stats and lineage of old versions stay readable: the log is small, and a day may be read for years.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 3650 days",
}

LONGEST_BOUND = 32
"""Characters of a text that is recorded as smallest or largest value."""

THREADS = 8
_LOG = "_delta_log"


class DamagedLogError(Exception):
    """A file of a table's Delta log cannot be read; the message says which and what to do."""


@dataclass(frozen=True)
class WrittenFile(StoredFile):
    """A file before its commit, with the statistics of its footer, by column.

    `low` and `high` are the smallest and largest value where the footer has them and Delta's JSON can hold them.
    """

    low: Mapping[str, Any]
    high: Mapping[str, Any]
    nulls: Mapping[str, int]

    def add_action(self) -> AddAction:
        """The action that makes the file part of the table."""
        stats = {"numRecords": self.rows, "minValues": self.low, "maxValues": self.high, "nullCount": self.nulls}
        day = {PARTITION_COLUMN: self.day} if self.day else {}
        return AddAction(self.path, self.bytes, day, _now_ms(), True, json.dumps(stats))


def exists(table: Folder) -> bool:
    """Whether the folder is a Delta table."""
    return bool(_log_files(table))


def describe_files(table: Folder, folder: str, files: Sequence[FileInfo]) -> list[WrittenFile]:
    """The Parquet files that were written into a folder of the table, from their footers."""

    def describe(file: FileInfo) -> WrittenFile:
        with (table / folder).open(file.path) as source:
            footer = pq.read_metadata(source)
        low: dict[str, Any] = {}
        high: dict[str, Any] = {}
        nulls: dict[str, int] = {}
        for index in range(footer.num_columns):
            groups = [footer.row_group(number).column(index) for number in range(footer.num_row_groups)]
            known = [group.statistics for group in groups if group.statistics and group.statistics.has_null_count]
            if not groups or len(known) < len(groups):
                continue
            name = groups[0].path_in_schema
            nulls[name] = sum(one.null_count for one in known)
            bounds = [(_bound(one.min), _bound(one.max)) for one in known if one.has_min_max]
            has_all = len(bounds) == sum(one.num_values > 0 for one in known)
            if bounds and has_all and all(None not in pair for pair in bounds):
                low[name], high[name] = min(pair[0] for pair in bounds), max(pair[1] for pair in bounds)
        return WrittenFile(f"{folder}/{file.path}", file.bytes, footer.num_rows, _day_of(file.path), low, high, nulls)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(describe, files))


def footer_stats(files: Iterable[WrittenFile]) -> Stats:
    """Rows, bytes and nulls of some files together."""
    rows = size = 0
    nulls: Counter[str] = Counter()
    for file in files:
        rows, size = rows + (file.rows or 0), size + file.bytes
        nulls.update(file.nulls)
    return Stats(rows=rows, bytes=size, nulls=dict(nulls))


def write_version(table: Folder, spec: TableSpec, version: Version, files: Sequence[WrittenFile]) -> Version:
    """Publish the files in one transaction, and return the version with its number.

    A daily version (`version.days`) replaces those days and leaves the others alone, any other replaces the table.
    Where another writer commits first, the transaction is built again on top of what that one wrote.

    Raises
    ------
    DamagedLogError
        Where the table's log cannot be read.
    CommitFailedError
        Where other writers were faster every time.
    """
    assert version.columns is not None
    schema = spec.delta_schema(version.columns, daily=bool(version.days))
    adds: list[Any] = [file.add_action() for file in files]
    for attempt in range(ATTEMPTS):
        # The time is taken anew, so that of two versions the later one is also the younger one.
        version = version.model_copy(update={"committed_at": datetime.now(UTC)})
        options: dict[str, Any] = {
            "partition_by": [PARTITION_COLUMN] if version.days else None,
            "commit_properties": CommitProperties(
                custom_metadata={METADATA_KEY: version.model_dump_json(exclude={"version"})},
                max_commit_retries=0,  # delta-rs would add a day twice that two writers write at once
            ),
        }
        try:
            if not exists(table):
                number = 0
                create_table_with_add_actions(
                    delta_uri(table.uri), schema, adds, configuration=CONFIGURATION, **options
                )
            else:
                now = open_table(table)
                number = now.version() + 1
                there = files_of(now) if version.days else []
                if any(file.day not in version.days for file in there):
                    removes = [_remove(file) for file in there if file.day in version.days]
                    # The check schema_unchanged has made sure that the schema is the same.
                    now.create_write_transaction([*adds, *removes], "append", now.schema(), **options)
                else:
                    now.create_write_transaction(adds, "overwrite", schema, **options)
        except DeltaError as error:
            if attempt == ATTEMPTS - 1 or not _lost_the_race(error):
                raise
            time.sleep(random.uniform(0.005, 0.05))
        else:
            # Without retries of delta-rs, a commit is the next one after the version that it was built on, or fails.
            return version.model_copy(update={"version": str(number)})
    raise AssertionError("unreachable")


def open_table(table: Folder, version: int | None = None) -> DeltaTable:
    """The table as it is now, or at a version. Raises DamagedLogError where its log cannot be read."""
    try:
        return DeltaTable(delta_uri(table.uri), version=version)
    except DeltaError as error:
        damaged, reason = _damaged_log(table), str(error).splitlines()[0]
        advice = (
            "remove that file and those after it, and the version before it is the newest again"
            if damaged
            else "restore its files, or remove the asset's folder and materialise it again"
        )
        raise DamagedLogError(f"{table.uri}/{_LOG}/{damaged} cannot be read ({reason}): {advice}.") from None


def open_newest(table: Folder, warn: Callable[[str], object]) -> DeltaTable:
    """The table at its newest version that can be read; `warn` gets a sentence where that is not the last.

    Raises DamagedLogError where no version can be read.
    """
    try:
        return open_table(table)
    except DamagedLogError as error:
        for number in sorted(map(_number, _log_files(table)), reverse=True)[1:]:
            with suppress(DamagedLogError):
                found = open_table(table, number)
                warn(f"{error} Version {number} is read.")
                return found
        raise


def versions_of(table: Folder, last: int, warn: Callable[[str], object]) -> list[Version]:
    """The versions up to `last` that this project published, newest first; commits of other tools are left out.

    Read from the log itself: `DeltaTable.history` counts the versions off from the newest, and is wrong by one where a
    commit has no information.

    Parameters
    ----------
    warn
        Gets a sentence for each commit whose information is missing or damaged.
    """
    log = table / _LOG

    def read(name: str) -> Version | None:
        try:
            [info] = [line for line in log.read_bytes(name).splitlines() if line.startswith(b'{"commitInfo"')]
            metadata = json.loads(info)["commitInfo"].get(METADATA_KEY)
            if metadata is not None:
                return Version.model_validate_json(metadata).model_copy(update={"version": str(_number(name))})
        except (ValueError, KeyError, TypeError):
            warn(f"{log.uri}/{name} is damaged: what it says of its version is ignored.")
        return None

    names = sorted((name for name in _log_files(table) if _number(name) <= last), reverse=True)
    with ThreadPoolExecutor(THREADS) as pool:
        return [version for version in pool.map(read, names) if version is not None]


def files_of(table: DeltaTable) -> list[StoredFile]:
    """The files of the table, by day and path."""
    day = f"partition.{PARTITION_COLUMN}"
    files = [
        StoredFile(row["path"], row["size_bytes"], row.get("num_records"), str(row[day]) if row.get(day) else None)
        for row in pa.table(table.get_add_actions(flatten=True)).to_pylist()
    ]
    return sorted(files, key=lambda file: (file.day or "", file.path))


def vacuum(table: Folder, keep: Sequence[int], age: timedelta, *, leftovers: bool, dry_run: bool) -> list[str]:
    """Remove the files that were replaced longer than `age` ago and that no version in `keep` has; returns their paths.

    With `leftovers` also those that are in no version and older than that, such as a dead writer left.
    """
    opened = open_table(table)
    options: dict[str, Any] = {
        "retention_hours": math.ceil(age / timedelta(hours=1)),
        "enforce_retention_duration": False,
        "full": leftovers,
        "keep_versions": list(keep),
    }
    # Checksums and markers of file systems come and go with the files; by themselves they are no reason for a vacuum.
    there = {file.path for file in table.all_files() if not is_hidden(file.path.rpartition("/")[2])}
    found = [path for path in opened.vacuum(dry_run=True, **options) if path in there]
    # A vacuum is a commit of its own: none is made where there is nothing to remove.
    if found and not dry_run:
        opened.vacuum(dry_run=False, **options)
    return found


def _lost_the_race(error: DeltaError) -> bool:
    return isinstance(error, CommitFailedError) or "already exists" in str(error)


def _log_files(table: Folder) -> list[str]:
    return [name for name in (table / _LOG).file_names() if re.fullmatch(r"[0-9]{20}\.json", name)]


def _number(log_file: str) -> int:
    return int(log_file[:20])


def _damaged_log(table: Folder) -> str:
    """The oldest file of the log that is not JSON."""
    for name in _log_files(table):
        try:
            for line in (table / _LOG).read_bytes(name).splitlines():
                json.loads(line)
        except (ValueError, OSError):
            return name
    return ""


def _remove(file: StoredFile) -> RemoveAction:
    return RemoveAction(
        file.path,
        data_change=True,
        deletion_timestamp=_now_ms(),
        size=file.bytes,
        partition_values={PARTITION_COLUMN: file.day},
    )


def _day_of(path: str) -> str | None:
    name, value = path.partition("/")[0].partition("=")[::2]
    return value if name == PARTITION_COLUMN else None


def _bound(value: Any) -> Any:
    """A smallest or largest value as Delta's JSON has it; None for what it cannot hold exactly, such as bytes."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= LONGEST_BOUND else None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _now_ms() -> int:
    return int(time.time() * 1000)

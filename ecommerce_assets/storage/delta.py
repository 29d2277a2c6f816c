"""Delta tables: Spark writes the Parquet files, delta-rs commits them.

`write_version` publishes a version, `read_log` returns all that were published.
"""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import FileInfo, Folder, delta_uri
from ecommerce_assets.storage.version import PARTITION_COLUMN, Stats, StoredFile, Version

METADATA_KEY = "ecommerce_assets"
"""Key of the version's metadata, as JSON, in a commit."""

ATTEMPTS = 100
"""Maximum number of commits that are tried while other writers commit."""

CONFIGURATION = {
    # Stats and lineage of old versions stay readable: the log is small, and a day may be read for years.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 3650 days",
}

LONGEST_BOUND = 32
"""Maximum length of a text that is recorded as smallest or largest value."""

THREADS = 8
_LOG = "_delta_log"
_LOG_FILE = re.compile(r"[0-9]{20}\.json")
_CHECKPOINT = re.compile(r"[0-9]{20}\.checkpoint\.")


class DamagedLogError(Exception):
    """A file of a table's Delta log cannot be read; the message has its path and says what to do."""


class OvertakenError(RuntimeError):
    """Another writer committed after the step read the table that it extends."""


@dataclass(frozen=True)
class Log:
    """The versions that this project published to a Delta table, newest first, and a sentence for each damaged file."""

    versions: list[Version]
    problems: list[str]


@dataclass(frozen=True)
class _Commit:
    """One file of a log.

    `version` is None if another tool wrote it, or if it is damaged; `is_fatal` if Delta cannot read it either.
    """

    version: Version | None = None
    problem: str = ""
    is_fatal: bool = False


def exists(table: Folder) -> bool:
    """Returns whether the folder is a Delta table."""
    return any(map(_LOG_FILE.fullmatch, (table / _LOG).file_names()))


def newest_commit(table: Folder) -> int:
    """Returns the number of the newest commit; -1 if the folder is not a Delta table."""
    return open_table(table).version() if exists(table) else -1


def describe_files(folder: Folder) -> tuple[StoredFile, ...]:
    """Returns the Parquet files in a version's folder, with the statistics of their footers."""

    def describe(file: FileInfo) -> StoredFile:
        with folder.open(file.path) as source:
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
        column, _, day = file.path.partition("/")[0].partition("=")
        return StoredFile(
            path=file.path,
            bytes=file.bytes,
            rows=footer.num_rows,
            day=day if column == PARTITION_COLUMN else None,
            stats={"numRecords": footer.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls},
        )

    with ThreadPoolExecutor(THREADS) as pool:
        return tuple(pool.map(describe, folder.data_files()))


def footer_stats(files: Iterable[StoredFile]) -> Stats:
    """Returns the total rows, bytes and nulls of files from `describe_files`."""
    rows = size = 0
    nulls: Counter[str] = Counter()
    for file in files:
        rows, size = rows + (file.rows or 0), size + file.bytes
        nulls.update(file.stats["nullCount"] if file.stats else {})
    return Stats(rows=rows, bytes=size, nulls=dict(nulls))


def write_version(table: Folder, spec: TableSpec, version: Version, extended: int | None = None) -> Version:
    """Publishes the version's files in one transaction, and returns the version with its number.

    A daily version (`version.days`) replaces its days and no others; any other version replaces the table. If another
    writer commits first, the transaction is built again on top of that commit.

    Parameters
    ----------
    extended
        Number of the commit that the version extends, see `newest_commit`; None: it extends none.

    Raises
    ------
    OvertakenError
        If `extended` is not the newest commit.
    DamagedLogError
        If the table's log cannot be read.
    CommitFailedError
        If other writers committed first in all attempts.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            published = _commit(table, spec, version, extended)
            break
        except DeltaError as error:
            is_conflict = isinstance(error, CommitFailedError) or "already exists" in str(error)
            if attempts == ATTEMPTS or not is_conflict:
                raise
            time.sleep(random.uniform(0.005, 0.05))
    files = tuple(file.model_copy(update={"stats": None}) for file in published.files)
    return published.model_copy(update={"files": files})


def _commit(table: Folder, spec: TableSpec, version: Version, extended: int | None) -> Version:
    """Tries once to publish; returns the version with its number and time."""
    current = open_table(table) if exists(table) else None
    if extended not in (None, current.version() if current else -1):
        raise OvertakenError(f"Another run published {version.asset} after this run had read it.")
    # After reading the previous version, so that a later version has a later time.
    version = version.model_copy(update={"committed_at": datetime.now(UTC)})
    now = int(version.committed_at.timestamp() * 1000)
    assert version.columns is not None
    schema = spec.delta_schema(version.columns, daily=bool(version.days))
    adds: list[Any] = [
        AddAction(
            f"{version.folder}/{file.path}",
            file.bytes,
            {PARTITION_COLUMN: file.day} if file.day else {},
            now,
            True,
            json.dumps(file.stats),
        )
        for file in version.files
    ]
    options: dict[str, Any] = {
        "partition_by": [PARTITION_COLUMN] if version.days else None,
        "commit_properties": CommitProperties(
            custom_metadata={METADATA_KEY: version.model_dump_json(exclude={"version", "files"})},
            # If two writers write a day at the same time, a retry of delta-rs would add it twice. Without retries the
            # commit either directly follows the version that it was built on, or fails.
            max_commit_retries=0,
        ),
    }
    if current is None:
        create_table_with_add_actions(delta_uri(table.uri), schema, adds, configuration=CONFIGURATION, **options)
        return version.model_copy(update={"version": "0"})
    stored = files_of(current) if version.days else []
    if any(file.day not in version.days for file in stored):
        removes = [
            RemoveAction(
                file.path,
                data_change=True,
                deletion_timestamp=now,
                size=file.bytes,
                partition_values={PARTITION_COLUMN: file.day},
            )
            for file in stored
            if file.day in version.days
        ]
        # The check schema_unchanged guarantees the same schema.
        current.create_write_transaction([*adds, *removes], "append", current.schema(), **options)
    else:
        current.create_write_transaction(adds, "overwrite", schema, **options)
    return version.model_copy(update={"version": str(current.version() + 1)})


def open_table(table: Folder, version: int | None = None) -> DeltaTable:
    """Returns the table, at a version if one is given. Raises DamagedLogError if its log cannot be read."""
    try:
        return DeltaTable(delta_uri(table.uri), version=version)
    except DeltaError as error:
        problems = read_log(table, {}).problems
        reason = f"{table.uri} cannot be read ({_first_line(error)}): remove it and materialise the asset again."
        raise DamagedLogError(problems[-1] if problems else reason) from None


def files_of(table: DeltaTable) -> list[StoredFile]:
    """Returns the current files of the table, with paths relative to the table."""
    day = f"partition.{PARTITION_COLUMN}"
    return [
        StoredFile(path=row["path"], bytes=row["size_bytes"], day=str(row[day]) if row.get(day) else None)
        for row in pa.table(table.get_add_actions(flatten=True)).to_pylist()
    ]


def read_log(table: Folder, cache: dict[Any, Any]) -> Log:
    """Returns every version that this project published, with its files, and the damaged files of the log.

    The files of a version are its add actions, whatever other tools have done since.

    Parameters
    ----------
    cache
        Contents of files of logs, which never change; this function reads and extends it.
    """
    log = table / _LOG
    files = log.all_files()
    commits = {int(file.path[:20]): file for file in files if _LOG_FILE.fullmatch(file.path)}
    keys = {number: (log.uri, file, file.modified) for number, file in commits.items()}
    read = {number: cache[key] for number, key in keys.items() if key in cache}
    new = [number for number in commits if number not in read]
    with ThreadPoolExecutor(THREADS) as pool:
        read |= zip(new, pool.map(lambda number: _read_commit(log, commits[number].path), new), strict=True)
    cache.update({keys[number]: read[number] for number in new if not read[number].problem})
    # Delta reads the newest checkpoint and the commits after it: earlier damage affects only its own version.
    checkpoint = max((int(file.path[:20]) for file in files if _CHECKPOINT.match(file.path)), default=-1)
    following = max(checkpoint + 1, min(commits, default=0))
    versions: list[Version] = []
    problems: list[str] = []
    for number in sorted(commits):
        commit: _Commit = read[number]
        if number > following:
            number, commit = following, _Commit(problem="it is missing", is_fatal=True)
        path = f"{log.uri}/{number:020d}.json"
        if commit.is_fatal and number > checkpoint:
            problems.append(
                f"{path} cannot be read ({commit.problem}), and versions from {number} on are ignored: remove that "
                "file and those after it."
            )
            break
        if commit.problem:
            problems.append(f"{path} is damaged ({commit.problem}): version {number} is ignored.")
        elif commit.version:
            versions.append(commit.version)
        following = max(following, number + 1)
    return Log(versions[::-1], problems)


def _read_commit(log: Folder, name: str) -> _Commit:
    try:
        actions = [json.loads(line) for line in log.read_bytes(name).splitlines()]
    except (ValueError, OSError) as error:
        return _Commit(problem=_first_line(error), is_fatal=True)
    try:
        [info] = [action["commitInfo"] for action in actions if "commitInfo" in action]
        if METADATA_KEY not in info:
            return _Commit()
        version = Version.model_validate_json(info[METADATA_KEY])
        adds = [action["add"] for action in actions if "add" in action]
        files = tuple(
            StoredFile(
                path=unquote(add["path"]).removeprefix(f"{version.folder}/"),
                bytes=add["size"],
                rows=json.loads(add["stats"])["numRecords"],
                day=add["partitionValues"].get(PARTITION_COLUMN),
            )
            for add in adds
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _Commit(problem=f"{type(error).__name__}: {_first_line(error)}")
    return _Commit(version.model_copy(update={"version": str(int(name[:20])), "files": files}))


def _bound(value: Any) -> Any:
    """Returns a smallest or largest value for Delta's JSON; None if JSON cannot represent it exactly, such as bytes."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= LONGEST_BOUND else None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")

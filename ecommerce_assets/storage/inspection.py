"""Functions of the storage commands: states of versions, their lineage, and verification of their files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import BLOCKED, CLOCK_SKEW, Lake
from ecommerce_assets.storage.retention import kept_versions
from ecommerce_assets.storage.version import Input, StoredFile, Version


@dataclass(frozen=True)
class VersionState:
    """One version, and whether it is current, superseded, removed, damaged, from the future or blocked."""

    version: str
    state: str
    committed_at: datetime
    rows: int | None
    bytes: int
    run_id: str


def version_states(lake: Lake, asset: str, limit: int | None = None) -> list[VersionState]:
    """Returns up to `limit` published versions of an asset, newest first, then the blocked ones."""
    states: list[tuple[Version, str, str]] = []
    current = False
    for version in lake.published(asset)[:limit]:
        damaged = len(lake.damage(version))
        if version.committed_at > datetime.now(UTC) + CLOCK_SKEW:
            state = "from the future: ignored"
        elif damaged:
            state = "removed" if current else f"damaged: {damaged} files missing or of another size"
        else:
            state, current = "superseded" if current else "current", True
        states.append((version, version.version, state))
    for version in reversed(lake.blocked(asset)):
        names = ", ".join(sorted({check.name for check in version.failed_blocking}))
        states.append((version, f"{BLOCKED}/{version.folder}", f"blocked by {names}"))
    return [
        VersionState(name, state, v.committed_at, v.stats.rows, v.stats.bytes, v.run_id) for v, name, state in states
    ]


@dataclass(frozen=True)
class Ancestor:
    """One version in the lineage of another.

    Attributes
    ----------
    metadata
        Its metadata; None if there is none.
    days
        Days that were read from it, for daily tables.
    inputs
        Its inputs (of these days). Daily inputs have the versions that wrote the days; files have no version.
    """

    asset: str
    version: str
    days: tuple[str, ...]
    metadata: Version | None
    inputs: Sequence[Input]


Ancestors = dict[tuple[str, str | None, tuple[str, ...]], Ancestor]
"""By asset, version and days."""


def ancestors(lake: Lake, start: Version) -> Ancestors:
    """Returns all versions that this one was computed from, itself first."""
    result: Ancestors = {}
    waiting = [Input(asset=start.asset, version=start.version, fingerprint="")]
    while waiting:
        read = waiting.pop(0)
        if read.version and _key(read) not in result:
            version = lake.recorded(read.asset, read.version)
            inputs = [part for each in (version.inputs if version else ()) for part in _written_by(lake, each)]
            if read.partitions:
                inputs = [each for each in inputs if not each.partitions or set(each.partitions) & set(read.partitions)]
            result[_key(read)] = Ancestor(read.asset, read.version, read.partitions, version, inputs)
            waiting += inputs
    return result


def _key(read: Input) -> tuple[str, str | None, tuple[str, ...]]:
    return read.asset, read.version, read.partitions


def _written_by(lake: Lake, read: Input) -> list[Input]:
    """Returns an input from a daily table as one input per version that wrote its days."""
    if not (read.version and read.partitions):
        return [read]
    versions = [v for v in lake.published(read.asset) if int(v.version) <= int(read.version)]
    writers: dict[str, list[str]] = {}
    for day in read.partitions:
        writer = next((v.version for v in versions if day in v.days), read.version)
        writers.setdefault(writer, []).append(day)
    return [read.model_copy(update={"version": v, "partitions": tuple(days)}) for v, days in writers.items()]


def lineage_tree(versions: Ancestors) -> Iterator[str]:
    """Yields the ancestors as lines of a tree; repeated ones are not expanded again."""
    shown = set()

    def lines(ancestor: Ancestor, first: str, rest: str) -> Iterator[str]:
        is_new = id(ancestor) not in shown
        shown.add(id(ancestor))
        yield first + _label(ancestor) + ("" if is_new or not ancestor.inputs else " (see above)")
        for read in ancestor.inputs if is_new else ():
            is_last = read is ancestor.inputs[-1]
            branch, below = rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  ")
            if read.version:
                yield from lines(versions[_key(read)], branch, below)
                continue
            size, count = sum(file.bytes for file in read.files), len(read.files)
            name = " ".join([read.asset, *read.partitions])
            yield f"{branch}{name}: {count} file{'s' * (count != 1)}, {size:,} bytes"
            for file in read.files:
                yield f"{below}{file.path} ({file.bytes:,} bytes)"

    yield from lines(next(iter(versions.values())), "", "")


def _label(ancestor: Ancestor) -> str:
    version, days = ancestor.metadata, ancestor.days
    if version is None:
        return f"{ancestor.asset} {ancestor.version}: nothing is recorded"
    rows = "" if version.stats.rows is None else f", {version.stats.rows:,} rows"
    covers = f", {len(days)} days {days[0]} to {days[-1]}" if days else ""
    at = f"{version.committed_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{ancestor.asset} {ancestor.version} (published {at}{rows}{covers}, run {version.run_id[:8]})"


@dataclass(frozen=True)
class Problem:
    """A damaged file; `version` is empty for a log or commit file."""

    asset: str
    version: str
    message: str


@dataclass(frozen=True)
class Verification:
    """Numbers of checked versions, files and bytes, and the problems."""

    versions: int
    files: int
    bytes: int
    problems: list[Problem]


def verify(lake: Lake, assets: Sequence[str] = ()) -> Verification:
    """Checks every file of every kept version: presence, size, checksum of each page, number of rows.

    Parameters
    ----------
    assets
        Names of assets; empty: all.
    """
    kept = kept_versions(Lake(lake.data.uri, lambda _: None))
    versions = size = 0
    checked: set[tuple[str, str]] = set()
    problems: list[Problem] = []
    for asset in assets or lake.assets():
        warnings: list[str] = []
        fresh = Lake(lake.data.uri, warnings.append)
        published = fresh.published(asset)
        problems += [Problem(asset, "", warning) for warning in warnings]
        for version in published if kept is None else kept.get(asset, ()):
            versions += 1
            damaged = set(fresh.damage(version))
            for file in fresh.files(version):
                if (asset, file.path) not in checked:
                    checked.add((asset, file.path))
                    size += file.bytes
                    missing = "is missing or of another size" if file.path in damaged else None
                    if message := missing or _unreadable(fresh.asset(asset), file):
                        problems.append(Problem(asset, version.version, f"{file.path} {message}"))
    return Verification(versions, len(checked), size, problems)


def _unreadable(folder: Folder, file: StoredFile) -> str | None:
    """Returns the problem of a file; None if all its pages can be read and it has all its rows."""
    try:
        with folder.open(file.path) as source:
            if file.path.endswith(".json"):
                json.load(source)
            elif file.path.endswith(".parquet"):
                batches = pq.ParquetFile(source, page_checksum_verification=True).iter_batches()
                rows = sum(batch.num_rows for batch in batches)
                if file.rows not in (None, rows):
                    return f"has {rows:,} rows, and its log says {file.rows:,}"
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"cannot be read ({str(error).splitlines()[0]})"
    return None

"""Plans the runs of the sensor: which raw days are new or changed and must be cleaned. Entry point: `plan`.

Without Dagster, and without opening files: a listing has names, sizes and times, and the name of a landed file has its
rows and a hash of its content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property

from pydantic import AliasChoices, BaseModel, Field

from ecommerce_assets.events.landing.target import SUCCESS, landed_rows
from ecommerce_assets.events.raw import fingerprint, is_day
from ecommerce_assets.events.schema import PARTITION_COLUMN
from ecommerce_assets.storage.filesystem import FileInfo, Folder, is_hidden
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Version

MAX_ATTEMPTS = 3
"""Number of failed runs after which a day is not requested again."""

DIGITS = 16
"""Hexadecimal digits of a fingerprint that distinguish the states of a day."""

MAX_CLOCK_SKEW = 86_400.0
"""Seconds by which the clock of the store may be ahead; later times are ignored."""


@dataclass(frozen=True)
class RawPartition:
    """The folder of a day, from a listing.

    Attributes
    ----------
    changed
        Time of the last change of a file other than `_SUCCESS`, seconds since 1970; None if the store does not say.
    marked
        Whether `_SUCCESS` exists and is at least as new as the other files, as far as the store has times.
    """

    day: str
    files: tuple[FileInfo, ...]
    changed: float | None
    marked: bool

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint that cleaned_events records with its input."""
        return fingerprint(self.files)

    @cached_property
    def rows(self) -> int | None:
        """Rows, from the names of the files; None if not all of them were landed."""
        rows = [landed_rows(file.path.rpartition("/")[2]) for file in self.files]
        known = [number for number in rows if number is not None]
        return sum(known) if len(known) == len(rows) else None

    @property
    def bytes(self) -> int:
        """Total size of the files."""
        return sum(file.bytes for file in self.files)

    @property
    def state(self) -> str:
        """Short fingerprint, which changes when the files change."""
        return self.fingerprint[:DIGITS]

    def is_complete(self, now: float, quiet_seconds: float) -> bool:
        """Returns whether the day is marked as complete, or has not changed for `quiet_seconds`."""
        # A time in the near future is recent too, because the clock of the store may be ahead.
        recent = self.changed is not None and now - quiet_seconds < self.changed < now + MAX_CLOCK_SKEW
        return self.marked or (self.changed is not None and not recent)


def list_partitions(data_dir: str) -> dict[str, RawPartition]:
    """Returns the folders with files by day, from one listing of the raw folder.

    Folders whose name is not a day are ignored.
    """
    by_day: dict[str, list[FileInfo]] = {}
    for file in (Folder(data_dir) / "raw" / "events").all_files():
        name, _, inside = file.path.partition("/")
        if inside and name.startswith(f"{PARTITION_COLUMN}=") and is_day(day := name.partition("=")[2]):
            by_day.setdefault(day, []).append(file)
    return {day: _partition(day, files) for day, files in sorted(by_day.items())}


def _partition(day: str, files: Sequence[FileInfo]) -> RawPartition:
    inside = {file: file.path.partition("/")[2] for file in files}
    marker = next((file for file, name in inside.items() if name == SUCCESS), None)
    # With the files in _temporary, which a running job writes.
    others = [file for file, name in inside.items() if SUCCESS not in name]
    changed = max((file.modified for file in others if file.modified is not None), default=None)
    # A marker that is older than a file was written before more files arrived.
    marked = marker is not None and (changed is None or marker.modified is None or marker.modified >= changed)
    data = tuple(file for file, name in inside.items() if not is_hidden(name))
    return RawPartition(day, data, changed, marked)


class DayState(BaseModel):
    """State of a day that is not done.

    Attributes
    ----------
    state
        `RawPartition.state` when the run was requested.
    run
        Key of the requested run that is not known to have ended; empty if there is none.
    attempts
        Number of runs that ended without publishing the day.
    """

    state: str
    run: str = ""
    attempts: int = 0


class Cursor(BaseModel):
    """State of the sensor between ticks; the versions in the lake tell which days are done.

    Attributes
    ----------
    days
        State of each day that is not done.
    removed
        Days without files whose removal was reported.
    unreported
        Changed days that are still to be reported to Dagster.
    """

    days: dict[str, DayState] = {}
    removed: list[str] = []
    # "untold" is the name in cursors that an earlier release has stored.
    unreported: list[str] = Field(default=[], validation_alias=AliasChoices("unreported", "untold"))


@dataclass(frozen=True)
class StoredDays:
    """Fingerprints of the raw files of each day of cleaned_events, and of each day that a check blocked."""

    published: Mapping[str, str]
    blocked: Mapping[str, Set[str]] = field(default_factory=dict)

    def is_done(self, partition: RawPartition) -> bool:
        """Returns whether the day was published from exactly these files."""
        return self.published.get(partition.day) == partition.fingerprint

    def is_blocked(self, partition: RawPartition) -> bool:
        """Returns whether a check blocked the day computed from exactly these files."""
        return partition.fingerprint in self.blocked.get(partition.day, ())


def stored_days(lake: Lake) -> StoredDays:
    """Returns the raw files that the versions of cleaned_events record as inputs."""
    asset = "cleaned_events"
    published: dict[str, str] = {}
    blocked: dict[str, set[str]] = {}
    for version in reversed(lake.published(asset)):
        published |= {day: files for day, files in _fingerprints(version) if day in version.days}
    for version in lake.blocked(asset):
        for day, files in _fingerprints(version):
            if day in version.days:
                blocked.setdefault(day, set()).add(files)
    return StoredDays(published, blocked)


def _fingerprints(version: Version) -> Iterator[tuple[str, str]]:
    for entry in version.inputs:
        for day in entry.partitions if entry.asset == "raw_events" else ():
            yield day, entry.fingerprint


@dataclass
class Plan:
    """Result of a tick.

    Attributes
    ----------
    cursor
        State for the next tick, with `REQUESTED` in place of the keys of the new runs.
    ranges
        Days to clean, one list per range of consecutive days.
    incomplete, running, outside, removed, blocked, given_up
        Other days, by the reason why no run is requested: still being written; in a run; outside the partitions;
        without files; blocked by a check; failed too often or canceled.
    """

    cursor: Cursor = field(default_factory=Cursor)
    ranges: list[list[RawPartition]] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)


REQUESTED = "?"
"""Placeholder for the key of a run that the tick is about to request."""


def plan(
    partitions: Mapping[str, RawPartition],
    previous: Cursor,
    runs: Sequence[tuple[str, str]],
    canceled: Set[str],
    stored: StoredDays,
    window: tuple[str, str],
    known_days: Set[str],
    now: float,
    quiet_seconds: float,
) -> Plan:
    """Returns what to do about the days in the raw folder.

    Parameters
    ----------
    partitions
        Folders in the raw folder, by day.
    previous
        Cursor of the previous tick.
    runs
        First and last day of each run that cleans events now, also of those that `previous` does not name.
    canceled
        Keys of the runs in `previous` that a person canceled: their days are not requested again.
    window
        First and last partition.
    known_days
        Days that were in the raw folder before.
    now
        Seconds since 1970.
    quiet_seconds
        Time without a change after which a day without a marker is complete.
    """
    result = Plan()
    to_clean: list[RawPartition] = []
    for day, partition in partitions.items():
        known = previous.days.get(day)
        if not window[0] <= day <= window[1]:
            result.outside.append(day)
        elif stored.is_done(partition):
            pass
        elif not partition.is_complete(now, quiet_seconds):
            result.incomplete.append(day)
            if known:
                result.cursor.days[day] = known
        elif any(first <= day <= last for first, last in runs):
            result.running.append(day)
            if known:
                result.cursor.days[day] = known
        else:
            is_blocked = stored.is_blocked(partition)
            result.cursor.days[day] = state = _next_state(partition.state, known, canceled, is_blocked)
            if state.run == REQUESTED:
                to_clean.append(partition)
            else:
                (result.blocked if is_blocked else result.given_up).append(day)
    removed = (known_days | set(stored.published)) - set(partitions)
    result.removed = sorted(removed - set(previous.removed))
    result.cursor.removed = sorted(removed)
    result.cursor.unreported = [day for day in previous.unreported if day in partitions]
    result.ranges = list(consecutive(to_clean))
    return result


def _next_state(state: str, known: DayState | None, canceled: Set[str], is_blocked: bool) -> DayState:
    """The next state of a complete day that is neither done nor in a run."""
    if known is None or known.state != state:
        # A blocked day is not requested even if the cursor is lost: the same files would be blocked again.
        return DayState(state=state, run="" if is_blocked else REQUESTED)
    if not known.run or is_blocked:
        return DayState(state=state, attempts=known.attempts)
    attempts = known.attempts + 1
    is_last = attempts >= MAX_ATTEMPTS or known.run in canceled
    return DayState(state=state, run="" if is_last else REQUESTED, attempts=attempts)


def consecutive(partitions: Iterable[RawPartition]) -> Iterator[list[RawPartition]]:
    """Yields the ranges of consecutive days."""
    days: list[RawPartition] = []
    for partition in partitions:
        if days and date.fromisoformat(days[-1].day) + timedelta(days=1) != date.fromisoformat(partition.day):
            yield days
            days = []
        days.append(partition)
    if days:
        yield days


def range_digest(days: Sequence[RawPartition]) -> str:
    """Returns a digest of the state of a range of days, for the key of its run."""
    listing = "\n".join(f"{partition.day} {partition.state}" for partition in days)
    return hashlib.sha256(listing.encode()).hexdigest()[:DIGITS]

"""What has arrived in the raw folder, and which days of it are to be cleaned: the decisions of the sensor, as values.

No Dagster here: runs, ticks and events are sensor.py's. No file is opened: a listing tells names, sizes and times, and
landing puts a hash of the content and the number of rows into the names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import Enum
from functools import cached_property

from pydantic import BaseModel

from ecommerce_assets.events.landing.target import SUCCESS, landed_rows
from ecommerce_assets.events.raw import fingerprint
from ecommerce_assets.events.schema import PARTITION_COLUMN
from ecommerce_assets.storage.filesystem import FileInfo, Folder, is_hidden
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Version

MAX_ATTEMPTS = 3
"""So often a day is asked for before it is left to a person."""

DIGITS = 16
"""Hexadecimal digits of a fingerprint that tell the states of one day apart."""

FAR_AHEAD = 86_400.0
"""Seconds by which a store's clock may be ahead of ours and still tell when something was written."""


@dataclass(frozen=True)
class RawPartition:
    """One day's folder as a listing shows it.

    Attributes
    ----------
    changed
        When anything in it but `_SUCCESS` was last written, seconds since 1970; None where the store does not say.
    marked
        `_SUCCESS` is there and younger than all else, or the store does not say which is younger.
    """

    day: str
    files: tuple[FileInfo, ...]
    changed: float | None
    marked: bool

    @cached_property
    def fingerprint(self) -> str:
        """The same as cleaned_events records for the day as its input."""
        return fingerprint(self.files)

    @cached_property
    def rows(self) -> int | None:
        """Rows, where landing wrote all the files: their names say it."""
        rows = [landed_rows(file.path.rpartition("/")[2]) for file in self.files]
        known = [number for number in rows if number is not None]
        return sum(known) if len(known) == len(rows) else None

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.bytes for file in self.files)

    @property
    def state(self) -> str:
        """What changes when the day changes."""
        return self.fingerprint[:DIGITS]

    def is_whole(self, now: float, quiet_seconds: float) -> bool:
        """Nobody is writing any more: it is marked so, or has been quiet for a while."""
        # A clock that is a little ahead says "now" too; one that is far ahead says nothing.
        recent = self.changed is not None and now - quiet_seconds < self.changed < now + FAR_AHEAD
        return self.marked or (self.changed is not None and not recent)


def list_partitions(data_dir: str) -> dict[str, RawPartition]:
    """The days' folders that hold any file, by day: one listing of the raw folder, whatever its size.

    Folders whose name is no day are none.
    """
    by_day: dict[str, list[FileInfo]] = {}
    for file in (Folder(data_dir) / "raw" / "events").all_files():
        name, _, inside = file.path.partition("/")
        if inside and name.startswith(f"{PARTITION_COLUMN}=") and _is_day(day := name.partition("=")[2]):
            by_day.setdefault(day, []).append(file)
    return {day: _partition(day, files) for day, files in sorted(by_day.items())}


def _is_day(text: str) -> bool:
    try:
        return str(date.fromisoformat(text)) == text
    except ValueError:
        return False


def _partition(day: str, files: Sequence[FileInfo]) -> RawPartition:
    inside = {file: file.path.partition("/")[2] for file in files}
    marker = next((file for file, name in inside.items() if name == SUCCESS), None)
    # What lies in _temporary counts too: a job is still writing.
    others = [file for file, name in inside.items() if SUCCESS not in name]
    changed = max((file.modified for file in others if file.modified is not None), default=None)
    # Older than what it stands for, it is left from before more came.
    marked = marker is not None and (changed is None or marker.modified is None or marker.modified >= changed)
    data = tuple(file for file, name in inside.items() if not is_hidden(name))
    return RawPartition(day, data, changed, marked)


class RunState(Enum):
    """How it stands with a run that was asked for."""

    unfinished = "unfinished"
    ended = "ended"
    """It succeeded, failed, or is not to be found: whether a day is done is seen by what is committed."""
    canceled = "canceled"
    """A person stopped it, and is not to be contradicted."""


class DayState(BaseModel):
    """What the sensor remembers of a day that is not done.

    `run` is the key of the run that was asked for and has not been seen to end; `attempts` counts those that ended
    without the day being committed.
    """

    state: str
    run: str = ""
    attempts: int = 0


class Cursor(BaseModel):
    """What the sensor remembers from tick to tick: little, because the lake says what is done.

    `removed` are days that are gone and told of, `untold` days that changed and are still to be told of.
    """

    days: dict[str, DayState] = {}
    removed: list[str] = []
    untold: list[str] = []


@dataclass(frozen=True)
class Stored:
    """The fingerprints of the raw files behind each day of cleaned_events, and behind each day that a check blocked."""

    served: Mapping[str, str]
    blocked: Mapping[str, Set[str]] = field(default_factory=dict)

    def is_done(self, partition: RawPartition) -> bool:
        """The day is served from just these files."""
        return self.served.get(partition.day) == partition.fingerprint

    def is_blocked(self, partition: RawPartition) -> bool:
        """A check blocked the day, made from exactly these files."""
        return partition.fingerprint in self.blocked.get(partition.day, ())


def stored_days(lake: Lake) -> Stored:
    """What cleaned_events records of the raw files behind it."""
    asset = "cleaned_events"
    served: dict[str, str] = {}
    blocked: dict[str, set[str]] = {}
    for version in reversed(lake.published(asset)):
        served |= {day: files for day, files in _raw_files_of(version) if day in version.days}
    for version in lake.blocked(asset):
        for day, files in _raw_files_of(version):
            if day in version.days:
                blocked.setdefault(day, set()).add(files)
    return Stored(served, blocked)


def _raw_files_of(version: Version) -> Iterator[tuple[str, str]]:
    for entry in version.inputs:
        for day in entry.partitions if entry.asset == "raw_events" else ():
            yield day, entry.fingerprint


@dataclass
class Plan:
    """What a tick does and says. `ranges` are the days to clean, consecutive ones together; `cursor` is what the next
    tick is to know, with `WANTED` in place of the keys of runs that are still to be asked for."""

    cursor: Cursor = field(default_factory=Cursor)
    ranges: list[list[RawPartition]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)


WANTED = "?"


def plan(
    partitions: Mapping[str, RawPartition],
    before: Cursor,
    stored: Stored,
    runs: Mapping[str, RunState],
    window: tuple[str, str],
    known_days: Set[str],
    now: float,
    quiet_seconds: float,
    being_cleaned: Sequence[tuple[str, str]] = (),
) -> Plan:
    """What is to be done about the days that lie in the raw folder.

    Parameters
    ----------
    before
        What the tick before remembered.
    runs
        How it stands with the runs that `before` names; one that is left out is not to be found.
    window
        The first and the last day that Dagster knows.
    known_days
        Days that were seen in the raw folder before.
    now
        Seconds since 1970.
    being_cleaned
        First and last day of each run of others, such as one that a person started in the UI.
    """
    found = Plan()
    wanted: list[RawPartition] = []
    for day, partition in partitions.items():
        known = before.days.get(day)
        if not window[0] <= day <= window[1]:
            found.outside.append(day)
        elif stored.is_done(partition):
            pass
        elif not partition.is_whole(now, quiet_seconds):
            found.waiting.append(day)
            if known:
                found.cursor.days[day] = known
        elif any(first <= day <= last for first, last in being_cleaned):
            found.under_way.append(day)
            if known:
                found.cursor.days[day] = known
        else:
            is_blocked = stored.is_blocked(partition)
            found.cursor.days[day] = after = _next(partition.state, known, runs, is_blocked)
            if after.run == WANTED:
                wanted.append(partition)
            elif not after.run:
                (found.blocked if is_blocked else found.given_up).append(day)
            else:
                found.under_way.append(day)
    gone = (known_days | set(stored.served)) - set(partitions)
    found.removed = sorted(gone - set(before.removed))
    found.cursor.removed = sorted(gone)
    found.cursor.untold = [day for day in before.untold if day in partitions]
    found.ranges = list(consecutive(wanted))
    return found


def _next(state: str, known: DayState | None, runs: Mapping[str, RunState], is_blocked: bool) -> DayState:
    """What becomes of a whole day that is not done."""
    if known is not None and known.run and runs.get(known.run) is RunState.unfinished:
        return known  # also where more has come meanwhile: what the run makes of it is seen when it has ended
    if known is None or known.state != state:
        # Blocked days are known without a cursor too: the same files would be blocked again.
        return DayState(state=state, run="" if is_blocked else WANTED)
    if not known.run or is_blocked:
        return DayState(state=state, attempts=known.attempts)
    run = runs.get(known.run, RunState.ended)
    attempts = known.attempts + 1
    is_last = attempts >= MAX_ATTEMPTS or run is RunState.canceled
    return DayState(state=state, run="" if is_last else WANTED, attempts=attempts)


def consecutive(partitions: Iterable[RawPartition]) -> Iterator[list[RawPartition]]:
    """Days that follow each other, together."""
    block: list[RawPartition] = []
    for partition in partitions:
        if block and date.fromisoformat(block[-1].day) + timedelta(days=1) != date.fromisoformat(partition.day):
            yield block
            block = []
        block.append(partition)
    if block:
        yield block


def range_digest(block: Sequence[RawPartition]) -> str:
    """Tells one state of a range of days from another: part of the key of its run."""
    listing = "\n".join(f"{partition.day} {partition.state}" for partition in block)
    return hashlib.sha256(listing.encode()).hexdigest()[:DIGITS]

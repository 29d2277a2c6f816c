"""Where landed data lies: every path under the data dir that landing reads or writes is made here.

Only here are folders made, files moved and leftovers removed, so that a file system other than the local one needs
one other module. What is inside the files is no business of this one.
"""

import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from filelock import FileLock, Timeout

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import CONTENT_DIGITS, FILE_DIGITS
from ecommerce_assets.events.schema import PARTITION_COLUMN
from ecommerce_assets.settings import DATA_DIR

SAMPLE_MARKER = "_SAMPLE"
STAGING_PREFIX = ".landing-"
SUCCESS = "_SUCCESS"
"""The marker in a day's folder: all its files are there."""

_TICK = 1_000_000_000  # nanoseconds

_LANDED_NAME = re.compile(r"land-[0-9a-f]{16}-\d+-(?P<rows>\d+)rows\.parquet")


def landed_name(content: str, number: int, rows: int) -> str:
    """Name of a landed file: what a listing tells of it is all that the sensor needs, without opening any file.

    `content` is the hash of the source it came from, `number` tells its files of one day apart, `rows` are its own.
    """
    return f"land-{content}-{number}-{rows}rows.parquet"


def landed_rows(name: str) -> int | None:
    """Rows of a landed file by its name; None where landing did not write it."""
    found = _LANDED_NAME.fullmatch(name)
    return int(found["rows"]) if found else None


@dataclass(frozen=True)
class Target:
    """The raw part of one data dir."""

    data_dir: Path

    @property
    def raw(self) -> Path:
        """`raw` in the data dir."""
        return self.data_dir / "raw"

    @property
    def events(self) -> Path:
        """Where the daily partitions lie."""
        return self.raw / "events"

    def partition(self, day: date) -> Path:
        """A day's folder."""
        return self.events / f"{PARTITION_COLUMN}={day.isoformat()}"

    def staging(self, content: str) -> Path:
        """Beside the partitions and not in the system's temporary folder: a move is atomic on one disk only."""
        return self.raw / f"{STAGING_PREFIX}{content}"

    def unreadable(self, source_name: str, content: str) -> Path:
        """Where the unreadable lines of a source are copied to."""
        return self.raw / "unreadable" / f"{source_name}-{content}.csv"

    def refuse_sample(self) -> None:
        """Raises LandingError where the data dir holds the shipped sample."""
        if (self.events / SAMPLE_MARKER).exists():
            raise LandingError(
                f"{self.data_dir} holds the shipped sample (raw/events/{SAMPLE_MARKER}), which other data must not mix "
                f"into: give your own data a folder of its own with --data-dir DIR or {DATA_DIR}=DIR."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One landing at a time; whatever staging folder lies there under the lock is a dead landing's, and goes."""
        self.raw.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.raw / ".landing.lock").acquire(timeout=0)
        except Timeout:
            raise LandingError(f"Another landing into {self.data_dir} is running; wait until it has ended.") from None
        with lock:
            self._remove_staging()
            try:
                yield
            finally:
                self._remove_staging()

    def _remove_staging(self) -> None:
        for folder in self.raw.glob(f"{STAGING_PREFIX}*"):
            if folder.is_dir():
                shutil.rmtree(folder)

    def refuse_other_layout(self, source: Path, content: str) -> None:
        """The same file with other options would be there twice: raises LandingError, which says how to undo."""
        others = {
            name
            for path in self.events.glob(f"*/land-{content[:FILE_DIGITS]}*.parquet")
            if (name := path.name[: len("land-") + CONTENT_DIGITS]) != f"land-{content}"
        }
        if others:
            (other, *_) = sorted(others)
            # The markers too: a marked day without files is a day without events, and would be cleaned as that.
            raise LandingError(
                f"{source} was landed before with other options (--map, --map-event, --default), and its rows would be "
                f"there twice: to land it as it is asked for now, first remove what was landed then, with: "
                f"for f in {shlex.quote(str(self.events))}/{PARTITION_COLUMN}=*/{other}-*.parquet; "
                f'do rm -f "$f" "${{f%/*}}/{SUCCESS}"; done'
            )

    def publish_day(self, staged: Sequence[Path], day: date) -> frozenset[Path]:
        """Move a day's staged files into its partition, and then say with `_SUCCESS` that it is whole; gives the files
        that are new there.

        A partition counts as finished where `_SUCCESS` is at least as new as every file. So from the first move to the
        marker the day is unfinished, also where the marker of an earlier landing lies there.
        """
        partition, marker = self.partition(day), self.partition(day) / SUCCESS
        new = [file for file in staged if not (partition / file.name).exists()]
        marked = _modified(marker)
        # The clock may not have ticked since the marker was written, and some disks keep whole seconds only.
        moment = max(time.time_ns(), marked + _TICK)
        for file in new:
            os.utime(file, ns=(moment, moment))
            _move(file, partition / file.name)
        # An earlier landing may have died between a move and the marker. A whole day is left as it is.
        newest = max(_modified(partition / file.name) for file in staged)
        if marked < newest:
            marker.touch()
            os.utime(marker, ns=(newest, newest))
        return frozenset(new)


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _move(staged: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    with staged.open("rb") as file:
        # Without this a power cut can leave the final name on an empty file.
        os.fsync(file.fileno())
    os.replace(staged, final)


def publish_file(staged: Path, final: Path) -> None:
    """Move one staged file to its final name, replacing what is there."""
    _move(staged, final)

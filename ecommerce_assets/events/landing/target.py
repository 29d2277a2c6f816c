"""Where landed data lies: every path under the data dir that landing reads or writes is made here.

Only here are folders made, files moved and leftovers removed, so that a file system other than the local one needs
one other module. What is inside the files is no business of this one.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from filelock import FileLock, Timeout

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.schema import PARTITION_COLUMN

DATA_DIR_VARIABLE = "ECOMMERCE_DATA_DIR"
SAMPLE_MARKER = "_SAMPLE"
STAGING_PREFIX = ".landing-"

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
        return self.data_dir / "raw"

    @property
    def events(self) -> Path:
        return self.raw / "events"

    def partition(self, day: date) -> Path:
        return self.events / f"{PARTITION_COLUMN}={day.isoformat()}"

    def staging(self, content: str) -> Path:
        """Beside the partitions and not in the system's temporary folder: a move is atomic on one disk only."""
        return self.raw / f"{STAGING_PREFIX}{content}"

    def unreadable(self, source_name: str, content: str) -> Path:
        return self.raw / "unreadable" / f"{source_name}-{content}.csv"

    def refuse_sample(self) -> None:
        if (self.events / SAMPLE_MARKER).exists():
            raise LandingError(
                f"{self.data_dir} holds the shipped sample (raw/events/{SAMPLE_MARKER}), which other data must not mix "
                f"into: give your own data a folder of its own with --data-dir DIR or {DATA_DIR_VARIABLE}=DIR."
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

    def publish_day(self, staged: Path, day: date) -> bool:
        """Move one staged file into its partition; False where the same content is there already.

        `_SUCCESS` is written in both cases: an earlier landing may have died between the move and the marker.
        """
        partition = self.partition(day)
        final = partition / staged.name
        is_new = not final.exists()
        if is_new:
            _move(staged, final)
        (partition / "_SUCCESS").touch()
        return is_new


def _move(staged: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    with staged.open("rb") as file:
        # Without this a power cut can leave the final name on an empty file.
        os.fsync(file.fileno())
    os.replace(staged, final)


def publish_file(staged: Path, final: Path) -> None:
    """Move one staged file to its final name, replacing what is there."""
    _move(staged, final)

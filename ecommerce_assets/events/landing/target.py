"""The raw folder of a data dir, local or in a bucket: staged files are moved into daily partitions, a day at once."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import CONTENT_DIGITS, FILE_DIGITS
from ecommerce_assets.events.schema import PARTITION_COLUMN
from ecommerce_assets.settings import DATA_DIR, SAMPLE_MARKER
from ecommerce_assets.storage.filesystem import Folder

STAGING_PREFIX = ".landing-"
SUCCESS = "_SUCCESS"
"""The marker in a day's folder: all its files are there."""

_TICK = 1_000_000_000  # nanoseconds

_LANDED_NAME = re.compile(r"land-[0-9a-f]{16}-\d+-(?P<rows>\d+)rows\.parquet")


def landed_name(content: str, rows: int) -> str:
    """Name of a landed file, which tells the sensor content and rows without opening it.

    `content` is the hash of the source it came from.
    """
    return f"land-{content}-0-{rows}rows.parquet"


def is_landed(path: str) -> bool:
    """Whether landing wrote the file, by its name, which holds a hash of the content."""
    return path.rpartition("/")[2].startswith("land-")


def landed_rows(name: str) -> int | None:
    """Rows of a landed file by its name; None for a file that landing did not write."""
    found = _LANDED_NAME.fullmatch(name)
    return int(found["rows"]) if found else None


@dataclass(frozen=True)
class Target:
    """The raw part of a data dir, a local folder or a bucket."""

    data_dir: str

    @cached_property
    def raw(self) -> Folder:
        """`raw` in the data dir. Raises LandingError for a data dir that no file system takes."""
        if "\\" in self.data_dir or "%" in self.data_dir:
            raise LandingError(f"{self.data_dir} has a % or a \\ in its path: choose another data dir.")
        try:
            return Folder(self.data_dir) / "raw"
        except (ImportError, ValueError) as error:
            raise LandingError(f"{self.data_dir} cannot be used as a data dir: {error}.") from error

    @cached_property
    def events(self) -> Folder:
        """The daily partitions."""
        return self.raw / "events"

    def partition(self, day: date) -> Folder:
        """A day's folder."""
        return self.events / f"{PARTITION_COLUMN}={day.isoformat()}"

    def refuse_sample(self) -> None:
        """Raises LandingError for the data dir of the shipped sample."""
        if (self.events / SAMPLE_MARKER).exists():
            raise LandingError(
                f"{self.data_dir} holds the shipped sample (raw/events/{SAMPLE_MARKER}), which other data must not mix "
                f"into: give your own data a folder of its own with --data-dir DIR or {DATA_DIR}=DIR."
            )

    def refuse_source(self, source: Path) -> None:
        """Raises LandingError for a file that is landed data of this data dir."""
        if self.raw.is_local and source.resolve().is_relative_to(Path(self.raw.path).resolve()):
            raise LandingError(f"{source} is landed data of {self.data_dir} itself.")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for what is landed, removed at the end; locally, one landing at a time.

        On local disks it is beside the partitions, because only there a move is atomic. A staging folder that is there
        under the lock was left by a landing that died.
        """
        if not self.raw.is_local:
            with tempfile.TemporaryDirectory() as temporary:
                yield Path(temporary)
            return
        raw = Path(self.raw.path)
        raw.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(raw / ".landing.lock").acquire(timeout=0)
        except Timeout:
            raise LandingError(f"Another landing into {self.data_dir} is running; wait until it has ended.") from None
        with lock:
            _remove_staging(raw)
            folder = raw / f"{STAGING_PREFIX}{os.getpid()}"
            folder.mkdir()
            try:
                yield folder
            finally:
                _remove_staging(raw)

    @cached_property
    def _landed_before(self) -> list[str]:
        return [file.path for file in self.events.all_files() if is_landed(file.path)]

    def refuse_other_layout(self, source: Path, content: str) -> None:
        """The same file with other options would be there twice: raises LandingError, which says how to undo."""
        names = (path.rpartition("/")[2] for path in self._landed_before)
        prefixes = {name[: len("land-") + CONTENT_DIGITS] for name in names}
        others = [p for p in prefixes if p.startswith(f"land-{content[:FILE_DIGITS]}") and p != f"land-{content}"]
        if others:
            # The markers too: a marked day without files is a day without events, and would be cleaned as that.
            undo = (
                f"first remove what was landed then, with: for f in {shlex.quote(self.events.path)}/"
                f'{PARTITION_COLUMN}=*/{others[0]}-*.parquet; do rm -f "$f" "${{f%/*}}/{SUCCESS}"; done'
                if self.events.is_local
                else f"first remove the files {others[0]}-*.parquet"
            )
            raise LandingError(
                f"{source} was landed before with other options or another ECOMMERCE_ID_TYPE, and its events would be "
                f"there twice: to land it as it is asked for now, {undo}"
            )

    def publish_day(self, staged: Sequence[Path], day: date) -> set[Path]:
        """Put a day's staged files into its partition, and then `_SUCCESS`, which says that it is whole.

        A day counts as whole if `_SUCCESS` is at least as new as every file. From the first file to the marker the day
        is unfinished, also if an earlier landing left its marker.

        Returns
        -------
        set of Path
            The staged files that were not there before.
        """
        partition = self.partition(day)
        there = set(partition.file_names())
        new = [file for file in staged if file.name not in there]
        if partition.is_local:
            _move_all(staged, new, Path(partition.path))
        elif new or SUCCESS not in there:
            for file in new:
                partition.put(file)
            partition.write_whole(SUCCESS, b"")
        return set(new)

    def put_unreadable(self, staged: Path, name: str) -> str:
        """Put the list of unreadable values of a source to its place in the raw folder; gives where that is."""
        folder = self.raw / "unreadable"
        folder.put(staged, name)
        return f"{folder.path if folder.is_local else folder.uri}/{name}"


def _move_all(staged: Sequence[Path], new: Sequence[Path], partition: Path) -> None:
    partition.mkdir(parents=True, exist_ok=True)
    marker = partition / SUCCESS
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


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _move(staged: Path, final: Path) -> None:
    with staged.open("rb") as file:
        # Without this a power cut can leave the final name on an empty file.
        os.fsync(file.fileno())
    os.replace(staged, final)


def _remove_staging(raw: Path) -> None:
    for folder in raw.glob(f"{STAGING_PREFIX}*"):
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            shutil.rmtree(folder)

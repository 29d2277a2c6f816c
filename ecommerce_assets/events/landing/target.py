"""The raw folder of a data dir, local or in a bucket. `Target` moves staged files into daily partitions, day by day."""

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
"""Marker in the folder of a day, written when all files of the day are in it."""

_SECOND = 1_000_000_000  # in nanoseconds

_LANDED_NAME = re.compile(r"land-[0-9a-f]{16}-\d+-(?P<rows>\d+)rows\.parquet")


def landed_name(content: str, rows: int) -> str:
    """Returns the name of a landed file; the sensor reads the rows from it without opening the file.

    Parameters
    ----------
    content
        Hash of source and options, see `Layout.content`.
    """
    return f"land-{content}-0-{rows}rows.parquet"


def is_landed(path: str) -> bool:
    """Returns whether landing wrote the file, according to its name."""
    return path.rpartition("/")[2].startswith("land-")


def landed_rows(name: str) -> int | None:
    """Returns the rows of a landed file, according to its name; None for other files."""
    match = _LANDED_NAME.fullmatch(name)
    return int(match["rows"]) if match else None


@dataclass(frozen=True)
class Target:
    """The raw part of a data dir, a local folder or a bucket."""

    data_dir: str

    @cached_property
    def raw(self) -> Folder:
        """`raw` in the data dir. Raises LandingError if the data dir cannot be opened."""
        if "\\" in self.data_dir or "%" in self.data_dir:
            raise LandingError(f"{self.data_dir} contains % or \\: choose another data dir.")
        try:
            return Folder(self.data_dir) / "raw"
        except (ImportError, ValueError) as error:
            raise LandingError(f"{self.data_dir} cannot be used as a data dir: {error}.") from error

    @cached_property
    def events(self) -> Folder:
        """The daily partitions."""
        return self.raw / "events"

    def partition(self, day: date) -> Folder:
        """Returns the folder of a day."""
        return self.events / f"{PARTITION_COLUMN}={day.isoformat()}"

    def refuse_sample(self) -> None:
        """Raises LandingError if the data dir is that of the shipped sample."""
        if (self.events / SAMPLE_MARKER).exists():
            raise LandingError(
                f"{self.data_dir} is the data dir of the shipped sample (raw/events/{SAMPLE_MARKER}). Land your own "
                f"data in another one with --data-dir DIR or {DATA_DIR}=DIR."
            )

    def refuse_source(self, source: Path) -> None:
        """Raises LandingError if the file is in the raw folder itself."""
        if self.raw.is_local and source.resolve().is_relative_to(Path(self.raw.path).resolve()):
            raise LandingError(f"{source} was already landed: it is in the raw folder of {self.data_dir}.")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Provides a staging folder and removes it at the end. Raises LandingError if another landing holds the lock.

        On local disks it is beside the partitions, so that files can be moved atomically; the lock also means that an
        existing staging folder was left by a killed landing.
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
            raise LandingError(f"Another landing into {self.data_dir} is running: wait until it ends.") from None
        with lock:
            _remove_staging(raw)
            folder = raw / f"{STAGING_PREFIX}{os.getpid()}"
            folder.mkdir()
            try:
                yield folder
            finally:
                _remove_staging(raw)

    @cached_property
    def _landed_files(self) -> list[str]:
        return [file.path for file in self.events.all_files() if is_landed(file.path)]

    def refuse_other_layout(self, source: Path, content: str) -> None:
        """Raises LandingError if the source was landed with other options: its events would be landed twice."""
        names = (path.rpartition("/")[2] for path in self._landed_files)
        prefixes = {name[: len("land-") + CONTENT_DIGITS] for name in names}
        others = [p for p in prefixes if p.startswith(f"land-{content[:FILE_DIGITS]}") and p != f"land-{content}"]
        if others:
            # With the markers: a marked folder without files would be cleaned as a day without events.
            undo = (
                f"first remove them with: for f in {shlex.quote(self.events.path)}/"
                f'{PARTITION_COLUMN}=*/{others[0]}-*.parquet; do rm -f "$f" "${{f%/*}}/{SUCCESS}"; done'
                if self.events.is_local
                else f"first remove the files {others[0]}-*.parquet"
            )
            raise LandingError(
                f"The events of {source} were already landed, with other options or another ECOMMERCE_ID_TYPE. To land "
                f"it with the new options, {undo}"
            )

    def publish_day(self, staged: Sequence[Path], day: date) -> set[Path]:
        """Moves the staged files of a day into its partition, writes `_SUCCESS`, and returns the new files.

        A day is complete if `_SUCCESS` is at least as new as every file. Until the marker is written the day is
        incomplete, also if an earlier landing left a marker. Files that are in the partition already are not replaced.
        """
        partition = self.partition(day)
        existing = set(partition.file_names())
        new = [file for file in staged if file.name not in existing]
        if partition.is_local:
            _move_all(staged, new, Path(partition.path))
        elif new or SUCCESS not in existing:
            for file in new:
                partition.put(file)
            partition.write_whole(SUCCESS, b"")
        return set(new)

    def put_unreadable(self, staged: Path, name: str) -> str:
        """Stores the list of unreadable values of a source in the raw folder and returns its path or URI."""
        folder = self.raw / "unreadable"
        folder.put(staged, name)
        return f"{folder.path if folder.is_local else folder.uri}/{name}"


def _move_all(staged: Sequence[Path], new: Sequence[Path], partition: Path) -> None:
    partition.mkdir(parents=True, exist_ok=True)
    marker = partition / SUCCESS
    marked = _modified(marker)
    # Later than the marker by a second, because some disks store whole seconds only.
    moment = max(time.time_ns(), marked + _SECOND)
    for file in new:
        os.utime(file, ns=(moment, moment))
        _move(file, partition / file.name)
    # An earlier landing may have been killed between a move and the marker. A complete day is not touched.
    newest = max(_modified(partition / file.name) for file in staged)
    if marked < newest:
        marker.touch()
        os.utime(marker, ns=(newest, newest))


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _move(staged: Path, final: Path) -> None:
    with staged.open("rb") as file:
        # Without this a power failure can leave an empty file under the final name.
        os.fsync(file.fileno())
    os.replace(staged, final)


def _remove_staging(raw: Path) -> None:
    for folder in raw.glob(f"{STAGING_PREFIX}*"):
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            shutil.rmtree(folder)

"""Who is writing a version right now: so that what a dead writer left can be told from what a living one is making.

What is done with leftovers is retention.py's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from ecommerce_assets.storage.filesystem import Folder

WRITERS = ".writers"
SILENCE = timedelta(hours=24)
"""On a remote file system a writer is taken for dead when nothing below its version changed for so long."""


@contextmanager
def writing(asset_folder: Folder, version: str) -> Iterator[None]:
    """Mark a version as being written while the block runs, before anything of it exists.

    On a local disk the mark is a lock, which the operating system frees when the process dies, even by SIGKILL. Remote
    file systems have no such thing: there the age of the newest file decides.
    """
    if not asset_folder.is_local:
        yield
        return
    path = _lock_path(asset_folder, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def clear_abandoned(asset_folder: Folder) -> None:
    """Remove the marks that dead writers left, whatever became of their versions; a living one's stays.

    A writer can die between its mark and the first file, or between its commit and the end of its mark: then no
    version is left to say that the mark belongs to nobody.
    """
    if not asset_folder.is_local:
        return
    for path in (Path(asset_folder.path) / WRITERS).glob("*.lock"):
        with suppress(Timeout), FileLock(path, timeout=0):
            path.unlink(missing_ok=True)


def is_abandoned(asset_folder: Folder, version: str, begun: datetime, now: datetime) -> bool:
    """Whether nobody writes this uncommitted version any more.

    Parameters
    ----------
    begun
        When its writer chose its name.
    """
    if asset_folder.is_local:
        path = _lock_path(asset_folder, version)
        if not path.exists():
            return True
        with suppress(Timeout), FileLock(path, timeout=0):
            return True
        return False
    newest = (asset_folder / version).last_change()
    return now - max(begun, newest or begun) > SILENCE


def _lock_path(asset_folder: Folder, version: str) -> Path:
    return Path(asset_folder.path) / WRITERS / f"{version}.lock"

"""One Spark at a time on a machine: a file lock for runs that bypass Dagster's run queue. Use `machine_lock`.

`max_concurrent_runs: 1` keeps the daemon's runs apart; `dagster asset materialize` in a shell does not use the queue.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def machine_lock(holder: str, log: Callable[[str], object]) -> Iterator[None]:
    """Waits until no other run of this user has a Spark on this machine, and holds the lock for the block.

    The operating system frees the lock when the process dies, even by SIGKILL.

    Parameters
    ----------
    holder
        Name of this run, such as `run 1234`; the log of a run that waits shows it.
    """
    folder = private_folder()
    lock, note = FileLock(folder / "spark.lock"), folder / "spark.holder"
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        other = "another Spark on this machine"
        with suppress(OSError):
            other = note.read_text() or other
        log(f"Waiting for {other} to end: one Spark at a time.")
        held = lock.acquire(poll_interval=0.2)
    with held:
        with suppress(OSError):  # the note is for people; the lock does not depend on it
            note.write_text(f"{holder} (process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC)")
        yield


def private_folder() -> Path:
    """Returns a folder in the temporary folder that only this user can use, and creates it if necessary.

    Raises
    ------
    PermissionError
        If another user owns it, or if it is a link or accessible to others.
    """
    folder = Path(tempfile.gettempdir()) / f"ecommerce_assets-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise PermissionError(
            f"{folder} must be a folder that only you can use: remove it, or set TMPDIR to a folder of your own."
        )
    return folder

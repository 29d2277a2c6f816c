"""One Spark at a time on a machine: a file lock for runs that bypass Dagster's run queue. Use `MachineLock`.

`max_concurrent_runs: 1` keeps the daemon's runs apart; `dagster asset materialize` in a shell does not ask the queue.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

REMIND_SECONDS = 60.0


class MachineLock:
    """Held while a local Spark lives. The operating system frees it when the process dies, even by SIGKILL.

    All runs of one user on a machine share the lock.

    Parameters
    ----------
    holder
        Who holds it, such as `run 1234`, for the log of those that wait.
    """

    def __init__(self, holder: str) -> None:
        self._holder = holder
        folder = private_folder()
        self._lock = FileLock(folder / "spark.lock", mode=0o600)
        self._note = folder / "spark.holder"

    def acquire(self, log: Callable[[str], object], remind_seconds: float = REMIND_SECONDS) -> None:
        """Wait until no other run on this machine has a Spark, and log for which one, every `remind_seconds`."""
        started = time.monotonic()
        timeout = 0.0
        while not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=timeout, poll_interval=0.2)
            except Timeout:
                waited, timeout = time.monotonic() - started, remind_seconds
                log(f"Waiting for {self._current_holder()} to end: one Spark at a time ({waited:.0f} s so far).")
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):  # the note is for people; the lock does not depend on it
            file = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(file, "w") as note:
                note.write(f"{self._holder} (process {os.getpid()}, since {since})")

    def release(self) -> None:
        """Let the next run start Spark; does nothing where the lock is not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._note.unlink()
            self._lock.release()

    def _current_holder(self) -> str:
        with suppress(OSError, ValueError):
            if note := self._note.read_text():
                return note
        return "another Spark on this machine"  # it is just starting or just ending


def private_folder() -> Path:
    """The user's own folder below the temporary folder, which nobody else can write to.

    Raises PermissionError where another user made it, or where it is a link or open to others.
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

"""One Spark at a time on a machine: a file lock for runs that bypass Dagster's run queue.

`max_concurrent_runs: 1` keeps the daemon's runs apart; `dagster asset materialize` in a shell does not ask the queue.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

REMIND_SECONDS = 60.0


class MachineLock:
    """Held while a local Spark lives. The operating system frees it when the process dies, even by SIGKILL.

    Parameters
    ----------
    holder
        What those who wait are told, such as `run 1234`.
    folder
        Where the lock file lies; by default the user's part of the machine's temporary folder.
    """

    def __init__(self, holder: str, folder: Path | None = None) -> None:
        folder = folder or Path(tempfile.gettempdir())
        path = folder / f"ecommerce_assets-{os.getuid()}.spark.lock"
        self._lock = FileLock(path)
        self._note = path.with_suffix(".json")
        self._holder = holder

    def acquire(self, say: Callable[[str], object], remind_seconds: float = REMIND_SECONDS) -> None:
        """Wait until no other run on this machine has a Spark; `say` is told for what, then once a minute."""
        started = time.monotonic()
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            while not self._lock.is_locked:
                waited = time.monotonic() - started
                say(f"Waiting for {self._current_holder()} to end: one Spark at a time ({waited:.0f} s so far).")
                try:
                    self._lock.acquire(timeout=remind_seconds, poll_interval=0.2)
                except Timeout:
                    continue
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._note.write_text(json.dumps({"holder": self._holder, "pid": os.getpid(), "since": since}))

    def release(self) -> None:
        """Let the next one in; does nothing where the lock is not held."""
        if self._lock.is_locked:
            self._note.unlink(missing_ok=True)
            self._lock.release()

    def _current_holder(self) -> str:
        try:
            note = json.loads(self._note.read_text())
            return f"{note['holder']} (process {note['pid']}, since {note['since']})"
        except (OSError, ValueError, KeyError):  # it is just starting or just ending
            return "another Spark on this machine"

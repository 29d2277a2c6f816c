"""Runs a command and measures seconds and the peak memory of all its processes. See `run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Finished:
    """The result of a command.

    Attributes
    ----------
    seconds
        Wall time from start to end of the process.
    peak_bytes
        Maximum memory of the process and its descendants, sampled twice a second; None without psutil.
    last_line
        Last line of its standard output.
    """

    seconds: float
    peak_bytes: int | None
    exit_code: int
    last_line: str

    def document(self) -> dict[str, Any] | None:
        """Returns the last line if it is a JSON object, else None."""
        try:
            document = json.loads(self.last_line)
        except ValueError:
            return None
        return document if isinstance(document, dict) else None


def run(
    command: Sequence[str] | str, log: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Runs a command (a string in a shell) to its end, with its output in `log`.out and `log`.err."""
    log.parent.mkdir(parents=True, exist_ok=True)
    out, err = log.with_name(f"{log.name}.out"), log.with_name(f"{log.name}.err")
    started = time.perf_counter()
    with out.open("wb") as to_out, err.open("wb") as to_err:
        # In a new session, so that an interrupt can also end its JVM and workers.
        process = subprocess.Popen(
            command,
            shell=isinstance(command, str),
            cwd=cwd,
            env=env,
            stdout=to_out,
            stderr=to_err,
            start_new_session=True,
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        try:
            exit_code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            seconds = time.perf_counter() - started
            sampler.end()
    return Finished(seconds, sampler.peak, exit_code, _last_line(out))


class _Sampler(threading.Thread):
    """Samples the memory of a process and its descendants.

    It sums the proportional set size, in which shared pages count once, or the resident set size if that is unknown.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak: int | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            import psutil
        except ImportError:
            return
        while not self._ended.is_set():
            try:
                root = psutil.Process(self.pid)
                total = sum(_memory(p, psutil.Error) for p in (root, *root.children(recursive=True)))
            except psutil.Error:
                total = 0
            self.peak = max(self.peak or 0, total)
            self._ended.wait(SAMPLE_SECONDS)

    def end(self) -> None:
        self._ended.set()
        self.join()


def _memory(process: Any, errors: type[Exception]) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    except errors:  # it has ended
        return 0


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1_000_000))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""

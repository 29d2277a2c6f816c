"""Counts the file-system calls of a process and kills it with SIGKILL just before or after the n-th."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

FSSPEC = ("ls", "find", "exists", "cat_file", "open", "makedirs", "pipe_file", "mv", "rm", "rm_file")
SYSTEM = ("open", "mkdir", "rename", "replace", "unlink", "rmdir")
"""Calls that fsspec, pathlib, shutil and filelock use; a recursive removal has many of them."""


class Killer:
    """Watches the calls of this process in a folder.

    Parameters
    ----------
    at
        Number of the fatal call, counted from 1 since `count` was last set to 0; 0: none.
    after
        Whether the process dies after the call instead of before.
    """

    def __init__(self, below: Path, at: int = 0, after: bool = False) -> None:
        self.count, self.at = 0, at
        self._below, self._after = str(below), after
        self._lock = threading.Lock()
        for name in FSSPEC:
            setattr(LocalFileSystem, name, self._watched(getattr(LocalFileSystem, name), 1))
        for name in SYSTEM:
            setattr(os, name, self._watched(getattr(os, name), 0))

    def _watched(self, call: Callable[..., Any], path_argument: int) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            path = args[path_argument] if len(args) > path_argument else kwargs.get("path", "")
            # A recursive removal uses paths relative to a folder's descriptor.
            if not (str(path).startswith(self._below) or kwargs.get("dir_fd") is not None):
                return call(*args, **kwargs)
            with self._lock:
                self.count += 1
                due = self.count == self.at
            if due and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if due:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return watched

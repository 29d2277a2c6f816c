"""Files and folders by URI, on any file system that fsspec knows. Spark and delta-rs get the same URIs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

HADOOP_TO_FSSPEC = {"s3a://": "s3://", "s3n://": "s3://", "wasbs://": "abfs://", "abfss://": "abfs://"}

OBJECT_STORES = {"s3", "gs", "gcs", "abfs", "az", "oss", "memory"}
"""Where a file is there only when it is whole, and a rename is a copy."""

_MODIFIED = ("mtime", "created", "LastModified", "last_modified", "updated")
"""What fsspec's file systems call the time of the last change."""


@dataclass(frozen=True)
class FileInfo:
    """One file below a folder: its path relative to that folder, its size, and when it was written where that is known
    (seconds since 1970)."""

    path: str
    bytes: int
    modified: float | None = field(default=None, compare=False)


class Folder:
    """A folder, existing or not. `uri` is what Spark is given; all else goes through fsspec."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.fs, self.path = fsspec.core.url_to_fs(_fsspec_uri(self.uri))

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.uri}/{name}")

    @property
    def is_local(self) -> bool:
        """On this machine's own disks, where locks and renames work."""
        return "file" in _protocols(self.fs)

    def exists(self) -> bool:
        """Whether it is there."""
        return bool(self.fs.exists(self.path))

    def folders(self) -> list[str]:
        """Names of the folders directly inside, sorted; none where this one does not exist."""
        if self.is_local:  # fsspec does not follow links
            with suppress(FileNotFoundError, NotADirectoryError):
                return sorted(entry.name for entry in os.scandir(self.path) if entry.is_dir())
        return sorted(_name(entry["name"]) for entry in self._entries() if entry["type"] == "directory")

    def file_names(self) -> list[str]:
        """Names of the files directly inside, sorted; none where this one does not exist."""
        return sorted(_name(entry["name"]) for entry in self._entries() if entry["type"] == "file")

    def _entries(self) -> list[dict[str, Any]]:
        try:
            return list(self.fs.ls(self.path, detail=True, refresh=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def data_files(self) -> list[FileInfo]:
        """All files below, sorted by path, without those whose name (or a folder's on the way) starts with `_` or `.`.

        Spark and Hive take such names for something other than data, and so do we.
        """
        return [file for file in self.all_files() if not is_hidden(file.path)]

    def all_files(self) -> list[FileInfo]:
        """All files below, hidden ones and those behind links included, sorted by path."""
        if self.is_local:
            return sorted(_local_files(self.path, self.path), key=lambda f: f.path)
        self.fs.invalidate_cache(self.path)
        entries = self.fs.find(self.path, detail=True)
        files = [
            FileInfo(name[len(self.path) :].lstrip("/"), int(info["size"]), _modified(info))
            for name, info in entries.items()
        ]
        return sorted(files, key=lambda f: f.path)

    def read_bytes(self, name: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""
        return bytes(self.fs.cat_file(f"{self.path}/{name}"))

    def open(self, name: str, mode: str = "rb") -> Any:
        """A file as a stream."""
        return self.fs.open(f"{self.path}/{name}", mode)

    def write_whole(self, name: str, content: bytes) -> None:
        """Write a small file that is there whole or not at all.

        Object stores show an object only when it is complete, so it is put in place directly; elsewhere (local disks,
        HDFS) a half-written file can be seen, so it is written beside and renamed, which there is atomic.
        """
        self._put_in_place(name, lambda path: self.fs.pipe_file(path, content))

    def put(self, local: Path, name: str | None = None) -> None:
        """Copy a file of this machine into the folder, where it is there whole or not at all."""
        self._put_in_place(name or local.name, lambda path: self.fs.put_file(str(local), path))

    def _put_in_place(self, name: str, write: Callable[[str], object]) -> None:
        target = f"{self.path}/{name}"
        self.fs.makedirs(self.path, exist_ok=True)
        if not OBJECT_STORES.isdisjoint(_protocols(self.fs)):
            write(target)
            return
        beside = f"{self.path}/.{name}.{uuid.uuid4().hex}"
        write(beside)
        self.fs.mv(beside, target)

    def remove_file(self, name: str) -> None:
        """Remove one file; nothing happens where it does not exist."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.path}/{name}")

    def move_to(self, target: Folder) -> None:
        """Move all files below into another folder of the same file system; nothing happens where there are none."""
        for file in self.all_files():
            path = f"{target.path}/{file.path}"
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.fs.mv(f"{self.path}/{file.path}", path)
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all below it; nothing happens where it does not exist, or vanishes meanwhile."""
        with suppress(FileNotFoundError):
            if self.exists():
                self.fs.rm(self.path, recursive=True)


def _local_files(folder: str, root: str, above: tuple[str, ...] = ()) -> Iterator[FileInfo]:
    here = os.path.realpath(folder)
    if here in above or os.path.realpath(root).startswith(f"{here}/"):  # a link to a folder on the way
        return
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            if entry.is_dir():
                yield from _local_files(entry.path, root, (*above, here))
            elif entry.is_symlink() and not os.path.exists(entry.path):
                yield FileInfo(os.path.relpath(entry.path, root), 0)  # who reads it says what is wrong
            else:
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    status = entry.stat()
                    yield FileInfo(os.path.relpath(entry.path, root), status.st_size, status.st_mtime)


def delta_uri(uri: str) -> str:
    """The URI of a table as delta-rs takes it, which knows s3, gs, abfs and hdfs under Hadoop's names too.

    Raises ValueError for a local path with a percent sign or a backslash, which delta-rs takes for something else.
    """
    if "%" in uri or "\\" in uri:
        raise ValueError(f"{uri} has a % or a \\ in its path, where Delta tables cannot be: choose another data dir.")
    return uri if "://" in uri else Folder(uri).path


def _fsspec_uri(uri: str) -> str:
    for hadoop, ours in HADOOP_TO_FSSPEC.items():
        if uri.startswith(hadoop):
            return ours + uri.removeprefix(hadoop)
    return uri


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def is_hidden(path: str) -> bool:
    """Whether a file is no data for Spark and Hive, by its own name or a folder's on the way."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _modified(info: Mapping[str, Any]) -> float | None:
    time = next((info[key] for key in _MODIFIED if info.get(key)), None)
    if time is None or isinstance(time, int | float):
        return time
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

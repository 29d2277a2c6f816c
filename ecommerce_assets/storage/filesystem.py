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
"""File systems whose files appear only when they are complete, and where a rename is a copy."""

_MODIFIED = ("mtime", "created", "LastModified", "last_modified", "updated")
"""Names of the time of the last change in fsspec's file systems."""


@dataclass(frozen=True)
class FileInfo:
    """A file: its path relative to a folder, its size, and the time of its last change in seconds since 1970."""

    path: str
    bytes: int
    modified: float | None = field(default=None, compare=False)


class Folder:
    """A folder, existing or not. Spark gets its `uri`; the methods use fsspec."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.fs, self.path = fsspec.core.url_to_fs(_fsspec_uri(self.uri))

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.uri}/{name}")

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk of this machine, where locks and renames work."""
        return "file" in _protocols(self.fs)

    def exists(self) -> bool:
        """Returns whether it exists."""
        return bool(self.fs.exists(self.path))

    def folders(self) -> list[str]:
        """Returns the names of its direct subfolders, sorted; empty if it does not exist."""
        if self.is_local:  # fsspec does not follow links
            with suppress(FileNotFoundError, NotADirectoryError):
                return sorted(entry.name for entry in os.scandir(self.path) if entry.is_dir())
        return sorted(_name(entry["name"]) for entry in self._entries() if entry["type"] == "directory")

    def file_names(self) -> list[str]:
        """Returns the names of the files directly in it, sorted; empty if it does not exist."""
        return sorted(_name(entry["name"]) for entry in self._entries() if entry["type"] == "file")

    def _entries(self) -> list[dict[str, Any]]:
        try:
            return list(self.fs.ls(self.path, detail=True, refresh=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def data_files(self) -> list[FileInfo]:
        """Returns all files below it, sorted by path, without hidden ones.

        Spark and Hive ignore names of files and folders that start with `_` or `.`.
        """
        return [file for file in self.all_files() if not is_hidden(file.path)]

    def all_files(self) -> list[FileInfo]:
        """Returns all files below it, sorted by path, including hidden ones and those behind links."""
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
        """Returns the content of a file. Raises FileNotFoundError."""
        return bytes(self.fs.cat_file(f"{self.path}/{name}"))

    def open(self, name: str, mode: str = "rb") -> Any:
        """Opens a file."""
        return self.fs.open(f"{self.path}/{name}", mode)

    def write_whole(self, name: str, content: bytes) -> None:
        """Writes a small file atomically.

        Object stores show an object only when it is complete. On other file systems (local disks, HDFS) it is written
        under a temporary name and renamed.
        """
        self._write_atomically(name, lambda path: self.fs.pipe_file(path, content))

    def put(self, local: Path, name: str | None = None) -> None:
        """Copies a file of this machine into the folder atomically."""
        self._write_atomically(name or local.name, lambda path: self.fs.put_file(str(local), path))

    def _write_atomically(self, name: str, write: Callable[[str], object]) -> None:
        target = f"{self.path}/{name}"
        self.fs.makedirs(self.path, exist_ok=True)
        if not OBJECT_STORES.isdisjoint(_protocols(self.fs)):
            write(target)
            return
        temporary = f"{self.path}/.{name}.{uuid.uuid4().hex}"
        write(temporary)
        self.fs.mv(temporary, target)

    def remove_file(self, name: str) -> None:
        """Removes a file if it exists."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.path}/{name}")

    def move_to(self, target: Folder) -> None:
        """Moves all files below it to another folder of the same file system, and removes this one."""
        for file in self.all_files():
            path = f"{target.path}/{file.path}"
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.fs.mv(f"{self.path}/{file.path}", path)
        self.remove()

    def remove(self) -> None:
        """Removes the folder with all its content, if it exists."""
        with suppress(FileNotFoundError):
            if self.exists():
                self.fs.rm(self.path, recursive=True)


def _local_files(folder: str, root: str, above: tuple[str, ...] = ()) -> Iterator[FileInfo]:
    target = os.path.realpath(folder)
    if target in above or os.path.realpath(root).startswith(f"{target}/"):  # a link to a parent folder
        return
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            if entry.is_dir():
                yield from _local_files(entry.path, root, (*above, target))
            elif entry.is_symlink() and not os.path.exists(entry.path):
                yield FileInfo(os.path.relpath(entry.path, root), 0)  # reading it fails with an error
            else:
                with suppress(FileNotFoundError):  # it was just removed
                    status = entry.stat()
                    yield FileInfo(os.path.relpath(entry.path, root), status.st_size, status.st_mtime)


def delta_uri(uri: str) -> str:
    """Returns the URI of a table for delta-rs, which also accepts Hadoop's names of s3, gs, abfs and hdfs.

    Raises ValueError for a path with a percent sign or a backslash, which delta-rs decodes.
    """
    if "%" in uri or "\\" in uri:
        raise ValueError(
            f"The path {uri} contains % or \\, which Delta tables do not support: choose another data dir."
        )
    return uri if "://" in uri else Folder(uri).path


def _fsspec_uri(uri: str) -> str:
    for hadoop, fsspec_scheme in HADOOP_TO_FSSPEC.items():
        if uri.startswith(hadoop):
            return fsspec_scheme + uri.removeprefix(hadoop)
    return uri


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def is_hidden(path: str) -> bool:
    """Returns whether Spark and Hive ignore a file, because of its name or the name of a folder in its path."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _modified(info: Mapping[str, Any]) -> float | None:
    time = next((info[key] for key in _MODIFIED if info.get(key)), None)
    if time is None or isinstance(time, int | float):
        return time
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

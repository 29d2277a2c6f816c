"""Timestamped exports (`cleaned_data_YYYYMMDD_HHMMSS.parquet`) as raw events: their union, split by day.

In place of daily folders, for the training in one go (../training.py).
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from glob import has_magic
from itertools import takewhile

from ecommerce_assets.events.parsing import IdType
from ecommerce_assets.events.raw import ParsedEvents, RawDataError, RawEvents, describe, fingerprint, parse_files
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.version import FileEntry, Input


@dataclass(frozen=True)
class ExportedEvents(RawEvents):
    """The events of some exports, by the day of their `event_time`.

    Attributes
    ----------
    rows_by_day
        Raw rows of each day. Those without a readable time, or with one after tomorrow, count for the first day, where
        cleaning rejects them.
    parsed_in
        The folder with the parsed events.
    """

    rows_by_day: dict[str, int] = field(default_factory=dict)
    parsed_in: str = ""

    def rows(self, day: str) -> int:
        """Raw rows of a day."""
        return self.rows_by_day.get(day, 0)

    def inputs(self) -> list[Input]:
        """All files, which may hold events of any day, as one input; with whole paths, because they may be anywhere."""
        files = tuple(FileEntry(path=f"{self.folder.uri}/{file.path}", bytes=file.bytes) for file in self.files)
        return [Input(asset="raw_events", partitions=self.days, files=files, fingerprint=fingerprint(self.files))]

    def parsed(self, folder: str, id_type: IdType) -> ParsedEvents:
        """The events, which were parsed when the exports were found."""
        return ParsedEvents(self, Folder(self.parsed_in), id_type)


def find_exports(path: str, parsed_in: str, id_type: IdType) -> ExportedEvents:
    """All events of the exports that the path stands for: a Parquet file, a folder of them, or a glob of either.

    Parameters
    ----------
    parsed_in
        Folder for the parsed events; what is in it is removed.

    Raises
    ------
    RawDataError
        There is no export, one cannot be read or lacks a required column, or no event has a readable time.
    """
    root, listed = _find(path)
    described = [describe(root, file, id_type) for file in listed]
    files = tuple(replace(file, is_parsed=False) for file in described if file is not None)
    if not files:
        raise RawDataError(f"There are no Parquet files at {path}.")
    unreadable, counted = parse_files(root, files, Folder(parsed_in), id_type, by_time=True)
    if unreadable:
        raise RawDataError(" ".join(unreadable.values()))
    by_day = Counter(counted)
    undated = by_day.pop(None, 0)
    if not by_day:
        raise RawDataError(f"{path} holds {undated:,} rows and none of them has a readable event_time.")
    days = sorted(day for day in by_day if day)
    rows = {day: by_day[day] for day in days}
    rows[days[0]] += undated
    return ExportedEvents(root, tuple(days), (), files, rows_by_day=rows, parsed_in=parsed_in)


def _find(path: str) -> tuple[Folder, list[FileInfo]]:
    """The deepest folder above all exports, and their files relative to it."""
    # Absolute, because Java's current folder is the one in which it was started.
    absolute = path if "://" in path else os.path.abspath(path)
    *above, name = absolute.rstrip("/").split("/")
    fixed = list(takewhile(lambda part: not has_magic(part), above))
    root = Folder("/".join(fixed) or "/")
    matches = sorted(root.fs.glob("/".join([root.path.rstrip("/"), *above[len(fixed) :], name])))
    found = [file for match in matches for file in _files_of(root, match[len(root.path.rstrip("/")) + 1 :])]
    return root, list(dict.fromkeys(found))  # `**` finds a folder and what is in it


def _files_of(root: Folder, export: str) -> list[FileInfo]:
    inside = (root / export).data_files()
    if any(file.path for file in inside):
        return [FileInfo(f"{export}/{file.path}", file.bytes, file.modified) for file in inside if file.path]
    info = root.fs.info(f"{root.path}/{export}")
    return [FileInfo(export, int(info["size"]))] if info["type"] == "file" else []

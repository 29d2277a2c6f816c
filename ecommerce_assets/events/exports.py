"""Reads timestamped exports (`cleaned_data_YYYYMMDD_HHMMSS.parquet`) as raw events. Entry point: `find_exports`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from glob import has_magic
from itertools import takewhile

from ecommerce_assets.events.parsing import IdType
from ecommerce_assets.events.raw import ParsedEvents, RawDataError, RawEvents, fingerprint, inspect_file, parse_files
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.version import FileEntry, Input


@dataclass(frozen=True)
class ExportedEvents(RawEvents):
    """The union of exports, split by the day of `event_time`.

    Attributes
    ----------
    rows_by_day
        Raw rows by day. Rows without a readable time, or with one after tomorrow, belong to the first day, where they
        are rejected.
    parsed_in
        Folder of the parsed events.
    """

    rows_by_day: dict[str, int] = field(default_factory=dict)
    parsed_in: str = ""

    def rows(self, day: str) -> int:
        """Returns the raw rows of a day."""
        return self.rows_by_day.get(day, 0)

    def inputs(self) -> list[Input]:
        """Returns one input with the absolute paths of all files, because each can have events of any day."""
        files = tuple(FileEntry(path=f"{self.folder.uri}/{file.path}", bytes=file.bytes) for file in self.files)
        return [Input(asset="raw_events", partitions=self.days, files=files, fingerprint=fingerprint(self.files))]

    def parsed(self, folder: str, id_type: IdType) -> ParsedEvents:
        """Returns the events, which `find_exports` has parsed."""
        return ParsedEvents(self, Folder(self.parsed_in), id_type)


def find_exports(path: str, parsed_in: str, id_type: IdType) -> ExportedEvents:
    """Parses exports and returns their events.

    Parameters
    ----------
    path
        Parquet file, folder of Parquet files, or glob of either.
    parsed_in
        Folder for the parsed events; it is emptied first.

    Raises
    ------
    RawDataError
        There is no export, one cannot be read or lacks a required column, or no event has a readable time.
    """
    root, listed = _list_files(path)
    inspected = [inspect_file(root, file, id_type) for file in listed]
    files = tuple(replace(file, is_parsed=False) for file in inspected if file is not None)
    if not files:
        raise RawDataError(f"There are no Parquet files at {path}: check the path.")
    unreadable, rows_by_day = parse_files(root, files, Folder(parsed_in), id_type, by_time=True)
    if unreadable:
        raise RawDataError(" ".join(unreadable.values()))
    by_day = Counter(rows_by_day)
    undated = by_day.pop(None, 0)
    if not by_day:
        raise RawDataError(f"None of the {undated:,} rows of {path} has a readable event_time: check the format.")
    days = sorted(day for day in by_day if day)
    rows = {day: by_day[day] for day in days}
    rows[days[0]] += undated
    return ExportedEvents(root, tuple(days), (), files, rows_by_day=rows, parsed_in=parsed_in)


def _list_files(path: str) -> tuple[Folder, list[FileInfo]]:
    """The deepest folder that contains all exports, and their files relative to it."""
    # Absolute, because the working directory of the JVM may be another one.
    absolute = path if "://" in path else os.path.abspath(path)
    *above, name = absolute.rstrip("/").split("/")
    fixed = list(takewhile(lambda part: not has_magic(part), above))
    root = Folder("/".join(fixed) or "/")
    matches = sorted(root.fs.glob("/".join([root.path.rstrip("/"), *above[len(fixed) :], name])))
    files = [file for match in matches for file in _files_of(root, match[len(root.path.rstrip("/")) + 1 :])]
    return root, list(dict.fromkeys(files))  # `**` matches a folder and the files in it


def _files_of(root: Folder, export: str) -> list[FileInfo]:
    inside = (root / export).data_files()
    if any(file.path for file in inside):
        return [FileInfo(f"{export}/{file.path}", file.bytes, file.modified) for file in inside if file.path]
    info = root.fs.info(f"{root.path}/{export}")
    return [FileInfo(export, int(info["size"]))] if info["type"] == "file" else []

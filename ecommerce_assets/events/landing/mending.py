"""Line by line through a CSV file that is not flawless: what is a row, what is a short row, what cannot be read.

DuckDB's reader stops at the first bad line, and where it is told to go on it can take hundreds of good lines with a
stray quote. Here one bad line costs one line. The rows go to a flawless copy that DuckDB reads; values stay as they
are. Days and Parquet do not belong here.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from ecommerce_assets.events.landing.sources import CsvSource
from ecommerce_assets.events.landing.summary import LineReport
from ecommerce_assets.events.landing.text import MAX_LINE_BYTES, OnRead, open_text

_MAX_LINES_PER_ROW = 100
_OPEN_QUOTE = "a quote that is not closed"


@dataclass(frozen=True)
class Mended:
    """The flawless copy and what it took to make it. `unreadable_file` lists the lines that are not in the copy."""

    path: Path
    rows: int
    short: LineReport
    unreadable: LineReport
    unreadable_file: Path


@dataclass
class _Lines:
    """Numbered lines with their line ends; lines can be handed back."""

    stream: BinaryIO
    _number: int = 0
    _returned: deque[tuple[int, bytes]] = field(default_factory=deque)

    def next(self) -> tuple[int, bytes] | None:
        """The next line with its number, bytes as they are; None at the end."""
        if self._returned:
            return self._returned.popleft()
        line = self.stream.readline(MAX_LINE_BYTES)
        if not line:
            return None
        self._number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            self._skip_to_line_end()
        return self._number, line

    def _skip_to_line_end(self) -> None:
        while (rest := self.stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass

    def hand_back(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Lines that `next` gives once more, in their order."""
        self._returned.extendleft(reversed(lines))


@dataclass(frozen=True)
class _Row:
    line: int
    text: bytes  # canonical CSV
    why_short: str = ""


@dataclass(frozen=True)
class _Unreadable:
    line: int
    text: bytes
    why: str


def mend(source: CsvSource, folder: Path, on_read: OnRead = lambda _: None) -> Mended:
    """Write the flawless copy and the list of unreadable lines into `folder`."""
    path, unreadable_file = folder / "mended.csv.zst", folder / "unreadable.csv"
    rows, short, unreadable = 0, _Report(), _Report()
    with (
        open_text(source.path, on_read) as stream,
        pa.OSFile(str(path), "wb") as packed,
        pa.CompressedOutputStream(packed, "zstd") as compressed,
        io.BufferedWriter(cast(io.RawIOBase, compressed), 1 << 20) as copy,
        unreadable_file.open("w", encoding="utf-8", newline="") as listing,
    ):
        writer = csv.writer(listing)
        writer.writerow(["line", "error", "text"])
        copy.write(_canonical([f"c{i}" for i in range(len(source.header))], source.delimiter))
        for item in _items(_Lines(stream), source):
            if isinstance(item, _Row):
                rows += 1
                copy.write(item.text)
                if item.why_short:
                    short.add(item.line, item.why_short)
            else:
                unreadable.add(item.line, item.why)
                text = item.text.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
                writer.writerow([item.line, item.why, text])
    return Mended(path, rows, short.report(), unreadable.report(), unreadable_file)


@dataclass
class _Report:
    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, why: str) -> None:
        """A line, and what is wrong with it."""
        self.count += 1
        if len(self.first) < LineReport.SHOWN:
            self.first.append((line, why))

    def report(self) -> LineReport:
        """How many there were, and the first of them."""
        return LineReport(self.count, tuple(self.first))


def _items(lines: _Lines, source: CsvSource) -> Iterator[_Row | _Unreadable]:
    lines.next()  # the header
    width, mark = len(source.header), source.delimiter.encode()
    while numbered := lines.next():
        number, raw = numbered
        line = _without_end(raw)
        if not line:
            continue  # an empty line is no row, for DuckDB neither
        if line.isascii() and b'"' not in line and b"\r" not in line and line.count(mark) + 1 == width:
            yield _Row(number, line + b"\n")  # nearly all lines; the rest of this function is too slow for them
            continue
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            yield _Unreadable(number, raw, f"longer than {MAX_LINE_BYTES:,} bytes; only its start is copied")
            continue
        fields = _parse(line, source)
        if fields == _OPEN_QUOTE:
            fields = _parse_with_following(raw, lines, source)
        yield _judge(number, raw, fields, source)


def _without_end(raw: bytes) -> bytes:
    return raw.removesuffix(b"\n").removesuffix(b"\r")


def _judge(number: int, raw: bytes, fields: list[str] | str, source: CsvSource) -> _Row | _Unreadable:
    width = len(source.header)
    if isinstance(fields, str):
        return _Unreadable(number, raw, fields)
    counted = f"{len(fields)} value{'s' if len(fields) != 1 else ''} where the header has {width}"
    if len(fields) > width:
        return _Unreadable(number, raw, counted)
    if len(fields) < width and not raw.endswith(b"\n"):
        # The last value may be cut off too: a user 5 that was 512 million would pass for a user of the shop.
        return _Unreadable(number, raw, f"{counted}; the file breaks off in this line")
    padded = fields + [""] * (width - len(fields))
    return _Row(number, _canonical(padded, source.delimiter), counted if len(fields) < width else "")


def _parse(line: bytes, source: CsvSource) -> list[str] | str:
    """The line's fields, or what is wrong with it."""
    try:
        return next(csv.reader([line.decode("utf-8")], delimiter=source.delimiter, strict=True))
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except csv.Error as error:
        return _OPEN_QUOTE if "unexpected end of data" in str(error) else f"not CSV: {error}"


def _parse_with_following(raw: bytes, lines: _Lines, source: CsvSource) -> list[str] | str:
    """A quote is open at the line's end: either the field goes on in the next lines, or the quote is a stray one.

    It is a stray one where a following line is a row by itself: that row must not vanish into a field.
    """
    taken: list[tuple[int, bytes]] = []
    text = raw
    while len(taken) < _MAX_LINES_PER_ROW and len(text) < MAX_LINE_BYTES and (following := lines.next()):
        taken.append(following)
        if _is_row(following[1], source):
            break
        text += following[1]
        fields = _parse(_without_end(text), source)
        if isinstance(fields, list):
            if len(fields) == len(source.header):
                return fields
            break
        if fields != _OPEN_QUOTE:
            break
    lines.hand_back(taken)
    return _OPEN_QUOTE


def _is_row(raw: bytes, source: CsvSource) -> bool:
    fields = _parse(_without_end(raw), source)
    if isinstance(fields, str) or len(fields) != len(source.header):
        return False
    return re.match(r"\s*(\d{4}-\d\d?-\d\d?|\d{9,19}\s*$)", fields[source.time_index]) is not None


def _canonical(fields: Sequence[str], delimiter: str) -> bytes:
    return (delimiter.join('"' + value.replace('"', '""') + '"' for value in fields) + "\n").encode()

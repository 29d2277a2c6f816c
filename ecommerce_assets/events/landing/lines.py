"""Reads CSV files by line: `scan` hashes and counts the lines, `read_one_by_one` reads files that DuckDB cannot."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from ecommerce_assets.events.landing.errors import LandingError

MAX_LINE_BYTES = 1_000_000
"""A longer line is unreadable; an event has about 150 bytes."""

csv.field_size_limit(MAX_LINE_BYTES)

MAX_LISTED = 10_000
"""Maximum number of characters of an unreadable line in the list of unreadable values."""

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class UnreadableLine:
    """A line that does not have the columns of the header; `number` counts from 1."""

    number: int
    reason: str
    text: str


def compression(path: Path) -> str:
    """Returns DuckDB's name of the compression that the file name stands for: gzip, zstd or none."""
    return {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower(), "none")


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading decompressed bytes.

    Raises
    ------
    LandingError
        Also while reading: the file is cut off or is not compressed as its name says.
    """
    kind = compression(path)
    try:
        with path.open("rb") as stored:
            if kind == "gzip":
                with gzip.open(stored) as packed, io.BufferedReader(cast(io.RawIOBase, packed), _BLOCK_BYTES) as stream:
                    yield stream
            elif kind == "zstd":
                with io.BufferedReader(pa.CompressedInputStream(stored, "zstd"), _BLOCK_BYTES) as stream:
                    yield stream
            else:
                yield stored
    except (gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
        if kind == "none" or getattr(error, "errno", None):
            raise
        raise LandingError(
            f"{path} cannot be decompressed: it is cut off or is not a {kind} file. Copy it again or fix its name."
        ) from error


def scan(path: Path) -> tuple[str, int]:
    """Returns the SHA-256 of the decompressed bytes (equal for x.csv and x.csv.gz) and the number of lines."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with open_text(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest(), lines + (last != b"\n")


def count_blank_lines(path: Path) -> int:
    """Returns the number of empty lines."""
    with open_text(path) as stream:
        return sum(1 for line in stream if not line.rstrip(b"\r\n"))


def read_one_by_one(
    path: Path, width: int, delimiter: str, encoding: str, has_header: bool, copy: Path
) -> Iterator[UnreadableLine]:
    """Copies each line with `width` values into the CSV file `copy` (UTF-8, no header) and yields the other lines.

    A quoted value cannot span lines here, so that an unclosed quote makes only its own line unreadable.
    """
    with open_text(path) as stream, copy.open("w", encoding="utf-8", newline="") as rows:
        writer = csv.writer(rows, quoting=csv.QUOTE_ALL, lineterminator="\n")
        if has_header:
            next(_numbered(stream))
        for number, line in _numbered(stream, 2 if has_header else 1):
            if not line.rstrip(b"\r\n"):
                continue
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            values = _values(line, width, delimiter, encoding)
            if isinstance(values, str):
                text = line[:MAX_LISTED].decode(encoding, errors="backslashreplace").rstrip("\r\n")
                yield UnreadableLine(number, values, text)
            else:
                writer.writerow(values)


def _numbered(stream: BinaryIO, first: int = 1) -> Iterator[tuple[int, bytes]]:
    number = first
    while line := stream.readline(MAX_LINE_BYTES):
        rest = line
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES)
        yield number, line
        number += 1


def _values(line: bytes, width: int, delimiter: str, encoding: str) -> Sequence[str] | str:
    """The values of a line, or the reason why it is unreadable."""
    if len(line) == MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES:,} bytes"
    try:
        text = line.decode(encoding).rstrip("\r\n")
        # As DuckDB does: ignores blanks before a quote, and an empty value after the last column.
        has_blanks = f'{delimiter} "' in text
        values = next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=has_blanks))
    except UnicodeDecodeError:
        return "not UTF-8"
    except csv.Error as error:
        reasons = {"unexpected end": "unclosed quote", "new-line": "carriage return inside the line"}
        return next((reason for text, reason in reasons.items() if text in str(error)), f"invalid CSV: {error}")
    if len(values) == width + 1 and not values[-1]:
        values.pop()
    if len(values) != width:
        return f"{len(values)} value{'s' if len(values) != 1 else ''} instead of {width}"
    return values

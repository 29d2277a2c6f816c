"""The bytes of a CSV file: opened (also where compressed), hashed, counted. What is in a line: see mending."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from ecommerce_assets.events.landing.errors import LandingError

MAX_LINE_BYTES = 1_000_000
"""Below the 2 MB at which DuckDB gives up; an event is some 150 bytes."""

_BLOCK_BYTES = 4 << 20

OnRead = Callable[[int], None]


@dataclass(frozen=True)
class TextScan:
    """One pass over a file's bytes, after decompression: so x.csv and x.csv.gz are the same content."""

    sha256: str
    lines: int
    regular: bool
    """Same line end throughout, and no quote where readers of CSV differ about what it means."""
    last_line: bytes
    """The last line where the file ends without a line end, as a cut-off file does; else nothing."""


def compression(path: Path) -> str:
    """The compression by the file's name, in DuckDB's words."""
    return {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower(), "none")


class _Watched(io.FileIO):
    """A file that tells how many bytes were read from it, before decompression: what a progress bar can know."""

    def __init__(self, path: Path, on_read: OnRead) -> None:
        super().__init__(path)
        self._on_read = on_read

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self._on_read(count)
        return count


@contextmanager
def open_text(path: Path, on_read: OnRead = lambda _: None) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed; a broken or cut-off archive is a LandingError, also while reading.

    `on_read` is told the bytes of the file itself as they are read.
    """
    kind = compression(path)
    try:
        with io.BufferedReader(_Watched(path, on_read), _BLOCK_BYTES) as stored:
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
        raise LandingError(f"{path} cannot be decompressed: it is cut off or no {kind} file.") from error


def scan(path: Path, on_read: OnRead = lambda _: None) -> TextScan:
    """Hash and count; plain byte counts only, which cost a second or two per gigabyte."""
    digest = hashlib.sha256()
    newlines = returns = pairs = 0
    odd_quotes = False
    tail = b""
    with open_text(path, on_read) as stream:
        while block := stream.read(_BLOCK_BYTES):
            if block.endswith(b"\r"):
                block += stream.read(1)  # else a line end that straddles two blocks would look like a lone return
            digest.update(block)
            newlines += block.count(b"\n")
            if b"\r" in block:
                returns += block.count(b"\r")
                pairs += block.count(b"\r\n")
            if (b'"' in block or tail.endswith(b'"')) and not odd_quotes:
                # DuckDB takes `a, "b"` for a quoted field, others for text that holds quotes.
                seam = tail[-1:] + block
                odd_quotes = any(odd in seam for odd in (b' "', b'" ', b'\t"', b'"\t'))
            tail = (tail + block)[-MAX_LINE_BYTES:]
    last_line = tail.rpartition(b"\n")[2]
    return TextScan(
        sha256=digest.hexdigest(),
        lines=newlines + bool(last_line),
        regular=returns == pairs and pairs in (0, newlines) and not odd_quotes,
        last_line=last_line,
    )

"""Finds the sources that the arguments of the command name. Entry point: `find_sources`.

A source is one CSV file, one Parquet file, or one folder of Parquet part files that a job wrote. Only names, headers
and footers are read, so that an invalid file is refused before anything is written.
"""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Columns, Layout
from ecommerce_assets.events.landing.lines import MAX_LINE_BYTES, compression, open_text
from ecommerce_assets.events.parquet import PARQUET_ENDINGS, is_parquet, read_parquet_sql
from ecommerce_assets.events.parsing import literal, split_header
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS

CSV_ENDINGS = (".csv", ".csv.gz", ".csv.zst")
MAX_REJECTS = 100_000
"""DuckDB keeps unreadable lines in memory; a file with more of them is read line by line."""
_PART_NAME = re.compile(r"(part|data)[-_.]?\d|\d{6}_\d", re.IGNORECASE)


@dataclass(frozen=True)
class CsvSource:
    """One CSV file with the columns `names`."""

    path: Path
    names: tuple[str, ...]
    has_header: bool
    delimiter: str
    encoding: str
    columns: Columns

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, as for a `ParquetSource`."""
        return (self.path,)

    def from_sql(self, copy: Path | None = None) -> str:
        """Returns the SQL of the FROM clause that reads the file with all columns as text.

        Every option is given, because DuckDB's sniffer would skip lines that look like a preamble.

        Parameters
        ----------
        copy
            Copy of the file without unreadable lines, to read instead; see `lines.read_one_by_one`.
        """
        path, is_copy = copy or self.path, copy is not None
        header = str(self.has_header and not is_copy).lower()
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in _distinct(self.names))
        rejects = "" if is_copy else f", store_rejects = true, rejects_limit = {MAX_REJECTS}"
        return (
            f"read_csv({literal(glob.escape(str(path)))}, auto_detect = false, header = {header}, "
            f"delim = {literal(self.delimiter)}, quote = '\"', escape = '\"', strict_mode = true, "
            f"compression = '{'none' if is_copy else compression(path)}', max_line_size = {MAX_LINE_BYTES}, "
            f"encoding = '{'utf-8' if is_copy else self.encoding}', columns = {{{columns}}}, "
            f"hive_partitioning = false{rejects})"
        )


@dataclass(frozen=True)
class ParquetSource:
    """One Parquet file, or all part files of one folder.

    Attributes
    ----------
    groups
        Files with the same column types, and their columns. Groups are read separately, because DuckDB would cast
        values to a common type, such as a 19-digit id to double.
    rows
        Rows of all files.
    hive
        Whether folder names such as `brand=x` are columns.
    """

    path: Path
    groups: tuple[tuple[tuple[Path, ...], Columns], ...]
    rows: int
    hive: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the source."""
        return tuple(file for files, _ in self.groups for file in files)

    def from_sql(self, files: Sequence[Path]) -> str:
        """Returns the SQL of the FROM clause that reads files of one group."""
        return read_parquet_sql(files, self.hive)


Source = CsvSource | ParquetSource


@dataclass(frozen=True)
class OtherFile:
    """A file in a folder that is neither CSV nor Parquet. It is reported, because it may be an archive of events."""

    path: Path


def find_sources(names: Sequence[str], layout: Layout) -> tuple[list[Source], list[Path]]:
    """Returns the sources that files, folders and globs name, each once, and other files in the folders.

    Raises
    ------
    LandingError
        A name matches nothing, or a file cannot be landed.
    """
    items = {item.path.resolve(): item for name in names for item in _expand(name, layout)}
    sources = [item for item in items.values() if not isinstance(item, OtherFile)]
    folders = [item for item in sources if isinstance(item, ParquetSource) and item.path.is_dir()]
    sources = [item for item in sources if not _is_part_of(item, folders)]
    return sources, [item.path for item in items.values() if isinstance(item, OtherFile)]


def _is_part_of(source: Source, folders: Sequence[ParquetSource]) -> bool:
    """Whether the files of a source are in another one too: `exports/**` names a folder and the files in it."""
    files = {file.resolve() for file in source.files}
    parents = [folder for folder in folders if folder.path.resolve() in source.path.resolve().parents]
    return any(files <= {file.resolve() for file in folder.files} for folder in parents)


def _expand(name: str, layout: Layout) -> Iterator[Source | OtherFile]:
    if "://" in name:
        raise LandingError(f"{name} is a URL, and only local files can be landed: download it first.")
    if not name:
        raise LandingError("A file name is empty: name the files, folders or globs to land.")
    path = Path(os.path.expanduser(name))
    if path.exists():
        yield from _at(path, layout)
        return
    if path.is_symlink():
        raise LandingError(f"{name} is a link to {path.readlink()}, which does not exist: correct or remove the link.")
    if not glob.has_magic(name):
        raise LandingError(f"There is no file or folder {name}: check the name.")
    matches = sorted(glob.glob(str(path), recursive=True))
    if not matches:
        raise LandingError(f"No file matches {name}: check the pattern.")
    for match in matches:
        yield from _at(Path(match), layout)


def _at(path: Path, layout: Layout) -> Iterator[Source | OtherFile]:
    _require_utf8(path)
    if not path.is_dir():
        yield _file(path, layout)
        return
    items = list(_in_folder(path, layout))
    if all(isinstance(item, OtherFile) for item in items):
        raise LandingError(f"The folder {path} has no CSV or Parquet files: check the path.")
    yield from items


def _file(path: Path, layout: Layout) -> Source:
    name = path.name.lower()
    if not path.is_file():
        raise LandingError(f"{path} is not a regular file: write its output to a file first.")
    if _is_parquet(path):
        return _parquet(path, [path], layout)
    if name.endswith(CSV_ENDINGS) or layout.header or name.endswith((".tsv", ".txt")):
        return _csv(path, layout)
    if name.endswith(".zip"):
        raise LandingError(f"{path} is a zip archive: unzip it and land the files in it.")
    raise LandingError(f"{path} is neither Parquet nor CSV: the name of a CSV file ends in {', '.join(CSV_ENDINGS)}.")


def _is_parquet(path: Path) -> bool:
    if not path.is_file():  # such as a pipe, on which reading would block
        return False
    return path.name.lower().endswith(PARQUET_ENDINGS) or is_parquet(path)


def _in_folder(
    folder: Path, layout: Layout, is_part: bool = False, above: tuple[Path, ...] = ()
) -> Iterator[Source | OtherFile]:
    """The sources in a folder and its subfolders: each file, or all Parquet files together if one job wrote them.

    `is_part`: the folder is in a partition folder such as `brand=x`, so that its Parquet files belong to a parent
    folder. `above`: the parent folders, to stop at a link to one of them.
    """
    if (here := folder.resolve()) in above:
        return
    parts = [] if is_part else _part_files(folder)
    if parts and _is_one_job(folder, parts):
        yield _parquet(folder, parts, layout)
    else:
        for file in [file for file in parts if _rows(file)] or parts:  # empty files are ignored unless all are empty
            yield _parquet(file, [file], layout)
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _in_folder(entry, layout, is_part or "=" in entry.name, (*above, here))
        elif _is_parquet(entry):
            continue  # already in `parts`
        elif entry.name.lower().endswith(CSV_ENDINGS) and entry.is_file():
            yield _csv(entry, layout)
        else:
            yield OtherFile(entry)


def _part_files(folder: Path, is_part: bool = False, above: tuple[Path, ...] = ()) -> list[Path]:
    if (here := folder.resolve()) in above:
        return []
    entries = _visible(folder)
    files = [entry for entry in entries if not entry.is_dir() and _is_parquet(entry)]
    deeper = [entry for entry in entries if entry.is_dir() and (is_part or "=" in entry.name)]
    return files + [part for entry in deeper for part in _part_files(entry, True, (*above, here))]


def _is_one_job(folder: Path, parts: Sequence[Path]) -> bool:
    """Whether one job wrote the files of the folder, judging by the names that Spark, Hive, Dask and DuckDB use."""
    return (
        folder.name.lower().endswith(PARQUET_ENDINGS)
        or (folder / "_SUCCESS").exists()
        or any(part.parent != folder for part in parts)
        or all(_PART_NAME.match(part.name) for part in parts)
    )


def _visible(folder: Path) -> list[Path]:
    # Jobs write _SUCCESS, _temporary and .part-0.crc beside their data.
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(("_", ".")))
    for entry in entries:
        _require_utf8(entry)
    return entries


def _require_utf8(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise LandingError(f"{path}: the file name is not valid UTF-8. Rename the file.") from None


def _csv(path: Path, layout: Layout) -> CsvSource:
    """A CSV file, from its first line."""
    with open_text(path) as stream:
        line, more = stream.readline(MAX_LINE_BYTES), stream.read(1)
    if not line.strip() and not more:
        raise LandingError(f"{path} is empty: leave it out.")
    delimiter, names = _header(path, line, layout.encoding)
    if layout.header:
        if len(names) != len(layout.header):
            raise LandingError(
                f"{path} has {len(names)} values in its first line, but --header names {len(layout.header)} columns: "
                "name all columns of the file."
            )
        return CsvSource(path, layout.header, False, delimiter, layout.encoding, layout.match(path, layout.header))
    if not {*EVENTS.names, *layout.columns} & set(names) and _looks_like_data(names):
        raise LandingError(
            f"{path} has no header: its first line is data. Name its {len(names)} columns with --header, such as "
            f"--header {','.join([*EVENTS.names, *map('column_{}'.format, range(len(names)))][: len(names)])}."
        )
    columns = layout.match(path, names)
    if not more:
        raise LandingError(f"{path} is empty except for its header: leave it out.")
    return CsvSource(path, names, True, delimiter, layout.encoding, columns)


def _header(path: Path, line: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    """The delimiter and the column names."""
    try:
        text = line.decode("utf-8-sig" if encoding == "utf-8" else encoding).rstrip("\r\n")
        delimiter, names = split_header(text)
    except UnicodeDecodeError:
        raise LandingError(
            f"{path} is not in UTF-8: add --encoding latin-1 if it comes from an older system, or save it as UTF-8."
        ) from None
    except csv.Error:
        raise LandingError(f"{path} is not a CSV file: its first line cannot be read. Save it as CSV.") from None
    if "\0" in text:
        raise LandingError(f"{path} is not a CSV file in UTF-8: its first line has zero bytes. Save it as UTF-8.")
    return delimiter, tuple(name.strip() for name in names)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names; one that DuckDB would confuse with an earlier one gets its number as a suffix."""
    seen: set[str] = set()
    distinct = []
    for number, name in enumerate(names):
        if not name or name.lower() in seen:
            name = f"{name}:{number}"
        seen.add(name.lower())
        distinct.append(name)
    return distinct


def _looks_like_data(values: Sequence[str]) -> bool:
    return any(value in EVENT_TYPES or re.match(r"\d+$|\d{4}[-/]\d\d?[-/]\d\d?([ T]|$)", value) for value in values)


def _parquet(path: Path, files: Sequence[Path], layout: Layout) -> ParquetSource:
    grouped: dict[str, list[tuple[Path, Columns]]] = {}
    rows = 0
    for file in files:
        schema, count = _footer(file)
        folders = file.relative_to(path).parts[:-1] if path.is_dir() else ()
        hive = dict.fromkeys(folder.partition("=")[0] for folder in folders if "=" in folder)
        names = (*schema.names, *(name for name in hive if name not in schema.names))
        grouped.setdefault(f"{schema.remove_metadata()} {hive}", []).append((file, layout.match(file, names)))
        rows += count
    if not rows:
        raise LandingError(f"{path} has no rows: leave it out.")
    groups = tuple(
        (
            tuple(file for file, _ in members),
            replace(members[0][1], ignored=tuple(dict.fromkeys(n for _, c in members for n in c.ignored))),
        )
        for members in grouped.values()
    )
    return ParquetSource(path, groups, rows, hive=any(file.parent != path for file in files) and path.is_dir())


def _rows(file: Path) -> int:
    return _footer(file)[1]


def _footer(file: Path) -> tuple[pa.Schema, int]:
    if not file.stat().st_size:
        raise LandingError(f"{file} is empty: leave it out.")
    try:
        footer = pq.read_metadata(file)
        return footer.schema.to_arrow_schema(), footer.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):
            raise  # such as a missing permission, which says nothing about the content
        raise LandingError(f"{file} is not a Parquet file or is cut off: copy it again.") from None

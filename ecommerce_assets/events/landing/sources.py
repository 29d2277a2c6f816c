"""What people name on the command line becomes a list of sources: one CSV file or one set of Parquet files each.

Only names, headers and footers are looked at here, so that a wrong file is refused before anything is written.
Reading rows does not belong here.
"""

import csv
import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Columns, Layout
from ecommerce_assets.events.landing.parquet_types import require_type
from ecommerce_assets.events.landing.text import MAX_LINE_BYTES, open_text
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS

CSV_ENDINGS = (".csv", ".csv.gz", ".csv.zst")
PARQUET_ENDINGS = (".parquet", ".parq")
DELIMITERS = ",;\t|"
_PART_NAME = re.compile(r"(part|data)[-_.]?\d", re.IGNORECASE)


@dataclass(frozen=True)
class CsvSource:
    """One CSV file; `header` are the names of its columns, in the file's order."""

    path: Path
    header: tuple[str, ...]
    columns: Columns
    delimiter: str = ","

    @property
    def time_index(self) -> int:
        """Where the time of the event stands in a line."""
        return self.header.index(self.columns.sources["event_time"])

    @property
    def parts(self) -> tuple[Columns, ...]:
        """The columns, one for each layout in it."""
        return (self.columns,)


@dataclass(frozen=True)
class ParquetGroup:
    """Files that agree in the types of the event columns. To read files of different types as one would cast values
    (a 19-digit id to double, where one part holds nulls), so that each group is landed into files of its own."""

    files: tuple[Path, ...]
    columns: Columns
    rows: int


@dataclass(frozen=True)
class ParquetSource:
    """One Parquet file, or all the part files of one folder; `hive`: folder names such as `brand=x` are columns."""

    path: Path
    groups: tuple[ParquetGroup, ...]
    hive: bool

    @property
    def parts(self) -> tuple[Columns, ...]:
        """The columns, one for each layout in it."""
        return tuple(group.columns for group in self.groups)

    @property
    def files(self) -> tuple[Path, ...]:
        """All its files."""
        return tuple(file for group in self.groups for file in group.files)


Source = CsvSource | ParquetSource


@dataclass(frozen=True)
class OtherFile:
    """A file in a named folder that is neither CSV nor Parquet by its name. It is not landed, but told: it may be
    events that someone forgot to unpack."""

    path: Path


def find_sources(names: Sequence[str], layout: Layout) -> tuple[list[Source], list[Path]]:
    """Every source that the names stand for, each once, in the order in which they were named; and the other files in
    the named folders."""
    found = {item.path.resolve(): item for name in names for item in _expand(name, layout)}
    sources = [item for item in found.values() if not isinstance(item, OtherFile)]
    wholes = [item for item in sources if isinstance(item, ParquetSource) and item.path.is_dir()]
    sources = [item for item in sources if not _lies_in(item, wholes)]
    return sources, [item.path for item in found.values() if isinstance(item, OtherFile)]


def _lies_in(source: Source, wholes: Sequence[ParquetSource]) -> bool:
    """`drops/**` names a folder and what is in it: rows of a part that lands with its whole would be there twice."""
    if not isinstance(source, ParquetSource):
        return False
    above = source.path.resolve().parents
    return any(whole.path.resolve() in above and _files(source) <= _files(whole) for whole in wholes)


def _files(source: ParquetSource) -> set[Path]:
    return {file.resolve() for file in source.files}


def dropped_columns(source: Source) -> tuple[str, ...]:
    """Columns of the source that are no event columns, each once."""
    return tuple(dict.fromkeys(name for part in source.parts for name in part.dropped))


def absent_columns(source: Source) -> tuple[str, ...]:
    """Optional columns that the source lacks, in a Parquet folder also those that only some of its files lack."""
    return tuple(dict.fromkeys(name for part in source.parts for name in part.absent))


def defaults_used(source: Source) -> dict[str, str]:
    """Columns that were filled, with what."""
    return {name: value for part in source.parts for name, value in part.defaults.items()}


def _expand(name: str, layout: Layout) -> Iterator[Source | OtherFile]:
    if "://" in name:
        raise LandingError(f"{name} is a URL; landing reads local files only.")
    path = Path(name).expanduser()
    if path.exists():
        yield from _at(path, layout)
        return
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(name) else []
    if not matches:
        raise LandingError(
            f"No file or folder is called {name}." if not glob.has_magic(name) else f"No file matches {name}."
        )
    for match in matches:
        yield from _at(Path(match), layout)


def _at(path: Path, layout: Layout) -> Iterator[Source | OtherFile]:
    if not path.is_dir():
        yield _file(path, layout)
        return
    found = list(_in_folder(path, layout))
    if all(isinstance(item, OtherFile) for item in found):
        raise LandingError(f"The folder {path} holds no CSV and no Parquet files.")
    yield from found


def _file(path: Path, layout: Layout) -> Source:
    name = path.name.lower()
    if name.endswith(CSV_ENDINGS):
        return _csv(path, layout)
    if name.endswith(PARQUET_ENDINGS):
        return _parquet(path, [path], layout)
    if name.endswith(".zip"):
        raise LandingError(f"{path} is a zip archive: unzip it and land what is in it.")
    raise LandingError(
        f"{path} is neither CSV ({', '.join(CSV_ENDINGS)}) nor Parquet ({', '.join(PARQUET_ENDINGS)}) by its name."
    )


def _in_folder(folder: Path, layout: Layout, is_part: bool = False) -> Iterator[Source | OtherFile]:
    """Each file of a folder is a source, so that a folder may grow; what one job wrote is one; deeper folders likewise.

    `is_part`: the folder is called such as `brand=x` or lies in one that is, so that its Parquet files are part files
    of a folder above. CSV files there are sources like any others, for which the folder's name is no column.
    """
    parts = [] if is_part else _part_files(folder)
    if parts and _is_one_job(folder, parts):
        yield _parquet(folder, parts, layout)
    else:
        # An empty file beside others is nothing to complain of.
        for file in [file for file in parts if _footer(file)[1]] or parts:
            yield _parquet(file, [file], layout)
    for entry in _visible(folder):
        name = entry.name.lower()
        if entry.is_dir():
            yield from _in_folder(entry, layout, is_part or "=" in name)
        elif name.endswith(CSV_ENDINGS):
            yield _file(entry, layout)
        elif not name.endswith(PARQUET_ENDINGS):
            yield OtherFile(entry)


def _part_files(folder: Path, is_part: bool = False) -> list[Path]:
    entries = _visible(folder)
    own = [entry for entry in entries if not entry.is_dir() and entry.name.lower().endswith(PARQUET_ENDINGS)]
    deeper = [entry for entry in entries if entry.is_dir() and (is_part or "=" in entry.name)]
    return own + [part for entry in deeper for part in _part_files(entry, is_part=True)]


def _is_one_job(folder: Path, parts: Sequence[Path]) -> bool:
    """Whether the files are parts of one whole, as Spark, Dask, DuckDB and others write it."""
    return (
        folder.name.lower().endswith(PARQUET_ENDINGS)
        or (folder / "_SUCCESS").exists()
        or any(part.parent != folder for part in parts)
        or all(_PART_NAME.match(part.name) for part in parts)
    )


def _visible(folder: Path) -> list[Path]:
    # _SUCCESS, _temporary, .part-0.crc: what jobs leave beside their data is not data.
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(("_", ".")))


def _csv(path: Path, layout: Layout) -> CsvSource:
    """A CSV file by its first line, checked.

    Raises LandingError where the file is empty, is no text, has no header or lacks a required column.
    """
    with open_text(path) as stream:
        line, more = stream.readline(MAX_LINE_BYTES), stream.read(1)
    if not line.strip() and not more:
        raise LandingError(f"{path} is empty.")
    delimiter, names = _header(path, line)
    if not {*EVENTS.names, *layout.columns} & set(names) and _looks_like_data(names):
        raise LandingError(
            f"{path} has no header: its first line is data; put a line with the column names before it, "
            f"such as {','.join(EVENTS.names)}."
        )
    columns = layout.match(path, names)
    if not more:
        raise LandingError(f"{path} is empty but for its header.")
    return CsvSource(path, names, columns, delimiter)


def _header(path: Path, line: bytes) -> tuple[str, tuple[str, ...]]:
    """The delimiter is the one that makes most of the header: names of columns hold none of them."""
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
        readings = {mark: next(csv.reader([text], delimiter=mark), []) for mark in DELIMITERS}
    except UnicodeDecodeError:
        raise LandingError(
            f"{path} is not a CSV file in UTF-8: its first line cannot be read; save it again as UTF-8."
        ) from None
    except csv.Error:
        raise LandingError(f"{path} is not a CSV file: its first line cannot be read.") from None
    delimiter = max(DELIMITERS, key=lambda mark: len(readings[mark]))
    return delimiter, tuple(name.strip() for name in readings[delimiter])


def _looks_like_data(fields: Sequence[str]) -> bool:
    return any(field in EVENT_TYPES or re.match(r"\d+$|\d{4}-\d\d?-\d\d?([ T]|$)", field) for field in fields)


def _parquet(path: Path, files: Sequence[Path], layout: Layout) -> ParquetSource:
    grouped: dict[tuple[tuple[str, str, str], ...], list[tuple[Path, Columns, int]]] = {}
    for file in files:
        schema, rows = _footer(file)
        folders = file.relative_to(path).parts[:-1] if path.is_dir() else ()
        hive = dict.fromkeys(folder.partition("=")[0] for folder in folders if "=" in folder)
        names = (*schema.names, *(name for name in hive if name not in schema.names))
        columns = layout.match(file, names)
        _require_distinct(file, names, columns)
        types = {name: schema.field(name).type for name in columns.sources.values() if name in schema.names}
        for name, source in columns.sources.items():
            if source in types:
                require_type(file, source, name, types[source])
        key = tuple((name, source, str(types.get(source, "path"))) for name, source in columns.sources.items())
        grouped.setdefault(key, []).append((file, columns, rows))
    groups = tuple(
        ParquetGroup(
            files=tuple(file for file, _, _ in members),
            columns=replace(
                members[0][1], dropped=tuple(dict.fromkeys(name for _, c, _ in members for name in c.dropped))
            ),
            rows=sum(rows for _, _, rows in members),
        )
        for members in grouped.values()
    )
    if not any(group.rows for group in groups):
        raise LandingError(f"{path} is empty: it has columns but no rows.")
    return ParquetSource(path, groups, hive=any(file.parent != path for file in files) and path.is_dir())


def _require_distinct(file: Path, names: Sequence[str], columns: Columns) -> None:
    # DuckDB does not tell `Price` from `price`, and gives one of them another name.
    for source in columns.sources.values():
        other = next((name for name in names if name != source and name.lower() == source.lower()), None)
        if other is not None:
            raise LandingError(
                f"{file} has the columns {other} and {source}, which differ only in capital letters: "
                "rename or remove one of them."
            )


def _footer(file: Path) -> tuple[pa.Schema, int]:
    if not file.stat().st_size:
        raise LandingError(f"{file} is empty.")
    try:
        footer = pq.read_metadata(file)
        return footer.schema.to_arrow_schema(), footer.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):
            raise  # such as no permission: not the content's fault
        raise LandingError(f"{file} is not a Parquet file, or it is cut off.") from None

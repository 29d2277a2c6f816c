"""One landing from end to end: find, check, stage, publish. How each step is done stands in the other modules.

All sources are staged before the first is published, so that an error means that nothing was landed.
"""

import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import duckdb

from ecommerce_assets.events.landing import splitting
from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.mending import Mended, mend
from ecommerce_assets.events.landing.sources import (
    CsvSource,
    ParquetSource,
    Source,
    absent_columns,
    dropped_columns,
    find_sources,
)
from ecommerce_assets.events.landing.splitting import Relation, Split
from ecommerce_assets.events.landing.summary import LandingSummary, LineReport, SourceSummary
from ecommerce_assets.events.landing.target import Target, publish_file
from ecommerce_assets.events.landing.text import TextScan, scan
from ecommerce_assets.events.schema import PARTITION_COLUMN

CONTENT_DIGITS = 16
"""Hexadecimal digits of a source's SHA-256 that name what was landed from it."""

log = logging.getLogger(__name__)

_Splits = list[tuple[Relation, Split]]
_Splitter = Callable[[Path, duckdb.DuckDBPyConnection], tuple[_Splits, Mended | None]]


@dataclass(frozen=True)
class _Staged:
    """A source that is ready to be published. `files`: one per day and group of types, with its rows. `first_name`
    names the listing of unreadable lines, also for a second file of the same content, which has no listing."""

    source: Source
    content: str
    first_name: str
    files: tuple[tuple[date, Path, int], ...]
    rows_without_time: int
    mended: Mended | None = None
    notes: tuple[str, ...] = ()


def land(sources: Sequence[str], data_dir: Path) -> LandingSummary:
    """Land files, folders and globs as daily partitions of `<data_dir>/raw/events`.

    Parameters
    ----------
    sources
        CSV (`.csv`, `.csv.gz`, `.csv.zst`) and Parquet files, folders of them, and globs.
    data_dir
        Where to land; must not be the shipped sample's.

    Raises
    ------
    LandingError
        With one sentence for people. Nothing was landed then, unless the disk failed during the last step, the moves;
        landing again makes that good.
    """
    target = Target(data_dir)
    target.refuse_sample()
    try:
        found = find_sources(sources)
        _refuse_own_data(found, target)
        with target.locked():
            staged = _stage_all(found, target)
            return LandingSummary(data_dir, tuple(_publish(item, target) for item in staged))
    except OSError as error:
        raise LandingError(f"{error.filename or data_dir}: {error.strerror or error}.") from error


def _refuse_own_data(sources: Sequence[Source], target: Target) -> None:
    for source in sources:
        if source.path.resolve().is_relative_to(target.raw.resolve()):
            raise LandingError(f"{source.path} is landed data of {target.data_dir} itself.")


def _stage_all(sources: Sequence[Source], target: Target) -> list[_Staged]:
    staged: dict[str, _Staged] = {}
    again: list[_Staged] = []
    with splitting.connect(target.staging("spill")) as connection:
        for source in sources:
            log.info("reading %s", source.path)
            splitter: _Splitter
            if isinstance(source, CsvSource):
                scanned = scan(source.path)
                sha256, splitter = scanned.sha256, partial(_split_csv, source, scanned)
            else:
                sha256, splitter = _sha256_of_parquet(source), partial(_split_parquet, source)
            content = sha256[:CONTENT_DIGITS]
            if content in staged:
                again.append(replace(staged[content], source=source))
                continue
            try:
                staged[content] = _stage(source, content, splitter, target.staging(content), connection)
            except RuntimeError as error:
                if "Query interrupted" in str(error):  # what DuckDB makes of Ctrl-C
                    raise KeyboardInterrupt from None
                raise
            except duckdb.Error as error:
                raise LandingError(f"{source.path} could not be read: {str(error).splitlines()[0]}") from error
    return [*staged.values(), *again]


def _stage(
    source: Source, content: str, splitter: _Splitter, folder: Path, connection: duckdb.DuckDBPyConnection
) -> _Staged:
    folder.mkdir()
    splits, mended = splitter(folder, connection)
    rows_without_time = sum(splitting.count_rows(split.undated) for _, split in splits)
    fallback = _fallback_days(source, splits, connection)
    files = [
        file
        for number, ((_, split), undated_day) in enumerate(zip(splits, fallback, strict=True))
        for file in _one_file_per_day(split, undated_day, folder, f"land-{content}-{number}.parquet", connection)
    ]
    for leftover in folder.glob("split*"):
        shutil.rmtree(leftover)  # many sources are staged before the first is published: free the disk early
    if mended:
        mended.path.unlink()
    notes = tuple(dict.fromkeys(note for relation, _ in splits for note in relation.notes))
    return _Staged(source, content, source.path.name, tuple(files), rows_without_time, mended, notes)


def _split_csv(
    source: CsvSource, scanned: TextScan, folder: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[_Splits, Mended | None]:
    """Nearly every file is flawless and DuckDB reads it at full speed, which is believed only where every line became
    a row: DuckDB loses lines of some files without a word. Any other file is mended first."""
    is_cut_off = bool(scanned.last_line) and scanned.last_line.count(b",") + 1 != len(source.header)
    if scanned.regular and not is_cut_off:
        relation = splitting.csv_relation(source, source.path)
        try:
            split = splitting.split(connection, relation, folder / "split-0")
            if split.rows == scanned.lines - 1:
                return [(relation, split)], None
        except duckdb.InvalidInputException as error:
            log.debug("DuckDB refused the file: %s", error)
        shutil.rmtree(folder / "split-0", ignore_errors=True)
    log.info("  not every line is flawless: going through it line by line")
    mended = mend(source, folder)
    if not mended.rows:
        line, why = mended.unreadable.first[0] if mended.unreadable.first else (2, "empty")
        raise LandingError(f"{source.path} has no line that can be read as an event; line {line}: {why}.")
    relation = splitting.csv_relation(source, mended.path)
    split = splitting.split(connection, relation, folder / "split-1")
    _require_all_rows(source.path, split.rows, mended.rows)
    return [(relation, split)], mended


def _split_parquet(source: ParquetSource, folder: Path, connection: duckdb.DuckDBPyConnection) -> tuple[_Splits, None]:
    splits: _Splits = []
    for number, group in enumerate(source.groups):
        relation = splitting.parquet_relation(group, source.hive, connection)
        split = splitting.split(connection, relation, folder / f"split-{number}")
        _require_all_rows(source.path, split.rows, group.rows)
        splits.append((relation, split))
    return splits, None


def _require_all_rows(path: Path, written: int, expected: int) -> None:
    if written != expected:
        raise LandingError(f"{path} has {expected:,} rows, of which DuckDB read {written:,}; nothing was landed.")


def _fallback_days(source: Source, splits: _Splits, connection: duckdb.DuckDBPyConnection) -> list[date | None]:
    """Per split, the day that rows without a readable time are put into: that of the first row with one."""
    if not any(split.undated for _, split in splits):
        return [None] * len(splits)
    first_days = [splitting.first_day(connection, relation) for relation, _ in splits]
    known = [day for day in first_days if day]
    if not known:
        text = splitting.first_time_text(connection, splits[0][0])
        raise LandingError(f"{source.path} has no row with a readable event_time; the first one is {text!r}.")
    return [day or known[0] for day in first_days]


def _one_file_per_day(
    split: Split, undated_day: date | None, folder: Path, name: str, connection: duckdb.DuckDBPyConnection
) -> Iterator[tuple[date, Path, int]]:
    days = dict(split.dated)
    if undated_day and split.undated:
        days[undated_day] = (*days.get(undated_day, ()), *split.undated)
    for day, parts in sorted(days.items()):
        # Counted before the parts are merged, so that a merge that lost a row would show.
        rows = splitting.count_rows(parts)
        file = folder / f"{PARTITION_COLUMN}={day}" / name
        splitting.merge(connection, parts, file)
        _require_all_rows(file, splitting.count_rows([file]), rows)
        yield day, file, rows


def _publish(staged: _Staged, target: Target) -> SourceSummary:
    mended, unreadable_file = staged.mended, None
    if mended and mended.unreadable.count:
        unreadable_file = target.unreadable(staged.first_name, staged.content)
        if mended.unreadable_file.exists():
            publish_file(mended.unreadable_file, unreadable_file)
    is_new = {file: target.publish_day(file, day) for day, file, _ in staged.files}
    landed = sum(rows for _, file, rows in staged.files if is_new[file])
    total = sum(rows for _, _, rows in staged.files)
    rows_by_day: Counter[date] = Counter()
    for day, _, rows in staged.files:
        rows_by_day[day] += rows
    return SourceSummary(
        source=staged.source.path,
        content=staged.content,
        rows_read=total + (mended.unreadable.count if mended else 0),
        rows_landed=landed,
        rows_already_landed=total - landed,
        rows_by_day=tuple(sorted(rows_by_day.items())),
        days_already_landed=tuple(sorted({day for day, file, _ in staged.files if not is_new[file]})),
        rows_without_time=staged.rows_without_time,
        short_lines=mended.short if mended else LineReport(),
        unreadable_lines=mended.unreadable if mended else LineReport(),
        unreadable_file=unreadable_file,
        dropped_columns=dropped_columns(staged.source),
        absent_columns=absent_columns(staged.source),
        notes=staged.notes,
    )


def _sha256_of_parquet(source: ParquetSource) -> str:
    """One file: its own hash. A folder: the hash of its files' sorted hashes, as part files get new names when copied;
    folder names such as `brand=x` count, because they are values."""
    lines = []
    for file in source.files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{digest} {file.parent.relative_to(source.path)}" if source.hive else digest)
    return (
        lines[0]
        if len(lines) == 1 and not source.hive
        else hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    )

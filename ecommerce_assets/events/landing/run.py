"""One landing from end to end: find, check, stage, publish. How each step is done stands in the other modules.

All sources are staged before the first is published, so that an error means that nothing was landed.
"""

import hashlib
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import duckdb

from ecommerce_assets.events.landing import splitting
from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Layout
from ecommerce_assets.events.landing.mending import Mended, mend
from ecommerce_assets.events.landing.progress import LandingProgress
from ecommerce_assets.events.landing.relations import Relation, csv_relation, parquet_relation
from ecommerce_assets.events.landing.sources import (
    CsvSource,
    ParquetSource,
    Source,
    absent_columns,
    defaults_used,
    dropped_columns,
    find_sources,
)
from ecommerce_assets.events.landing.splitting import Split
from ecommerce_assets.events.landing.summary import LandingSummary, LineReport, SourceSummary
from ecommerce_assets.events.landing.target import Target, landed_name, publish_file
from ecommerce_assets.events.landing.text import TextScan, scan
from ecommerce_assets.events.landing.window import Window
from ecommerce_assets.events.schema import PARTITION_COLUMN
from ecommerce_assets.settings import SettingsError, load_settings

_Splits = list[tuple[Relation, Split]]
_Splitter = Callable[["_Tools", Path], tuple[_Splits, Mended | None]]


@dataclass(frozen=True)
class _Tools:
    """What every step of one landing uses."""

    layout: Layout
    connection: duckdb.DuckDBPyConnection
    progress: LandingProgress


@dataclass(frozen=True)
class _Staged:
    """A source that is ready to be published. `files`: one per day and group of types, with its rows. `first_name`
    names the listing of unreadable lines, also for a second file of the same content, which has no listing."""

    source: Source
    content: str
    first_name: str
    files: tuple[tuple[date, Path, int], ...]
    rows_without_time: int
    event_names: tuple[tuple[str, int], ...]
    unknown_events: tuple[tuple[str, int], ...]
    mended: Mended | None = None
    notes: tuple[str, ...] = ()
    is_copy: bool = False


def land(
    sources: Sequence[str], data_dir: Path, layout: Layout | None = None, progress: LandingProgress | None = None
) -> LandingSummary:
    """Land files, folders and globs as daily partitions of `<data_dir>/raw/events`.

    Parameters
    ----------
    sources
        CSV (`.csv`, `.csv.gz`, `.csv.zst`) and Parquet files, folders of them, and globs.
    data_dir
        Where to land; must not be the shipped sample's.
    layout
        What the shop calls its columns and events; None: as the REES46 logs do.
    progress
        Where to show how far it is; None: in the log.

    Raises
    ------
    LandingError
        With one sentence for people. Nothing was landed then, unless the disk failed during the last step, the moves;
        landing again makes that good.
    """
    layout, progress = layout or Layout(), progress or LandingProgress()
    target = Target(data_dir)
    target.refuse_sample()
    try:
        settings = load_settings(data_dir=str(data_dir))
        window = Window(settings.first_day, settings.end_day, datetime.now(UTC).date())
        found, other_files = find_sources(sources, layout)
        _refuse_own_data(found, target)
        with target.locked():
            staged = _stage_all(found, target, layout, progress)
            new = _publish(staged, target, progress)
            summaries = tuple(_summarise(item, new, target, layout) for item in staged)
            return LandingSummary(data_dir, summaries, window, tuple(other_files))
    except SettingsError as error:
        raise LandingError(f"{error}.") from error
    except OSError as error:
        raise LandingError(f"{error.filename or data_dir}: {error.strerror or error}.") from error


def _refuse_own_data(sources: Sequence[Source], target: Target) -> None:
    for source in sources:
        if source.path.resolve().is_relative_to(target.raw.resolve()):
            raise LandingError(f"{source.path} is landed data of {target.data_dir} itself.")


def _stage_all(sources: Sequence[Source], target: Target, layout: Layout, progress: LandingProgress) -> list[_Staged]:
    staged: dict[str, _Staged] = {}
    again: list[_Staged] = []
    with splitting.connect(target.staging("spill")) as connection:
        tools = _Tools(layout, connection, progress)
        for source in sources:
            sha256, splitter = _read_through(source, progress)
            content = layout.content(sha256, defaults_used(source))
            target.refuse_other_layout(source.path, content)
            if content in staged:
                again.append(replace(staged[content], source=source, is_copy=True))
                continue
            try:
                staged[content] = _stage(source, content, splitter, target.staging(content), tools)
            except RuntimeError as error:
                if "Query interrupted" in str(error):  # what DuckDB makes of Ctrl-C
                    raise KeyboardInterrupt from None
                raise
            except duckdb.Error as error:
                raise LandingError(f"{source.path} could not be read: {str(error).splitlines()[0]}") from error
    return [*staged.values(), *again]


def _read_through(source: Source, progress: LandingProgress) -> tuple[str, _Splitter]:
    """The hash of a source, and how to split it."""
    if isinstance(source, ParquetSource):
        return _sha256_of_parquet(source, progress), partial(_split_parquet, source)
    with progress.step(f"reading {source.path.name}", source.path.stat().st_size) as step:
        scanned = scan(source.path, step.advance)
    return scanned.sha256, partial(_split_csv, source, scanned)


def _stage(source: Source, content: str, splitter: _Splitter, folder: Path, tools: _Tools) -> _Staged:
    folder.mkdir()
    splits, mended = splitter(tools, folder)
    rows_without_time = sum(splitting.count_rows(split.undated) for _, split in splits)
    fallback = _fallback_days(source, splits, tools.connection)
    files: list[tuple[date, Path, int]] = []
    unknown: Counter[str] = Counter()
    notes = [note for relation, _ in splits for note in relation.notes]
    for number, ((_, split), undated_day) in enumerate(zip(splits, fallback, strict=True)):
        own = list(_one_file_per_day(split, undated_day, folder, content, number, tools))
        files += own
        if not own:
            continue  # part files without rows
        unknown.update(splitting.unknown_events(tools.connection, [file for _, file, _ in own]))
        commas, example = splitting.decimal_commas(tools.connection, [file for _, file, _ in own])
        if commas:
            notes.append(f"price: {commas:,} with a comma, such as {example}, which cleaning rejects; write a point")
    for leftover in folder.glob("split*"):
        shutil.rmtree(leftover)  # many sources are staged before the first is published: free the disk early
    if mended:
        mended.path.unlink()
    names: Counter[str] = Counter()
    for relation, _ in splits:
        names.update(dict(relation.event_names))
    return _Staged(
        source=source,
        content=content,
        first_name=source.path.name,
        files=tuple(files),
        rows_without_time=rows_without_time,
        event_names=tuple(names.items()),
        unknown_events=tuple(sorted(unknown.items(), key=lambda item: (-item[1], item[0]))),
        mended=mended,
        notes=tuple(dict.fromkeys(notes)),
    )


def _split_csv(source: CsvSource, scanned: TextScan, tools: _Tools, folder: Path) -> tuple[_Splits, Mended | None]:
    """Nearly every file is flawless and DuckDB reads it at full speed, which is believed only where every line became
    a row: DuckDB loses lines of some files without a word. Any other file is mended first."""
    is_cut_off = bool(scanned.last_line) and scanned.last_line.count(source.delimiter.encode()) + 1 != len(
        source.header
    )
    if scanned.regular and not is_cut_off:
        try:
            relation, split = _split_one(source, tools, folder / "split-0")
            if split.rows == scanned.lines - 1:
                return [(relation, split)], None
        except duckdb.InvalidInputException:
            pass  # DuckDB refused a line: which one, and why, is found out below
        shutil.rmtree(folder / "split-0", ignore_errors=True)
    text = f"not every line is flawless, going through {source.path.name} line by line"
    with tools.progress.step(text, source.path.stat().st_size) as step:
        mended = mend(source, folder, step.advance)
    if not mended.rows:
        line, why = mended.unreadable.first[0] if mended.unreadable.first else (2, "empty")
        raise LandingError(f"{source.path} has no line that can be read as an event; line {line}: {why}.")
    relation, split = _split_one(source, tools, folder / "split-1", mended.path)
    _require_all_rows(source.path, split.rows, mended.rows)
    return [(relation, split)], mended


def _split_one(source: CsvSource, tools: _Tools, folder: Path, mended: Path | None = None) -> tuple[Relation, Split]:
    with tools.progress.duckdb_step(f"splitting {source.path.name} by day", tools.connection):
        relation = csv_relation(source, tools.layout, tools.connection, mended)
        return relation, splitting.split(tools.connection, relation, folder)


def _split_parquet(source: ParquetSource, tools: _Tools, folder: Path) -> tuple[_Splits, None]:
    splits: _Splits = []
    with tools.progress.duckdb_step(f"splitting {source.path.name} by day", tools.connection):
        for number, group in enumerate(source.groups):
            relation = parquet_relation(group, source.hive, tools.layout, tools.connection)
            split = splitting.split(tools.connection, relation, folder / f"split-{number}")
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
        raise LandingError(
            f"{source.path} has no row with a readable event_time; the first one is {text!r}, and times are dates from "
            f"1990 on, such as 2019-10-01 00:00:00 UTC, or numbers since 1970."
        )
    return [day or known[0] for day in first_days]


def _one_file_per_day(
    split: Split, undated_day: date | None, folder: Path, content: str, number: int, tools: _Tools
) -> Iterator[tuple[date, Path, int]]:
    days = dict(split.dated)
    if undated_day and split.undated:
        days[undated_day] = (*days.get(undated_day, ()), *split.undated)
    with tools.progress.step("making one file of each day", len(days)) as step:
        for day, parts in sorted(days.items()):
            # Counted before the parts are merged, so that a merge that lost a row would show.
            rows = splitting.count_rows(parts)
            file = folder / f"{PARTITION_COLUMN}={day}" / landed_name(content, number, rows)
            splitting.merge(tools.connection, parts, file)
            _require_all_rows(file, splitting.count_rows([file]), rows)
            yield day, file, rows
            step.advance()


def _publish(staged: Sequence[_Staged], target: Target, progress: LandingProgress) -> frozenset[Path]:
    """Every staged file to its place, day by day; gives those that are new there."""
    for item in staged:
        if item.mended and item.mended.unreadable.count and not item.is_copy:
            publish_file(item.mended.unreadable_file, target.unreadable(item.first_name, item.content))
    by_day: defaultdict[date, list[Path]] = defaultdict(list)
    for item in staged:
        for day, file, _ in item.files if not item.is_copy else ():
            by_day[day].append(file)
    new: set[Path] = set()
    with progress.step("moving files to their days", len(by_day)) as step:
        for day, files in sorted(by_day.items()):
            new |= target.publish_day(files, day)
            step.advance()
    return frozenset(new)


def _summarise(staged: _Staged, new: frozenset[Path], target: Target, layout: Layout) -> SourceSummary:
    mended, unreadable_file = staged.mended, None
    if mended and mended.unreadable.count:
        unreadable_file = target.unreadable(staged.first_name, staged.content)
    new = frozenset() if staged.is_copy else new
    landed = sum(rows for _, file, rows in staged.files if file in new)
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
        days_already_landed=tuple(sorted({day for day, file, _ in staged.files if file not in new})),
        rows_without_time=staged.rows_without_time,
        short_lines=mended.short if mended else LineReport(),
        unreadable_lines=mended.unreadable if mended else LineReport(),
        unreadable_file=unreadable_file,
        columns=tuple(layout.columns.items()),
        events=tuple((name, layout.events[name], rows) for name, rows in staged.event_names),
        defaults=tuple(defaults_used(staged.source).items()),
        unknown_events=staged.unknown_events,
        dropped_columns=dropped_columns(staged.source),
        absent_columns=absent_columns(staged.source),
        notes=staged.notes,
    )


def _sha256_of_parquet(source: ParquetSource, progress: LandingProgress) -> str:
    """One file: its own hash. A folder: the hash of its files' sorted hashes, as part files get new names when copied;
    folder names such as `brand=x` count, because they are values."""
    lines = []
    with progress.step(f"reading {source.path.name}", len(source.files)) as step:
        for file in source.files:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            step.advance()
            lines.append(f"{digest} {file.parent.relative_to(source.path)}" if source.hive else digest)
    return (
        lines[0]
        if len(lines) == 1 and not source.hive
        else hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    )

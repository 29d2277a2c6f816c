"""What a landing did, as data and as the text that people read. Nothing is computed from files here."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar

from ecommerce_assets.events.landing.window import Window
from ecommerce_assets.settings import DATA_DIR

_UNKNOWN_EVENTS_SHOWN = 5
_MAX_DAYS_SHOWN = 40
_DAYS_AT_EACH_END = 5
_OTHER_FILES_SHOWN = 20


@dataclass(frozen=True)
class LineReport:
    """How many lines, and the first of them: line number in the file (the header is line 1) and what is wrong."""

    SHOWN: ClassVar[int] = 5

    count: int = 0
    first: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class SourceSummary:
    """One source. `rows_read` = `rows_landed` + `rows_already_landed` + unreadable lines."""

    source: Path
    content: str
    rows_read: int
    rows_landed: int
    rows_already_landed: int = 0
    rows_by_day: tuple[tuple[date, int], ...] = ()
    days_already_landed: tuple[date, ...] = ()
    rows_without_time: int = 0
    short_lines: LineReport = LineReport()
    unreadable_lines: LineReport = LineReport()
    unreadable_file: Path | None = None
    columns: tuple[tuple[str, str], ...] = ()
    """The shop's name and ours."""
    events: tuple[tuple[str, str, int], ...] = ()
    """The shop's name, ours, and its rows."""
    defaults: tuple[tuple[str, str], ...] = ()
    unknown_events: tuple[tuple[str, int], ...] = ()
    dropped_columns: tuple[str, ...] = ()
    absent_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([str(self.source), *(f"  {line}" for line in self._lines())])

    def _lines(self) -> Iterator[str]:
        yield _count("rows read", self.rows_read)
        yield _count("rows landed", self.rows_landed)
        if self.rows_already_landed:
            days = _days(len(self.days_already_landed))
            yield _count("landed before", self.rows_already_landed, f"same content, {days}: left as it is")
        if self.rows_by_day:
            yield _count("days", len(self.rows_by_day), f"{self.rows_by_day[0][0]} to {self.rows_by_day[-1][0]}")
        yield _count(
            "no event_time",
            self.rows_without_time,
            "missing, unreadable or before 1990; put into the day of the first readable row, where cleaning rejects "
            "and counts them",
        )
        yield from _line_report("short lines", self.short_lines, "landed; the missing values are null")
        yield from _line_report("unreadable", self.unreadable_lines, f"not landed; copied to {self.unreadable_file}")
        yield from self._layout_lines()
        yield from self._unknown_event_lines()

    def _layout_lines(self) -> Iterator[str]:
        if self.columns:
            yield "columns mapped: " + ", ".join(f"{name} → {ours}" for name, ours in self.columns)
        if self.events:
            counted = (f"{name} → {ours} ({_rows(rows)})" for name, ours, rows in self.events)
            yield "events mapped: " + ", ".join(counted)
        if self.defaults:
            yield "defaults: " + ", ".join(f"{name} = {value} in every row" for name, value in self.defaults)
        if self.dropped_columns:
            yield f"left out, being no event columns: {', '.join(self.dropped_columns)}"
        if self.absent_columns:
            yield f"absent, will be null: {', '.join(self.absent_columns)}"
        yield from self.notes

    def _unknown_event_lines(self) -> Iterator[str]:
        if not self.unknown_events:
            return
        rows = sum(rows for _, rows in self.unknown_events)
        yield _count("unknown events", rows, "cleaning will reject them; name them with --map-event NAME=TYPE:")
        yield from (f"    {name}: {_rows(rows)}" for name, rows in self.unknown_events[:_UNKNOWN_EVENTS_SHOWN])
        if len(self.unknown_events) > _UNKNOWN_EVENTS_SHOWN:
            yield f"    and {len(self.unknown_events) - _UNKNOWN_EVENTS_SHOWN:,} more names"


@dataclass(frozen=True)
class LandingSummary:
    """All sources of one landing; `str()` gives the text for people, with the command to run next."""

    data_dir: Path
    sources: tuple[SourceSummary, ...]
    window: Window
    other_files: tuple[Path, ...] = ()
    """Files in the named folders that are neither CSV nor Parquet by their names; not landed."""

    @property
    def rows_by_day(self) -> tuple[tuple[date, int], ...]:
        """Rows of each day over all sources, by day."""
        days: Counter[date] = Counter()
        for source in {source.content: source for source in self.sources}.values():  # the same content counts once
            days.update(dict(source.rows_by_day))
        return tuple(sorted(days.items()))

    @property
    def next_command(self) -> str | None:
        """The run over the landed days; None where none of them is over yet."""
        days = [day for day, _ in self.rows_by_day if day < self.window.today]
        if not days:
            return None
        changes = {name: str(day) for name, day in self.window.settings_for(days).items()}
        variables = {**changes, DATA_DIR: shlex.quote(str(self.data_dir))}
        return (
            f'DAGSTER_HOME="$PWD/.dagster" {" ".join(f"{name}={value}" for name, value in variables.items())} '
            f"uv run dagster asset materialize -m ecommerce_assets.definitions "
            f"--select '*' --partition-range {days[0]}...{days[-1]}"
        )

    def __str__(self) -> str:
        blocks = [*map(str, self.sources), *_other_files(self.other_files), _day_table(self.rows_by_day), self._next()]
        if not any(source.rows_landed for source in self.sources):
            blocks.insert(-1, "Nothing new: all of this was landed before, and nothing was changed.")
        return "\n\n".join(blocks)

    def _next(self) -> str:
        command = self.next_command
        lines = ["Next:", f"  {command}"] if command else []
        return "\n".join([*lines, *self.window.remarks(self.rows_by_day)])


def _count(label: str, count: int, remark: str = "") -> str:
    return f"{label:<14}{count:>13,}" + (f"   {remark}" if remark and count else "")


def _line_report(label: str, report: LineReport, fate: str) -> Iterator[str]:
    yield _count(label, report.count, fate)
    yield from (f"    line {line:,}: {why}" for line, why in report.first)
    if report.count > len(report.first):
        yield f"    and {report.count - len(report.first):,} more"


def _other_files(files: Sequence[Path]) -> Iterator[str]:
    if not files:
        return
    lines = [f"  {file}" for file in files[:_OTHER_FILES_SHOWN]]
    if len(files) > _OTHER_FILES_SHOWN:
        lines.append(f"  and {len(files) - _OTHER_FILES_SHOWN:,} more")
    yield "\n".join(["Not landed, being neither CSV nor Parquet by name", *lines])


def _day_table(rows_by_day: Sequence[tuple[date, int]]) -> str:
    lines = [f"  {day}  {rows:>13,}" for day, rows in rows_by_day]
    if len(lines) > _MAX_DAYS_SHOWN:
        hidden = len(lines) - 2 * _DAYS_AT_EACH_END
        lines = [*lines[:_DAYS_AT_EACH_END], f"  … {_days(hidden)} more", *lines[-_DAYS_AT_EACH_END:]]
    total = sum(rows for _, rows in rows_by_day)
    return "\n".join(["Rows per day", *lines, f"  {'total':<10}  {total:>13,}"])


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"


def _days(count: int) -> str:
    return f"{count:,} day{'s' if count != 1 else ''}"

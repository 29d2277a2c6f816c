"""The summary of a landing: counts by source and day, problems, and the command to run next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from ecommerce_assets.env_file import RUN
from ecommerce_assets.events.landing.layout import shown
from ecommerce_assets.events.parsing import UNREADABLE_LINE, IdType
from ecommerce_assets.settings import DATA_DIR, PREFIX

_MAX_DAYS_SHOWN = 40
_DAYS_AT_EACH_END = 5
_OTHER_FILES_SHOWN = 20


@dataclass(frozen=True)
class Unreadable:
    """Values or lines that cannot be read for one reason.

    Attributes
    ----------
    count
        Number of values or lines.
    examples
        The most frequent values and how often each occurs; of lines the first ones.
    """

    reason: str
    count: int
    examples: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        shown = ", ".join(
            text if text.startswith("line ") else f"{_short(text)!r}" + (f" ({n:,})" if n > 1 else "")
            for text, n in self.examples
        )
        return f"{self.reason}: {self.count:,}, such as {shown}"


@dataclass(frozen=True)
class SourceSummary:
    """Summary of one source: `rows_read` = `rows_left_out` + `rows_landed` + `rows_already_landed`.

    Attributes
    ----------
    content
        Hash of source and options, see `Layout.content`.
    rows_left_out
        Rows that `--where` excludes.
    rows_by_day
        Events of each day, including those landed before.
    rows_without_day
        Events without a readable time, and unreadable lines; they are distributed over the days.
    null_markers
        Column, null marker and number of values that became null.
    sql
        SQL expressions of `event_time` and `price`, for hints.
    unreadable_file
        Path or URI of the list of all unreadable values and lines; empty if there are none.
    """

    source: Path
    content: str
    rows_read: int
    rows_left_out: int = 0
    rows_by_day: tuple[tuple[date, int], ...] = ()
    rows_without_day: int = 0
    unreadable: tuple[Unreadable, ...] = ()
    null_markers: tuple[tuple[str, str, int], ...] = ()
    ignored_columns: tuple[str, ...] = ()
    absent_columns: tuple[str, ...] = ()
    delimiter: str = ","
    sql: Mapping[str, str] = field(default_factory=dict)
    days_already_landed: frozenset[date] = frozenset()
    unreadable_file: str = ""

    def published(self, already_landed: set[date], unreadable_file: str) -> SourceSummary:
        """Returns the summary after publishing, with the days that had been landed before."""
        days = self.days_already_landed | already_landed
        return replace(self, days_already_landed=days, unreadable_file=unreadable_file)

    def as_copy(self, source: Path) -> SourceSummary:
        """Returns the summary of another file with the same content, which lands nothing."""
        days = frozenset(day for day, _ in self.rows_by_day)
        return replace(self, source=source, days_already_landed=days)

    @property
    def rows_already_landed(self) -> int:
        """Events that had been landed before from the same content."""
        return sum(rows for day, rows in self.rows_by_day if day in self.days_already_landed)

    @property
    def rows_landed(self) -> int:
        """Events that this landing added."""
        return sum(rows for _, rows in self.rows_by_day) - self.rows_already_landed

    def __str__(self) -> str:
        return "\n".join([str(self.source), *(f"  {line}" for line in self._lines())])

    def _lines(self) -> Iterator[str]:
        yield _count("rows read", self.rows_read)
        if self.rows_left_out:
            yield _count("left out", self.rows_left_out, "excluded by --where")
        yield _count("rows landed", self.rows_landed)
        if self.rows_already_landed:
            days = _days(len(self.days_already_landed))
            yield _count("landed before", self.rows_already_landed, f"same content, {days}, not changed")
        if self.rows_by_day:
            yield _count("days", len(self.rows_by_day), f"{self.rows_by_day[0][0]} to {self.rows_by_day[-1][0]}")
        if self.rows_without_day:
            yield _count("without a day", self.rows_without_day, "distributed over the days, where they are rejected")
        if self.unreadable:
            full_list = f"; full list: {self.unreadable_file}" if self.unreadable_file else ""
            yield f"Unreadable values (null; the event is rejected if the value is required){full_list}"
            yield from (f"  {unreadable}" for unreadable in self.unreadable)
            yield from (f"  Hint: {hint}" for hint in self._hints())
        if self.null_markers:
            markers = (f"{marker} in {column} ({rows:,})" for column, marker, rows in self.null_markers)
            yield "Null markers: " + ", ".join(markers)
        if self.ignored_columns:
            yield f"Ignored columns: {shown(self.ignored_columns)}"
        if self.absent_columns:
            yield f"Missing columns, null in every event: {', '.join(self.absent_columns)}"
        if self.delimiter != ",":
            yield f"Delimiter: {'tab' if self.delimiter == chr(9) else self.delimiter}"

    def _hints(self) -> Iterator[str]:
        by_reason = {unreadable.reason: unreadable for unreadable in self.unreadable}
        if "unknown event_type" in by_reason:
            yield "map event types with --map-event NAME=TYPE, or exclude them with --where"
        price = by_reason.get("unreadable price")
        if price and any("," in text for text, _ in price.examples):
            sql = self.sql.get("price", "price")
            option = shlex.quote(f"price=replace({sql}, ',', '.')")
            yield f"convert prices with a comma with a --compute in place of a --map, such as --compute {option}"
        if "unreadable event_time" in by_reason:
            hint = time_hint(self.sql.get("event_time", "event_time"))
            yield f"time zones are UTC, GMT, Z and offsets such as +03:00; {hint}"
        lines = by_reason.get(UNREADABLE_LINE)
        if lines and any("UTF-8" in text for text, _ in lines.examples):
            yield "if the file comes from an older system, land it with --encoding latin-1"


@dataclass(frozen=True)
class Window:
    """The days that are partitions: from `first` to `last`, or to yesterday if `last` is None.

    `today` is the day in UTC, which becomes a partition when it is over.
    """

    first: date
    last: date | None
    today: date

    def settings_for(self, days: Sequence[date]) -> dict[str, date]:
        """Returns the environment variables to set so that all past days are partitions."""
        past = [day for day in days if day < self.today]
        changes = {}
        if past and min(past) < self.first:
            changes[f"{PREFIX}FIRST_DAY"] = min(past)
        if past and self.last and max(past) > self.last:
            changes[f"{PREFIX}LAST_DAY"] = max(past)
        return changes

    def remarks(self, rows_by_day: Sequence[tuple[date, int]]) -> Iterator[str]:
        """Yields one sentence for each kind of day that is not a partition."""
        changes = self.settings_for([day for day, _ in rows_by_day])
        early = [(day, rows) for day, rows in rows_by_day if day < self.first and day < self.today]
        late = [(day, rows) for day, rows in rows_by_day if self.last and self.last < day < self.today]
        future = [(day, rows) for day, rows in rows_by_day if day > self.today]
        for name, outside, where in (
            ("FIRST_DAY", early, f"before the first partition, {self.first}"),
            ("LAST_DAY", late, f"after the last partition, {self.last}"),
        ):
            if outside:
                variable = f"{PREFIX}{name}"
                yield f"{_counted(outside)} {where}: set {variable}={changes[variable]}, for `dagster dev` too."
        if any(day == self.today for day, _ in rows_by_day):
            yield f"{self.today} is today (UTC): it becomes a partition when the day is over."
        if future:
            yield f"{_counted(future)} in the future: check the times in the file, or wait until then."


@dataclass(frozen=True)
class LandingSummary:
    """Summary of one landing; `str()` returns it as text, with the command to run next.

    Attributes
    ----------
    other_files
        Files in the given folders that are neither CSV nor Parquet; they are not landed.
    """

    data_dir: str
    sources: tuple[SourceSummary, ...]
    window: Window
    other_files: tuple[Path, ...] = ()
    id_type: IdType = "bigint"

    @property
    def rows_by_day(self) -> tuple[tuple[date, int], ...]:
        """Events of each day over all sources, sorted by day; a content in two files counts once."""
        days: Counter[date] = Counter()
        for source in {source.content: source for source in self.sources}.values():
            days.update(dict(source.rows_by_day))
        return tuple(sorted(days.items()))

    @property
    def next_command(self) -> str | None:
        """The command that cleans the landed days; None if none of them is past."""
        days = [day for day, _ in self.rows_by_day if day < self.window.today]
        if not days:
            return None
        variables = {name: str(day) for name, day in self.window.settings_for(days).items()}
        if self.id_type != "bigint":
            variables[f"{PREFIX}ID_TYPE"] = self.id_type
        variables[DATA_DIR] = shlex.quote(self.data_dir)
        environment = " ".join(f"{name}={value}" for name, value in variables.items())
        return f"{environment} {RUN}ecommerce-assets run --partition-range {days[0]}...{days[-1]}"

    def __str__(self) -> str:
        blocks = [*map(str, self.sources), *_other_files(self.other_files), _day_table(self.rows_by_day), self._next()]
        if not any(source.rows_landed for source in self.sources):
            blocks.insert(-1, "Nothing new: all events had been landed before.")
        return "\n\n".join(blocks)

    def _next(self) -> str:
        command = self.next_command
        lines = ["Next:", f"  {command}"] if command else []
        return "\n".join([*lines, *self.window.remarks(self.rows_by_day)])


def time_hint(sql: str) -> str:
    """Returns a hint how to read times in another format; `sql` is the expression of the time so far."""
    time = f"coalesce(CAST(try_strptime({sql}, '%d/%m/%Y %H:%M') AS VARCHAR), {sql})"
    option = shlex.quote(f"event_time={time}")
    return f"convert other formats with a --compute in place of a --map, such as --compute {option}"


def _count(label: str, count: int, remark: str = "") -> str:
    return f"{label:<14}{count:>13,}" + (f"   {remark}" if remark and count else "")


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[:length] + "…"


def _other_files(files: Sequence[Path]) -> Iterator[str]:
    if not files:
        return
    lines = [f"  {file}" for file in files[:_OTHER_FILES_SHOWN]]
    if len(files) > _OTHER_FILES_SHOWN:
        lines.append(f"  and {len(files) - _OTHER_FILES_SHOWN:,} more")
    yield "\n".join(["Not landed, neither CSV nor Parquet:", *lines])


def _day_table(rows_by_day: Sequence[tuple[date, int]]) -> str:
    lines = [f"  {day}  {rows:>13,}" for day, rows in rows_by_day]
    if len(lines) > _MAX_DAYS_SHOWN:
        hidden = len(lines) - 2 * _DAYS_AT_EACH_END
        lines = [*lines[:_DAYS_AT_EACH_END], f"  … {_days(hidden)} more", *lines[-_DAYS_AT_EACH_END:]]
    total = sum(rows for _, rows in rows_by_day)
    return "\n".join(["Rows per day", *lines, f"  {'total':<10}  {total:>13,}"])


def _counted(days: Sequence[tuple[date, int]]) -> str:
    rows = sum(rows for _, rows in days)
    counted = f"{rows:,} row{'s' if rows != 1 else ''}"
    if len(days) == 1:
        return f"{days[0][0]} ({counted}) is"
    return f"{len(days):,} days ({days[0][0]} to {days[-1][0]}, {counted}) are"


def _days(count: int) -> str:
    return f"{count:,} day{'s' if count != 1 else ''}"

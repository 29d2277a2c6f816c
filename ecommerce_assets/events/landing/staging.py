"""Stages one source: `Staging` parses it with DuckDB, splits it by day, and summarises it."""

from __future__ import annotations

import csv
import glob
import logging
import re
import shlex
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from itertools import accumulate
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Columns, Layout
from ecommerce_assets.events.landing.lines import (
    MAX_LISTED,
    UnreadableLine,
    compression,
    count_blank_lines,
    read_one_by_one,
)
from ecommerce_assets.events.landing.sources import CsvSource, ParquetSource, Source
from ecommerce_assets.events.landing.summary import SourceSummary, Unreadable, time_hint
from ecommerce_assets.events.landing.target import landed_name
from ecommerce_assets.events.parquet import check_pages, holds_bad_text, read_parquet_sql, texts_as_bytes
from ecommerce_assets.events.parsing import (
    UNREADABLE_LINE,
    WHITESPACE,
    IdType,
    connect,
    is_null_marker,
    literal,
    parse,
    sql_types,
)
from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN

_NO_DAY = "__HIVE_DEFAULT_PARTITION__"
_EXAMPLES = 3
_BATCH = 10_000
_SECONDS_BETWEEN_LINES = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Staged:
    """A source that is ready to be published: one file per day, its summary, and the list of unreadable values."""

    files: dict[date, Path]
    summary: SourceSummary
    unreadable_file: Path


@dataclass(frozen=True)
class _BadLines:
    """The number of unreadable lines of a file, and the first of them."""

    count: int
    first: tuple[UnreadableLine, ...]

    @classmethod
    def write(cls, lines: Iterable[UnreadableLine], listing: Path) -> _BadLines:
        """Writes the lines to the CSV file `listing`, one by one because there may be millions of them."""
        count, first = 0, []
        with listing.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["line", "reason", "text"])
            for line in lines:
                count += 1
                if count <= _EXAMPLES:
                    first.append(line)
                writer.writerow([line.number, line.reason, line.text[:MAX_LISTED]])
        return cls(count, tuple(first))


class Staging:
    """Stages one source in a folder, with a DuckDB connection that has no access to other files.

    Parameters
    ----------
    content
        Hash of source and options, see `Layout.content`.
    folder
        New folder for the staged files.
    """

    def __init__(self, source: Source, content: str, layout: Layout, id_type: IdType, folder: Path) -> None:
        self._source, self._content, self._layout, self._folder = source, content, layout, folder
        self._id_type = id_type
        self._split = folder / "split"
        self._listing = folder / "unreadable.csv"
        folder.mkdir(parents=True)
        self._connection = _connect(source.files, folder)

    def run(self, lines: int) -> Staged:
        """Returns the staged source.

        Parameters
        ----------
        lines
            Number of lines of a CSV file, see `lines.scan`.

        Raises
        ------
        LandingError
            The source or an option cannot be used.
        """
        bad_lines = _BadLines.write([], self._listing)
        if isinstance(self._source, CsvSource):
            rows, bad_lines = self._split_csv(self._source, lines)
        else:
            rows = self._split_parquet(self._source)
        parts = self._parts()
        staged_rows = sum(map(_count, parts.values()))
        left_out = rows - staged_rows
        self._require_ids(parts)
        dated = {date.fromisoformat(day): files for day, files in sorted(parts.items()) if day != _NO_DAY}
        undated = parts.get(_NO_DAY, [])
        if not dated:
            self._refuse_undated(undated, left_out)
        rows_of_day = {day: _count(files) for day, files in dated.items()}
        without_day = _count(undated) + bad_lines.count
        extra = self._distribute(undated, bad_lines.count, rows_of_day)
        files = {day: self._one_file(day, [*files, *extra.get(day, [])]) for day, files in dated.items()}
        unreadable = self._unreadable(list(files.values()), bad_lines)
        rows_by_day = tuple((day, _count([file])) for day, file in files.items())
        if sum(count for _, count in rows_by_day) != staged_rows + bad_lines.count:
            raise AssertionError(f"{self._source.path}: {staged_rows:,} events were read, {rows_by_day} staged")
        summary = SourceSummary(
            source=self._source.path,
            content=self._content,
            rows_read=rows + bad_lines.count,
            rows_left_out=left_out,
            rows_by_day=rows_by_day,
            rows_without_day=without_day,
            unreadable=unreadable,
            null_markers=self._null_markers(list(files.values())),
            ignored_columns=tuple(dict.fromkeys(n for c in self._columns() for n in c.ignored)),
            absent_columns=tuple(dict.fromkeys(n for c in self._columns() for n in c.absent)),
            sql={name: self._columns()[0].sql[name] for name in ("event_time", "price")},
            delimiter=self._source.delimiter if isinstance(self._source, CsvSource) else ",",
        )
        self._connection.close()
        shutil.rmtree(self._split)  # frees disk space: all sources are staged before the first is published
        return Staged(files, summary, self._listing)

    def _columns(self) -> list[Columns]:
        source = self._source
        return [source.columns] if isinstance(source, CsvSource) else [columns for _, columns in source.groups]

    def _split_csv(self, source: CsvSource, lines: int) -> tuple[int, _BadLines]:
        """The number of rows, and the unreadable lines.

        DuckDB reads nearly every file, but skips lines of some files without an error. If its rows and errors do not
        account for every line, the file is read line by line instead.
        """
        try:
            rows = self._copy(source.from_sql(), source.columns)
            unreadable = _BadLines.write(self._rejected_lines(), self._listing)
            is_complete = self._accounts_for(source, rows, unreadable.count, lines)
        except duckdb.InvalidInputException:
            is_complete = False  # a line that DuckDB refuses
        except duckdb.IOException:
            if compression(source.path) == "none":
                raise
            is_complete = False  # such as gzip files padded with zeros, which `scan` can read
        if not is_complete:
            log.info("%s has lines that are not rows: reading it line by line", source.path)
            shutil.rmtree(self._split, ignore_errors=True)
            copy = self._folder / "readable.csv"
            width = len(source.names)
            one_by_one = read_one_by_one(source.path, width, source.delimiter, source.encoding, source.has_header, copy)
            unreadable = _BadLines.write(one_by_one, self._listing)
            rows = self._copy(replace(source, delimiter=",").from_sql(copy), source.columns)
            copy.unlink()
        if not rows:
            first = next(iter(unreadable.first), UnreadableLine(2, "empty", ""))
            raise LandingError(
                f"{source.path} has no readable event: line {first.number} has the error '{first.reason}'. Check its "
                "header and delimiter."
            )
        return rows, unreadable

    def _accounts_for(self, source: CsvSource, rows: int, unreadable: int, lines: int) -> bool:
        expected = lines - source.has_header
        # An unclosed quote swallows lines, and DuckDB replaces bytes that are not UTF-8 by "?".
        suspects = "contains(csv_line, chr(10)) OR error_type ILIKE '%encoding%'"
        if self._connection.execute(f"SELECT 1 FROM reject_errors WHERE {suspects} LIMIT 1").fetchall():
            return False
        if rows + unreadable == expected:
            return True
        missing = expected - rows - unreadable
        return missing > 0 and missing == count_blank_lines(source.path) + self._other_lines_of_values(source)

    def _other_lines_of_values(self, source: CsvSource) -> int:
        """The number of line ends inside quoted values, without blank lines.

        -1 if a line inside a value has as many columns as an event, so that an unclosed quote may have swallowed it.
        """
        columns = [f'"{name}"' for name in self._connection.execute(f"FROM {source.from_sql()} LIMIT 0").df().columns]
        ends = " + ".join(f"coalesce(length({c}) - length(replace({c}, chr(10), '')), 0)" for c in columns)
        if not self._connection.execute(f"SELECT max({ends}) FROM {source.from_sql()}").fetchall()[0][0]:
            return 0
        is_blank = "lambda line: trim(line, chr(13)) = ''"
        blanks = " + ".join(
            f"coalesce(len(list_filter(string_split({c}, chr(10))[2:-2], {is_blank})), 0)" for c in columns
        )
        delimiters = f"len(string_split(line, {literal(source.delimiter)})) >= {len(source.names)}"
        both = " OR ".join(
            f"coalesce(len(list_filter(string_split({c}, chr(10)), lambda line: {delimiters})), 0) > 0" for c in columns
        )
        count, is_suspect = self._connection.execute(
            f"SELECT sum(({ends}) - ({blanks})), bool_or(coalesce({both}, false)) FROM {source.from_sql()}"
        ).fetchall()[0]
        return -1 if is_suspect else int(count)

    def _rejected_lines(self) -> Iterator[UnreadableLine]:
        lines = self._connection.execute(
            "SELECT line, min(lower(error_type)), any_value(csv_line) FROM reject_errors "
            "WHERE scan_id = (SELECT min(scan_id) FROM reject_errors) GROUP BY line ORDER BY line"
        )
        while batch := lines.fetchmany(_BATCH):
            yield from (UnreadableLine(number, reason, text or "") for number, reason, text in batch)

    def _split_parquet(self, source: ParquetSource) -> int:
        rows = 0
        for file in source.files:
            try:
                check_pages(file)
            except (pa.ArrowException, OSError) as error:
                raise LandingError(f"{file} is damaged ({str(error).splitlines()[0]}): copy it again.") from error
        if len(source.groups) > 1:
            self._refuse_windows()
        for files, columns in source.groups:
            try:
                rows += self._copy(source.from_sql(files), columns)
            except duckdb.InvalidInputException as error:
                if not holds_bad_text(error) or source.hive:
                    raise
                shutil.rmtree(self._split, ignore_errors=True)
                return self._split_as_bytes(source)
        if rows != source.rows:
            raise AssertionError(f"{source.path} has {source.rows:,} rows, of which DuckDB read {rows:,}")
        return rows

    def _refuse_windows(self) -> None:
        """Raises LandingError for a window function such as row_number(), which would restart in each file."""
        for name, sql in self._layout.compute.items():
            if re.search(r"\bover\b", sql, re.IGNORECASE):
                raise LandingError(
                    f"--compute {shlex.quote(f'{name}={sql}')} has a window function, but the files of "
                    f"{self._source.path} have different columns or invalid UTF-8 and are read separately. Land each "
                    "file by itself, or remove the window function."
                )

    def _split_as_bytes(self, source: ParquetSource) -> int:
        if len(source.files) > 1:
            self._refuse_windows()
        rows = 0
        for files, columns in source.groups:
            for file in files:
                plain = self._folder / "bytes.parquet"
                reader = texts_as_bytes(file)
                with pq.ParquetWriter(plain, reader.schema) as writer:
                    for batch in reader:
                        writer.write_batch(batch)
                rows += self._copy(read_parquet_sql([plain]), columns)
                plain.unlink()
        return rows

    def _copy(self, from_sql: str, columns: Columns) -> int:
        """Parses a FROM clause into one folder per day; returns its rows, including those that `--where` excludes."""
        self._check_options(from_sql)
        selected = ", ".join(f"({sql}\n) AS {name}" for name, sql in columns.sql.items())
        raw = f"SELECT {selected} FROM {from_sql}{self._where()}"
        previous_rows = sum(map(_count, self._parts().values()))
        try:
            with _progress(self._connection, self._source.path):
                self._connection.execute(
                    f"COPY (SELECT *, CAST(event_time AS DATE) AS {PARTITION_COLUMN} "
                    f"FROM ({parse(self._connection, raw, self._id_type)})) TO {literal(self._split)} "
                    f"(FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({PARTITION_COLUMN}), APPEND true, "
                    "FILENAME_PATTERN 'part-{uuid}')"
                )
            if not self._layout.where:
                return sum(map(_count, self._parts().values())) - previous_rows
            ((rows,),) = self._connection.execute(f"SELECT count(*) FROM {from_sql}").fetchall()
            return int(rows)
        except duckdb.Error as error:
            if not _may_be_of_option(error):
                raise
            self._check_options(from_sql, with_values=True)
            if isinstance(error, duckdb.InvalidInputException):
                raise
            raise LandingError(f"{self._source.path}: {one_line(error)}.") from error

    def _check_options(self, from_sql: str, with_values: bool = False) -> None:
        """Raises LandingError if DuckDB cannot bind the SQL of an option; `with_values`: or cannot evaluate it."""
        options = [("--where", sql, sql) for sql in self._layout.where]
        options += [("--compute", f"{name}={sql}", sql) for name, sql in self._layout.compute.items()]
        for option, text, sql in options:
            shown = f"{option} {shlex.quote(text)}"
            is_where = option == "--where"
            # QUALIFY refuses expressions that return several rows, and "[" those with an unbalanced ")".
            once = f"WHERE (\n{sql}\n)" if is_where else f"QUALIFY (\n{sql}\n) IS NULL OR row_number() OVER () > 0"
            try:
                self._connection.extract_statements(f"SELECT [\n{sql}\n]")
                query = f"DESCRIBE SELECT (\n{sql}\n), * FROM {from_sql}"
                described = self._connection.execute(query).fetchall()
                self._connection.execute(f"{query} {once}")
                width = len(self._connection.execute(f"DESCRIBE FROM {from_sql}").fetchall())
                if len(described) != width + 1 or described[0][1].startswith("TUPLE"):
                    raise LandingError(f"{shown} must be one SQL expression.")
                if with_values:
                    values = f"SELECT (\n{sql}\n) AS x FROM {from_sql}{self._where()}"
                    self._connection.execute(
                        f"SELECT count(*) FROM {from_sql} {once}"
                        if is_where
                        else f"SELECT max(hash(x)) FROM ({values})"
                    )
            except duckdb.Error as error:
                if with_values and not _may_be_of_option(error):
                    raise
                raise LandingError(f"{shown}: {one_line(error)}.") from error

    def _where(self) -> str:
        conditions = " AND ".join(f"({condition}\n)" for condition in self._layout.where)
        return f" WHERE {conditions}" if conditions else ""

    def _parts(self) -> dict[str, list[Path]]:
        return {
            entry.name.partition("=")[2]: sorted(entry.glob("*.parquet"))
            for entry in self._split.glob(f"{PARTITION_COLUMN}=*")
        }

    def _require_ids(self, parts: dict[str, list[Path]]) -> None:
        files = [file for part in parts.values() for file in part]
        if self._id_type != "bigint" or not files:
            return
        for name in ("user_id", "product_id"):
            rows, example = self._connection.execute(
                f"SELECT count(*), min(trim(original.{name}, {WHITESPACE})) FROM {read_parquet_sql(files)} "
                f"WHERE reject_reason = 'unreadable {name}'"
            ).fetchall()[0]
            if rows:
                raise LandingError(
                    f"{self._source.path}: {name} is not a 64-bit integer in {rows:,} of {_count(files):,} events, "
                    f"such as {example!r}. Set ECOMMERCE_ID_TYPE=string for this data dir, in landing and in every "
                    "run, or exclude these events with --where."
                )

    def _refuse_undated(self, undated: Sequence[Path], left_out: int) -> None:
        if not undated:
            raise LandingError(f"{self._source.path}: --where excludes all {left_out:,} rows. Correct the condition.")
        ((example,),) = self._connection.execute(
            f"SELECT any_value(original.event_time) FROM {read_parquet_sql(undated)}"
        ).fetchall()
        raise LandingError(
            f"{self._source.path} has no readable event_time, an example is {example!r}. Times must be year-first "
            "dates from 1990 on, such as 2019-10-01 00:00:00 UTC, or numbers since 1970; "
            f"{time_hint(self._columns()[0].sql['event_time'])}."
        )

    def _distribute(self, undated: Sequence[Path], lines: int, rows_of_day: dict[date, int]) -> dict[date, list[Path]]:
        """Files by day with the rows that have no readable time, distributed over the days in proportion to their rows.

        So the share of rejected events is the same on each day, and the day is blocked if it is too large.
        """
        null_row = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in sql_types(self._id_type).items())
        texts = ", ".join(f"{name} := CAST(NULL AS VARCHAR)" for name in EVENTS.names)
        selects = [f"FROM {read_parquet_sql(undated)}"] if undated else []
        if lines:
            selects.append(
                f"SELECT {null_row}, '{UNREADABLE_LINE}' AS reject_reason, "
                f"CASE WHEN false THEN struct_pack({texts}) END AS original FROM range({lines})"
            )
        if not selects:
            return {}
        rows, total = _count(undated) + lines, sum(rows_of_day.values())
        self._connection.execute(
            "CREATE TEMP TABLE without_day AS "
            f"SELECT *, row_number() OVER () AS number FROM ({' UNION ALL '.join(selects)})"
        )
        shares = {day: rows * of_day // total for day, of_day in rows_of_day.items()}
        largest_first = sorted(rows_of_day, key=lambda day: (-rows_of_day[day], day))
        for day in largest_first[: rows - sum(shares.values())]:
            shares[day] += 1
        ends = list(accumulate(shares.values()))
        files: dict[date, list[Path]] = {}
        for day, start, end in zip(shares, [0, *ends], ends, strict=False):
            if end > start:
                files[day] = [self._split / f"without_day-{day}.parquet"]
                self._connection.execute(
                    f"COPY (SELECT * EXCLUDE (number) FROM without_day WHERE number > {start} AND number <= {end}) "
                    f"TO {literal(files[day][0])} (FORMAT parquet, COMPRESSION zstd)"
                )
        return files

    def _one_file(self, day: date, parts: Sequence[Path]) -> Path:
        rows = _count(parts)
        file = self._folder / f"{PARTITION_COLUMN}={day}" / landed_name(self._content, rows)
        file.parent.mkdir()
        if len(parts) == 1:
            return parts[0].replace(file)
        self._connection.execute(
            f"COPY (FROM {read_parquet_sql(parts)}) TO {literal(file)} (FORMAT parquet, COMPRESSION zstd)"
        )
        if _count([file]) != rows:
            raise AssertionError(f"{file} has {_count([file]):,} rows instead of {rows:,}")
        return file

    def _unreadable(self, files: Sequence[Path], lines: _BadLines) -> tuple[Unreadable, ...]:
        """The unreadable values and lines by reason; each value is appended to the list too."""
        values = []
        for column in EVENTS.columns:
            name, text = column.name, f"original.{column.name}"
            reason = f"{name} is not UTF-8" if column.type == "string" else f"unreadable {name}"
            values.append(
                f"SELECT CASE WHEN reject_reason LIKE '%{name}%' THEN reject_reason ELSE '{reason}' END AS reason, "
                f"{text} AS value FROM rows WHERE {text} IS NOT NULL AND trim({text}, {WHITESPACE}) <> '' AND ("
                f"reject_reason IN ('unreadable {name}', 'unknown {name}', '{name} is not UTF-8') "
                f"OR ({name} IS NULL AND NOT {is_null_marker(text)} "
                f"AND coalesce(reject_reason, '') NOT LIKE '%{name}%'))"
            )
        self._connection.execute(
            f"CREATE TEMP TABLE unreadable AS WITH rows AS "
            f"(SELECT * FROM {read_parquet_sql(files)} WHERE original IS NOT NULL) {' UNION ALL '.join(values)}"
        )
        with self._listing.open("a", encoding="utf-8", newline="") as listing:
            rows = self._connection.execute("SELECT reason, value FROM unreadable ORDER BY reason, value")
            while batch := rows.fetchmany(_BATCH):
                csv.writer(listing).writerows(["", *row] for row in batch)
        counted = self._connection.execute(
            "SELECT reason, sum(number) OVER (PARTITION BY reason), value, number "
            "FROM (SELECT reason, value, count(*) AS number FROM unreadable GROUP BY ALL) "
            "QUALIFY row_number() OVER (PARTITION BY reason ORDER BY number DESC, value) <= ? "
            "ORDER BY reason, number DESC, value",
            [_EXAMPLES],
        ).fetchall()
        by_reason: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for reason, count, value, number in counted:
            by_reason.setdefault((reason, int(count)), []).append((value, number))
        unreadable = [Unreadable(reason, count, tuple(values)) for (reason, count), values in by_reason.items()]
        if lines.count:
            examples = tuple((f"line {line.number:,}: {line.reason}", 1) for line in lines.first)
            unreadable.insert(0, Unreadable(UNREADABLE_LINE, lines.count, examples))
        return tuple(unreadable)

    def _null_markers(self, files: Sequence[Path]) -> tuple[tuple[str, str, int], ...]:
        """Column, null marker and number of values that became null."""
        markers: list[tuple[str, str, int]] = []
        for name in EVENTS.names:
            text = f"original.{name}"
            markers += self._connection.execute(
                f"SELECT '{name}', trim({text}, {WHITESPACE}), count(*) FROM {read_parquet_sql(files)} "
                f"WHERE {name} IS NULL AND original IS NOT NULL AND {is_null_marker(text)} GROUP BY ALL ORDER BY ALL"
            ).fetchall()
        return tuple(markers)


def _connect(files: Sequence[Path], folder: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that can read `files`, read and write `folder`, and access nothing else.

    The SQL of the options runs in it.
    """
    connection = connect(folder / "spill")
    listed = ", ".join(map(_with_pattern, map(str, files)))
    for setting in (
        "enable_progress_bar = true",
        "enable_progress_bar_print = false",
        # With this optimizer, a failing cast in an option would make the line unreadable.
        "disabled_optimizers = 'type_pushdown'",
        "autoinstall_known_extensions = false",
        f"allowed_paths = [{listed}]",
        f"allowed_directories = [{_with_pattern(f'{folder}/')}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _with_pattern(path: str) -> str:
    """SQL of a path and of its escaped glob pattern: DuckDB checks access to both."""
    return f"{literal(path)}, {literal(glob.escape(path))}"


@contextmanager
def _progress(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[None]:
    """Logs the progress of DuckDB every ten seconds."""
    done = threading.Event()

    def log_progress() -> None:
        started = time.monotonic()
        while not done.wait(_SECONDS_BETWEEN_LINES):
            percent = max(0.0, connection.query_progress())
            log.info("%s: %.0f %% parsed after %.0f s", path.name, percent, time.monotonic() - started)

    thread = threading.Thread(target=log_progress, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _count(files: Sequence[Path]) -> int:
    return sum(pq.read_metadata(file).num_rows for file in files)


def _may_be_of_option(error: duckdb.Error) -> bool:
    """Whether the error may come from the SQL of an option rather than from reading the file."""
    if isinstance(error, duckdb.InvalidInputException):
        return not ("CSV" in str(error) or holds_bad_text(error))
    return isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException | duckdb.BinderException)


def one_line(error: duckdb.Error) -> str:
    """Returns the message of a DuckDB error on one line, without the query, suggestions and the final period."""
    text = str(error).split("\n\nLINE ")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines[:2] if not line.startswith(("Candidate functions", "Possible fixes", "*", "LINE"))]
    return " ".join(kept).rstrip(".")

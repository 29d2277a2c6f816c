"""Checks: rules that the written files of a version must satisfy before it is published.

The IO managers run them between write and publish (`measure`, then `run_checks`) and record the results with the
version. Each asset declares its checks; those that many tables share are at the end of this file and in drift.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.version import PARTITION_COLUMN, CheckResult, Input, Stats, Version, plain

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Row

SAMPLED_ROWS = 20_000
"""Number of rows for the quantiles of a distribution, whose standard error is then about 0.0035."""

QUANTILES = 100
"""Quantiles of a distribution: 0.01, 0.02 … 1."""


@dataclass(frozen=True)
class Previous:
    """The version, or the day, that a new one is compared with; `name` is the version or the day."""

    name: str
    stats: Stats
    columns: Mapping[str, str] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Input] = ()
    is_day: bool = False


@dataclass(frozen=True)
class CheckContext:
    """The data that a check can use.

    Attributes
    ----------
    stats
        Stats of the written rows; for daily assets, of one day.
    parameters
        Parameters of the version.
    inputs
        Inputs of the step.
    versions
        Versions that were read, by asset; for daily assets see `days`.
    days
        Stats of the days that were read, by daily asset and day.
    columns
        Tables only: the written columns, with their Spark types.
    previous
        The published version, empty if there is none. For a day: up to seven stored days before it, the newest last.
    stored_columns
        Daily tables only: the columns of stored days that the run does not replace.
    document
        Documents only: the content.
    """

    stats: Stats
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Input] = ()
    versions: Mapping[str, Version] = field(default_factory=dict)
    days: Mapping[str, Mapping[str, Stats]] = field(default_factory=dict)
    columns: Mapping[str, str] | None = None
    previous: Sequence[Previous] = ()
    stored_columns: Mapping[str, str] | None = None
    document: Any = None

    @property
    def rows(self) -> int:
        """Number of written rows."""
        return self.stats.rows or 0

    @property
    def results(self) -> Mapping[str, Any]:
        """Results that the asset reported."""
        return self.stats.results

    def number(self, name: str) -> int | float:
        """Returns a number of the stats; 0 if it is null."""
        return self.stats.numbers.get(name) or 0

    def input_number(self, asset: str, name: str) -> float:
        """Returns the sum of a number over the input from an upstream asset."""
        return float(sum(stats.numbers.get(name) or 0 for stats in self.input_stats(asset)))

    def input_rows(self, asset: str) -> int:
        """Returns the number of rows that were read from an upstream asset."""
        return sum(stats.rows or 0 for stats in self.input_stats(asset))

    def input_stats(self, asset: str) -> list[Stats]:
        """Returns the stats of the input from an upstream asset: of each day, or of the version."""
        if asset in self.days:
            return list(self.days[asset].values())
        return [self.versions[asset].stats] if asset in self.versions else []

    def reports(self, result: str) -> bool:
        """Returns whether this version, or one of its inputs, reported a result of this name."""
        inputs = [version.stats for version in self.versions.values()]
        return any(stats.results.get(result) is not None for stats in [self.stats, *inputs])


@dataclass(frozen=True)
class Outcome:
    """The result of a check with numbers for the UI.

    Attributes
    ----------
    message
        The problem in one sentence; empty if the check passed.
    values
        A few numbers or short texts, also if the check passed.
    checked
        What was checked, with the figures, in one line without a full stop; shown if the check passed.
    """

    message: str = ""
    values: Mapping[str, str | int | float] = field(default_factory=dict)
    checked: str = ""


NOTHING_TO_COMPARE = Outcome(checked="nothing to compare with: there is no previous version")

Read = Callable[[str], "DataFrame"]
"""Returns another table by name, in the version that the step read."""

Summary = Callable[["DataFrame", CheckContext, Read], "DataFrame"]
"""Returns a frame of one row from the written rows, the context (with stats from the footers only) and the tables that
the step read. Its numbers are added to the stats' numbers, its structs and arrays to their summaries."""


@dataclass(frozen=True)
class Check:
    """One rule.

    Parameters
    ----------
    test
        Returns the problem in one sentence, None without a problem, or an Outcome.
    numbers
        SQL aggregates that it needs, by name. Put distinct counts in a summary: beside other aggregates they make Spark
        expand every row.
    shares
        Values whose rows are counted, by column.
    distributions
        Numeric columns, each with the SQL list of columns whose hash draws the sample for quantiles and deviation;
        an empty list: no quantiles, and the deviation of all rows.
    summary
        For what no aggregate over single rows can compute. Several checks may share it. Not for daily tables.
    blocking
        True: a version (or day) that fails is not published. False: a failure is a warning.
    warning_if
        Name of a result: if this version, or one of its inputs, reports it, a failure is a warning.
    """

    name: str
    description: str
    test: Callable[[CheckContext], str | Outcome | None]
    numbers: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, Sequence[str]] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)
    summary: Summary | None = None
    blocking: bool = True
    warning_if: str | None = None


def run_checks(checks: Sequence[Check], context: CheckContext, partition: str | None = None) -> list[CheckResult]:
    """Returns the results of all checks, in order."""
    results = []
    for check in checks:
        result = check.test(context)
        outcome = result if isinstance(result, Outcome) else Outcome(result or "")
        results.append(
            CheckResult(
                name=check.name,
                blocking=check.blocking and not (check.warning_if and context.reports(check.warning_if)),
                passed=not outcome.message,
                message=outcome.message,
                checked="" if outcome.message else outcome.checked,
                partition=partition,
                values={name: plain(value) for name, value in outcome.values.items()},
            )
        )
    return results


def measure(
    frame: DataFrame, checks: Sequence[Check], summaries: Sequence[DataFrame] = (), rows: int = 0
) -> dict[str | None, Stats]:
    """Returns the stats that the checks need, from one query; by day if the frame has the partition column.

    Parameters
    ----------
    summaries
        Frames of one row, which become part of the query.
    rows
        Approximate number of rows, which decides the share of rows in a sample.
    """
    daily = PARTITION_COLUMN in frame.columns
    columns = _aggregates(frame, checks, rows)
    measured = frame.groupBy(PARTITION_COLUMN).agg(*columns) if daily else frame.agg(*columns)
    # Every frame has one row, and Spark computes them side by side.
    whole = reduce(lambda left, right: left.crossJoin(right), summaries, measured)
    stats: dict[str | None, Stats] = {}
    for row in collect_in_one_job(whole):
        values = row.asDict(recursive=True)
        day = str(values.pop(PARTITION_COLUMN)) if daily else None
        content = _content(values["rows"], values.pop("content_xor") or 0, values.pop("content_sum") or 0)
        fields = {name: values.pop(name) for name in ("rows", "numbers", "shares", "distributions") if name in values}
        for distribution in fields.get("distributions", {}).values():
            _put_quantiles(distribution)
        structs = {name: value for name, value in values.items() if isinstance(value, dict | list)}
        numbers = {name: value for name, value in values.items() if name not in structs}
        numbers |= fields.pop("numbers", {})
        stats[day] = Stats.model_validate({**fields, "content": content, "numbers": numbers, "summaries": structs})
    return stats


IN_ONE_JOB = {"spark.sql.adaptive.enabled": "false", "spark.sql.autoBroadcastJoinThreshold": "-1"}
"""Without adaptive execution and broadcasts a query is one job: with them, each shuffle and each broadcast is one."""


def collect_in_one_job(frame: DataFrame) -> list[Row]:
    """Returns the rows of a small result of aggregates, computed in one Spark job; see `IN_ONE_JOB`."""
    conf = frame.sparkSession.conf
    previous = {name: conf.get(name) for name in IN_ONE_JOB}
    try:
        for name, value in IN_ONE_JOB.items():
            conf.set(name, value)
        return frame.collect()
    finally:
        for name, previous_value in previous.items():
            conf.set(name, str(previous_value))


def needs_query(checks: Sequence[Check]) -> bool:
    """Returns whether the checks need more than the Parquet footers."""
    return any(check.numbers or check.shares or check.distributions or check.summary for check in checks)


def summaries_of(checks: Sequence[Check]) -> list[Summary]:
    """Returns the summaries of the checks, without repeats."""
    return list(dict.fromkeys(check.summary for check in checks if check.summary))


def _aggregates(frame: DataFrame, checks: Sequence[Check], rows: int) -> list[Column]:
    from pyspark.sql import functions as F

    def struct(name: str, fields: Mapping[str, str]) -> list[Column]:
        return [F.struct(*[F.expr(sql).alias(field) for field, sql in fields.items()]).alias(name)] if fields else []

    names = [f"`{name}`" for name in frame.columns if name != PARTITION_COLUMN]
    # Spark's hash skips nulls: without isnull, the hash would not change when a value moves to another column.
    hashed = [*names, *[f"isnull({name})" for name in names]]
    row_hash, one_in = f"xxhash64({', '.join(hashed)})", max(1, rows // SAMPLED_ROWS)
    shares = {column: values for check in checks for column, values in check.shares.items()}
    counts = {
        column: ", ".join(f"'{one}', count_if({column} = '{one}')" for one in values)
        for column, values in shares.items()
    }
    distributions = {
        column: _distribution(column, key, one_in) for check in checks for column, key in check.distributions.items()
    }
    return [
        F.expr("count(*)").alias("rows"),
        # Both are independent of the order of the rows. The sum also changes with repeats, which cancel out in the xor.
        F.expr(f"bit_xor({row_hash})").alias("content_xor"),
        F.expr(f"sum({row_hash} & 4294967295)").alias("content_sum"),
        *struct("numbers", {name: sql for check in checks for name, sql in check.numbers.items()}),
        *struct("shares", {column: f"named_struct({fields})" for column, fields in counts.items()}),
        *struct("distributions", distributions),
    ]


def _distribution(column: str, key: str, one_in: int) -> str:
    """Returns the SQL aggregate of a Distribution.

    The mean is that of all rows. Quantiles and deviation are those of a sample, drawn by the hash of the key, which is
    much faster; a small table is its own sample.
    """
    value = f"if(abs({column}) < double('inf'), cast({column} as double), null)"
    moments = f"named_struct('known', count({value}), 'mean', avg({value}), 'deviation', stddev_pop({value})"
    if not key:
        return f"{moments})"
    sampled = f"filter (where pmod(xxhash64({key}), {one_in}) = 0)"
    return f"{moments} {sampled}, 'sample', collect_list({value}) {sampled})"


def _put_quantiles(distribution: dict[str, Any]) -> None:
    """Replaces the sample in a result of `_distribution` with its quantiles."""
    import numpy as np

    sample = distribution.pop("sample", None)
    if sample:
        levels = np.arange(1, QUANTILES + 1) / QUANTILES
        distribution["quantiles"] = np.quantile(sample, levels, method="inverted_cdf").tolist()


def _content(rows: int, bits: int, total: int) -> str:
    return f"{rows}-{bits & 0xFFFFFFFFFFFFFFFF:016x}-{total:x}"


EMPTY = Stats(rows=0, content=_content(0, 0, 0))
"""Stats of a table without rows."""


def rule(name: str, description: str, broken: str, *, blocking: bool = True, warning_if: str | None = None) -> Check:
    """Returns a check of single rows: `broken` is an SQL condition that no row may satisfy."""
    column = f"{name}_broken"
    return Check(
        name=name,
        description=description,
        numbers={column: f"count_if({broken})"},
        test=lambda c: counted(c, c.number(column), f"break the rule: {description}", "break the rule"),
        blocking=blocking,
        warning_if=warning_if,
    )


def one_of(name: str, column: str, values: Sequence[str]) -> Check:
    """Returns a check that a text column has only these values."""
    return rule(name, f"{column} is one of {', '.join(values)}.", f"{column} not in ({quoted(values)})")


def quoted(values: Sequence[str]) -> str:
    """Returns texts as an SQL list."""
    return ", ".join(f"'{value}'" for value in values)


def counted(context: CheckContext, count: float, what: str, briefly: str = "") -> Outcome:
    """Returns an outcome with a message such as `3 of 50 rows repeat a key`, or `checked` with 0 if the count is 0.

    Parameters
    ----------
    briefly
        Replaces `what` if the count is 0.
    """
    return Outcome(
        f"{count:,} of {context.rows:,} rows {what}" if count else "",
        checked=f"0 of {context.rows:,} rows {briefly or what}",
    )


def no_nulls(table: TableSpec, warning_if: str | None = None) -> Check:
    """Returns a check that required columns have no nulls; it uses the Parquet footers."""

    def test(context: CheckContext) -> Outcome:
        nulls = {name: context.stats.nulls.get(name, 0) for name in table.required}
        broken = [f"{name} ({count:,})" for name, count in nulls.items() if count]
        return Outcome(
            f"rows with null in {', '.join(broken)}" if broken else "",
            checked=f"0 of {context.rows:,} rows have a null in {', '.join(nulls)}",
        )

    names = ", ".join(table.required)
    return Check(
        "no_nulls", f"{names} {'are' if len(table.required) > 1 else 'is'} never null.", test, warning_if=warning_if
    )


def unique_key(table: TableSpec) -> Check:
    """Returns a check that there is one row per key."""
    keys = ", ".join(table.keys)

    def distinct(rows: DataFrame, _: CheckContext, __: Read) -> DataFrame:
        return rows.select(*table.keys).dropna().distinct().selectExpr("count(*) as distinct_keys")

    def test(context: CheckContext) -> Outcome:
        return counted(context, context.rows - context.number("distinct_keys"), f"repeat a {keys}")

    return Check("unique_key", f"There is one row per {keys}.", test, summary=distinct)

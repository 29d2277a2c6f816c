"""Audits that compare a version with the one before it: columns, rows, distributions. They are warnings.

A shop may well change; that it did is worth a look. The arithmetic is drift.py's, what stood there before comes with
the evidence. A first version has nothing before it and passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ecommerce_assets.storage.audits import ONE_IN, Audit, Evidence, Finding
from ecommerce_assets.storage.drift import (
    FEWEST_ROWS,
    LARGE_INDEX,
    QUANTILES,
    Shape,
    mean_moved,
    pooled,
    shape_index,
    shares_of,
    stability_index,
)

LARGE_CHANGE = 0.5
"""Of the rows of an undivided table."""

FEWEST_DAYS = 3
"""Days before that make a median worth comparing with."""

NOTHING_BEFORE = Finding(figures={"compared with": "nothing: there is no version before"})


def schema_unchanged() -> Audit:
    """Columns and their types are those of the version before."""
    return Audit(
        "schema_unchanged",
        "Columns and their types are those of the version before.",
        lambda e: changed_columns(e.before[-1].columns, e.columns, e.before[-1].name) if e.before else NOTHING_BEFORE,
        blocking=False,
    )


def changed_columns(before: Mapping[str, str] | None, now: Mapping[str, str] | None, name: str) -> str | None:
    """What changed from one set of columns (by name, with their types) to another, in one sentence; None: nothing."""
    if before is None or now is None:
        return None
    parts = []
    if added := [f"{column} ({kind})" for column, kind in now.items() if column not in before]:
        parts.append(f"new: {', '.join(added)}")
    if gone := [f"{column} ({kind})" for column, kind in before.items() if column not in now]:
        parts.append(f"gone: {', '.join(gone)}")
    kinds = {column: (before[column], now[column]) for column in now if column in before}
    if changed := [f"{column} {old} → {new}" for column, (old, new) in kinds.items() if old != new]:
        parts.append(f"changed: {', '.join(changed)}")
    return f"the columns differ from those of {name}; {'; '.join(parts)}" if parts else None


def row_count_stable() -> Audit:
    """The number of rows is near that of the version before; of a day, near that of the days before."""
    return Audit(
        "row_count_stable",
        f"Rows are within ±{LARGE_CHANGE:.0%} of the version before (a day: between half and double the median of the "
        "week before).",
        _row_count,
        blocking=False,
    )


def _row_count(evidence: Evidence) -> str | Finding | None:
    rows, before = evidence.measures["rows"], evidence.before
    if not before:
        return NOTHING_BEFORE
    if before[-1].daily:
        usual = median(day.rows for day in before)
        if len(before) < FEWEST_DAYS or usual / 2 <= rows <= usual * 2:
            return None
        return f"{rows:,} rows, while the {len(before)} days before have {usual:,.0f} at the median"
    old = before[-1].rows
    if abs(rows - old) <= LARGE_CHANGE * old:
        return Finding(figures={"rows": f"{old:,} → {rows:,}"})
    return f"{rows:,} rows, while the version before has {old:,}"


def distribution_stable(columns: Sequence[str], key: str) -> Audit:
    """Numeric columns are distributed as in the version before.

    Parameters
    ----------
    key
        SQL list of columns whose hash chooses the sample of rows that quantiles and deviation are found on.
    """
    return Audit(
        "distribution_stable",
        f"{', '.join(columns)} are distributed as in the version before: the population stability index is at most "
        f"{LARGE_INDEX}, and the mean moved by at most half a standard deviation.",
        lambda e: _distributions(e, columns),
        measures={_shape(column): shape_of(column, key) for column in columns},
        blocking=False,
    )


def shape_of(column: str, key: str) -> str:
    """SQL aggregate whose value `Shape.of` reads.

    The mean is that of all rows; quantiles and deviation, which take ten times as long, are those of a sample that the
    hash of the key draws (all rows of a small table). On a million rows a shape of eight columns costs 0.4 s with it,
    4 s without.
    """
    value = f"if(abs({column}) < double('inf'), cast({column} as double), null)"
    levels = ", ".join(f"{n / QUANTILES}D" for n in range(1, QUANTILES + 1))
    sampled = f"filter (where pmod(xxhash64({key}), {ONE_IN}) = 0)"
    return (
        f"named_struct('known', count({value}), 'mean', avg({value}), 'deviation', stddev_pop({value}) {sampled}, "
        f"'quantiles', percentile_approx({value}, array({levels}), 1000) {sampled})"
    )


def _shape(column: str) -> str:
    return f"shape of {column}"


def _distributions(evidence: Evidence, columns: Sequence[str]) -> str | Finding | None:
    if not evidence.before:
        return NOTHING_BEFORE
    before, rows = evidence.before[-1], evidence.measures["rows"]
    if min(before.rows, rows) < FEWEST_ROWS:
        return None
    figures, drifted = {}, []
    for column in columns:
        old = Shape.of(before.measures.get(_shape(column)), before.rows)
        measured = evidence.measures.get(_shape(column))
        new = Shape.of(measured, rows)
        if old is None:
            continue  # a version that was written before this was measured, or a column without a value
        if new is None:
            # Of a column that is almost always null the sample may hold no value though the table does: then there are
            # no quantiles to compare.
            if not (measured and measured.get("known")):
                drifted.append(f"{column}: no value is left")
            continue
        index = shape_index(old, new)
        figures[column] = f"PSI {index:.2f}, mean {old.mean:,.2f} → {new.mean:,.2f}"
        if index > LARGE_INDEX or mean_moved(old, new):
            drifted.append(f"{column}: {figures[column]}")
    return Finding("; ".join(drifted), figures)


def shares_stable(column: str, values: Sequence[str]) -> Audit:
    """The share of each value of a text column is about that of the version before; of a day, of the week before."""
    return Audit(
        "distribution_stable",
        f"The shares of the values of {column} are like those of the version before (a day: of the week before): the "
        f"population stability index is at most {LARGE_INDEX}.",
        lambda e: _shares(e, column, values),
        measures={_count(column, value): f"count_if({column} = '{value}')" for value in values},
        blocking=False,
    )


def _count(column: str, value: str) -> str:
    return f"{column} {value}"


def _shares(evidence: Evidence, column: str, values: Sequence[str]) -> str | Finding | None:
    if not evidence.before:
        return NOTHING_BEFORE
    names = [_count(column, value) for value in values]
    comparable = [b for b in evidence.before if any(name in b.measures for name in names)]
    old_counts = [sum(b.measures.get(name) or 0 for b in comparable) for name in names]
    new_counts = [evidence.measures.get(name) or 0 for name in names]
    if min(sum(old_counts), sum(new_counts)) < FEWEST_ROWS:
        return None
    old, new = shares_of(old_counts), shares_of(new_counts)
    index = stability_index(old, new)
    shares = {v: f"{p:.1%} → {q:.1%}" for v, p, q in zip(values, old, new, strict=True)}
    told = ", ".join(f"{value} {share}" for value, share in shares.items())
    message = f"{column}: PSI {index:.2f}; {told}" if index > LARGE_INDEX else ""
    return Finding(message, {column: f"PSI {index:.2f}", **shares})


def mean_stable(column: str) -> Audit:
    """The mean of a daily table's numeric column is near that of the week before."""
    value = f"if(abs({column}) < double('inf'), {column}, null)"
    return Audit(
        f"mean_{column}_stable",
        f"The mean {column} of a day moved by at most half a standard deviation of the week before.",
        lambda e: _mean(e, column),
        # Sums of squares in place of a deviation: a tenth of the work, and exact enough for a warning.
        measures={
            f"known {column}": f"count({value})",
            f"sum of {column}": f"sum({value})",
            f"squares of {column}": f"sum({value} * {value})",
        },
        blocking=False,
    )


def _mean(evidence: Evidence, column: str) -> str | None:
    new = _moments(evidence.measures, column)
    old = [shape for day in evidence.before if (shape := _moments(day.measures, column))]
    if new is None or not old:
        return None
    week = pooled(old)
    if min(new.known, week.known) < FEWEST_ROWS or not mean_moved(week, new):
        return None
    return f"{column}: mean {week.mean:,.2f} → {new.mean:,.2f}, and the days before deviate by {week.deviation:,.2f}"


def _moments(measures: Mapping[str, Any], column: str) -> Shape | None:
    known = measures.get(f"known {column}") or 0
    if not known:
        return None
    mean = measures[f"sum of {column}"] / known
    variance = measures[f"squares of {column}"] / known - mean**2
    return Shape(known, known, mean, max(variance, 0.0) ** 0.5, ())

"""Checks that compare the stats of a version with those of the previous one: columns, rows, distributions, shares.

All but `schema_unchanged` only warn, because a shop may change. A first version passes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from statistics import median

from ecommerce_assets.storage.checks import NOTHING_TO_COMPARE, Check, CheckContext, Outcome
from ecommerce_assets.storage.markdown import percent
from ecommerce_assets.storage.version import Distribution

LARGE_INDEX = 0.25
"""A larger index is a changed population. Rule of thumb of credit scoring: below 0.1 no change, up to 0.25 a small one
(Siddiqi, "Credit Risk Scorecards", 2006)."""

SMALLEST_SHARE = 0.001
"""Share of an empty bin, so that the index stays finite."""

LARGE_SHIFT = 0.5
"""Number of standard deviations that a mean may move."""

FEWEST_ROWS = 200
"""With fewer rows the index is mostly noise: for two samples of n rows and ten bins of one population it is about
18 / n (Yurdakul and Naranjo 2020), which is 0.09 here."""

TOO_FEW_ROWS = f"nothing to compare: both sides need {FEWEST_ROWS} rows"

LARGE_CHANGE = 0.5
"""Relative change of the number of rows of a table that is not daily."""

FEWEST_DAYS = 3
"""Minimum number of previous days for a median."""


def stability_index(old: Sequence[float], new: Sequence[float]) -> float:
    """Returns the population stability index of two distributions over the same bins: sum of (p - q) ln(p / q).

    Symmetric, and 0 if they are equal: the divergence J of Kullback and Leibler (1951).

    Parameters
    ----------
    old, new
        Shares of each bin; smaller ones than `SMALLEST_SHARE` are replaced by it.

    Examples
    --------
    >>> round(stability_index([0.5, 0.5], [0.75, 0.25]), 4)
    0.2747
    """
    floored = ((max(q, SMALLEST_SHARE), max(p, SMALLEST_SHARE)) for q, p in zip(old, new, strict=True))
    return sum((p - q) * math.log(p / q) for q, p in floored)


def distribution_index(old: Distribution, old_rows: int, new: Distribution, new_rows: int) -> float:
    """Returns the stability index of a numeric column over its previous deciles.

    Equal deciles bound one bin, values that are null, NaN or infinite are another bin, and the shares are read from the
    quantiles, so they have a resolution of 0.01.
    """
    edges = sorted(set((old.quantiles or ())[9:-1:10]))
    return stability_index(_bins(old, old_rows, edges), _bins(new, new_rows, edges))


def _bins(distribution: Distribution, rows: int, edges: Sequence[float]) -> list[float]:
    quantiles = distribution.quantiles or ()
    below = [bisect_right(quantiles, edge) / len(quantiles) for edge in edges]
    known = distribution.known / rows
    bins = [high - low for low, high in zip([0.0, *below], [*below, 1.0], strict=True)]
    return [1 - known, *[share * known for share in bins]]


def mean_shifted(old: float, deviation: float, new: float) -> bool:
    """Returns whether a mean moved by more than half the previous standard deviation, or from a constant at all."""
    return abs(new - old) > max(LARGE_SHIFT * deviation, 1e-9 * abs(old))


def changed_columns(old: Mapping[str, str] | None, new: Mapping[str, str] | None, name: str) -> str | None:
    """Returns the differences of two sets of columns (types by name) in one sentence; None if they are equal."""
    if old is None or new is None or old == new:
        return None
    changed = [
        f"{column}: {old.get(column, 'missing')} → {new.get(column, 'missing')}"
        for column in {**old, **new}
        if old.get(column) != new.get(column)
    ]
    return f"the columns differ from those of {name}; {', '.join(changed)}"


def schema_unchanged() -> Check:
    """Returns a check that a day has the columns of the stored days."""

    def test(context: CheckContext) -> Outcome:
        changed = changed_columns(context.stored_columns, context.columns, "the stored days")
        columns = len(context.columns or ())
        if context.stored_columns is None:
            return Outcome(checked=f"{columns} columns; there are no other days to compare with")
        return Outcome(
            f"{changed}; materialise all days in one run, or restore the setting that changed" if changed else "",
            checked=f"{columns} columns, the same as in the stored days",
        )

    return Check("schema_unchanged", "Columns and their types are those of the stored days.", test)


def row_count_stable() -> Check:
    """Returns a check that the number of rows is near that of the previous version, or of the previous days."""

    def test(context: CheckContext) -> Outcome | str:
        rows, previous = context.rows, context.previous
        if not previous:
            return NOTHING_TO_COMPARE
        if previous[-1].is_day:
            usual = median(day.stats.rows or 0 for day in previous)
            compared = f"{rows:,} rows, and the {len(previous)} previous days have a median of {usual:,.0f}"
            if len(previous) < FEWEST_DAYS:
                return Outcome(checked=f"{rows:,} rows; fewer than {FEWEST_DAYS} previous days to compare with")
            return Outcome(checked=compared) if usual / 2 <= rows <= usual * 2 else compared
        old = previous[-1].stats.rows or 0
        compared = f"{rows:,} rows, and the previous version has {old:,}"
        return Outcome(checked=compared) if abs(rows - old) <= LARGE_CHANGE * old else compared

    return Check(
        "row_count_stable",
        f"Rows are within ±{percent(LARGE_CHANGE, 0)} of the previous version (a day: between half and double the "
        "median of the previous week).",
        test,
        blocking=False,
    )


def distribution_stable(columns: Sequence[str], key: str) -> Check:
    """Returns a check that numeric columns are distributed as in the previous version.

    Parameters
    ----------
    key
        SQL list of columns whose hash draws the sample of rows for quantiles and deviation.
    """

    def test(context: CheckContext) -> Outcome:
        if not context.previous:
            return NOTHING_TO_COMPARE
        previous = context.previous[-1].stats
        old_rows, rows = previous.rows or 0, context.rows
        if min(old_rows, rows) < FEWEST_ROWS:
            return Outcome(checked=TOO_FEW_ROWS)
        values, drifted, largest = {}, [], 0.0
        for column in columns:
            old, new = previous.distributions.get(column), context.stats.distributions.get(column)
            if old is None or new is None or not old.quantiles or old.mean is None:
                continue
            if not new.known:
                drifted.append(f"{column}: all values are null")
            # The sample of a column that is almost always null may have no value.
            if not new.quantiles or new.mean is None:
                continue
            index = distribution_index(old, old_rows, new, rows)
            values[column] = f"PSI {index:.2f}, mean {old.mean:,.2f} → {new.mean:,.2f}"
            largest = max(largest, index)
            if index > LARGE_INDEX or mean_shifted(old.mean, old.deviation or 0.0, new.mean):
                drifted.append(f"{column}: {values[column]}")
        checked = f"{len(values)} columns of {rows:,} rows; the largest population stability index is {largest:.2f}"
        return Outcome("; ".join(drifted), values, checked)

    return Check(
        "distribution_stable",
        f"{', '.join(columns)} are distributed as in the previous version: the population stability index is at most "
        f"{LARGE_INDEX}, and the mean moved by at most half a standard deviation.",
        test,
        distributions=dict.fromkeys(columns, key),
        blocking=False,
    )


def shares_stable(column: str, values: Sequence[str]) -> Check:
    """Returns a check that the shares of a text column's values are like those of the previous version or week."""

    def test(context: CheckContext) -> Outcome:
        if not context.previous:
            return NOTHING_TO_COMPARE
        old_counts = [sum(p.stats.shares.get(column, {}).get(value, 0) for p in context.previous) for value in values]
        new_counts = [context.stats.shares.get(column, {}).get(value, 0) for value in values]
        if min(sum(old_counts), sum(new_counts)) < FEWEST_ROWS:
            return Outcome(checked=TOO_FEW_ROWS)
        old, new = ([count / sum(counts) for count in counts] for counts in (old_counts, new_counts))
        index = stability_index(old, new)
        shares = {v: f"{percent(p)} → {percent(q)}" for v, p, q in zip(values, old, new, strict=True)}
        listed = ", ".join(f"{value} {share}" for value, share in shares.items())
        message = f"{column}: PSI {index:.2f}; {listed}" if index > LARGE_INDEX else ""
        checked = f"{column} of {sum(new_counts):,} rows: population stability index {index:.2f}"
        return Outcome(message, {column: f"PSI {index:.2f}", **shares}, checked)

    return Check(
        "distribution_stable",
        f"The shares of the values of {column} are like those of the previous version (a day: of the previous week): "
        f"the population stability index is at most {LARGE_INDEX}.",
        test,
        shares={column: values},
        blocking=False,
    )


def mean_stable(column: str) -> Check:
    """Returns a check that the mean of a daily table's numeric column is near that of the previous week."""

    def test(context: CheckContext) -> Outcome | str:
        new = context.stats.distributions.get(column)
        days = [day.stats.distributions[column] for day in context.previous if column in day.stats.distributions]
        count = sum(day.known for day in days)
        if new is None or min(new.known, count) < FEWEST_ROWS:
            return Outcome(checked=TOO_FEW_ROWS)
        mean = sum(day.known * (day.mean or 0) for day in days) / count
        # The law of total variance: within the days and between them.
        spread = sum(day.known * ((day.deviation or 0) ** 2 + ((day.mean or 0) - mean) ** 2) for day in days) / count
        compared = f"{column}: mean {mean:,.2f} → {new.mean:,.2f}, and the deviation is {math.sqrt(spread):,.2f}"
        return compared if mean_shifted(mean, math.sqrt(spread), new.mean or 0) else Outcome(checked=compared)

    return Check(
        f"mean_{column}_stable",
        f"The mean {column} of a day moved by at most half a standard deviation of the previous week.",
        test,
        distributions={column: ""},
        blocking=False,
    )

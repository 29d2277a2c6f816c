"""How far a column's values have moved, from a few numbers that are kept of them: pure arithmetic, no Spark, no files.

Which columns are watched and what becomes of the result is drift_audits.py's business.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LARGE_INDEX = 0.25
"""From here on a population counts as another one. The rule of thumb of credit scoring, below 0.1 no change, up to 0.25
a small one (Siddiqi, "Credit Risk Scorecards", 2006)."""

SMALLEST_SHARE = 0.001
"""An empty bin counts as this share, so that the index stays finite."""

FAR_MEAN = 0.5
"""Standard deviations that a mean may move."""

FEWEST_ROWS = 200
"""With fewer rows the index is mostly chance: for two samples of n rows and ten bins of one population it is about
18 / n (Yurdakul and Naranjo 2020), which is 0.09 here."""

QUANTILES = 100
"""Quantiles that are kept: 0.01, 0.02 … 1."""


@dataclass(frozen=True)
class Shape:
    """A column's values in about a hundred numbers.

    Attributes
    ----------
    rows, known
        All rows, and those whose value is a finite number.
    mean, deviation
        Of the known values; the deviation is that of the population, 0 for a constant.
    quantiles
        At 0.01, 0.02 … 1 of the known values, ascending.
    """

    rows: int
    known: int
    mean: float
    deviation: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, measured: Mapping[str, Any] | None, rows: int) -> Shape | None:
        """From the measure of `shape_of`; None where nothing was kept or no value is known."""
        if not measured or not measured.get("known") or not measured.get("quantiles"):
            return None
        mean, deviation = float(measured["mean"]), float(measured["deviation"] or 0.0)
        return cls(rows, int(measured["known"]), mean, deviation, tuple(measured["quantiles"]))


def stability_index(before: Sequence[float], now: Sequence[float]) -> float:
    """The population stability index of two distributions over the same bins: sum of (p - q) ln(p / q).

    Symmetric, and 0 where they are equal: the divergence J of Kullback and Leibler (1951).

    Parameters
    ----------
    before, now
        Shares of each bin. Shares below `SMALLEST_SHARE` count as that.

    Examples
    --------
    >>> round(stability_index([0.5, 0.5], [0.75, 0.25]), 4)
    0.2747
    """
    floored = ((max(q, SMALLEST_SHARE), max(p, SMALLEST_SHARE)) for q, p in zip(before, now, strict=True))
    return sum((p - q) * math.log(p / q) for q, p in floored)


def shape_index(before: Shape, now: Shape) -> float:
    """The stability index of a numeric column over the deciles that it had before.

    Deciles that are equal bound one bin, what is not known (null, NaN, infinite) is a bin of its own, and the shares
    are read off the quantiles, to a hundredth.
    """
    edges = sorted(set(before.quantiles[9:-1:10]))
    return stability_index(_shares(before, edges), _shares(now, edges))


def _shares(shape: Shape, edges: Sequence[float]) -> list[float]:
    below = [bisect_right(shape.quantiles, edge) / len(shape.quantiles) for edge in edges]
    known = shape.known / shape.rows
    bins = [high - low for low, high in zip([0.0, *below], [*below, 1.0], strict=True)]
    return [1 - known, *[share * known for share in bins]]


def mean_moved(before: Shape, now: Shape) -> bool:
    """Whether the mean lies more than half a standard deviation of before away; any way at all from a constant."""
    least = max(FAR_MEAN * before.deviation, 1e-9 * abs(before.mean))
    return abs(now.mean - before.mean) > least


def pooled(shapes: Sequence[Shape]) -> Shape:
    """Mean and deviation of several populations together; quantiles do not add up and are left out."""
    known = sum(shape.known for shape in shapes)
    mean = sum(shape.known * shape.mean for shape in shapes) / known
    square = sum(shape.known * (shape.deviation**2 + (shape.mean - mean) ** 2) for shape in shapes) / known
    return Shape(sum(shape.rows for shape in shapes), known, mean, math.sqrt(square), ())


def shares_of(counts: Sequence[float]) -> list[float]:
    """Counts as shares of their sum; all zero where there is nothing."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]

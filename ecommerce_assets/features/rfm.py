"""How recency, frequency and monetary value are distributed over the users: counts in fixed, readable bins.

One pass over user_features; what comes back is a few hundred numbers whatever the number of users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecommerce_assets.storage.checks import CheckContext, Read

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

UNKNOWN = -1
"""Bin of what is no number."""

CELLS = "rfm_cells"
"""Name of a summary: users by bin of recency and bin of frequency (monetary is null), and users by bin of monetary (the
other two are null)."""


@dataclass(frozen=True)
class Bins:
    """The upper ends of a feature's bins, each within its bin; the last bin has none."""

    feature: str
    ends: tuple[int, ...]

    def label(self, number: int) -> str:
        """A bin of whole numbers for people, such as `4-7` with a dash of its own."""
        if number == len(self.ends):
            return f"> {self.ends[-1]:,}"
        end = self.ends[number]
        first = self.ends[number - 1] + 1 if number else end
        return f"{end:,}" if first == end else f"{first:,}\N{EN DASH}{end:,}"

    @property
    def count(self) -> int:
        """Bins, without that of the unknown."""
        return len(self.ends) + 1


RECENCY = Bins("recency", (0, 3, 7, 14, 30, 60, 90, 180, 365))
FREQUENCY = Bins("frequency", (1, 2, 3, 5, 10, 20))
MONETARY = Bins("monetary", (0, *[step * 10**n for n in range(1, 7) for step in (1, 2, 5)]))
"""Up to five million, for shops whose currency has small units; pictures show the bins that someone is in."""


def rfm_cells(rows: DataFrame, _context: CheckContext, _read: Read) -> DataFrame:
    """The summary: users by recency and frequency, and users by monetary."""
    from pyspark.sql import functions as F

    features = [bins.feature for bins in (RECENCY, FREQUENCY, MONETARY)]
    binned = rows.select(*[_bin(bins).alias(bins.feature) for bins in (RECENCY, FREQUENCY, MONETARY)])
    # All three at once first: the rows are gone through a single time, and what is left is tiny.
    cells = binned.groupBy(*features).agg(F.count("*").alias("users"))
    # Then each cell twice: for recency with frequency, and for monetary.
    halves = cells.withColumn("rf", F.explode(F.array(F.lit(True), F.lit(False))))
    shown = [F.when(F.col("rf") == (name != MONETARY.feature), F.col(name)).alias(name) for name in features]
    counted = halves.groupBy(*shown).agg(F.sum("users").alias("users"))
    return counted.agg(F.sort_array(F.collect_list(F.struct(*features, "users"))).alias(CELLS))


def _bin(bins: Bins) -> Column:
    from pyspark.sql import functions as F

    value = F.col(bins.feature).cast("double")
    number = F.when(value.isNull() | F.isnan(value), UNKNOWN)
    for index, end in enumerate(bins.ends):
        number = number.when(value <= end, index)
    return number.otherwise(len(bins.ends))

"""Small summaries of the feature tables for the plots: users by bin of recency, frequency and monetary value, and the
funnel from views to purchases by category. Entry points: `rfm_cells` and `category_funnel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecommerce_assets.storage.checks import CheckContext, Read

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

UNKNOWN = -1
"""Bin of null and NaN."""

RFM_CELLS = "rfm_cells"
"""Name of the summary of users by bin: users by recency and frequency (monetary is null), and users by monetary (the
other two are null)."""

LARGEST_CATEGORIES, ALL_CATEGORIES = "largest_categories", "all_categories"
"""Names of the summaries of products: category, products, views, carts and purchases of the most viewed categories; and
the number of categories with the same sums over all of them."""

TOP_CATEGORIES = 8


@dataclass(frozen=True)
class Bins:
    """Bins of one feature.

    Attributes
    ----------
    ends
        Inclusive upper end of each bin but the last, which has none.
    """

    feature: str
    ends: tuple[int, ...]

    def label(self, number: int) -> str:
        """Returns the range of a bin of whole numbers for people, such as 4 to 7."""
        if number == len(self.ends):
            return f"> {self.ends[-1]:,}"
        end = self.ends[number]
        first = self.ends[number - 1] + 1 if number else end
        return f"{end:,}" if first == end else f"{first:,}\N{EN DASH}{end:,}"

    @property
    def count(self) -> int:
        """Number of bins, without `UNKNOWN`."""
        return len(self.ends) + 1


RECENCY = Bins("recency", (0, 3, 7, 14, 30, 60, 90, 180, 365))
FREQUENCY = Bins("frequency", (1, 2, 3, 5, 10, 20))
MONETARY = Bins("monetary", (0, *[step * 10**n for n in range(1, 7) for step in (1, 2, 5)]))
"""Up to five million, for currencies with small units. Plots show bins up to the last one with a user."""


def rfm_cells(rows: DataFrame, _context: CheckContext, _read: Read) -> DataFrame:
    """Returns one row with `RFM_CELLS`: a few hundred counts, whatever the number of users."""
    from pyspark.sql import functions as F

    features = [bins.feature for bins in (RECENCY, FREQUENCY, MONETARY)]
    binned = rows.select(*[_bin(bins).alias(bins.feature) for bins in (RECENCY, FREQUENCY, MONETARY)])
    # By all three features first, so that the users are read once.
    cells = binned.groupBy(*features).agg(F.count("*").alias("users"))
    # Then each cell counts twice: for recency with frequency, and for monetary.
    halves = cells.withColumn("rf", F.explode(F.array(F.lit(True), F.lit(False))))
    keys = [F.when(F.col("rf") == (name != MONETARY.feature), F.col(name)).alias(name) for name in features]
    counts = halves.groupBy(*keys).agg(F.sum("users").alias("users"))
    return counts.agg(F.sort_array(F.collect_list(F.struct(*features, "users"))).alias(RFM_CELLS))


def _bin(bins: Bins) -> Column:
    from pyspark.sql import functions as F

    value = F.col(bins.feature).cast("double")
    number = F.when(value.isNull() | F.isnan(value), UNKNOWN)
    for index, end in enumerate(bins.ends):
        number = number.when(value <= end, index)
    return number.otherwise(len(bins.ends))


def category_funnel(rows: DataFrame, _context: CheckContext, _read: Read) -> DataFrame:
    """Returns one row with `LARGEST_CATEGORIES`, most views first, and `ALL_CATEGORIES`."""
    from pyspark.sql import functions as F

    counts = ("views", "carts", "purchases")
    sums = [F.coalesce(F.sum(f"total_{name}"), F.lit(0)).alias(name) for name in counts]
    by_category = rows.groupBy("category").agg(F.count("*").alias("products"), *sums)
    # A list of structs is sorted by its first fields; the name of the category breaks ties.
    largest = F.sort_array(F.collect_list(F.struct(*counts, "products", "category")), asc=False)
    total = F.struct(F.count("*").alias("categories"), *[F.sum(name).alias(name) for name in ("products", *counts)])
    return by_category.agg(F.slice(largest, 1, TOP_CATEGORIES).alias(LARGEST_CATEGORIES), total.alias(ALL_CATEGORIES))

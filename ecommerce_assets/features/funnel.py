"""From views to carts to purchases, by category: a few numbers of product_features, whatever the number of products.

What is drawn of it stands in plots.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecommerce_assets.storage.checks import CheckContext, Read

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

TOP_CATEGORIES = 8

LARGEST, ALL = "largest_categories", "all_categories"
"""Names of summaries: category, products, views, carts and purchases of the most viewed ones; the same over all,
and how many there are."""


def category_funnel(rows: DataFrame, _context: CheckContext, _read: Read) -> DataFrame:
    """The summary: the most viewed categories, most views first, and the sums over all."""
    from pyspark.sql import functions as F

    counts = ("views", "carts", "purchases")
    sums = [F.coalesce(F.sum(f"total_{name}"), F.lit(0)).alias(name) for name in counts]
    by_category = rows.groupBy("category").agg(F.count("*").alias("products"), *sums)
    # A list of structs sorts by its first fields; the name settles ties.
    largest = F.sort_array(F.collect_list(F.struct("views", "carts", "purchases", "products", "category")), asc=False)
    whole = F.struct(F.count("*").alias("categories"), *[F.sum(name).alias(name) for name in ("products", *counts)])
    return by_category.agg(F.slice(largest, 1, TOP_CATEGORIES).alias(LARGEST), whole.alias(ALL))

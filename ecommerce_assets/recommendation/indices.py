"""Builds user_index and product_index, the dense indices that ALS needs: `build_index`."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

USER_INDEX = TableSpec.of(
    ColumnSpec("user_id", "id", "The user.", key=True),
    ColumnSpec("user_idx", "int", "Dense index from 0, most events first, ties by user_id.", nullable=False),
    ColumnSpec("events", "bigint", "Accepted events of the user, removals included.", nullable=False),
)

PRODUCT_INDEX = TableSpec.of(
    ColumnSpec("product_id", "id", "The product.", key=True),
    ColumnSpec("product_idx", "int", "Dense index from 0, most events first, ties by product_id.", nullable=False),
    ColumnSpec("events", "bigint", "Accepted events of the product, removals included.", nullable=False),
)


def build_index(
    events: DataFrame, id_column: str, index_column: str, count: SparkColumn | None = None, **more: SparkColumn
) -> DataFrame:
    """Returns dense 32-bit indices from 0 for the ids in `events`, most events first, ties by id.

    The order is that of a StringIndexer (frequencyDesc). It is a table because a fitted StringIndexer holds every label
    in the driver's memory.

    Parameters
    ----------
    count
        Aggregate that counts the events; None: each row is one event.
    more
        Further aggregates by column name.

    Returns
    -------
    DataFrame
        `id_column`, `index_column` (int), `events` (bigint), then `more`; one row per id.
    """
    aggregates = {"events": F.count("*") if count is None else count, **more}
    counted = events.groupBy(id_column).agg(*[column.alias(name) for name, column in aggregates.items()])
    by_frequency = Window.orderBy(F.desc("events"), F.asc(id_column))
    index = F.row_number().over(by_frequency) - 1
    return counted.select(id_column, index.alias(index_column), *aggregates)

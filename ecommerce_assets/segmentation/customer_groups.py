"""customer_groups: recency, frequency and monetary scores of buyers (RFM), and the group that the scores give.

`score_bounds` computes the bounds of the scores, `assign_groups` applies them. `GROUPS` defines the groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import functions as F

from ecommerce_assets.settings import RfmBounds
from ecommerce_assets.storage.checks import collect_in_one_job
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from ecommerce_assets.storage.checks import CheckContext, Read


class Group(NamedTuple):
    """A customer group: the lowest and highest scores of its members."""

    name: str
    lowest_r: int
    highest_r: int
    lowest_f: int
    highest_f: int


GROUPS = (
    Group("Champions", 5, 5, 4, 5),
    Group("Loyal", 3, 4, 4, 5),
    Group("Potential Loyalists", 4, 5, 2, 3),
    Group("New", 5, 5, 1, 1),
    Group("Promising", 4, 4, 1, 1),
    Group("Need Attention", 3, 3, 3, 3),
    Group("About to Sleep", 3, 3, 1, 2),
    Group("Cannot Lose", 1, 2, 5, 5),
    Group("At Risk", 1, 2, 3, 4),
    Group("Hibernating", 2, 2, 1, 2),
    Group("Lost", 1, 1, 1, 2),
)
"""The groups of buyers. Each pair of r_score and f_score belongs to exactly one."""

PROSPECTS = "Prospects"
"""The group of users without a purchase."""

GROUP_NAMES = (*(group.name for group in GROUPS), PROSPECTS)

CUSTOMER_GROUPS = TableSpec.of(
    ColumnSpec("user_id", "id", "The user.", key=True),
    ColumnSpec("purchase_recency", "int", "Days from the user's last purchase to the reference date."),
    ColumnSpec("purchase_days", "bigint", "Distinct days (UTC) with a purchase."),
    ColumnSpec("monetary", "double", "Sum of price over purchases.", nullable=False),
    ColumnSpec("r_score", "int", "1 (longest ago) to 5 (most recent) by purchase_recency; null without a purchase."),
    ColumnSpec("f_score", "int", "1 (fewest) to 5 (most) by purchase_days; null without a purchase."),
    ColumnSpec("m_score", "int", "1 (least) to 5 (most) by monetary; null without a purchase."),
    ColumnSpec(
        "customer_group", "string", f"The group by r_score and f_score: {', '.join(GROUP_NAMES)}.", nullable=False
    ),
)

SCORES = {"r_score": "purchase_recency", "f_score": "purchase_days", "m_score": "monetary"}
"""Each score and the column that it is computed from."""

CELLS = "group_cells"
"""Name of a summary: users and revenue by r_score, f_score and group."""


def score_bounds(user_features: DataFrame, fixed: RfmBounds | None = None) -> RfmBounds:
    """Returns the bounds that split the buyers into fifths.

    A bound is a quintile plus 1, as in `rfm_table_order` of the R package rfm. So a value that equals a quintile gets
    the lower of the two scores (the higher r_score).

    Parameters
    ----------
    user_features
        `purchase_recency` and `purchase_days` (days), `monetary` (currency of the shop). Only rows with purchase_days
        above 0 count.
    fixed
        Bounds that the shop sets. A column that has them keeps them; the others are computed.

    Raises
    ------
    ValueError
        If a column is missing, as in user_features of an earlier release.
    """
    absent = [name for name in SCORES.values() if name not in user_features.columns]
    if absent:
        raise ValueError(f"user_features lacks the columns {', '.join(absent)}: materialise it again.")
    fixed_bounds = fixed.as_dict() if fixed else {}
    missing = [name for name in SCORES.values() if name not in fixed_bounds]
    computed: dict[str, tuple[float, ...]] = {}
    if missing:
        quintiles = F.array(*[F.lit(n / 5) for n in range(1, 5)])
        percentiles = [F.percentile(F.col(name), quintiles).alias(name) for name in missing]
        [row] = collect_in_one_job(user_features.where("purchase_days > 0").agg(*percentiles))
        computed = {name: tuple(value + 1 for value in row[name] or ()) for name in missing}
    return RfmBounds(**{name: tuple(fixed_bounds.get(name) or computed[name]) for name in SCORES.values()})


def assign_groups(user_features: DataFrame, bounds: RfmBounds) -> DataFrame:
    """Returns one row per user with the columns of `CUSTOMER_GROUPS`.

    Parameters
    ----------
    user_features
        `user_id`, `purchase_recency`, `purchase_days`, `monetary`. Users whose purchase_days is null, as in features
        that were computed elsewhere, have no scores, and no group if monetary is more than 0.
    bounds
        The bounds of `score_bounds`.
    """
    reached = {name: _bounds_reached(name, getattr(bounds, name)) for name in SCORES.values()}
    is_buyer = F.col("purchase_days") > 0
    scored = user_features.select(
        "user_id",
        *SCORES.values(),
        F.when(is_buyer, 5 - reached["purchase_recency"]).alias("r_score"),
        F.when(is_buyer, 1 + reached["purchase_days"]).alias("f_score"),
        F.when(is_buyer, 1 + reached["monetary"]).alias("m_score"),
    )
    # Buyers may have paid 0, so monetary decides only if purchase_days is unknown.
    group = F.when(F.coalesce(F.col("purchase_days").cast("double"), F.col("monetary")) == 0, PROSPECTS)
    for each in GROUPS:
        r, f = F.col("r_score"), F.col("f_score")
        group = group.when(
            r.between(each.lowest_r, each.highest_r) & f.between(each.lowest_f, each.highest_f), each.name
        )
    return scored.withColumn("customer_group", group)


def _bounds_reached(name: str, bounds: tuple[float, ...]) -> Column:
    """Returns the number of bounds that are at most the value."""
    count = F.lit(0)
    for bound in bounds:
        count = count + (F.col(name) >= bound).cast("int")
    return count


def group_cells(rows: DataFrame, _context: CheckContext, _read: Read) -> DataFrame:
    """Returns the summary `CELLS`: at most 27 structs, whatever the number of users."""
    cells = rows.groupBy("r_score", "f_score", "customer_group").agg(
        F.count("*").alias("users"), F.sum("monetary").alias("revenue")
    )
    return cells.agg(F.sort_array(F.collect_list(F.struct(*cells.columns))).alias(CELLS))

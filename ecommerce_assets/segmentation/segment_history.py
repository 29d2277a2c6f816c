"""segment_history: when each user's segment or customer group changed, and how users moved between groups.

`add_changes` extends the history of the previous version. A version has the whole history, so retention of versions
does not shorten it.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from ecommerce_assets.storage.checks import CheckContext, Read
    from ecommerce_assets.storage.version import Stats

SEGMENT_HISTORY = TableSpec.of(
    ColumnSpec("user_id", "id", "The user.", key=True),
    ColumnSpec("date", "date", "Reference date of the first data with the change.", key=True),
    ColumnSpec("segment", "string", "The segment from this date on; null: the user is no longer in the data."),
    ColumnSpec(
        "customer_group",
        "string",
        "The group from this date on; null: the user has no group, or is no longer in the data.",
    ),
)

MOVEMENT_DAYS = 30
"""Days over which movement between groups is shown."""

MOVEMENT = "movement"
"""Name of a summary: number of users by their groups now, at the previous date and `MOVEMENT_DAYS` days ago."""

CHANGES = "changes"
"""Name of a summary: number of users with a change, by date."""


@dataclass(frozen=True)
class Dates:
    """The dates of a version of segment_history.

    Attributes
    ----------
    date
        Reference date of the data.
    first
        The first date of the history.
    previous
        The last earlier date on which a run extended the history; None for the first date.
    since
        Movement is counted from this date: `MOVEMENT_DAYS` days before `date`, but not before `first`; None for the
        first date.
    """

    date: dt.date
    first: dt.date
    previous: dt.date | None

    @classmethod
    def following(cls, day: dt.date, earlier: Mapping[str, Any]) -> Dates:
        """Returns the dates of a new version.

        Parameters
        ----------
        day
            Reference date of the data.
        earlier
            Parameters of the previous version; empty if the new version is the first one.
        """
        if not earlier:
            return cls(day, day, None)
        last = dt.date.fromisoformat(earlier["date"])
        previous = earlier["previous_date"] if last == day else earlier["date"]
        return cls(
            day, min(dt.date.fromisoformat(earlier["first_date"]), day), previous and dt.date.fromisoformat(previous)
        )

    @property
    def since(self) -> dt.date | None:
        """Returns the date from which movement is counted."""
        return max(self.first, self.date - dt.timedelta(MOVEMENT_DAYS)) if self.previous else None

    def as_dict(self) -> dict[str, str | None]:
        """Returns the dates as text, for the parameters of a version."""
        days = {"date": self.date, "first_date": self.first, "previous_date": self.previous, "since": self.since}
        return {name: day.isoformat() if day else None for name, day in days.items()}


def add_changes(
    history: DataFrame | None, segmented_users: DataFrame, customer_groups: DataFrame, day: dt.date
) -> DataFrame:
    """Returns the history with one more row for each user whose segment or group differs from the last row.

    A user who is no longer in the data gets a row with nulls. Rows of `day` are replaced, so a second run over the same
    data gives the same table.

    Parameters
    ----------
    history
        The previous version with the columns of `SEGMENT_HISTORY`, no row later than `day`; None for the
        first version.
    segmented_users
        `user_id`, `segment`.
    customer_groups
        `user_id`, `customer_group`; the same users.
    day
        Reference date of the two tables.
    """
    now = segmented_users.select("user_id", "segment").join(
        customer_groups.select("user_id", "customer_group"), "user_id"
    )
    today = F.lit(day)
    if history is None:
        return now.select("user_id", today.alias("date"), "segment", "customer_group")
    earlier = history.where(F.col("date") < today)
    last = earlier.groupBy("user_id").agg(
        F.max_by(F.struct(F.col("segment").alias("s"), F.col("customer_group").alias("g")), "date").alias("last")
    )
    is_changed = ~(F.col("segment").eqNullSafe(F.col("last.s")) & F.col("customer_group").eqNullSafe(F.col("last.g")))
    changes = now.join(last, "user_id", "full_outer").where(is_changed)
    return earlier.unionByName(changes.select("user_id", today.alias("date"), "segment", "customer_group"))


def movement(rows: DataFrame, context: CheckContext, _read: Read) -> DataFrame:
    """Returns the summary `MOVEMENT`: one struct for each combination of groups, with the number of users."""
    dates = context.parameters
    states = rows.groupBy("user_id").agg(
        _as_of("customer_group", dates["date"]).alias("now"),
        _as_of("customer_group", dates["previous_date"]).alias("previous"),
        _as_of("customer_group", dates["since"]).alias("since"),
    )
    cells = states.groupBy("now", "previous", "since").agg(F.count("*").alias("users"))
    return cells.agg(F.sort_array(F.collect_list(F.struct(*cells.columns))).alias(MOVEMENT))


def changes_by_date(rows: DataFrame, _context: CheckContext, _read: Read) -> DataFrame:
    """Returns the summary `CHANGES`: one struct for each date, with the number of users."""
    changes = rows.groupBy("date").agg(F.count("*").alias("users"))
    pairs = F.struct(F.col("date").cast("string").alias("date"), "users")
    return changes.agg(F.sort_array(F.collect_list(pairs)).alias(CHANGES))


def moves_of(stats: Stats, since: str) -> Counter[tuple[str | None, str | None]]:
    """Returns users by their groups at a date and now; None: not in the data.

    Parameters
    ----------
    stats
        Of a version, with the summary `MOVEMENT`.
    since
        `previous` or `since`: see `Dates`.
    """
    moves = Counter[tuple[str | None, str | None]]()
    for cell in stats.summaries.get(MOVEMENT) or ():
        if cell[since] is not None or cell["now"] is not None:
            moves[cell[since], cell["now"]] += cell["users"]
    return moves


def moved_users(stats: Stats, since: str) -> tuple[int, int]:
    """Returns the number of users whose group changed, and of all users who are in the data at both dates."""
    both = {pair: users for pair, users in moves_of(stats, since).items() if None not in pair}
    return sum(users for pair, users in both.items() if pair[0] != pair[1]), sum(both.values())


def _as_of(column: str, day: str | None) -> Column:
    if day is None:
        return F.lit(None).cast("string")
    dates = F.when(F.col("date") <= F.lit(day).cast("date"), F.col("date"))
    return F.max_by(column, dates)

"""Expressions that both feature tables are made of.

What only one of them needs stands with that table.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

SECONDS_PER_DAY = 86_400
_BILLION = 1_000_000_000
_BILLIONTH = Decimal("0.000000001")


def utc(microseconds: int) -> datetime:
    """A time from microseconds since 1970, with its zone: what Spark collects as a datetime is in the driver's zone."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def timestamp(moment: datetime) -> Column:
    """A literal timestamp from a datetime with a zone."""
    return F.timestamp_micros(F.lit(round(moment.timestamp() * 1_000_000)))


def utc_day(time: Column) -> Column:
    """Days from 1970-01-01 to a timestamp's date in UTC (int), whatever the time zone of the session.

    A session that was there before ours, such as a notebook's, has a zone of its own, and `to_date` follows it.
    """
    return F.floor(F.unix_seconds(time) / SECONDS_PER_DAY).cast("int")


def of_type(event_type: str) -> Column:
    """Whether an event is of this type."""
    return F.col("event_type") == event_type


def distinct_count(column: Column) -> Column:
    """Number of different values that are not null, without an expansion of the rows.

    Several `count(distinct …)` in one aggregation write every row once per distinct column; lists of what a group has
    seen do not, in a third of the time. It is faster still where the rows of a group come one after the other:
    `repartition` by the key, so that the lists are not shuffled, then `sortWithinPartitions`, so that no hash table
    holds them.
    """
    return F.size(F.array_distinct(F.collect_list(column))).cast("bigint")


def fingerprint(name: str) -> Column:
    """A text as 64 bits, null as null: a shuffle of session ids is five times as large as one of these.

    Two of n texts of one user share one with probability n² / 2^65: 3e-8 for a user with a million sessions.
    """
    return F.when(F.col(name).isNotNull(), F.xxhash64(name))


def exact_sum(amount: Column) -> Column:
    """Sum of amounts of money (double, 0 to 1e12) to nine decimals, the same whatever the order of the rows.

    A plain sum of doubles depends on the order in which partial sums arrive, so two runs over the same events would
    differ in the last digits. Whole units and billionths are summed as integers instead, which is exact. Nulls do not
    count; the sum of nothing is 0.
    """
    whole = F.floor(amount)
    # rint, not round: Spark's round of a double makes a decimal of each, which is slower.
    billionths = F.rint((amount - whole) * _BILLION).cast("bigint")
    # Put together as decimals: as doubles the two parts would be rounded twice, and 1.14 become 1.1400000000000001.
    total = F.sum(whole).cast("decimal(19,0)") + F.sum(billionths).cast("decimal(19,0)") * F.lit(_BILLIONTH)
    # By way of text: Sail's cast of a decimal to a double is not always the nearest one.
    return F.coalesce(total.cast("string").cast("double"), F.lit(0.0))


def ratio(part: Column, whole: Column) -> Column:
    """part / whole, 0 where whole is 0."""
    return F.when(whole > 0, part / whole).otherwise(F.lit(0.0))

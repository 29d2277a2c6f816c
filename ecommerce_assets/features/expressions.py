"""Column expressions shared by the feature tables: exact sums, distinct counts, ratios, days in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

SECONDS_PER_DAY = 86_400
_BILLION = 1_000_000_000
_BILLIONTH = Decimal("0.000000001")


def utc(microseconds: int) -> datetime:
    """Returns the time in UTC of microseconds since 1970.

    Collect times with `F.unix_micros` and this function: Spark collects a timestamp as a naive datetime in the time
    zone of the driver.
    """
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def timestamp(moment: datetime) -> Column:
    """Returns a literal timestamp column for a datetime with a time zone."""
    return F.timestamp_micros(F.lit(round(moment.timestamp() * 1_000_000)))


def utc_day(time: Column) -> Column:
    """Returns the number of days (int) from 1970-01-01 to the date of a timestamp in UTC.

    `to_date` follows the time zone of the session, which is not UTC in a session that a notebook started.
    """
    return F.floor(F.unix_seconds(time) / SECONDS_PER_DAY).cast("int")


def of_type(event_type: str) -> Column:
    """Returns whether an event has this event_type."""
    return F.col("event_type") == event_type


def distinct_count(column: Column) -> Column:
    """Returns the number of distinct values (bigint), nulls not counted, as an aggregate.

    Several `count(distinct …)` in one aggregation expand every row once per distinct column; lists of the values of a
    group do not (3x faster, see benchmarks). Before the aggregation, `repartition` by the key, so that the lists are
    not shuffled, and `sortWithinPartitions`, so that no hash table has to hold them.
    """
    return F.size(F.array_distinct(F.collect_list(column))).cast("bigint")


def fingerprint(name: str) -> Column:
    """Returns a 64-bit hash of a string column, null for null: it is shuffled in place of long strings.

    Any two of n distinct values have the same hash with probability n² / 2^65: 3e-8 for a million values.
    """
    return F.when(F.col(name).isNotNull(), F.xxhash64(name))


def exact_sum(amount: Column) -> Column:
    """Returns the sum (double) of amounts of money to nine decimals, independent of the order of the rows.

    A sum of doubles depends on the order in which partial sums arrive, so two runs over the same events would differ in
    the last digits. Whole units and billionths are summed as integers instead, which is exact.

    Parameters
    ----------
    amount
        Double from 0 to 1e12. Nulls are ignored; the sum of no amounts is 0.
    """
    whole = F.floor(amount)
    # rint, because Spark's round converts each double to a decimal, which is slower.
    billionths = F.rint((amount - whole) * _BILLION).cast("bigint")
    # Added as decimals: doubles would be rounded twice, and 1.14 would become 1.1400000000000001.
    total = F.sum(whole).cast("decimal(19,0)") + F.sum(billionths).cast("decimal(19,0)") * F.lit(_BILLIONTH)
    # Through a string, because Sail does not always cast a decimal to the nearest double.
    return F.coalesce(total.cast("string").cast("double"), F.lit(0.0))


def ratio(part: Column, whole: Column) -> Column:
    """Returns part / whole, 0 where whole is 0."""
    return F.when(whole > 0, part / whole).otherwise(F.lit(0.0))

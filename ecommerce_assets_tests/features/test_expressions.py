"""The expressions that both feature tables are made of."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import exact_sum, ratio, timestamp, utc

CENTS = st.decimals(min_value=0, max_value=1_000_000, places=2)
FOUR_DECIMALS = st.decimals(min_value=0, max_value=1_000_000, places=4)
LARGE = st.decimals(min_value=0, max_value=10**12, places=4)


def sums(spark: SparkSession, groups: list[list[float]]) -> list[float]:
    """exact_sum of each group, in one Spark job."""
    rows = [(number, amount) for number, group in enumerate(groups) for amount in group]
    frame = spark.createDataFrame(rows, "number int, amount double")
    found = frame.groupBy("number").agg(exact_sum(F.col("amount")).alias("total")).collect()
    return [row["total"] for row in sorted(found, key=lambda row: row["number"])]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(CENTS | FOUR_DECIMALS, min_size=1, max_size=8), min_size=1, max_size=40))
@example([[Decimal("0.1"), Decimal("0.2")], [Decimal("1.14")], [Decimal("1.7991")], [Decimal("1.36")]])
def test_sum_of_prices_is_the_double_next_to_the_true_sum(spark: SparkSession, groups: list[list[Decimal]]) -> None:
    found = sums(spark, [[float(price) for price in group] for group in groups])
    assert found == [float(sum(group)) for group in groups]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(LARGE, min_size=1, max_size=8), min_size=1, max_size=40))
@example([[Decimal("999999999999.9999"), Decimal("0.0001")], [Decimal(10**12)] * 8])
def test_sum_of_large_amounts_is_right_to_the_last_digit(spark: SparkSession, groups: list[list[Decimal]]) -> None:
    # Against the true sum of the doubles: an amount near 1e12 is itself only known to 0.0001.
    amounts = [[float(price) for price in group] for group in groups]
    for total, group in zip(sums(spark, amounts), amounts, strict=True):
        true = sum(map(Fraction, group))
        assert abs(Fraction(total) - true) <= len(group) * Fraction(5, 10**10) + true / 2**53


def test_nulls_do_not_count(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(1, None), (1, 0.5), (2, None)], "number int, amount double")
    found = frame.groupBy("number").agg(exact_sum(F.col("amount")).alias("total"))
    assert {row["number"]: row["total"] for row in found.collect()} == {1: 0.5, 2: 0.0}


def test_sum_of_nothing_is_zero(spark: SparkSession) -> None:
    frame = spark.createDataFrame([], "amount double")
    assert frame.agg(exact_sum(F.col("amount"))).collect()[0][0] == 0.0


def test_ratio_is_zero_where_the_whole_is_zero(spark: SparkSession) -> None:
    rows = [(1, 4), (0, 4), (3, 0), (0, 0), (-3, 2), (3, 2)]
    frame = spark.createDataFrame(rows, "part bigint, whole bigint")
    found = [row[0] for row in frame.select(ratio(F.col("part"), F.col("whole"))).collect()]
    assert found == [0.25, 0.0, 0.0, 0.0, -1.5, 1.5]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (dt.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC), "2020-01-02 03:04:05.678901"),
        (dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))), "2019-12-31 22:00:00"),
        (dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=dt.UTC), "1969-12-31 23:59:59"),
    ],
)
def test_literal_timestamp_is_in_utc(spark: SparkSession, moment: dt.datetime, text: str) -> None:
    assert spark.range(1).select(timestamp(moment).cast("string")).collect()[0][0] == text


def test_microseconds_become_a_time_with_a_zone() -> None:
    assert utc(1_577_934_245_678_901) == dt.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)

"""The expressions shared by the feature tables."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import exact_sum, ratio, timestamp, utc

CENTS = st.decimals(min_value=0, max_value=1_000_000, places=2)
FOUR_DECIMALS = st.decimals(min_value=0, max_value=1_000_000, places=4)
LARGE = st.decimals(min_value=0, max_value=10**12, places=4)


def sums(spark: SparkSession, groups: list[list[float | None]]) -> list[float]:
    """exact_sum of each group, in one Spark job."""
    rows = [(number, amount) for number, group in enumerate(groups) for amount in group]
    frame = spark.createDataFrame(rows, "number int, amount double")
    totals = frame.groupBy("number").agg(exact_sum(F.col("amount")).alias("total")).collect()
    return [row["total"] for row in sorted(totals, key=lambda row: row["number"])]


@settings(max_examples=4, deadline=None)
@given(
    st.lists(st.lists(CENTS | FOUR_DECIMALS, min_size=1, max_size=8), min_size=1, max_size=100),
    st.lists(st.lists(LARGE, min_size=1, max_size=8), min_size=1, max_size=100),
)
@example(
    [[Decimal("0.1"), Decimal("0.2")], [Decimal("1.14")], [Decimal("1.7991")], [Decimal("1.36")]],
    [[Decimal("999999999999.9999"), Decimal("0.0001")], [Decimal(10**12)] * 8],
)
def test_sum_of_prices_is_the_double_nearest_to_the_exact_sum(
    spark: SparkSession, prices: list[list[Decimal]], large: list[list[Decimal]]
) -> None:
    totals = sums(spark, [[float(price) for price in group] for group in (*prices, *large)])
    assert totals[: len(prices)] == [float(sum(group)) for group in prices]
    # A double near 1e12 is exact to 0.0001 only: compared with the sum of the doubles.
    for total, group in zip(totals[len(prices) :], large, strict=True):
        exact = sum(Fraction(float(price)) for price in group)
        assert abs(Fraction(total) - exact) <= len(group) * Fraction(5, 10**10) + exact / 2**53


def test_sum_ignores_nulls_and_is_zero_without_amounts(spark: SparkSession) -> None:
    assert sums(spark, [[None, 0.5], [None]]) == [0.5, 0.0]
    assert spark.createDataFrame([], "amount double").agg(exact_sum(F.col("amount"))).collect()[0][0] == 0.0


def test_ratio_is_zero_where_the_whole_is_zero(spark: SparkSession) -> None:
    rows = [(1, 4), (0, 4), (3, 0), (0, 0), (-3, 2), (3, 2)]
    frame = spark.createDataFrame(rows, "part bigint, whole bigint")
    ratios = [row[0] for row in frame.select(ratio(F.col("part"), F.col("whole"))).collect()]
    assert ratios == [0.25, 0.0, 0.0, 0.0, -1.5, 1.5]


def test_times_are_in_utc(spark: SparkSession) -> None:
    texts = {
        "2020-01-02 03:04:05.678901": dt.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
        "2019-12-31 22:00:00": dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "1969-12-31 23:59:59": dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    }
    [row] = spark.range(1).select(*[timestamp(moment).cast("string") for moment in texts.values()]).collect()
    assert list(row) == list(texts)
    assert utc(1_577_934_245_678_901) == texts["2020-01-02 03:04:05.678901"]

"""Stats that are computed from the rows of a version, and the results of checks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.storage.checks import (
    Check,
    CheckContext,
    Outcome,
    Read,
    measure,
    no_nulls,
    one_of,
    rule,
    run_checks,
    summaries_of,
    unique_key,
)
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.version import Distribution, Stats

KEYED = TableSpec.of(
    ColumnSpec("user_id", "bigint", "The user.", key=True), ColumnSpec("day", "int", "The day.", key=True)
)
KEYS_DDL = "user_id bigint, day int"


def stats_of(frame: DataFrame, *checks: Check, rows: int = 0) -> Stats:
    summaries = [make(frame, CheckContext(Stats()), lambda _: frame) for make in summaries_of(checks)]
    return measure(frame, checks, summaries, rows)[None]


def messages(frame: DataFrame, *checks: Check) -> list[str]:
    return [result.message for result in run_checks(checks, CheckContext(stats_of(frame, *checks)))]


def test_repeated_keys_are_counted(spark: SparkSession) -> None:
    unique = unique_key(KEYED)
    assert messages(spark.createDataFrame([(1, 1), (1, 2), (2, 1)], KEYS_DDL), unique) == [""]
    assert messages(spark.createDataFrame([], KEYS_DDL), unique) == [""]
    assert messages(spark.createDataFrame([(1, 1), (1, 1), (2, 1)], KEYS_DDL), unique) == [
        "1 of 3 rows repeat a user_id, day"
    ]


def test_nulls_in_required_columns_fail() -> None:
    found = run_checks([no_nulls(KEYED)], CheckContext(Stats(rows=3, nulls={"user_id": 0, "day": 1, "other": 3})))
    assert [result.message for result in found] == ["rows with null in day (1)"]
    assert run_checks([no_nulls(KEYED)], CheckContext(Stats(rows=3, nulls={"user_id": 0})))[0].passed


def test_a_rule_counts_the_rows_that_break_it_and_ignores_nulls(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(1, "a"), (-1, "b"), (-2, None), (None, "a")], "price int, kind string")
    negative, kinds = rule("price", "price is at least 0.", "price < 0"), one_of("kind", "kind", ["a", "c"])
    assert messages(frame, negative, kinds) == [
        "2 of 4 rows break the rule: price is at least 0.",
        "1 of 4 rows break the rule: kind is one of a, c.",
    ]


def test_an_outcome_keeps_its_values_and_a_reported_result_makes_a_failure_a_warning() -> None:
    checks = [
        Check("passed", "", lambda _: Outcome("", {"silhouette": 0.4}, "0.4 is enough")),
        Check("failed", "", lambda _: Outcome("too low", {"silhouette": 0.1}, "0.1"), warning_if="few users"),
    ]
    for results, blocking in (({}, True), ({"few users": 3}, False)):
        passed, failed = run_checks(checks, CheckContext(Stats(results=results)), "2019-10-01")
        assert (passed.passed, passed.message, passed.checked) == (True, "", "0.4 is enough")
        assert (passed.values, failed.checked) == ({"silhouette": 0.4}, "")
        assert (failed.passed, failed.message, failed.values) == (False, "too low", {"silhouette": 0.1})
        assert (passed.blocking, failed.blocking, failed.partition) == (True, blocking, "2019-10-01")


@pytest.mark.spark_only
def test_checks_and_plots_need_one_query(spark: SparkSession, tmp_path: Path) -> None:
    def counts(rows: DataFrame, _: CheckContext, __: Read) -> DataFrame:
        grouped = rows.groupBy("day").agg(F.count("*").alias("users"))
        return grouped.agg(F.array_sort(F.collect_list(F.struct("day", "users"))).alias("by_day"))

    checks = [
        unique_key(KEYED),
        rule("positive", "", "day < 0"),
        Check("more", "", lambda _: None, distributions={"day": "user_id"}, shares={"day": ["0", "1"]}, summary=counts),
    ]
    spark.range(10).selectExpr("id as user_id", "cast(id % 3 as int) as day").write.parquet(str(tmp_path / "t"))
    frame = spark.read.parquet(str(tmp_path / "t"))
    context = spark.sparkContext._jsc.sc()

    def newest_query() -> int:
        """Returns the number of the last query; Spark keeps the last thousand."""
        context.listenerBus().waitUntilEmpty()
        store = spark._jsparkSession.sharedState().statusStore()
        return int(store.executionsList(int(store.executionsCount()) - 1, 1).apply(0).executionId())

    frame.count()
    before = newest_query()
    found = stats_of(frame, *checks)
    assert newest_query() - before == 1
    assert (found.rows, found.numbers) == (10, {"distinct_keys": 10, "positive_broken": 0})
    assert found.shares == {"day": {"0": 4, "1": 3}}
    assert found.distributions["day"].known == 10
    assert found.summaries == {"by_day": [{"day": 0, "users": 4}, {"day": 1, "users": 3}, {"day": 2, "users": 3}]}


def test_a_daily_table_is_measured_by_day(spark: SparkSession) -> None:
    frame = spark.sql("select id, date'2019-10-01' + cast(id % 2 as int) as event_date from range(5)")
    found = measure(frame, [rule("small", "", "id > 2")])
    assert {day: (stats.rows, stats.numbers["small_broken"]) for day, stats in found.items()} == {
        "2019-10-01": (3, 1),
        "2019-10-02": (2, 1),
    }


ROWS = [(1, "a", "x", 0.5), (2, "b", None, None), (2, "b", None, None), (3, None, "y", math.nan)]
ROWS_DDL = "id bigint, brand string, kind string, price double"


def content(spark: SparkSession, rows: list[tuple[object, ...]]) -> str | None:
    return stats_of(spark.createDataFrame(rows, ROWS_DDL)).content


def test_content_is_independent_of_order_partitions_and_encoding(spark: SparkSession, tmp_path: Path) -> None:
    stored = spark.createDataFrame(ROWS[::-1], ROWS_DDL).repartition(3)
    stored.write.parquet(str(tmp_path / "t"), compression="zstd")
    assert stats_of(spark.read.parquet(str(tmp_path / "t"))).content == content(spark, ROWS)


def test_different_rows_have_different_content(spark: SparkSession) -> None:
    different = {
        "the rows": ROWS,
        "a value": [*ROWS[:3], (4, None, "y", math.nan)],
        "null for a number": [*ROWS[:3], (3, None, "y", None)],
        "a value in another column": [*ROWS[:3], (3, "y", None, math.nan)],
        "values of two rows swapped": [(1, "b", "x", 0.5), (2, "a", None, None), *ROWS[2:]],
        "a repeat less": [*ROWS[:2], ROWS[3]],
        "a pair of repeats less": [ROWS[0], ROWS[3]],
        "a pair of repeats more": [*ROWS, ROWS[1], ROWS[1]],
        "another pair of repeats": [ROWS[0], ROWS[0], ROWS[0], ROWS[3]],
        "nothing": [],
    }
    assert len({content(spark, rows) for rows in different.values()}) == len(different)


def test_distributions_ignore_values_that_are_not_finite(spark: SparkSession) -> None:
    frame = spark.sql(
        "select id, case id when 0 then double('nan') when 1 then double('inf') when 2 then -double('inf') "
        "when 3 then null when 4 then 5D else 1D end as x, cast(null as int) as gone from range(8)"
    )
    check = Check("stable", "", lambda _: None, distributions={"x": "id", "gone": "id"})
    found = stats_of(frame, check).distributions
    assert (found["x"].known, found["x"].mean, found["x"].deviation) == (4, 2.0, pytest.approx(math.sqrt(3)))
    assert found["x"].quantiles == (1.0,) * 75 + (5.0,) * 25
    assert found["gone"] == Distribution(known=0)


def test_distributions_agree_with_numpy_and_a_sample_with_all_rows(spark: SparkSession) -> None:
    frame = spark.range(60_000).selectExpr("id as user_id", "cast(pmod(id * 37, 101) as double) as monetary")
    check = Check("stable", "", lambda _: None, distributions={"monetary": "user_id"})
    whole, sampled = (stats_of(frame, check, rows=rows).distributions["monetary"] for rows in (0, 60_000))
    values = np.arange(60_000) * 37 % 101
    quantiles = np.quantile(values, np.arange(1, 101) / 100, method="inverted_cdf")
    assert (whole.known, sampled.known) == (60_000, 60_000)
    assert (whole.mean, sampled.mean) == (pytest.approx(values.mean()),) * 2
    assert whole.deviation == pytest.approx(values.std())
    assert sampled.deviation == pytest.approx(values.std(), rel=0.02)
    assert np.abs(np.array(whole.quantiles) - quantiles).max() <= 1
    assert np.abs(np.array(sampled.quantiles) - quantiles).max() < 3
    assert sampled.quantiles != whole.quantiles

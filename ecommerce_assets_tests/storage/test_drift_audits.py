"""What is compared with the version before, with the days before, and what the warnings say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.storage.audits import Audit, Evidence, measure, run_audits
from ecommerce_assets.storage.before import Before, days_before
from ecommerce_assets.storage.drift_audits import (
    distribution_stable,
    mean_stable,
    row_count_stable,
    schema_unchanged,
    shares_stable,
)
from ecommerce_assets.storage.manifest import AuditResult


def judged(audit: Audit, now: Evidence, *before: Before) -> AuditResult:
    [result] = run_audits([audit], replace(now, before=before))
    assert not result.blocking
    return result


def day(name: str, rows: int, **measures: Any) -> Before:
    return Before(name, rows, measures={"rows": rows, **measures}, daily=True)


def test_columns_are_compared() -> None:
    old = Before("v1", columns={"user_id": "bigint", "price": "double", "brand": "string"})
    now = Evidence({"rows": 1}, columns={"user_id": "bigint", "price": "string", "shop": "int"})
    assert judged(schema_unchanged(), now, old).message == (
        "the columns differ from those of v1; new: shop (int); gone: brand (string); changed: price double → string"
    )
    assert judged(schema_unchanged(), replace(now, columns=old.columns), old).passed
    assert judged(schema_unchanged(), now).passed, "a first version has nothing before it"


@pytest.mark.parametrize(
    "audit",
    [schema_unchanged(), row_count_stable(), distribution_stable(["price"], "id"), shares_stable("kind", ["a"])],
)
def test_a_first_version_says_that_nothing_was_compared(audit: Audit) -> None:
    assert judged(audit, Evidence({"rows": 1})).figures == {"compared with": "nothing: there is no version before"}


@pytest.mark.parametrize(("rows", "passes"), [(50, True), (49, False), (150, True), (151, False), (0, False)])
def test_rows_of_a_table(rows: int, passes: bool) -> None:
    found = judged(row_count_stable(), Evidence({"rows": rows}), Before("v1", 100))
    assert found.passed == passes
    assert passes or found.message == f"{rows} rows, while the version before has 100"


@pytest.mark.parametrize(
    ("rows", "before", "message"),
    [
        (300, [100, 200, 150], ""),
        (301, [100, 200, 150], "301 rows, while the 3 days before have 150 at the median"),
        (74, [100, 200, 150], "74 rows, while the 3 days before have 150 at the median"),
        (1, [100, 200], ""),
        (5, [], ""),
    ],
)
def test_rows_of_a_day(rows: int, before: Sequence[int], message: str) -> None:
    days = [day(f"2019-10-0{n}", count) for n, count in enumerate(before, 1)]
    assert judged(row_count_stable(), Evidence({"rows": rows}), *days).message == message


def test_the_week_before_a_day() -> None:
    known = {f"2019-10-{n:02d}": day(f"2019-10-{n:02d}", n) for n in (1, 2, 3, 5, 8, 9, 10, 11, 12)}
    assert [b.rows for b in days_before(known, "2019-10-11")] == [1, 2, 3, 5, 8, 9, 10][-7:]
    assert [b.rows for b in days_before(known, "2019-10-12")] == [2, 3, 5, 8, 9, 10, 11]
    assert days_before(known, "2019-10-01") == []


COLUMNS = ("monetary", "views")


def users(spark: SparkSession, factor: float = 1.0, count: int = 400) -> DataFrame:
    return spark.range(count).selectExpr(
        "id as user_id", f"pmod(id * 37, 101) * {factor}D as monetary", "pmod(id, 7) as views"
    )


def measured(frame: DataFrame, audit: Audit) -> Evidence:
    measures = measure(frame, [audit], rows=0)[None]
    return Evidence(json.loads(json.dumps(measures)))  # as they come back from the manifest


def as_before(evidence: Evidence) -> Before:
    return Before("v1", evidence.measures["rows"], measures=evidence.measures)


def test_distributions(spark: SparkSession) -> None:
    audit = distribution_stable(COLUMNS, "user_id")
    old = as_before(measured(users(spark), audit))
    same = judged(audit, measured(users(spark), audit), old)
    assert (same.passed, same.figures["views"]) == (True, "PSI 0.00, mean 2.99 → 2.99")
    moved = judged(audit, measured(users(spark, factor=3.0), audit), old)
    assert moved.message.startswith("monetary: PSI ")
    assert "mean 49.9" in moved.message
    assert "views" not in moved.message
    assert sorted(moved.figures) == ["monetary", "views"]


def test_distributions_that_cannot_be_compared(spark: SparkSession) -> None:
    audit = distribution_stable(COLUMNS, "user_id")
    now = measured(users(spark), audit)
    assert judged(audit, now, Before("v1", 400)).passed, "a version of before this was measured"
    few = as_before(measured(users(spark, factor=9.0, count=100), audit))
    assert judged(audit, now, few).passed, "too few rows for more than chance"
    gone = measured(users(spark).selectExpr("user_id", "cast(null as double) monetary", "views"), audit)
    assert judged(audit, gone, as_before(now)).message == "monetary: no value is left"
    unsampled = dict(now.measures["shape of monetary"], known=3, deviation=None, quantiles=None)
    rare = replace(now, measures={**now.measures, "shape of monetary": unsampled})
    assert judged(audit, rare, as_before(now)).passed, "values are there, only not in the sample"
    assert judged(audit, now, as_before(gone)).passed


def test_nan_and_infinity_are_not_known(spark: SparkSession) -> None:
    audit = distribution_stable(("x",), "id")
    odd = spark.sql(
        "select id, case id when 0 then double('nan') when 1 then double('inf') else 1D end x from range(9)"
    )
    shape = measured(odd, audit).measures["shape of x"]
    assert (shape["known"], shape["mean"], shape["deviation"]) == (7, 1.0, 0.0)
    assert set(shape["quantiles"]) == {1.0}


def test_a_sample_stands_for_a_large_table(spark: SparkSession) -> None:
    audit = distribution_stable(COLUMNS, "user_id")
    frame = users(spark, count=60_000)
    [whole, sampled] = (measure(frame, [audit], rows=rows)[None]["shape of monetary"] for rows in (0, 60_000))
    assert whole["mean"] == pytest.approx(sampled["mean"])
    assert sampled["deviation"] == pytest.approx(whole["deviation"], rel=0.02)
    assert max(abs(a - b) for a, b in zip(whole["quantiles"], sampled["quantiles"], strict=True)) < 3


def test_shares() -> None:
    audit = shares_stable("segment", ["A", "B"])
    old = Before("v1", 1000, measures={"segment A": 900, "segment B": 100})
    same = judged(audit, Evidence({"rows": 1000, "segment A": 880, "segment B": 120}), old)
    assert (same.passed, same.figures["A"]) == (True, "90.0% → 88.0%")
    other = judged(audit, Evidence({"rows": 1000, "segment A": 100, "segment B": 900}), old)
    assert other.message == "segment: PSI 3.52; A 90.0% → 10.0%, B 10.0% → 90.0%"
    assert judged(audit, Evidence({"rows": 9, "segment A": 0, "segment B": 9}), old).passed


def test_the_mean_of_a_day(spark: SparkSession) -> None:
    audit = mean_stable("price")
    frame = spark.range(400).selectExpr("10D + pmod(id, 3) as price")
    measures = measure(frame, [audit])[None]
    week = [Before(f"2019-10-0{n}", 400, measures=measures, daily=True) for n in (1, 2)]
    now = Evidence(measure(frame.selectExpr("price * 100 as price"), [audit])[None])
    assert judged(audit, now, *week).message == ("price: mean 11.00 → 1,099.75, and the days before deviate by 0.82")
    assert judged(audit, Evidence(week[0].measures), *week).passed
    assert judged(audit, now).passed

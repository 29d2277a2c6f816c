"""Drift checks against hand-computed numbers, and the versions and days that they compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage.checks import NOTHING_TO_COMPARE, Check, CheckContext, Outcome, Previous, run_checks
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.drift import (
    LARGE_INDEX,
    SMALLEST_SHARE,
    distribution_index,
    distribution_stable,
    mean_shifted,
    mean_stable,
    row_count_stable,
    schema_unchanged,
    shares_stable,
    stability_index,
)
from ecommerce_assets.storage.io_managers import ParquetIOManager
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.version import CheckResult, Distribution, Stats

Values = Sequence[float] | np.ndarray


def distribution(values: Values) -> Distribution:
    """Returns the distribution of these values as SQL computes it."""
    known = np.asarray(values, float)
    quantiles = np.quantile(known, np.arange(1, 101) / 100, method="inverted_cdf")
    return Distribution(known=len(known), mean=known.mean(), deviation=known.std(), quantiles=tuple(quantiles.tolist()))


def index(before: Values, now: Values, unknown_before: int = 0, unknown: int = 0) -> float:
    old, new = distribution(before), distribution(now)
    return distribution_index(old, old.known + unknown_before, new, new.known + unknown)


def checked(check: Check, now: Stats, *previous: Stats, days: bool = False, **known: Any) -> CheckResult:
    before = [Previous(f"v{number}", stats, is_day=days) for number, stats in enumerate(previous)]
    [result] = run_checks([check], CheckContext(now, previous=before, **known))
    assert not result.blocking or check.name == "schema_unchanged"
    return result


def test_the_index_by_hand() -> None:
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5)
    assert stability_index([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))
    assert SMALLEST_SHARE == 0.001
    assert stability_index([1.0, 0.0], [0.0, 1.0]) == pytest.approx(2 * 0.999 * math.log(1000))


@pytest.mark.parametrize("seed", range(5))
def test_the_index_is_symmetric_and_zero_only_for_equals(seed: int) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.full(10, 0.3), 2)
    assert stability_index(p, p) == 0
    assert stability_index(p, q) == pytest.approx(stability_index(q, p))
    assert stability_index(p, q) > 0


def test_samples_of_one_population_are_alike_and_a_shifted_one_is_not() -> None:
    rng = np.random.default_rng(1)
    old, new = np.exp(rng.normal(size=2_000)), np.exp(rng.normal(size=3_000))
    moved = np.exp(rng.normal(0.8, 1, size=2_000))
    assert index(old, new) < 0.1
    assert min(index(old, moved), index(moved, old)) > LARGE_INDEX


def test_equal_deciles_are_one_bin() -> None:
    # Most users bought nothing: eight of the nine deciles are 0.
    rng = np.random.default_rng(2)
    old, new = (np.where(rng.random(1_000) < 0.85, 0, rng.random(1_000)) for _ in range(2))
    assert index(old, new) < 0.05
    assert index(old, rng.random(1_000)) > LARGE_INDEX
    assert index([5.0] * 300, [5.0] * 300) == 0
    assert index([5.0] * 300, [6.0] * 300) > LARGE_INDEX


def test_unknown_values_are_a_bin_of_their_own() -> None:
    values = np.arange(500.0)
    assert index(values, values, unknown=500) > LARGE_INDEX
    assert index(values, values, unknown_before=500, unknown=500) == 0


@pytest.mark.parametrize(
    ("before", "deviation", "now", "shifted"),
    [(10, 2, 11, False), (10, 2, 11.01, True), (10, 2, 8.99, True), (5, 0, 5, False), (5, 0, 5.1, True)],
)
def test_a_mean_shifts_by_more_than_half_a_deviation(
    before: float, deviation: float, now: float, shifted: bool
) -> None:
    assert mean_shifted(before, deviation, now) == shifted


def test_a_day_has_the_columns_of_the_stored_days() -> None:
    old = {"user_id": "bigint", "price": "double", "brand": "string"}
    new = {"user_id": "bigint", "price": "string", "shop": "int"}
    failed = checked(schema_unchanged(), Stats(), columns=new, stored_columns=old)
    assert failed.blocking
    assert "; price: double → string, brand: string → missing, shop: missing → int;" in failed.message
    assert checked(schema_unchanged(), Stats(), columns=new, stored_columns=new).passed
    assert checked(schema_unchanged(), Stats(), columns=new, stored_columns=None).passed


@pytest.mark.parametrize(
    "check", [row_count_stable(), distribution_stable(["price"], "id"), shares_stable("kind", ["a"])]
)
def test_a_first_version_passes(check: Check) -> None:
    found = checked(check, Stats(rows=1))
    assert (found.passed, found.checked) == (True, NOTHING_TO_COMPARE.checked)


@pytest.mark.parametrize(("rows", "passes"), [(50, True), (49, False), (150, True), (151, False), (0, False)])
def test_rows_of_a_table_change_by_at_most_half(rows: int, passes: bool) -> None:
    assert checked(row_count_stable(), Stats(rows=rows), Stats(rows=100)).passed == passes


@pytest.mark.parametrize(
    ("rows", "previous", "passes"),
    [
        (300, [100, 200, 150], True),
        (301, [100, 200, 150], False),
        (75, [100, 200, 150], True),
        (74, [100, 200, 150], False),
        (1, [100, 200], True),
        (5, [], True),
    ],
)
def test_rows_of_a_day_are_near_the_median_of_at_least_three(rows: int, previous: list[int], passes: bool) -> None:
    days = [Stats(rows=count) for count in previous]
    assert checked(row_count_stable(), Stats(rows=rows), *days, days=True).passed == passes


def users(factor: float = 1.0, count: int = 400, **changes: Distribution) -> Stats:
    ids = np.arange(count)
    found = {"monetary": distribution(ids * 37 % 101 * factor), "views": distribution(ids % 7)}
    stats = Stats(rows=count, distributions={**found, **changes})
    return Stats.model_validate_json(stats.model_dump_json())  # as read from the lake


def test_distributions_are_compared_column_by_column() -> None:
    check = distribution_stable(("monetary", "views"), "user_id")
    same = checked(check, users(), users())
    assert (same.passed, same.values["views"]) == (True, "PSI 0.00, mean 2.99 → 2.99")
    moved = checked(check, users(factor=3.0), users())
    assert moved.message == f"monetary: {moved.values['monetary']}"
    assert "mean 49.9" in moved.message
    assert sorted(moved.values) == ["monetary", "views"]


def test_distributions_that_cannot_be_compared_pass() -> None:
    check = distribution_stable(("monetary", "views"), "user_id")
    gone, unsampled = users(monetary=Distribution(known=0)), users(monetary=Distribution(known=3, mean=99.0))
    assert checked(check, users(), Stats(rows=400)).passed, "the previous version has no distributions"
    assert checked(check, users(), users(factor=9.0, count=100)).passed, "too few rows"
    assert checked(check, gone, users()).message == "monetary: all values are null"
    assert checked(check, unsampled, users()).passed, "the sample has no value"
    assert checked(check, users(), gone).passed


def segments(a: int, b: int) -> Stats:
    return Stats(rows=a + b, shares={"segment": {"A": a, "B": b}})


def test_shares_are_compared_with_all_previous_days_together() -> None:
    check = shares_stable("segment", ["A", "B"])
    same = checked(check, segments(880, 120), segments(900, 100))
    assert (same.passed, same.values["A"]) == (True, "90.0 % → 88.0 %")
    other = checked(check, segments(100, 900), segments(450, 0), segments(450, 100), days=True)
    assert other.message == "segment: PSI 3.52; A 90.0 % → 10.0 %, B 10.0 % → 90.0 %"
    assert checked(check, segments(0, 9), segments(900, 100)).passed, "too few rows"


def test_the_mean_of_a_day_is_compared_with_the_week_as_one_population() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.normal(n, 1 + n, 100 * n) for n in (1, 2, 3)]
    days = [Stats(distributions={"price": distribution(part)}) for part in parts]
    week = np.concatenate(parts)
    for shift, passes in ((0.49, True), (0.51, False), (-0.51, False)):
        now = week + shift * week.std()
        found = checked(mean_stable("price"), Stats(distributions={"price": distribution(now)}), *days, days=True)
        assert found.passed == passes
    assert found.message == (f"price: mean {week.mean():.2f} → {now.mean():.2f}, and the deviation is {week.std():.2f}")
    assert checked(mean_stable("price"), Stats(distributions={"price": distribution(now)})).passed


def test_a_day_is_compared_with_the_seven_published_days_before_it(spark: SparkSession, tmp_path: Path) -> None:
    days = tuple(f"2019-10-{day:02d}" for day in (1, 2, 3, 5, 8, 9, 10, 11, 12, 13))
    checks = [
        Check("previous", "", lambda c: Outcome(values={"days": " ".join(p.name[-2:] for p in c.previous)})),
        Check("not_the_fifth", "", lambda c: "the fifth" if c.results["day"] == 5 else None),
    ]
    table = TableSpec.of(ColumnSpec("n", "bigint", "A number."))

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2019-10-01"), backfill_policy=dg.BackfillPolicy.single_run())
    def numbers() -> Artifact:
        frame = spark.createDataFrame([(1, day) for day in days], "n bigint, event_date string")
        typed = frame.selectExpr("n", "cast(event_date as date) as event_date")
        return Artifact(typed, days=days, day_results={day: {"day": int(day[-2:])} for day in days})

    resource = SparkResource()
    manager = ParquetIOManager(data_dir=str(tmp_path), spark=resource, catalog={"numbers": StoredAsset(table, checks)})
    edges = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[-1]}
    resources = {"io_manager": manager, "spark": resource}
    assert not dg.materialize([numbers], resources=resources, tags=edges, raise_on_error=False).success
    lake = Lake(str(tmp_path))
    published = lake.latest("numbers").checks
    assert {c.partition[-2:]: c.values["days"] for c in published if c.name == "previous" and c.partition} == {
        "01": "",
        "02": "01",
        "03": "01 02",
        "08": "01 02 03",
        "09": "01 02 03 08",
        "10": "01 02 03 08 09",
        "11": "01 02 03 08 09 10",
        "12": "01 02 03 08 09 10 11",
        "13": "02 03 08 09 10 11 12",
    }
    assert [list(version.days) for version in lake.blocked("numbers")] == [["2019-10-05"]]

"""Checks of ranked lists: each way in which a list can be broken is found, and counted once per list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.list_checks import WITHOUT_CHOICE, Lists, list_checks
from ecommerce_assets.storage.checks import CheckContext, Read, measure, run_checks, summaries_of
from ecommerce_assets.storage.version import Stats

ITEMS = {101: 3, 102: 0, 103: 2, 104: 1, 105: 4}
SOLD_OUT = 105
EXCLUDED = {7: [3, 2], 8: [0, 1, 2, 3]}

Entries = Sequence[tuple[int, Any, float]]
"""Rank, product and score."""


def measured(spark: SparkSession, lists: dict[int, Entries], k: int) -> tuple[dict[str, str], Stats]:
    """Messages of the checks that failed, by check, and the stats; `lists` are by user."""
    tables = {
        "items": spark.createDataFrame(
            [(item, number, item != SOLD_OUT) for item, number in ITEMS.items()],
            "item bigint, number bigint, eligible boolean",
        ),
        "excluded": spark.createDataFrame(list(EXCLUDED.items()), "user_id bigint, excluded array<bigint>"),
    }

    def excluded(_: CheckContext, read: Read) -> DataFrame:
        return read("excluded")

    table = Lists("user_id", "product_id", "score", lambda read: read("items"), excluded, lambda _: {})
    checks = list_checks(table, full=True)
    rows = [(user, *entry) for user, entries in lists.items() for entry in entries]
    frame = spark.createDataFrame(rows, "user_id bigint, rank int, product_id bigint, score double").repartition(3)
    context = CheckContext(Stats(rows=len(rows)), {"k": k})
    [summary] = summaries_of(checks)
    stats = measure(frame, checks, [summary(frame, context, tables.__getitem__)])[None]
    results = run_checks(checks, replace(context, stats=stats))
    assert all(result.blocking for result in results)
    return {result.name: result.message for result in results if not result.passed}, stats


def failed(spark: SparkSession, lists: dict[int, Entries], k: int = 3) -> dict[str, str]:
    return measured(spark, lists, k)[0]


RIGHT = {5: [(1, 104, 0.9), (2, 101, 0.9), (3, 102, 0.1)], 7: [(1, 102, 0.5), (2, 104, 0.2)]}
"""User 7 must not see 101 and 103, so that two are left."""


def test_right_lists_pass(spark: SparkSession) -> None:
    assert failed(spark, RIGHT) == {}
    assert failed(spark, {}) == {}


def test_owners_to_whom_nothing_may_be_shown_are_counted(spark: SparkSession) -> None:
    messages, stats = measured(spark, RIGHT, k=3)
    assert messages == {}
    assert (stats.numbers["lists"], stats.numbers[WITHOUT_CHOICE]) == (2, 1)  # user 8


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        pytest.param([(1, 104, 0.9), (3, 101, 0.9), (4, 102, 0.1)], "unique_key", id="a gap"),
        pytest.param([(1, 104, 0.9), (1, 101, 0.9), (2, 102, 0.1)], "unique_key", id="a rank twice"),
        pytest.param([(0, 104, 0.9), (1, 101, 0.9), (2, 102, 0.1)], "unique_key", id="from zero"),
        pytest.param([(1, 104, 0.9), (2, 104, 0.9), (3, 102, 0.1)], "no_repeats", id="a product twice"),
        pytest.param(
            [(1, 104, 0.9), (2, 999, 0.8), (3, 998, 0.1)], "known_products", id="two unknown products, not a repeat"
        ),
        pytest.param([(1, 104, 0.1), (2, 101, 0.8), (3, 102, 0.1)], "sorted_by_score", id="the score rises"),
        pytest.param([(1, 104, 0.9), (2, 101, 0.8)], "full_lists", id="short"),
        pytest.param([(1, 104, 0.9), (2, 101, 0.8), (3, 102, 0.1), (4, 103, 0.1)], "full_lists", id="long"),
    ],
)
def test_a_broken_list_fails_one_check_and_counts_once(spark: SparkSession, wrong: Entries, check: str) -> None:
    found = failed(spark, {**RIGHT, 6: wrong})
    assert list(found) == [check]
    assert found[check].startswith("1 of 3 lists ")


def test_an_excluded_product_is_found(spark: SparkSession) -> None:
    found = failed(spark, {**RIGHT, 7: [(1, 102, 0.5), (2, 103, 0.2)]})
    assert list(found) == ["no_excluded_products"]
    assert found["no_excluded_products"].startswith("1 of 2 lists ")


def test_ranks_of_long_lists_are_checked(spark: SparkSession) -> None:
    long = [(rank, 102, 0.5) for rank in range(1, 301)]
    assert "unique_key" not in failed(spark, {1: long}, k=300)
    assert "unique_key" in failed(spark, {1: [*long[:200], (200, 102, 0.5), *long[201:]]}, k=300)

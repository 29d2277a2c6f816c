"""The checks of recommendations against other tables: each problem of a list is found, and counted once per list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.list_checks import LIST_CHECKS, WITHOUT_CHOICE
from ecommerce_assets.storage.checks import CheckContext, measure, run_checks, summaries_of
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.helpers import version_of

# product_id, product_idx (none: only in the catalogue), category, eligible
PRODUCTS = [
    (101, 3, "a", True),
    (102, 0, "unknown", True),
    (103, 2, "b", True),
    (104, 1, "a", True),
    (105, 4, "unknown", False),
    (106, None, "unknown", False),
]
# user_id and user_idx are the same; user 7 purchased two products, user 8 all.
INTERACTIONS = [(7, 3, 1), (7, 2, 2), (7, 0, 0), *[(8, number, 1) for number in range(5)]]

Entries = Sequence[tuple[int, Any, float]]
"""Rank, product and score."""


def checked(
    spark: SparkSession,
    lists: Mapping[int, Entries],
    k: int = 3,
    exclude: str = "purchased",
    max_per_category: int | None = None,
) -> tuple[dict[str, str], Stats]:
    """Returns the messages of the failed checks by check, and the stats; `lists` are by user."""
    products = spark.createDataFrame(PRODUCTS, "product_id bigint, product_idx int, category string, eligible boolean")
    tables = {
        "product_index": products.where("product_idx is not null").select("product_id", "product_idx"),
        "product_eligibility": products.selectExpr(
            "product_id", "category", "'unknown' as brand", "product_idx is null as in_catalog", "eligible"
        ),
        "interaction_data": spark.createDataFrame(INTERACTIONS, "user_idx int, product_idx int, purchases bigint"),
        "user_index": spark.range(10).selectExpr("id as user_id", "int(id) as user_idx"),
    }
    eligibility = Stats(rows=len(PRODUCTS), numbers={"eligible": 4})
    context = CheckContext(
        Stats(),
        {"k": k, "exclude": exclude, "rules": {"max_per_category": max_per_category, "max_per_brand": None}},
        versions={"product_eligibility": version_of("product_eligibility", "1", stats=eligibility)},
    )
    rows = [(user, *entry) for user, entries in lists.items() for entry in entries]
    frame = spark.createDataFrame(rows, "user_id bigint, rank int, product_id bigint, score double").repartition(3)
    [summary] = summaries_of(LIST_CHECKS)
    stats = measure(frame, LIST_CHECKS, [summary(frame, context, tables.__getitem__)])[None]
    results = run_checks(LIST_CHECKS, replace(context, stats=stats))
    assert all(result.blocking for result in results)
    return {result.name: result.message for result in results if not result.passed}, stats


VALID = {5: [(1, 104, 0.9), (2, 101, 0.9), (3, 102, 0.1)], 7: [(1, 102, 0.5), (2, 104, 0.2)]}
"""Only two eligible products are left for user 7, and none for user 8."""


def test_valid_lists_pass_and_users_without_eligible_products_are_counted(spark: SparkSession) -> None:
    messages, stats = checked(spark, VALID)
    assert messages == {}
    assert (stats.numbers["lists"], stats.numbers[WITHOUT_CHOICE]) == (2, 1)


def test_each_broken_list_fails_one_check(spark: SparkSession) -> None:
    broken = {
        "unique_key": [
            [(1, 104, 0.9), (3, 101, 0.9), (4, 102, 0.1)],
            [(1, 104, 0.9), (1, 101, 0.9), (2, 102, 0.1)],
            [(0, 104, 0.9), (1, 101, 0.9), (2, 102, 0.1)],
        ],
        "no_repeats": [[(1, 104, 0.9), (2, 104, 0.9), (3, 102, 0.1)]],
        "known_products": [[(1, 104, 0.9), (2, 999, 0.8), (3, 998, 0.1)]],  # two unknown products are not a repeat
        "eligible_products": [
            [(1, 104, 0.9), (2, 105, 0.8), (3, 102, 0.1)],
            [(1, 104, 0.9), (2, 106, 0.8), (3, 102, 0.1)],
        ],
        "sorted_by_score": [[(1, 104, 0.1), (2, 101, 0.8), (3, 102, 0.1)]],
        "full_lists": [[(1, 104, 0.9), (2, 101, 0.8)], [(1, 104, 0.9), (2, 101, 0.8), (3, 102, 0.1), (4, 103, 0.1)]],
    }
    lists = {100 + n: entries for n, entries in enumerate(chain(*broken.values()))}
    messages, _ = checked(spark, {**VALID, **lists, 7: [(1, 102, 0.5), (2, 103, 0.2)]})
    counts = {name: int(message.split(" of 12 lists ")[0]) for name, message in messages.items()}
    assert counts == {**{name: len(each) for name, each in broken.items()}, "no_excluded_products": 1}


def test_limits_and_seen_products_count_and_lists_with_limits_may_be_short(spark: SparkSession) -> None:
    lists = {**VALID, 6: [(1, 104, 0.9)], 9: [(1, 102, 0.9), (2, 103, 0.5)]}
    messages, _ = checked(spark, lists, exclude="seen", max_per_category=1)
    assert messages.keys() == {"no_excluded_products", "within_limits"}
    assert all(message.startswith("1 of 4 lists ") for message in messages.values())


def test_ranks_of_long_lists_are_checked_and_with_exclude_none_no_product_is_excluded(spark: SparkSession) -> None:
    long = [(rank, 102, 0.5) for rank in range(1, 301)]
    lists = {7: [(1, 101, 0.5)], 1: long, 2: [*long[:200], (200, 102, 0.5), *long[201:]]}
    messages, _ = checked(spark, lists, k=300, exclude="none")
    assert messages["unique_key"].startswith("1 of 3 lists ")
    assert "no_excluded_products" not in messages

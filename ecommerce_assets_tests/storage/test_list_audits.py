"""Ranked lists: each way in which one can be broken is found, and counted once per list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.storage.audits import Evidence, Read, measure, probe, probes_of, run_audits
from ecommerce_assets.storage.list_audits import Lists, list_audits

PRODUCTS = {101: 3, 102: 0, 103: 2, 104: 1}
BARRED = {7: [3, 2], 8: []}


def audited(spark: SparkSession, lists: dict[int, Sequence[tuple[int, Any, float]]], k: int = 3) -> dict[str, str]:
    """Messages of the audits that failed; `lists` holds rank, product and score by user."""
    tables = {
        "index": spark.createDataFrame(list(PRODUCTS.items()), "item bigint, number int"),
        "barred": spark.createDataFrame(list(BARRED.items()), "user_id bigint, barred array<int>"),
    }

    def barred(_: Evidence, read: Read) -> DataFrame:
        return read("barred")

    audits = list_audits(Lists("user_id", "product_id", "score", lambda read: read("index"), barred), full=True)
    rows = [(user, *entry) for user, entries in lists.items() for entry in entries]
    frame = spark.createDataFrame(rows, "user_id bigint, rank int, product_id bigint, score double").repartition(3)
    evidence = Evidence({}, parameters={"k": k})
    measures = {**measure(frame, audits)[None], **probe(frame, probes_of(audits), evidence, tables.__getitem__)}
    results = run_audits(audits, Evidence(measures, parameters={"k": k}))
    assert all(result.blocking for result in results)
    return {result.name: result.message for result in results if not result.passed}


RIGHT = {5: [(1, 104, 0.9), (2, 101, 0.9), (3, 102, 0.1)], 7: [(1, 102, 0.5), (2, 104, 0.2)]}
"""User 7 must not see 101 and 103, so that two are left."""


def test_right_lists(spark: SparkSession) -> None:
    assert audited(spark, RIGHT) == {}
    assert audited(spark, {}) == {}


@pytest.mark.parametrize(
    ("wrong", "messages"),
    [
        pytest.param(
            [(1, 104, 0.9), (3, 101, 0.9), (4, 102, 0.1)],
            {"unique_key": "1 of 3 lists of a user_id have a rank twice or leave one out"},
            id="a gap",
        ),
        pytest.param(
            [(1, 104, 0.9), (1, 101, 0.9), (2, 102, 0.1)],
            {"unique_key": "1 of 3 lists of a user_id have a rank twice or leave one out"},
            id="a rank twice",
        ),
        pytest.param(
            [(0, 104, 0.9), (1, 101, 0.9), (2, 102, 0.1)],
            {"unique_key": "1 of 3 lists of a user_id have a rank twice or leave one out"},
            id="from zero",
        ),
        pytest.param(
            [(1, 104, 0.9), (2, 104, 0.9), (3, 102, 0.1)],
            {"no_repeats": "1 of 3 lists of a user_id hold a product_id twice"},
            id="a product twice",
        ),
        pytest.param(
            [(1, 104, 0.9), (2, 999, 0.8), (3, 998, 0.1)],
            {"known_products": "1 of 3 lists of a user_id hold a product that no index has"},
            id="two unknown products, which are no repeat",
        ),
        pytest.param(
            [(1, 104, 0.1), (2, 101, 0.8), (3, 102, 0.1)],
            {"best_first": "1 of 3 lists of a user_id have a score that rises"},
            id="the score rises",
        ),
        pytest.param(
            [(1, 104, 0.9), (2, 101, 0.8)],
            {"full_lists": "1 of 3 lists of a user_id are not as long as they should be"},
            id="short",
        ),
        pytest.param(
            [(1, 104, 0.9), (2, 101, 0.8), (3, 102, 0.1), (4, 103, 0.1)],
            {"full_lists": "1 of 3 lists of a user_id are not as long as they should be"},
            id="long",
        ),
    ],
)
def test_a_broken_list(spark: SparkSession, wrong: list[tuple[int, int, float]], messages: dict[str, str]) -> None:
    assert audited(spark, {**RIGHT, 6: wrong}) == messages


def test_what_is_excluded_is_found(spark: SparkSession) -> None:
    assert audited(spark, {**RIGHT, 7: [(1, 102, 0.5), (2, 103, 0.2)]}) == {
        "nothing_excluded": "1 of 2 lists of a user_id hold a product that is excluded"
    }


def test_long_lists_are_whole(spark: SparkSession) -> None:
    long = [(rank, 102, 0.5) for rank in range(1, 301)]
    assert "unique_key" not in audited(spark, {1: long}, k=300)
    assert "unique_key" in audited(spark, {1: [*long[:200], (200, 102, 0.5), *long[201:]]}, k=300)

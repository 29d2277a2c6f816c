"""Ranking metrics by hand and against Spark's own, and the bootstrap."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from pyspark.mllib.evaluation import RankingMetrics
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.metrics import (
    BOOTSTRAP_ROUNDS,
    RANKING_METRICS,
    bootstrap_sums,
    mean_and_interval,
    novelty_per_product,
    ranking_metrics,
)

A, B, C, D, E, X, Y = range(7)
"""Products; X and Y are relevant to nobody."""


def lists_frame(spark: SparkSession, lists: Mapping[str, Sequence[int]], system: str = "tried") -> DataFrame:
    rows = [(user, system, rank, product) for user, own in lists.items() for rank, product in enumerate(own, 1)]
    return spark.createDataFrame(rows, "user_id string, system string, rank int, product_id bigint")


def relevant_frame(spark: SparkSession, relevant: Mapping[str, Sequence[int]]) -> DataFrame:
    rows = [(user, product) for user, own in relevant.items() for product in own]
    return spark.createDataFrame(rows, "user_id string, product_id bigint")


def by_list(metrics: DataFrame) -> dict[tuple[str, str], tuple[Any, ...]]:
    """The metrics by user and system."""
    assert metrics.columns == ["user_id", "system", *RANKING_METRICS]
    return {(row["user_id"], row["system"]): tuple(row)[2:] for row in metrics.collect()}


class TestRankingMetrics:
    """At k = 3; each tuple is precision, recall, ndcg, map, hit rate."""

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, spark: SparkSession) -> dict[tuple[str, str], tuple[Any, ...]]:
        lists = {
            "two of three": [A, X, B],
            "short list": [A],
            "more relevant than k": [X, A, B, C],
            "no hit": [X, Y, C],
            "hit beyond k": [X, Y, C, A],
            "nothing relevant": [A, B, C],
            "perfect": [B, A, C],
        }
        relevant = {
            "two of three": [A, B],
            "short list": [A],
            "more relevant than k": [A, B, C, D, E],
            "no hit": [A, B],
            "hit beyond k": [A],
            "no list": [A],
            "perfect": [A, B, C, D],
        }
        return by_list(ranking_metrics(lists_frame(spark, lists), relevant_frame(spark, relevant), 3))

    @pytest.mark.parametrize(
        ("user", "metrics"),
        [
            # Hits at ranks 1 and 3. dcg 1 + 1/2, the best list has 1 + 1/log2(3) = 1.63093; (1/1 + 2/3) / 2
            ("two of three", (2 / 3, 1.0, 1.5 / 1.6309297535714575, 5 / 6, 1.0)),
            # As if padded with two misses, for precision alone.
            ("short list", (1 / 3, 1.0, 1.0, 1.0, 1.0)),
            # Hits at ranks 2 and 3, C comes too late. dcg 0.63093 + 0.5 of 2.13093; (1/2 + 2/3) / 3
            ("more relevant than k", (2 / 3, 2 / 5, 1.1309297535714575 / 2.1309297535714575, 7 / 18, 1.0)),
            # Three of four relevant: everything but recall is full.
            ("perfect", (1.0, 3 / 4, 1.0, 1.0, 1.0)),
        ],
    )
    def test_by_hand(
        self, found: dict[tuple[str, str], tuple[Any, ...]], user: str, metrics: tuple[float, ...]
    ) -> None:
        assert found[user, "tried"] == pytest.approx(metrics, abs=1e-15)

    def test_without_a_hit_there_is_no_row(self, found: dict[tuple[str, str], tuple[Any, ...]]) -> None:
        # "no hit", "hit beyond k", "no list": all zero. "nothing relevant": not judged at all.
        assert {user for user, _ in found} == {"two of three", "short list", "more relevant than k", "perfect"}

    def test_systems_are_judged_apart(self, spark: SparkSession) -> None:
        lists = lists_frame(spark, {"u": [X, A], "v": [A]}, "one").union(lists_frame(spark, {"u": [A, B]}, "two"))
        found = by_list(ranking_metrics(lists, relevant_frame(spark, {"u": [A, B], "v": [A]}), 2))
        assert found == {
            # A hit at rank 2: dcg 0.63093 of 1.63093; map (1/2) / 2
            ("u", "one"): pytest.approx((1 / 2, 1 / 2, 0.6309297535714575 / 1.6309297535714575, 1 / 4, 1.0)),
            ("u", "two"): (1.0, 1.0, 1.0, 1.0, 1.0),
            ("v", "one"): (1 / 2, 1.0, 1.0, 1.0, 1.0),
        }

    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_agrees_with_spark(self, spark: SparkSession, k: int) -> None:
        draw = random.Random(k)
        lists = {f"u{n}": draw.sample(range(15), draw.randint(1 if n == 0 else 0, 12)) for n in range(40)}
        relevant = {user: draw.sample(range(15), draw.randint(1, 12)) for user in lists}
        found = ranking_metrics(lists_frame(spark, lists), relevant_frame(spark, relevant), k)
        # Users without a row count zero.
        means = found.agg(*[(F.sum(name) / len(lists)).alias(name) for name in RANKING_METRICS]).collect()[0]
        pairs = [([float(p) for p in lists[u]], [float(p) for p in relevant[u]]) for u in lists]
        theirs: Any = RankingMetrics(spark.sparkContext.parallelize(pairs, 2))
        assert means["precision"] == pytest.approx(theirs.precisionAt(k), rel=1e-12)
        assert means["recall"] == pytest.approx(theirs.recallAt(k), rel=1e-12)
        assert means["ndcg"] == pytest.approx(theirs.ndcgAt(k), rel=1e-12)
        assert means["map"] == pytest.approx(theirs.meanAveragePrecisionAt(k), rel=1e-12)


User = tuple[str, str, str, float, float]
SLICES, VALUES = ("part", "whole"), ("half", "one")


class TestBootstrap:
    @pytest.fixture(scope="class")
    @classmethod
    def users(cls) -> list[User]:
        """200 users, every fourth in b; `half` is 1 for every second user of each part, `one` for all."""
        return [(f"u{n}", "b" if n % 4 == 0 else "a", "all", float(n // 4 % 2), 1.0) for n in range(200)]

    @pytest.fixture(scope="class")
    @classmethod
    def per_user(cls, spark: SparkSession, users: list[User]) -> DataFrame:
        return spark.createDataFrame(users, "user_id string, part string, whole string, half double, one double")

    @pytest.fixture(scope="class")
    @classmethod
    def sums(cls, per_user: DataFrame) -> dict[str, Any]:
        return bootstrap_sums(per_user, SLICES, VALUES)

    def test_first_row_holds_the_plain_sums(self, sums: dict[str, Any]) -> None:
        assert {part: found[0].tolist() for part, found in sums.items()} == {
            "a": [150.0, 75.0, 150.0],
            "b": [50.0, 25.0, 50.0],
            "all": [200.0, 100.0, 200.0],
        }

    def test_every_round_counts_users_and_values_alike(self, sums: dict[str, Any]) -> None:
        for found in sums.values():
            assert found.shape == (1 + BOOTSTRAP_ROUNDS, 3)
            assert (found[:, 0] == found[:, 2]).all()  # `one` is 1 for every user
            assert (found[:, 1] <= found[:, 0]).all()

    def test_slices_of_a_round_are_of_one_draw(self, sums: dict[str, Any]) -> None:
        assert (sums["a"] + sums["b"] == sums["all"]).all()

    def test_same_for_any_order_and_partitioning(
        self, spark: SparkSession, per_user: DataFrame, users: list[User], sums: dict[str, Any]
    ) -> None:
        shuffled = list(users)
        random.Random(1).shuffle(shuffled)
        for partitions in (1, 7):
            other = spark.createDataFrame(shuffled, per_user.schema).repartition(partitions)
            found = bootstrap_sums(other, SLICES, VALUES)
            assert sorted(found) == ["a", "all", "b"]
            assert all((found[part] == sums[part]).all() for part in found)

    def test_interval_is_as_wide_as_theory_says(self, sums: dict[str, Any]) -> None:
        # A mean of 1/2 over 150 users: standard error 1/2 / sqrt(150) = 0.041, interval 2 * 1.96 * 0.041 = 0.16.
        mean, lower, upper = mean_and_interval(sums["a"][:, 0], sums["a"][:, 1])
        assert mean == 0.5
        assert lower < 0.5 < upper
        assert 0.13 < upper - lower < 0.19

    def test_one_user(self, spark: SparkSession) -> None:
        one = spark.createDataFrame([(1, "all", 0.25)], "user_id bigint, part string, value double")
        found = bootstrap_sums(one, ["part"], ["value"])["all"]
        # Rounds in which the only user counts zero times say nothing.
        assert mean_and_interval(found[:, 0], found[:, 1]) == (0.25, 0.25, 0.25)

    def test_no_users(self, per_user: DataFrame) -> None:
        assert bootstrap_sums(per_user.limit(0), SLICES, VALUES) == {}


class TestMeanAndInterval:
    def test_percentiles_by_hand(self) -> None:
        # Rounds 0, 1, ..., 100 over one user each: 2.5 % and 97.5 % of them.
        users, sums = np.ones(102), np.array([50.0, *range(101)])
        assert mean_and_interval(users, sums) == pytest.approx((50.0, 2.5, 97.5))

    def test_rounds_without_users_do_not_count(self) -> None:
        assert mean_and_interval(np.array([2.0, 0.0, 4.0]), np.array([3.0, 0.0, 6.0])) == (1.5, 1.5, 1.5)

    def test_without_any_round_the_mean_alone(self) -> None:
        assert mean_and_interval(np.array([2.0, 0.0]), np.array([3.0, 0.0])) == (1.5, 1.5, 1.5)


class TestNovelty:
    def test_by_hand(self, spark: SparkSession) -> None:
        # Four users: A was seen by all (one of them twice), B by two, C by one.
        pairs = [(1, A), (1, A), (2, A), (3, A), (4, A), (1, B), (2, B), (3, C)]
        frame = spark.createDataFrame(pairs, "user_id bigint, product_id bigint")
        found = {row["product_id"]: row["novelty"] for row in novelty_per_product(frame).collect()}
        assert found == {A: 0.0, B: 1.0, C: 2.0}

    def test_without_events(self, spark: SparkSession) -> None:
        frame = spark.createDataFrame([], "user_id bigint, product_id bigint")
        assert novelty_per_product(frame).collect() == []

"""Ranking metrics by hand and against Spark's own, and the bootstrap."""

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import pytrec_eval
from pyspark.mllib.evaluation import RankingMetrics
from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.metrics import (
    BOOTSTRAP_ROUNDS,
    RANKING_METRICS,
    bootstrap_sums,
    hits_of,
    mean_and_interval,
    novelty,
    ranking_metrics,
)

A, B, C, D, E, X, Y = range(7)
"""Products; X and Y are relevant to nobody."""


def judged(lists: Sequence[Sequence[int]], relevant: Sequence[Sequence[int]], k: int) -> dict[str, npt.NDArray[Any]]:
    """The metrics at k of lists of products, each with what was relevant to its user."""
    listed = np.full((len(lists), k), -1)
    for row, own in enumerate(lists):
        listed[row, : len(own[:k])] = own[:k]
    pairs = [(row, product) for row, own in enumerate(relevant) for product in own]
    owners, products = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    return ranking_metrics(hits_of(listed, owners, products), np.array([len(own) for own in relevant]))


class TestRankingMetrics:
    @pytest.mark.parametrize(
        ("listed", "relevant", "metrics"),
        [
            # Hits at ranks 1 and 3. dcg 1 + 1/2, the best list has 1 + 1/log2(3) = 1.63093; (1/1 + 2/3) / 2
            pytest.param([A, X, B], [A, B], (2 / 3, 1.0, 1.5 / 1.6309297535714575, 5 / 6, 1.0), id="two of three"),
            # As if padded with two misses, for precision alone.
            pytest.param([A], [A], (1 / 3, 1.0, 1.0, 1.0, 1.0), id="short list"),
            # Hits at ranks 2 and 3, C comes too late. dcg 0.63093 + 0.5 of 2.13093; (1/2 + 2/3) / 3
            pytest.param(
                [X, A, B, C],
                [A, B, C, D, E],
                (2 / 3, 2 / 5, 1.1309297535714575 / 2.1309297535714575, 7 / 18, 1.0),
                id="more relevant than k",
            ),
            # Three of four relevant: everything but recall is full.
            pytest.param([B, A, C], [A, B, C, D], (1.0, 3 / 4, 1.0, 1.0, 1.0), id="perfect"),
            pytest.param([X, Y, C], [A, B], (0.0,) * 5, id="no hit"),
            pytest.param([X, Y, C, A], [A], (0.0,) * 5, id="hit beyond k"),
            pytest.param([], [A], (0.0,) * 5, id="no list"),
        ],
    )
    def test_by_hand(self, listed: list[int], relevant: list[int], metrics: tuple[float, ...]) -> None:
        found = judged([listed], [relevant], 3)
        assert list(found) == list(RANKING_METRICS)
        assert [float(values[0]) for values in found.values()] == pytest.approx(metrics, abs=1e-15)

    def test_a_product_is_relevant_to_its_own_user_alone(self) -> None:
        found = judged([[A, B], [A, B]], [[A], [X]], 2)
        assert found["recall"].tolist() == [1.0, 0.0]

    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_agrees_with_spark(self, spark: SparkSession, k: int) -> None:
        draw = random.Random(k)
        lists = [draw.sample(range(15), draw.randint(1 if n == 0 else 0, 12)) for n in range(40)]
        relevant = [draw.sample(range(15), draw.randint(1, 12)) for _ in lists]
        means = {name: float(values.mean()) for name, values in judged(lists, relevant, k).items()}
        pairs = [([float(p) for p in own], [float(p) for p in r]) for own, r in zip(lists, relevant, strict=True)]
        theirs: Any = RankingMetrics(spark.sparkContext.parallelize(pairs, 2))
        assert means["precision"] == pytest.approx(theirs.precisionAt(k), rel=1e-12)
        assert means["recall"] == pytest.approx(theirs.recallAt(k), rel=1e-12)
        assert means["ndcg"] == pytest.approx(theirs.ndcgAt(k), rel=1e-12)
        assert means["map"] == pytest.approx(theirs.meanAveragePrecisionAt(k), rel=1e-12)

    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_agrees_with_trec_eval(self, k: int) -> None:
        """NIST's own trec_eval, in C: a program that shares no line with Spark or with this."""
        draw = random.Random(100 + k)
        lists = [draw.sample(range(30), draw.randint(0, 15)) for _ in range(200)]
        relevant = [draw.sample(range(30), draw.randint(1, 15)) for _ in lists]
        ours = judged(lists, relevant, k)
        run = {
            f"{user}": {f"{product}": -float(rank) for rank, product in enumerate(own)}
            for user, own in enumerate(lists)
        }
        wanted = {f"{user}": {f"{product}": 1 for product in own} for user, own in enumerate(relevant)}
        names = {"precision": "P", "recall": "recall", "ndcg": "ndcg_cut", "map": "map_cut", "hit_rate": "success"}
        found = pytrec_eval.RelevanceEvaluator(wanted, {f"{name}.{k}" for name in names.values()}).evaluate(run)
        for metric, name in names.items():
            theirs = np.array([found.get(f"{user}", {}).get(f"{name}_{k}", 0.0) for user in range(len(lists))])
            if metric == "map":  # theirs is divided by r, ours by min(r, k), which a list of k can reach
                theirs = theirs * [len(own) / min(len(own), k) for own in relevant]
            np.testing.assert_allclose(ours[metric], theirs, atol=1e-12)


class TestBootstrap:
    """200 users in four groups: a part, whose `half` is 0 or 1; `one` is 1 for all."""

    USERS = np.array([75, 75, 25, 25])
    SLICES: ClassVar = {
        "a": np.array([True, True, False, False]),
        "b": np.array([False, False, True, True]),
        "all": np.ones(4, dtype=bool),
    }
    VALUES = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])

    @pytest.fixture(scope="class")
    @classmethod
    def sums(cls) -> dict[str, Any]:
        return bootstrap_sums(cls.USERS, cls.SLICES, cls.VALUES)

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

    def test_the_same_every_time(self, sums: dict[str, Any]) -> None:
        again = bootstrap_sums(self.USERS, self.SLICES, self.VALUES)
        assert all((again[part] == sums[part]).all() for part in sums)

    def test_interval_is_as_wide_as_theory_says(self, sums: dict[str, Any]) -> None:
        # A mean of 1/2 over 150 users: standard error 1/2 / sqrt(150) = 0.041, interval 2 * 1.96 * 0.041 = 0.16.
        mean, lower, upper = mean_and_interval(sums["a"][:, 0], sums["a"][:, 1])
        assert mean == 0.5
        assert lower < 0.5 < upper
        assert 0.13 < upper - lower < 0.19

    def test_groups_give_the_same_interval_as_single_users(self, sums: dict[str, Any]) -> None:
        apart = np.repeat(np.arange(4), self.USERS)
        slices = {name: own[apart] for name, own in self.SLICES.items()}
        found = bootstrap_sums(np.ones(200, np.int64), slices, self.VALUES[apart])
        for part in sums:
            one, other = (mean_and_interval(own[:, 0], own[:, 1]) for own in (found[part], sums[part]))
            assert one == pytest.approx(other, abs=0.02)

    def test_one_user(self) -> None:
        found = bootstrap_sums(np.array([1]), {"all": np.array([True])}, np.array([[0.25]]))["all"]
        # Rounds in which the only user counts zero times say nothing.
        assert mean_and_interval(found[:, 0], found[:, 1]) == (0.25, 0.25, 0.25)


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
    def test_by_hand(self) -> None:
        # Seen by all users, by half, by a quarter, by nobody.
        assert novelty(np.array([1.0, 0.5, 0.25, 0.0])).tolist() == [0.0, 1.0, 2.0, np.inf]

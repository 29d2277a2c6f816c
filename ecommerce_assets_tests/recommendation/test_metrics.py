"""Metrics by hand and against trec_eval; and the bootstrap."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytrec_eval

from ecommerce_assets.bootstrap import ROUNDS, bootstrap, mean_and_interval
from ecommerce_assets.recommendation.metrics import (
    RANKING_METRICS,
    category_diversity,
    hits_of,
    novelty,
    ranking_metrics,
    serendipity,
)

Lists = Sequence[Sequence[int]]

A, B, C, D, E, X, Y = range(7)
"""Products; X and Y are relevant to no user."""


def metrics_of(
    lists: Sequence[Sequence[int]], relevant: Sequence[Sequence[int]], k: int
) -> dict[str, npt.NDArray[Any]]:
    """The metrics at k of lists of products, each with what was relevant to its user."""
    listed = np.full((len(lists), k), -1)
    for row, entries in enumerate(lists):
        listed[row, : len(entries[:k])] = entries[:k]
    pairs = [(row, product) for row, entries in enumerate(relevant) for product in entries]
    owners, products = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    return ranking_metrics(hits_of(listed, owners, products), np.array([len(entries) for entries in relevant]))


class TestRankingMetrics:
    @pytest.mark.parametrize(
        ("listed", "relevant", "metrics"),
        [
            # Hits at ranks 1 and 3. dcg 1 + 1/2, the best list has 1 + 1/log2(3) = 1.63093; (1/1 + 2/3) / 2
            pytest.param([A, X, B], [A, B], (2 / 3, 1.0, 1.5 / 1.6309297535714575, 5 / 6, 1.0), id="two of three"),
            # As if padded with two misses, which only matter for precision.
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
        actual = metrics_of([listed], [relevant], 3)
        assert list(actual) == list(RANKING_METRICS)
        assert [float(values[0]) for values in actual.values()] == pytest.approx(metrics, abs=1e-15)

    def test_a_product_is_relevant_to_its_own_user_alone(self) -> None:
        actual = metrics_of([[A, B], [A, B]], [[A], [X]], 2)
        assert actual["recall"].tolist() == [1.0, 0.0]

    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_agrees_with_trec_eval(self, k: int) -> None:
        """NIST's trec_eval, an independent implementation in C."""
        draw = random.Random(100 + k)
        lists = [draw.sample(range(30), draw.randint(0, 15)) for _ in range(200)]
        relevant = [draw.sample(range(30), draw.randint(1, 15)) for _ in lists]
        ours = metrics_of(lists, relevant, k)
        run = {
            f"{user}": {f"{product}": -float(rank) for rank, product in enumerate(entries)}
            for user, entries in enumerate(lists)
        }
        wanted = {f"{user}": {f"{product}": 1 for product in entries} for user, entries in enumerate(relevant)}
        names = {"precision": "P", "recall": "recall", "ndcg": "ndcg_cut", "map": "map_cut", "hit_rate": "success"}
        actual = pytrec_eval.RelevanceEvaluator(wanted, {f"{name}.{k}" for name in names.values()}).evaluate(run)
        for metric, name in names.items():
            theirs = np.array([actual.get(f"{user}", {}).get(f"{name}_{k}", 0.0) for user in range(len(lists))])
            if metric == "map":  # theirs is divided by r, ours by min(r, k), which a list of k can reach
                theirs = theirs * [len(entries) / min(len(entries), k) for entries in relevant]
            np.testing.assert_allclose(ours[metric], theirs, atol=1e-12)


def padded(lists: Sequence[Sequence[int]], k: int) -> npt.NDArray[np.int64]:
    return np.array([[*entries, *[-1] * k][:k] for entries in lists])


class TestSerendipity:
    def test_by_hand(self) -> None:
        listed = padded([[A, B, C, D], [A, B, C], [], [A, B, C, D]], 4)
        hits = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
        popular = padded([[A, X], [X, Y], [A], [B, A]], 4)
        # B and C are relevant and not popular; A is; no list; both hits are popular.
        assert serendipity(listed, hits, popular).tolist() == [2 / 4, 1 / 4, 0, 0]


class TestCategoryDiversity:
    CATEGORY = np.array([0, 0, 1, 2, -1])

    @pytest.mark.parametrize(
        ("listed", "diversity"),
        [
            ([0, 1], 0.0),
            ([0, 2, 3], 1.0),
            ([0, 1, 2], 2 / 3),  # of three pairs one is of one category
            ([0, 4, 2, 4], 1.0),  # 4 has none
            ([0, 4], np.nan),
            ([3], np.nan),
            ([], np.nan),
        ],
    )
    def test_by_hand(self, listed: list[int], diversity: float) -> None:
        assert category_diversity(padded([listed], 5), self.CATEGORY) == pytest.approx([diversity], nan_ok=True)

    def test_without_products(self) -> None:
        assert np.isnan(category_diversity(padded([[]], 3), np.empty(0, np.int64))).all()


class TestBootstrap:
    USERS = 2_000

    @pytest.fixture(scope="class")
    @classmethod
    def values(cls) -> npt.NDArray[np.float64]:
        """Of each user: 1, a number, and another that is nearly the same."""
        rng = np.random.default_rng(7)
        one = rng.exponential(1.0, cls.USERS)
        return np.column_stack([np.ones(cls.USERS), one, one - 0.1 + rng.normal(0, 0.05, cls.USERS)])

    @pytest.fixture(scope="class")
    @classmethod
    def sums(cls, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        buckets = np.zeros((200, 3))
        np.add.at(buckets, np.random.default_rng(8).integers(0, 200, cls.USERS), values)
        return bootstrap(buckets)

    def test_first_row_has_the_plain_sums(self, values: Any, sums: Any) -> None:
        assert sums.shape == (1 + ROUNDS, 3)
        assert sums[0] == pytest.approx(values.sum(axis=0))

    def test_interval_agrees_with_the_normal_approximation(self, values: Any, sums: Any) -> None:
        mean, lower, upper = mean_and_interval(sums[:, 0], sums[:, 1])
        half = 1.96 * values[:, 1].std() / np.sqrt(self.USERS)
        assert mean == pytest.approx(values[:, 1].mean())
        assert upper - lower == pytest.approx(2 * half, rel=0.1)
        assert [lower, upper] == pytest.approx([mean - half, mean + half], rel=0.01)

    def test_differences_are_of_the_same_users(self, values: Any, sums: Any) -> None:
        mean, lower, upper = mean_and_interval(sums[:, 0], sums[:, 1] - sums[:, 2])
        assert mean == pytest.approx(0.1, abs=0.01)
        # The two vary by 1 and their difference by 0.05.
        assert upper - lower == pytest.approx(2 * 1.96 * 0.05 / np.sqrt(self.USERS), rel=0.1)

    def test_is_reproducible(self) -> None:
        buckets = np.arange(20.0).reshape(10, 2)
        assert (bootstrap(buckets) == bootstrap(buckets)).all()


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
        # Seen by all users, by half, by a quarter, by none.
        assert novelty(np.array([1.0, 0.5, 0.25, 0.0])).tolist() == [0.0, 1.0, 2.0, np.inf]

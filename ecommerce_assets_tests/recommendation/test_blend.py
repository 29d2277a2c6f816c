"""The blend: candidates and their features by hand, the training, and the ranking with and without weights."""

from __future__ import annotations

import json
from math import log

import numpy as np
import pytest
from hypothesis import given, settings

from ecommerce_assets.recommendation.blend import FEATURES, Blend, Pool, fit_blend, pool_candidates
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.lists import SOURCES, ListMaker
from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.base import Training, Users
from ecommerce_assets_tests.recommendation.test_recommenders import (
    FACTORS,
    TRAINING,
    Entry,
    random_training,
    random_users,
    shops,
    users,
    users_with,
)


def pool_of(training: Training, batch: Users, depth: int = 50) -> Pool:
    return pool_candidates(training, batch, ListMaker.fit(training).candidates(batch, depth))


def features_of(pool: Pool, user: int, position: int) -> dict[str, float]:
    [row] = np.flatnonzero((pool.owners == user) & (pool.positions == position))
    return dict(zip(FEATURES, pool.features[row].tolist(), strict=True))


def sources_of(pool: Pool, user: int) -> dict[int, str]:
    of_user = pool.owners == user
    names = [RECOMMENDERS[code].name for code in pool.sources[of_user]]
    return dict(zip(pool.positions[of_user].tolist(), names, strict=True))


def blend_of(**weights: float) -> Blend:
    """Returns a blend with these weights of features that are not standardised."""
    values = np.zeros(len(FEATURES))
    for name, weight in weights.items():
        values[FEATURES.index(name.replace("_", " "))] = weight
    return Blend(values, np.zeros(len(FEATURES)), np.ones(len(FEATURES)))


class TestPool:
    @settings(max_examples=60, deadline=None)
    @given(shop=shops())
    def test_every_candidate_is_in_the_pool_once(self, shop: tuple[Training, Users, int]) -> None:
        training, batch, depth = shop
        candidates = ListMaker.fit(training).candidates(batch, depth)
        pool = pool_candidates(training, batch, candidates)
        pairs = list(zip(pool.owners.tolist(), pool.positions.tolist(), strict=True))
        expected = {
            (user, position)
            for each in candidates.values()
            for user, row in enumerate(each.positions.tolist())
            for position in row
            if position >= 0
        }
        assert pairs == sorted(expected)
        assert np.isfinite(pool.features).all()

    def test_features_by_hand(self) -> None:
        history = [
            Entry(0, rating=4, purchased=True, events=3, age=1),
            Entry(1, rating=1, events=1, age=3),
            Entry(2, rating=2, events=2, age=-0.5),
        ]
        pool = pool_of(TRAINING, users_with([[], history], [None, "A"], FACTORS[1::-1]))
        # 1 is third by ALS (0.625 of 1), first by the neighbours and the recent ones, second of the latest (1/2), third
        # of the weightiest (1.0005 of 4.001), second by popularity (2 of 3), by recent popularity (1 of 2) and by
        # category affinity (1/3 of 1/2); nobody of the segment has it.
        assert features_of(pool, 1, 1) == pytest.approx(
            {
                "als score": 0.625,
                "als rank": 1 / 13,
                "neighbours score": 1,
                "neighbours rank": 1 / 11,
                "recent_neighbours score": 1,
                "recent_neighbours rank": 1 / 11,
                "latest score": 1 / 2,
                "latest rank": 1 / 12,
                "weightiest score": 1.0005 / 4.001,
                "weightiest rank": 1 / 13,
                "popularity score": 2 / 3,
                "popularity rank": 1 / 12,
                "recent_popularity score": 1 / 2,
                "recent_popularity rank": 1 / 12,
                "segment_popularity score": 0,
                "segment_popularity rank": 0,
                "category_affinity score": 2 / 3,
                "category_affinity rank": 1 / 12,
                "own": 1,
                "own rank": 1 / 12,
                "own rating": 1,
                "own events": log(2),
                "own recency": 1 / 4,
                "popularity": log(3),
                "trend": 1 / 2,
                "affinity": 5 / 7,
                "log affinity": log(0.02 + 5 / 7),
            },
            rel=1e-6,
        )
        assert features_of(pool, 1, 2)["own recency"] == 1  # not above it, after the reference time
        new = features_of(pool, 1, 3)
        assert [new[name] for name in FEATURES[18:23]] == [0] * 5  # not in the history
        assert new["affinity"] == pytest.approx(2 / 7)
        # The other user has no history; ALS and popularity alone have candidates.
        assert features_of(pool, 0, 5)["log affinity"] == pytest.approx(log(0.02))
        assert {name for name, value in features_of(pool, 0, 5).items() if value} == {
            *("popularity score", "popularity rank", "recent_popularity score", "recent_popularity rank"),
            *("popularity", "trend", "log affinity"),
        }

    def test_a_product_without_a_category_has_no_affinity(self) -> None:
        pool = pool_of(TRAINING, users())
        assert features_of(pool, 1, 3)["affinity"] == 1
        assert features_of(pool, 2, 4)["affinity"] == 0

    def test_the_source_is_the_recommender_that_ranked_the_product_highest(self) -> None:
        assert sources_of(pool_of(TRAINING, users()), 0) == {
            0: "als",  # as the latest, the weightiest and the most popular: the first in RECOMMENDERS
            1: "neighbours",
            2: "neighbours",  # second; also of the recent neighbours and the weightiest
            3: "als",
            5: "recent_popularity",
        }


class TestRanking:
    def test_candidates_are_ranked_by_score_then_position(self) -> None:
        pool = pool_of(TRAINING, users())
        best, places = blend_of(own=2.0).best(pool, 4, 4)
        assert best.positions[0].tolist() == [0, 1, 2, 3]
        assert best.scores[0].tolist() == pytest.approx([1 / (1 + np.exp(-2))] * 3 + [0.5])
        assert pool.positions[places[0]].tolist() == [0, 1, 2, 3]

    def test_score_of_standardised_features_by_hand(self) -> None:
        width = len(FEATURES)
        blend = Blend(np.full(width, 0.1), np.full(width, 2.0), np.full(width, 4.0), 0.3)
        pool = Pool(
            np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int8), np.full((1, width), 6, np.float32)
        )
        assert blend.scores(pool).tolist() == pytest.approx([1 / (1 + np.exp(-(width * 0.1 + 0.3)))])

    def test_equal_candidates_tie_and_scores_do_not_depend_on_the_batch(self) -> None:
        rng = np.random.default_rng(3)
        width = len(FEATURES)
        blend = Blend(rng.normal(size=width), rng.normal(size=width), rng.uniform(0.5, 2, width), 0.1)
        rows = rng.random((700, width)).astype(np.float32)
        rows[::7] = rows[0]

        def scores(features: np.ndarray) -> list[float]:
            places = np.arange(len(features))
            return blend.scores(Pool(places, places, np.zeros(len(features), np.int8), features)).tolist()

        together = scores(rows)
        assert len(set(together[::7])) == 1
        assert together == [value for row in rows for value in scores(row[None])]

    def test_without_weights_the_latest_products_come_first_then_neighbours(self) -> None:
        pool = pool_of(TRAINING, users(Exclude.purchased))
        best, _ = Blend().best(pool, 4, 6)
        # Latest: 1 (1/2, so the best), 2 (1/3, 2/3 of it); neighbours: 1 (3), 2, 3 (0.25 of 3).
        assert best.positions[0].tolist() == [1, 2, 3, -1, -1, -1]
        assert best.scores[0].tolist() == pytest.approx([1, (1 + 2 / 3) / 2, 0.25 / 3 / 2, 0, 0, 0])
        assert best.positions[1].tolist() == [3, 2, -1, -1, -1, -1]
        assert best.scores[1].tolist() == [1, 0.5, 0, 0, 0, 0]
        assert (best.positions[3] == -1).all()

    def test_without_candidates_there_are_no_lists(self) -> None:
        pool = pool_of(TRAINING, users().take(np.array([], np.int64)))
        assert Blend().best(pool, 0, 3)[0].positions.shape == (0, 3)


class TestDocument:
    @pytest.mark.parametrize("blend", [Blend(), blend_of(own=0.1, als_score=1 / 3)])
    def test_round_trip(self, blend: Blend) -> None:
        document = json.loads(json.dumps(blend.document()))
        again = Blend.of(document)
        assert again.document() == blend.document() == document
        pool = pool_of(TRAINING, users())
        assert again.scores(pool).tolist() == blend.scores(pool).tolist()

    def test_other_features_are_refused(self) -> None:
        features = list(blend_of().document()["features"].items())
        for changed in (features[1:], features[::-1]):
            with pytest.raises(ValueError, match="other features"):
                Blend.of({"features": dict(changed), "intercept": 0.0})


class TestFit:
    @pytest.fixture(scope="class")
    @classmethod
    def examples(cls) -> tuple[np.ndarray, np.ndarray]:
        """Mostly products of the history are relevant."""
        rng = np.random.default_rng(0)
        features = rng.random((4000, len(FEATURES))).astype(np.float32)
        in_history = rng.random(4000) < 0.5
        features[:, FEATURES.index("own")] = in_history
        features[:, 0] = 1  # a constant
        return features, rng.random(4000) < np.where(in_history, 0.9, 0.1)

    def test_the_relevant_feature_has_the_weight(self, examples: tuple[np.ndarray, np.ndarray]) -> None:
        features, relevant = examples
        document = fit_blend(features, relevant).document()
        weights = {name: numbers["weight"] for name, numbers in document["features"].items()}
        # log odds go from log(1/9) to log(9); the feature's standard deviation is 1/2
        assert weights.pop("own") == pytest.approx(log(9), rel=0.05)
        assert max(map(abs, weights.values())) < 0.15
        assert weights["als score"] == 0

    def test_scores_are_probabilities(self, examples: tuple[np.ndarray, np.ndarray]) -> None:
        features, relevant = examples
        places = np.arange(len(features))
        scores = fit_blend(features, relevant).scores(Pool(places, places, np.zeros(len(features), np.int8), features))
        in_history = features[:, FEATURES.index("own")] == 1
        for part in (in_history, ~in_history):
            assert scores[part].mean() == pytest.approx(relevant[part].mean(), abs=0.01)

    @pytest.mark.parametrize("relevant", [[], [True, True], [False, False]])
    def test_candidates_that_are_all_relevant_or_none_give_no_weights(self, relevant: list[bool]) -> None:
        features = np.ones((len(relevant), len(FEATURES)), np.float32)
        assert fit_blend(features, np.array(relevant, np.bool_)) == Blend()


class TestLists:
    def test_users_without_a_history_get_popular_products(self) -> None:
        # The first has factors, so that ALS has candidates for it.
        batch = users_with([[], []], ["A", None], [[1, 1], [0, 0]])
        lists = ListMaker.fit(TRAINING).lists(batch, 6, blend_of(als_score=1.0))
        assert lists.positions.tolist() == [[0, 2, 5, 1, 3, 4], [0, 1, 2, 3, 5, 4]]
        assert lists.sources.tolist() == [[7, 7, 7, 5, 5, 5], [5] * 6]
        assert [RECOMMENDERS[code].source for code in (7, 5)] == ["segment_popular", "popular"]

    def test_lists_longer_than_the_default_depth_have_more_candidates(self) -> None:
        history = [Entry(product) for product in range(70)]
        maker = ListMaker.fit(random_training(np.random.default_rng(1), 90))
        lists = maker.lists(users_with([history], rank=3), 60, Blend())
        assert lists.positions[0].tolist() == list(range(60))
        assert (lists.scores[0] > 0.5).all()

    @pytest.mark.parametrize("k", [3, 60])
    @pytest.mark.parametrize("exclude", list(Exclude))
    @pytest.mark.parametrize("blend", [None, Blend(), blend_of(own_rank=3.0, als_score=1.0, popularity=-0.2)])
    def test_lists_are_full_sorted_and_do_not_depend_on_the_batch(
        self, k: int, exclude: Exclude, blend: Blend | None
    ) -> None:
        rng = np.random.default_rng(k)
        products = 70
        training, batch = random_training(rng, products), random_users(rng, 20, products, exclude)
        maker = ListMaker.fit(training)
        lists = maker.lists(batch, k, blend)
        owners, excluded = batch.excluded.of(np.arange(20))
        for user in range(20):
            listed = lists.positions[user][lists.filled[user]].tolist()
            without = set(excluded[owners == user].tolist())
            assert len(listed) == len(set(listed)) == min(k, products - len(without))
            assert not set(listed) & without
            alone = maker.lists(batch.take(np.array([user])), k, blend)
            assert alone.positions[0].tolist() == lists.positions[user].tolist()
            assert alone.scores[0].tolist() == lists.scores[user].tolist()
        assert (np.diff(np.where(lists.filled, lists.scores, 0)) <= 0).all()
        if blend is None:
            order = np.array([SOURCES.index(source) for source in ("als", "segment_popular", "popular")])
            places = np.where(lists.filled, (lists.sources[..., None] == order).argmax(axis=2), len(order))
            assert (np.diff(places) >= 0).all()

"""Batches of a holdout's users, the examples that the blend is trained on, and scores over all users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation import scoring
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.blend import FEATURES, MIN_TRAINING_USERS, Blend
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.holdout import Holdout, holdout_cutoff, prepare_holdouts
from ecommerce_assets.recommendation.local_holdout import LocalHoldout
from ecommerce_assets.recommendation.products import Products
from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import Recommender
from ecommerce_assets.recommendation.recommenders.popularity import Popularity
from ecommerce_assets.recommendation.scores import USER_METRICS, Scores
from ecommerce_assets.recommendation.scoring import Examples, Past, Systems, score, training_examples
from ecommerce_assets.recommendation.systems import ALS_ALONE, ALS_LIST, BASELINES, POPULARITY, PUBLISHED
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets_tests.helpers import event, events_frame
from ecommerce_assets_tests.recommendation.test_holdout import random_log

ALS = AlsParameters(rank=2, maxIter=2)


def batch_of(exclude: Exclude, rows: list[dict[str, Any]], products: Products) -> Any:
    entry = pa.struct(
        [
            ("product_idx", pa.int32()),
            ("rating", pa.float32()),
            ("events", pa.int32()),
            ("purchased", pa.bool_()),
            ("last", pa.int64()),
        ]
    )
    schema = pa.schema(
        [
            ("user_idx", pa.int32()),
            ("bucket", pa.int32()),
            ("history", pa.list_(entry)),
            ("segment", pa.string()),
            ("features", pa.list_(pa.float32())),
            ("relevant", pa.list_(pa.int32())),
            ("total_events", pa.int64()),
        ]
    )
    return scoring.HoldoutBatch.of(pa.RecordBatch.from_pylist(rows, schema), products, 2, 0, exclude)


class TestBatch:
    PRODUCTS = Products.of(np.array([101, 102, 103]), np.array([2, 0, 1]))  # product_idx 2, 0, 1 at 0, 1, 2
    HISTORY = (
        {"product_idx": 0, "rating": 1.0, "events": 1, "purchased": True, "last": 0},
        {"product_idx": 1, "rating": 1.0, "events": 1, "purchased": False, "last": 0},
    )
    ROWS = (
        {"user_idx": 7, "bucket": 3, "history": HISTORY, "relevant": [0], "total_events": 4},
        {
            "user_idx": 8,
            "bucket": 4,
            "history": HISTORY,
            "relevant": [0, 1, 2, 55],
            "segment": "A",
            "total_events": 5,
        },
        {"user_idx": 9, "bucket": 5, "history": [], "relevant": [55, 0], "total_events": None},
    )

    @pytest.mark.parametrize(
        ("exclude", "numbers", "relevant", "counts"),
        [
            (Exclude.none, [7, 8, 9], [(0, 1), (1, 1), (1, 2), (1, 0), (2, 1)], [1, 4, 2]),
            (Exclude.purchased, [8, 9], [(0, 2), (0, 0), (1, 1)], [3, 2]),
            (Exclude.seen, [8, 9], [(0, 0), (1, 1)], [2, 2]),
        ],
    )
    def test_relevant_products_are_not_excluded(
        self, exclude: Exclude, numbers: list[int], relevant: list[tuple[int, int]], counts: list[int]
    ) -> None:
        batch = batch_of(exclude, list(self.ROWS), self.PRODUCTS)
        assert batch.user_idx.tolist() == numbers
        pairs = zip(batch.relevant.owners.tolist(), batch.relevant.positions.tolist(), strict=True)
        assert sorted(pairs) == sorted(relevant)
        assert batch.relevant.counts.tolist() == counts  # the unknown product 55 counts
        assert batch.activity.tolist() == ["few", "some", "none"][-len(numbers) :]
        assert batch.users.segments.tolist() == [None, "A", None][-len(numbers) :]
        assert batch.buckets.tolist() == [3, 4, 5][-len(numbers) :]


def test_xxhash64_is_that_of_spark(spark: SparkSession) -> None:
    rows = spark.range(-3, 2000, 7).selectExpr("int(id) id", "xxhash64(int(id)) one", "xxhash64(int(id), 42) two")
    numbers, one, two = (column.to_numpy() for column in rows.toArrow().columns)
    np.testing.assert_array_equal(scoring.xxhash64(numbers), one)
    np.testing.assert_array_equal(scoring.xxhash64(numbers, 42), two)


@pytest.mark.parametrize("users", [MIN_TRAINING_USERS - 1, MIN_TRAINING_USERS])
def test_too_few_training_users_give_no_weights(users: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.random((500, len(FEATURES))).astype(np.float32)
    examples = Examples(np.arange(500) % users, features, rng.random(500) < 0.5)
    assert examples.users == users
    assert (examples.fit().weights is None) == (users < MIN_TRAINING_USERS)


def test_examples_are_sorted_by_user_whatever_the_order_of_the_parts() -> None:
    features = np.arange(4 * len(FEATURES), dtype=np.float32).reshape(4, -1)
    relevant = np.array([True, False, False, True])
    parts = [
        Examples(np.full(2, user), features[rows], relevant[rows]) for user, rows in ((5, slice(2)), (2, slice(2, 4)))
    ]
    for order in (parts, parts[::-1]):
        examples = Examples.of(order)
        assert (examples.users, examples.relevant.tolist()) == (2, [False, True, True, False])
        np.testing.assert_array_equal(examples.features, features[[2, 3, 0, 1]])


@contextmanager
def holdout_of(spark: SparkSession, in_process: bool) -> Iterator[Any]:
    new = [event("2020-01-10 20:00:00", "view", 100 + user % 2, user) for user in (90, 91)]
    events = events_frame(spark, [*random_log(3, users=60), *new]).persist()
    with prepare_holdouts(events, holdout_cutoff(events), None, SegmentationParameters(k=2), in_process) as holdouts:
        assert holdouts.outer is not None
        yield holdouts.outer
    events.unpersist()


@pytest.fixture(scope="module")
def holdout(spark: SparkSession) -> Iterator[Holdout]:
    with holdout_of(spark, in_process=False) as holdout:
        yield holdout


def fitted(
    holdout: Holdout | LocalHoldout, engine: Engine, recommenders: Sequence[type[Recommender]] = RECOMMENDERS
) -> Systems:
    ids = [*range(100, 115)]
    categories = pa.table({"product_id": ids, "category_id": [n % 3 for n in ids], "category": ["a"] * len(ids)})
    return Past.of(holdout, categories, ALS, engine, recommenders).fit(ALS)


def by_spark(spark: SparkSession, systems: Systems) -> Systems:
    """The same with the users in Spark, in another order."""
    return replace(systems, users=spark.createDataFrame(systems.users).repartition(2, "segment"))


@pytest.fixture(scope="module")
def systems(spark: SparkSession) -> Systems:
    with holdout_of(spark, in_process=True) as holdout:
        return fitted(holdout, Engine.local)


@pytest.fixture(scope="module")
def examples(systems: Systems) -> dict[Exclude, Examples]:
    return training_examples(systems, [Exclude.purchased, Exclude.seen])


BLENDS = {Exclude.purchased: Blend(), Exclude.seen: None}


@pytest.fixture(scope="module")
def scored(systems: Systems) -> tuple[dict[Exclude, Scores], Examples | None]:
    return score(systems, BLENDS, 5, Exclude.purchased)


@pytest.fixture(scope="module")
def scores(scored: tuple[dict[Exclude, Scores], Examples | None]) -> dict[Exclude, Scores]:
    return scored[0]


def test_scoring_returns_the_examples_too(
    scored: tuple[dict[Exclude, Scores], Examples | None], examples: dict[Exclude, Examples]
) -> None:
    assert scored[1] is not None
    assert scored[1].users == examples[Exclude.purchased].users
    np.testing.assert_array_equal(scored[1].features, examples[Exclude.purchased].features)
    np.testing.assert_array_equal(scored[1].relevant, examples[Exclude.purchased].relevant)


def test_examples_are_the_candidates_of_users_with_a_relevant_one(
    systems: Systems, examples: dict[Exclude, Examples]
) -> None:
    assert isinstance(systems.users, pa.Table)
    rows = systems.users.to_pylist()
    position = systems.products.position_of
    for exclude, result in examples.items():
        reachable, pairs = 0, 0
        for row in rows:
            excluded = {
                entry["product_idx"] for entry in row["history"] if exclude == Exclude.seen or entry["purchased"]
            }
            known = [n for n in row["relevant"] if n < len(position) and position[n] >= 0]
            # Of 15 products all that has a user is a candidate, by popularity.
            candidates = [n for n in known if n not in excluded and systems.maker.training.products.users[position[n]]]
            reachable += bool(row["history"] and candidates)
            pairs += len(candidates) if row["history"] else 0
        assert result.users == reachable > 5
        assert result.relevant.sum() == pairs
        assert result.features.shape == (len(result.relevant), len(FEATURES))
    # What was seen is no candidate.
    assert not examples[Exclude.seen].features[:, FEATURES.index("own")].any()
    assert examples[Exclude.purchased].features[:, FEATURES.index("own")].any()


def test_examples_and_scores_are_the_same_in_another_order_and_by_sparks_workers(
    spark: SparkSession, systems: Systems, examples: dict[Exclude, Examples], scores: dict[Exclude, Scores]
) -> None:
    other = by_spark(spark, systems)
    for exclude, again in training_examples(other, [Exclude.purchased, Exclude.seen]).items():
        assert again.users == examples[exclude].users
        np.testing.assert_array_equal(again.features, examples[exclude].features)
        np.testing.assert_array_equal(again.relevant, examples[exclude].relevant)
    for exclude, result in score(other, BLENDS, 5)[0].items():
        assert result.users == scores[exclude].users
        for part, sums in scores[exclude].sums.items():
            np.testing.assert_allclose(result.sums[part], sums)
        np.testing.assert_array_equal(result.shown, scores[exclude].shown)


def test_no_more_training_users_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, systems: Systems, examples: dict[Exclude, Examples]
) -> None:
    monkeypatch.setattr(scoring, "MAX_TRAINING_USERS", 4)
    [result] = training_examples(systems, [Exclude.purchased]).values()
    assert result.users == 4
    assert 4 <= result.relevant.sum() < examples[Exclude.purchased].relevant.sum()


def test_the_published_lists_are_those_of_als_without_a_blend(scores: dict[Exclude, Scores]) -> None:
    seen, purchased = scores[Exclude.seen], scores[Exclude.purchased]
    assert seen.systems == (PUBLISHED, ALS_LIST, ALS_ALONE, *BASELINES)
    assert (seen.shown[0] == seen.shown[1]).all()
    assert (seen.shown[1] != seen.shown[2]).any()  # new users have lists, but none of ALS alone
    assert (purchased.shown[0] != purchased.shown[1]).any()
    assert {source for source, users in seen.users_per_source.items() if users} <= {"als", "segment_popular", "popular"}


def test_scores_do_not_depend_on_the_other_recommenders(spark: SparkSession, scores: dict[Exclude, Scores]) -> None:
    with holdout_of(spark, in_process=True) as holdout:
        few = fitted(holdout, Engine.local, (Als, Popularity))
    assert list(few.maker.recommenders) == [ALS_ALONE, POPULARITY]
    for exclude, whole in scores.items():
        result = score(few, {exclude: None}, 5)[0][exclude]
        assert result.users == whole.users
        for system in (ALS_LIST, ALS_ALONE, POPULARITY):
            for metric in USER_METRICS:
                assert result.mean(system, metric) == pytest.approx(whole.mean(system, metric))


@pytest.mark.trial
@pytest.mark.spark_only
def test_both_engines_fit_the_same_recommenders(holdout: Holdout, systems: Systems) -> None:
    other = fitted(holdout, Engine.mllib)
    one, two = systems.maker.training, other.maker.training
    assert other.reference == systems.reference
    assert isinstance(systems.users, pa.Table)
    assert isinstance(other.users, DataFrame)
    for name in ("begins", "items", "values"):
        np.testing.assert_array_equal(getattr(one.neighbours, name), getattr(two.neighbours, name))
    np.testing.assert_array_equal(one.products.users, two.products.users)
    assert one.item_factors.shape == two.item_factors.shape
    assert list(other.maker.recommenders) == [system.name for system in RECOMMENDERS]

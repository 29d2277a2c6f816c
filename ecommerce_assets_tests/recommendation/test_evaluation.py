"""als_evaluation: compared with an implementation in plain Python, on a small log."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import log2
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features.user_features import build_user_features
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION, Evaluation, evaluate, rmse
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.holdout import prepare_holdouts
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.parameters import ListParameters, Parameters
from ecommerce_assets.recommendation.scores import USER_METRICS
from ecommerce_assets.recommendation.systems import (
    ALS_LIST,
    BASELINES,
    COMPARED,
    DIFFERENCES,
    POPULARITY,
    PUBLISHED,
    SYSTEMS,
    difference,
)
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, assign_segments, fit_segmentation
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets_tests.helpers import event, events_frame
from ecommerce_assets_tests.recommendation.test_holdout import random_log

ALS = AlsParameters(rank=3, maxIter=2)
SEGMENTATION = SegmentationParameters(k=2)
K = 4
WEIGHTS = {"view": 1, "cart": 3, "purchase": 5}
LOG = [
    *random_log(5),
    # Two users that are new after the cutoff, and one that only removed a product from the cart before it.
    *(
        event("2020-01-10 20:00:00", "view", product, user)
        for user, product in [(90, 100), (90, 114), (91, 101), (92, 102)]
    ),
    event("2020-01-02 20:00:00", "remove_from_cart", 103, 92),
]
CATEGORY = {100 + n: n % 3 for n in range(15) if n != 4}

Values = dict[tuple[str, str, str, str], float]
"""By metric, system, slice and exclude."""


def categories(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [(product, number, None) for product, number in CATEGORY.items()],
        "product_id bigint, category_id bigint, category string",
    )


def evaluated(
    spark: SparkSession,
    events: list[dict[str, Any]],
    exclude: Exclude,
    k: int,
    ranker: Ranker = Ranker.blend,
) -> Evaluation:
    parameters = Parameters(SEGMENTATION, ALS, ListParameters(k, exclude, ranker))
    return evaluate(events_frame(spark, events), StoredTable(categories(spark)), parameters)


@pytest.fixture(scope="module")
def evaluation(spark: SparkSession) -> Evaluation:
    return evaluated(spark, LOG, Exclude.purchased, K)


@pytest.fixture(scope="module")
def values(evaluation: Evaluation) -> Values:
    return {(metric, system, part, exclude): value for metric, _, system, part, exclude, value, *_ in evaluation.rows}


class Plain:
    """The evaluation in plain Python: histories before the cutoff, relevant products after it, and the lists."""

    def __init__(self, log: list[dict[str, Any]], cutoff: str, segments: dict[int, str]) -> None:
        self.segments = segments
        past = [e for e in log if e["event_time"].isoformat() < cutoff]
        self.events = Counter(e["user_id"] for e in past)
        self.known = sorted({e["product_id"] for e in past})
        rating: dict[tuple[int, int], float] = defaultdict(float)
        self.last: dict[tuple[int, int], Any] = {}
        self.purchased = {(e["user_id"], e["product_id"]) for e in past if e["event_type"] == "purchase"}
        for e in past:
            if e["event_type"] in WEIGHTS:
                pair = e["user_id"], e["product_id"]
                rating[pair] = min(rating[pair] + WEIGHTS[e["event_type"]], 10)
                self.last[pair] = max(self.last.get(pair, e["event_time"]), e["event_time"])
        self.rating = dict(rating)
        self.users_of: dict[int, set[int]] = defaultdict(set)
        self.history: dict[int, list[int]] = defaultdict(list)
        for user, product in sorted(self.rating, key=lambda pair: pair[1]):
            self.users_of[product].add(user)
            self.history[user].append(product)
        for user, history in self.history.items():
            history.sort(key=lambda product: -self.last[user, product].timestamp())
        self.relevant: dict[int, set[int]] = defaultdict(set)
        for e in log:
            if e["event_time"].isoformat() >= cutoff and e["event_type"] in WEIGHTS:
                self.relevant[e["user_id"]].add(e["product_id"])

    def excluded(self, user: int, exclude: str) -> set[int]:
        history = self.history.get(user, [])
        return {p for p in history if exclude == "seen" or (user, p) in self.purchased}

    def popular(self, user: int | None = None) -> list[int]:
        """Most users first; for a user, only the users of the same segment count."""
        segment = self.segments.get(user) if user is not None else None
        counts = {
            p: sum(user is None or self.segments.get(other) == segment for other in self.users_of[p])
            for p in self.known
        }
        if user is not None:
            counts = {p: n for p, n in counts.items() if n and segment}
        return sorted(counts, key=lambda p: (-counts[p], p))

    def neighbours(self, user: int) -> list[int]:
        sums: dict[int, float] = defaultdict(float)
        for product in self.history.get(user, []):
            for other in self.known:
                common = len(self.users_of[product] & self.users_of[other])
                if other != product and common:
                    either = len(self.users_of[product] | self.users_of[other])
                    sums[other] += float(np.float32(self.rating[user, product]) * np.float32(common / either))
        return sorted(sums, key=lambda p: (-np.float32(sums[p]), p))

    def list_of(self, system: str, user: int, exclude: str) -> list[int]:
        chosen = {
            PUBLISHED: lambda: self.history.get(user, []) + self.neighbours(user),
            "latest": lambda: self.history.get(user, []),
            "neighbours": lambda: self.neighbours(user),
            POPULARITY: lambda: [p for p in self.popular() if self.users_of[p]],
        }[system]()
        excluded = self.excluded(user, exclude)
        completed = [*chosen, *self.popular(user), *self.popular()]
        return [p for p in dict.fromkeys(completed) if p not in excluded][:K]

    def metrics(self, system: str, exclude: str) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
        """By user, and of the catalogue."""
        by_user, shown, diversity = {}, Counter(), []
        for user, after in self.relevant.items():
            relevant = after - self.excluded(user, exclude)
            if not relevant:
                continue
            recommended = self.list_of(system, user, exclude)
            ranks = [rank for rank, product in enumerate(recommended, 1) if product in relevant]
            best = min(len(relevant), K)
            obvious = set(self.list_of(POPULARITY, user, exclude))
            by_user[user] = {
                "precision": len(ranks) / K,
                "recall": len(ranks) / len(relevant),
                "ndcg": sum(1 / log2(r + 1) for r in ranks) / sum(1 / log2(r + 1) for r in range(1, best + 1)),
                "map": sum(n / r for n, r in enumerate(ranks, 1)) / best,
                "hit_rate": float(bool(ranks)),
                "serendipity": len((set(recommended) & relevant) - obvious) / K,
                "served": 1.0,
            }
            shown.update(recommended)
            of = [CATEGORY[p] for p in recommended if p in CATEGORY]
            pairs = [one != other for n, one in enumerate(of) for other in of[:n]]
            if pairs:
                diversity.append(fmean(pairs))
        assert all(self.users_of[p] for p in shown)  # all have a novelty
        share = {p: len(self.users_of[p]) / len(self.history) for p in shown}
        return by_user, {
            "coverage": len(shown) / len(self.known),
            "novelty": sum(-log2(share[p]) * n for p, n in shown.items()) / sum(shown.values()),
            "diversity": fmean(diversity),
        }

    def slices(self, user: int) -> list[str]:
        events = self.events[user]
        activity = "none" if not events else "few" if events < 5 else "some" if events < 20 else "many"
        served = "recommenders" if user in self.history else "fallback"
        segment = [f"segment: {self.segments[user]}"] if user in self.segments else []
        return ["all", f"events: {activity}", f"served by: {served}", *segment]


class TestAgainstPlainPython:
    @pytest.fixture(scope="class")
    @classmethod
    def plain(cls, spark: SparkSession, evaluation: Evaluation) -> Plain:
        cutoff = evaluation.results["cutoff"]
        past = events_frame(spark, [e for e in LOG if e["event_time"].isoformat() < cutoff])
        features = build_user_features(past)
        segmented, _ = assign_segments(fit_segmentation(StoredTable(features), SEGMENTATION).model, features)
        segments = {row.user_id: row.segment for row in segmented.select("user_id", "segment").collect()}
        assert len(set(segments.values())) == 2
        return Plain(LOG, cutoff, segments)

    @pytest.mark.parametrize("exclude", ["purchased", "seen"])
    @pytest.mark.parametrize("system", [PUBLISHED, POPULARITY, "latest", "neighbours"])
    def test_every_metric_of_every_slice(self, values: Values, plain: Plain, system: str, exclude: str) -> None:
        by_user, of_catalogue = plain.metrics(system, exclude)
        by_slice: dict[str, list[int]] = defaultdict(list)
        for user in by_user:
            for part in plain.slices(user):
                by_slice[part].append(user)
        expected = {("all", metric): value for metric, value in of_catalogue.items()}
        for part, users in by_slice.items():
            expected |= {(part, m): fmean(by_user[user][m] for user in users) for m in USER_METRICS}
        got = {(part, m): v for (m, of, part, by), v in values.items() if of == system and by == exclude}
        assert got == pytest.approx(expected)
        assert {"events: none", "events: few", "events: some", "served by: fallback"} <= by_slice.keys()

    def test_users_of_each_slice(self, evaluation: Evaluation, plain: Plain) -> None:
        for exclude in ("purchased", "seen"):
            counts = Counter(part for user in plain.metrics(PUBLISHED, exclude)[0] for part in plain.slices(user))
            assert {
                part: n for m, _, s, part, by, *_, n in evaluation.rows if (m, s, by) == ("ndcg", PUBLISHED, exclude)
            } == counts
        assert evaluation.results["holdout_users"] == len(plain.metrics(PUBLISHED, "purchased")[0])

    def test_popularity_bias(self, evaluation: Evaluation, plain: Plain) -> None:
        bias = evaluation.results["shown_by_popularity"]
        assert list(bias) == [PUBLISHED, ALS_LIST, POPULARITY, "touched"]
        assert [sum(shares) for shares in bias.values()] == pytest.approx([1] * 4, abs=1e-5)
        # The first tenth of 15 products is 2, the second, from 1.5 to 3, is 1.
        counts = [len(plain.users_of[p]) for p in plain.popular()]
        assert bias["touched"][:2] == pytest.approx([sum(counts[:2]) / sum(counts), counts[2] / sum(counts)], abs=1e-6)


class TestTable:
    def test_keys_are_unique_and_columns_documented(self, evaluation: Evaluation) -> None:
        rows, types = ALS_EVALUATION.conform_rows(evaluation.table())
        assert types == {c.name: c.type for c in ALS_EVALUATION.columns}
        keys = rows.select(ALS_EVALUATION.keys).to_pylist()
        assert len({tuple(key.values()) for key in keys}) == len(keys) == len(evaluation.rows)

    def test_every_system_has_rows_for_both_exclusions(self, evaluation: Evaluation) -> None:
        systems = {(m, system, by) for m, _, system, part, by, *_ in evaluation.rows if part == "all"}
        for exclude in ("purchased", "seen"):
            assert {s for m, s, by in systems if (m, by) == ("ndcg", exclude)} == {*SYSTEMS, *DIFFERENCES}
            assert {s for m, s, by in systems if (m, by) == ("coverage", exclude)} == set(SYSTEMS)
        assert [row[2:5] for row in evaluation.rows if row[0] == "rmse"] == [("als", "all", "none")]

    def test_intervals_are_around_the_values(self, evaluation: Evaluation) -> None:
        for metric, k, _, _, _, value, lower, upper, _ in evaluation.rows:
            assert k == (None if metric == "rmse" else K)
            if metric in USER_METRICS:
                assert lower <= value <= upper
            else:
                assert lower is upper is None

    def test_differences_are_differences(self, evaluation: Evaluation, values: Values) -> None:
        for exclude in ("purchased", "seen"):
            best = evaluation.results["best_baselines"][exclude]
            ndcg = {system: values["ndcg", system, "all", exclude] for system in BASELINES}
            assert ndcg[best] == max(ndcg.values())
            for one, other in COMPARED:
                for metric in USER_METRICS:
                    baseline = best if other == "best baseline" else other
                    apart = values[metric, one, "all", exclude] - values[metric, baseline, "all", exclude]
                    assert values[metric, difference(one, other), "all", exclude] == pytest.approx(apart, abs=1e-12)

    def test_the_results_are_those_of_the_published_exclusion(self, evaluation: Evaluation, values: Values) -> None:
        results = evaluation.results
        assert results["best_baseline"] == results["best_baselines"]["purchased"]
        assert results["metrics"]["recall"][PUBLISHED][0] == values["recall", PUBLISHED, "all", "purchased"]
        for exclude in ("purchased", "seen"):
            assert results["ndcg_by_exclude"][exclude]["als"][0] == values["ndcg", "als", "all", exclude]
        for part, systems in results["ndcg_by_slice"].items():
            assert systems[PUBLISHED][0] == values["ndcg", PUBLISHED, part, "purchased"]
        assert results["blend"]["features"] is None  # fewer than 100 users
        assert 0 < results["blend"]["training_users"] < 100


def test_with_the_ranker_als_the_published_lists_are_those_of_als_with_fallback(
    spark: SparkSession, evaluation: Evaluation
) -> None:
    als = evaluated(spark, LOG, Exclude.none, K, Ranker.als)
    rows = {system: [(*row[:2], *row[3:]) for row in als.rows if row[2] == system] for system in (PUBLISHED, ALS_LIST)}
    assert rows[PUBLISHED] == rows[ALS_LIST]
    assert {row[3] for row in rows[PUBLISHED]} == {"none", "purchased", "seen"}
    assert als.results["blend"] is None
    # The ranker of the published lists does not change the other systems.
    same = ("als", "latest", POPULARITY)
    one, other = (
        {row for row in of.rows if row[2] in same and row[4] in ("purchased", "seen") and "served" not in row[3]}
        for of in (als, evaluation)
    )
    assert one == other


class TestRmse:
    def test_a_fixed_fifth_of_the_pairs_is_held_out_and_unknown_pairs_are_counted(self, spark: SparkSession) -> None:
        # By xxhash64(user_id, product_id, 42) modulo 100 these pairs of the grid are held out: (1, 3), (1, 5), (2, 2),
        # (2, 6), (4, 3), (4, 6); and of the others (7, 5) and (3, 12), whose user or product has no other pair.
        grid = [(user, product) for user in (1, 2, 3, 4) for product in range(1, 7)]
        events = [event("2020-01-01 10:00:00", "view", p, u) for u, p in [*grid, (7, 5), (3, 12)]]
        with prepare_holdouts(events_frame(spark, events), None, None, SEGMENTATION, in_process=True) as holdouts:
            rows, results = rmse(holdouts.pairs, ALS)
        assert (results["rmse_pairs"], results["rmse_pairs_left_out"]) == (6, 2)
        assert rows == [("rmse", None, "als", "all", "none", results["rmse"], None, None, 3)]  # users 1, 2, 4
        # All ratings are 1, and predictions are between 0 and a little above 1.
        assert 0.0 < results["rmse"] < 1.0

    def test_is_null_without_a_known_pair(self) -> None:
        pairs = {"user_idx": [0, 1], "product_idx": [0, 1], "rating": [1.0, 1.0], "train": [True, False]}
        rows, results = rmse(pa.table(pairs), ALS)
        assert rows == []
        assert results == {"rmse": None, "rmse_pairs": 0, "rmse_pairs_left_out": 1}


class TestSmallLogs:
    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([], id="no events"),
            pytest.param([event("2020-01-01 10:00:00")] * 9, id="one second"),
        ],
    )
    def test_no_rows_and_no_failure(self, spark: SparkSession, events: list[dict[str, Any]]) -> None:
        evaluation = evaluated(spark, events, Exclude.purchased, 10)
        assert evaluation.rows == []
        assert evaluation.results["rmse"] is None
        assert evaluation.results["holdout"].startswith("none: ")
        rows, types = ALS_EVALUATION.conform_rows(evaluation.table())
        assert (rows.num_rows, list(types)) == (0, ALS_EVALUATION.names)

    def test_nothing_but_removals_after_the_cutoff(self, spark: SparkSession) -> None:
        events = [event("2020-01-01 10:00:00", "view", product) for product in range(9)]
        events += [event("2020-01-02 10:00:00", "remove_from_cart", 3)]
        evaluation = evaluated(spark, events, Exclude.none, 10)
        assert {row[0] for row in evaluation.rows} <= {"rmse"}
        assert evaluation.results["holdout"].startswith("none: ")

    def test_users_count_under_each_exclusion_that_leaves_them_something_relevant(self, spark: SparkSession) -> None:
        # Users 1 and 2 look at products 0 to 8 and at 8 in one second; then both at what they saw before.
        events = [event("2020-01-01 10:00:00", "view", product, 1) for product in range(9)]
        events += [event("2020-01-01 10:00:00", "view", 8, 2)] * 4
        events += [event("2020-01-02 10:00:00", "view", product, user) for user, product in [(1, 3), (2, 8)]]
        evaluation = evaluated(spark, events, Exclude.purchased, 4)
        assert evaluation.results["holdout_users"] == 2
        assert {row[4] for row in evaluation.rows if row[0] != "rmse"} == {"purchased"}
        assert list(evaluation.results["best_baselines"]) == ["purchased"]
        recall = {row[2]: row[5] for row in evaluation.rows if row[0] == "recall" and row[3] == "all"}
        # 8 has two users, 0 to 7 one each: popularity lists 8, 0, 1, 2; the latest of user 1 are 0, 1, 2, 3.
        assert (recall[POPULARITY], recall["latest"]) == (1 / 2, 1.0)

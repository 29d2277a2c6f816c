"""als_evaluation: the rows of a shop small enough to count by hand."""

from collections import Counter
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.als import AlsParameters
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION, Evaluation, evaluate, rmse
from ecommerce_assets.recommendation.holdout import judged_pairs
from ecommerce_assets.recommendation.metrics import RANKING_METRICS
from ecommerce_assets.recommendation.recommend import Exclude
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets_tests.helpers import event, events_frame

ALS = AlsParameters(rank=3, maxIter=2)
SEGMENTATION = SegmentationParameters(k=2)


def shop() -> list[dict[str, Any]]:
    """Ten users before the cut-off, which is a second after the last view of day 4, and four users after it.

    Before: product 0 is viewed by all ten users, 1 by five, 2 by three, 3 by two, 4 by one; user 1 views 0 twenty times
    more. All in one second, of which no part can be held out. After: three known users and one new one.
    """
    noon, after = "2020-01-04 12:00:00", "2020-01-09 12:00:00"
    viewers = {0: range(1, 11), 1: (4, 5, 6, 7, 8), 2: (2, 3, 10), 3: (9, 10), 4: (3,)}
    before = [event(noon, "view", product, user) for product, users in viewers.items() for user in users]
    before += [event(noon, "view", 0, 1)] * 20
    return [
        *before,
        event(after, "view", 1, 1),
        event(after, "cart", 0, 2),
        event(after, "view", 4, 2),
        event(after, "purchase", 77, 3),  # a product that nobody could have recommended
        event(after, "view", 0, 99),
        event(after, "remove_from_cart", 3, 6),  # nothing that could have been recommended
    ]


class TestEvaluate:
    @pytest.fixture(scope="class")
    @classmethod
    def events(cls, spark: SparkSession) -> DataFrame:
        return events_frame(spark, shop()).persist()

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, events: DataFrame) -> Evaluation:
        return evaluate(events, ALS, SEGMENTATION, Exclude.none, 2)

    @pytest.fixture(scope="class")
    @classmethod
    def values(cls, found: Evaluation) -> dict[tuple[str, str, str], float]:
        return {(metric, system, part): value for metric, _, system, part, value, *_ in found.rows}

    def test_cutoff_and_users(self, found: Evaluation) -> None:
        assert found.results["cutoff"] == "2020-01-04T12:00:01+00:00"
        assert found.results["holdout_users"] == 4  # not user 6
        assert "holdout" not in found.results

    def test_every_metric_has_one_row_per_system(self, found: Evaluation) -> None:
        over_all = Counter((metric, system) for metric, _, system, part, *_ in found.rows if part == "all")
        compared = ["als", "published", "popularity", "als - popularity", "published - popularity"]
        expected = {(metric, system) for metric in RANKING_METRICS for system in compared}
        expected |= {(m, s) for m in ("coverage", "served", "novelty") for s in ("als", "published", "popularity")}
        expected |= {("rmse", "als")} if found.results["rmse"] is not None else set()
        assert over_all == Counter(expected)

    def test_each_holdout_user_is_in_one_slice_of_each_kind(self, found: Evaluation) -> None:
        users = {(metric, part): users for metric, _, _, part, *_, users in found.rows if metric == "recall"}
        assert users["recall", "all"] == 4
        assert users["recall", "events: none"] == 1  # user 99
        assert users["recall", "events: few"] == 2  # users 2 and 3
        assert users["recall", "events: many"] == 1  # user 1: 21 views
        assert users["recall", "segment: none"] == 1  # user 99
        segments = {part: n for (_, part), n in users.items() if part.startswith("segment: ")}
        assert sum(segments.values()) == 4
        assert users["recall", "served by: als"] == 3
        assert users["recall", "served by: fallback"] == 1  # user 99
        assert len(users) == 6 + len(segments)

    def test_the_slices_by_service_add_up_to_all_users(self, values: dict[tuple[str, str, str], float]) -> None:
        # User 99, whom the model does not know, gets 0, which he wanted, and nothing of the model.
        assert values["ndcg", "published", "served by: fallback"] == 1.0
        assert values["ndcg", "als", "served by: fallback"] == 0.0
        for system in ("als", "published", "popularity"):
            apart = [
                values["ndcg", system, f"served by: {kind}"] * users for kind, users in (("als", 3), ("fallback", 1))
            ]
            assert sum(apart) / 4 == pytest.approx(values["ndcg", system, "all"])

    def test_shares_of_what_is_shown_add_up_over_the_popularity_groups(self, found: Evaluation) -> None:
        shares = found.results["shown_by_popularity"]
        assert list(shares) == ["als", "published", "popularity", "touched"]
        for own in shares.values():
            assert sum(own) == pytest.approx(1.0, abs=1e-5)
        # Five products in ten groups: every other one is empty. Popularity shows 0 to all and then 1; of 21 pairs
        # before the cut-off ten are with 0, five with 1, three with 2, two with 3, one with 4.
        assert [share for share in shares["popularity"] if share] == [0.5, 0.5]
        assert [share for share in shares["touched"] if share] == pytest.approx(
            [n / 21 for n in (10, 5, 3, 2, 1)], abs=1e-6
        )

    def test_ndcg_by_slice_in_the_results(self, found: Evaluation, values: dict[tuple[str, str, str], float]) -> None:
        for part, ndcg in found.results["ndcg_by_slice"].items():
            assert ndcg["popularity"][0] == values["ndcg", "popularity", part]
            assert ndcg["published - popularity"][0] == values["ndcg", "published - popularity", part]

    def test_popularity_by_hand(self, values: dict[tuple[str, str, str], float]) -> None:
        # Everyone gets 0, then 1. User 1 wanted 1: a hit at rank 2. User 2 wanted 0 and 4: a hit at rank 1 of two.
        # User 3 wanted 77: none. User 99 wanted 0: all there is.
        expected = {
            "precision": (1 / 2 + 1 / 2 + 0 + 1 / 2) / 4,
            "recall": (1 + 1 / 2 + 0 + 1) / 4,
            "hit_rate": 3 / 4,
            "map": (1 / 2 + 1 / 2 + 0 + 1) / 4,
            # 1 / log2(3) for rank 2; 1 of the 1.63093 that two hits would give; 0; 1
            "ndcg": (0.6309297535714575 + 1 / 1.6309297535714575 + 0 + 1) / 4,
            "coverage": 2 / 5,
            "served": 1.0,
            "novelty": 1 / 2,  # 0 was seen by all ten users, 1 by half of them: (0 + 1) / 2
        }
        assert {metric: values[metric, "popularity", "all"] for metric in expected} == pytest.approx(expected)
        assert values["recall", "popularity", "events: few"] == 1 / 4
        assert values["recall", "popularity", "events: many"] == 1.0

    def test_a_new_user_is_served_by_the_published_lists_alone(self, values: dict[tuple[str, str, str], float]) -> None:
        assert values["served", "als", "all"] == 3 / 4  # not user 99
        assert values["served", "published", "all"] == 1.0
        assert values["recall", "als", "events: none"] == 0.0
        # The new user gets what is popular: the published system is popularity for him.
        assert values["recall", "published", "events: none"] == 1.0
        assert values["recall", "published - popularity", "events: none"] == 0.0

    def test_differences_are_differences(self, values: dict[tuple[str, str, str], float]) -> None:
        for metric in RANKING_METRICS:
            for system in ("als", "published"):
                difference = values[metric, system, "all"] - values[metric, "popularity", "all"]
                assert values[metric, f"{system} - popularity", "all"] == pytest.approx(difference, abs=1e-12)

    def test_ranking_metrics_have_intervals_around_their_values(self, found: Evaluation) -> None:
        for metric, k, _, _, value, lower, upper, _ in found.rows:
            assert k == (None if metric == "rmse" else 2)
            if metric in RANKING_METRICS:
                assert lower <= value <= upper
            else:
                assert lower is upper is None

    def test_overall_values_in_the_results(self, found: Evaluation, values: dict[tuple[str, str, str], float]) -> None:
        assert sorted(found.results["metrics"]) == sorted([*RANKING_METRICS, "coverage", "novelty", "served"])
        assert found.results["metrics"]["recall"]["als"][0] == values["recall", "als", "all"]
        assert found.results["users_per_source"]["als"] == 3

    def test_rows_have_the_documented_columns_and_unique_keys(self, spark: SparkSession, found: Evaluation) -> None:
        frame = found.frame(events_frame(spark, shop()))
        assert frame.dtypes == [(c.name, c.type) for c in ALS_EVALUATION.columns]
        assert frame.select(*ALS_EVALUATION.keys).distinct().count() == frame.count() == len(found.rows)


class TestRmse:
    def test_unknown_pairs_are_left_out_and_counted(self, spark: SparkSession) -> None:
        # By xxhash64(user_id, product_id, 42) modulo 100 these pairs of the grid are held out: (1, 3), (1, 5), (2, 2),
        # (2, 6), (4, 3), (4, 6); and of the others (7, 5) and (3, 12), whose user or product has no other pair.
        grid = [(user, product) for user in (1, 2, 3, 4) for product in range(1, 7)]
        events = [event("2020-01-01 10:00:00", "view", p, u) for u, p in [*grid, (7, 5), (3, 12)]]
        with judged_pairs(events_frame(spark, events), None) as pairs:
            rows, results = rmse(pairs, ALS)
        assert (results["rmse_pairs"], results["rmse_pairs_left_out"]) == (6, 2)
        assert rows == [("rmse", None, "als", "all", results["rmse"], None, None, 3)]  # users 1, 2, 4
        # All ratings are 1, and what is predicted lies between 0 and a little above 1.
        assert 0.0 < results["rmse"] < 1.0

    def test_no_known_pair(self, spark: SparkSession) -> None:
        events = [event("2020-01-01 10:00:00", "view", p, u) for u, p in [(7, 5), (1, 1)]]
        with judged_pairs(events_frame(spark, events), None) as pairs:
            rows, results = rmse(pairs, ALS)
        assert rows == []
        assert results == {"rmse": None, "rmse_pairs": 0, "rmse_pairs_left_out": 1}


class TestTinyData:
    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([], id="no event"),
            pytest.param([event("2020-01-01 10:00:00")], id="one event"),
            pytest.param([event("2020-01-01 10:00:00", "view", 5, 7)], id="one event that is held out of the rmse"),
            pytest.param([event("2020-01-01 10:00:00", "remove_from_cart")] * 2, id="removals alone"),
        ],
    )
    def test_no_rows_and_no_failure(self, spark: SparkSession, events: list[dict[str, Any]]) -> None:
        found = evaluate(events_frame(spark, events), ALS, SEGMENTATION, Exclude.purchased, 10)
        assert found.rows == []
        assert found.results["rmse"] is None
        assert found.results["holdout"].startswith("none: ")
        assert found.frame(events_frame(spark, events)).collect() == []

    def test_nothing_but_removals_after_the_cutoff(self, spark: SparkSession) -> None:
        events = [event("2020-01-01 10:00:00", "view", product) for product in range(9)]
        events += [event("2020-01-02 10:00:00", "remove_from_cart", 3)]
        found = evaluate(events_frame(spark, events), ALS, SEGMENTATION, Exclude.none, 10)
        assert {row[0] for row in found.rows} <= {"rmse"}
        assert found.results["holdout"].startswith("none: ")

    def test_two_users_and_what_they_saw_excluded(self, spark: SparkSession) -> None:
        # User 1 looks at products 0 to 8, user 2 at 8, all in one second; then user 1 at 3 again, user 2 at 8 and at 3.
        events = [event("2020-01-01 10:00:00", "view", product, 1) for product in range(9)]
        events += [event("2020-01-01 10:00:00", "view", 8, 2)] * 4
        events += [event("2020-01-02 10:00:00", "view", product, user) for user, product in [(1, 3), (2, 8), (2, 3)]]
        # Fewer users than segments.
        found = evaluate(events_frame(spark, events), ALS, SegmentationParameters(), Exclude.seen, 4)
        assert found.results["holdout_users"] == 1  # 3 is new to user 2; the rest was seen
        over_all = {(metric, system): value for metric, _, system, part, value, *_ in found.rows if part == "all"}
        # Without 8, popularity gives user 2 the products 0, 1, 2, 3, each seen by one user: a hit at rank 4.
        assert over_all["recall", "popularity"] == 1.0
        assert over_all["precision", "popularity"] == over_all["map", "popularity"] == 1 / 4

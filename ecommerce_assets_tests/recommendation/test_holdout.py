"""The temporal holdout: the cut-off, what counts as relevant, and what was before and after it."""

import datetime as dt

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.recommendation.holdout import holdout_cutoff, is_relevant, judged_pairs
from ecommerce_assets.recommendation.recommend import Exclude
from ecommerce_assets_tests.helpers import event, events_frame


def seconds(*seconds: str) -> list[str]:
    return [f"2020-01-01 10:00:{second}" for second in seconds]


class TestCutoff:
    @pytest.mark.parametrize(
        ("times", "cutoff"),
        [
            # Ten events: at most two may lie after.
            pytest.param(seconds(*(f"0{n}" for n in range(10))), "2020-01-01 10:00:08", id="one per second"),
            pytest.param(
                [f"2020-01-{day:02d} 12:00:00" for day in range(1, 11)], "2020-01-08 12:00:01", id="one per day"
            ),
            pytest.param(
                seconds("00", "01", "02", "03", "04", "05", "06", "07", "07", "09"),
                "2020-01-01 10:00:08",
                id="a second is not cut in two",
            ),
            pytest.param(
                seconds("00", "01", "02", "03", "04", "05", "06", "07.100000", "07.900000", "09"),
                "2020-01-01 10:00:08",
                id="nor by fractions",
            ),
            pytest.param(
                [*["2020-01-01 23:59:59"] * 8, *["2020-01-02 00:00:00"] * 2], "2020-01-02 00:00:00", id="midnight"
            ),
            pytest.param(
                [*["2020-01-01 10:00:00"] * 7, "2020-01-02 10:00:00", "2020-01-02 10:00:05", "2020-01-02 10:00:09"],
                "2020-01-02 10:00:01",
                id="inside the last day",
            ),
            pytest.param(seconds("00", "01", "02", "03", "04"), "2020-01-01 10:00:04", id="exactly one fifth"),
            pytest.param(seconds(*["00"] * 7, "01", "01", "01"), None, id="a last second of three tenths"),
            pytest.param(seconds("00", "01", "02", "03"), None, id="four events: one is a quarter"),
            pytest.param(seconds(*["00"] * 10), None, id="all in one second"),
            pytest.param(seconds("00"), None, id="a single event"),
            pytest.param([], None, id="no event"),
        ],
    )
    def test_by_hand(self, spark: SparkSession, times: list[str], cutoff: str | None) -> None:
        found = holdout_cutoff(events_frame(spark, [event(time) for time in reversed(times)]))
        assert found == (dt.datetime.fromisoformat(cutoff).replace(tzinfo=dt.UTC) if cutoff else None)

    def test_another_share(self, spark: SparkSession) -> None:
        events = events_frame(spark, [event(time) for time in seconds("00", "01", "02", "03")])
        assert holdout_cutoff(events, 0.5) == dt.datetime(2020, 1, 1, 10, 0, 2, tzinfo=dt.UTC)


class TestRelevantProducts:
    @pytest.mark.parametrize(
        ("exclude", "relevant"),
        [
            (Exclude.none, [(1, 10), (1, 20), (1, 30), (2, 10)]),
            (Exclude.purchased, [(1, 20), (1, 30), (2, 10)]),  # user 1 bought 10 before
            (Exclude.seen, [(1, 30), (2, 10)]),  # and looked at 20
        ],
    )
    def test_by_hand(self, spark: SparkSession, exclude: Exclude, relevant: list[tuple[int, int]]) -> None:
        before, after = "2020-01-01 10:00:00", "2020-01-02 10:00:00"
        events = [
            event(before, "purchase", 10, 1),
            event(before, "view", 20, 1),
            event(before, "remove_from_cart", 30, 1),  # no reason to leave 30 out
            event(before, "view", 40, 1),  # never again: not relevant
            event(after, "view", 10, 1),
            event(after, "view", 20, 1),
            event(after, "purchase", 20, 1),  # a pair counts once
            event(after, "cart", 30, 1),
            event(after, "remove_from_cart", 50, 1),  # not relevant
            event(after, "purchase", 10, 2),
        ]
        cutoff = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
        with judged_pairs(events_frame(spark, events), cutoff) as pairs:
            found = pairs.of_both.where(is_relevant(exclude)).join(pairs.users, "user_idx")
            ids = found.join(pairs.products, "product_idx").select("user_id", "product_id").collect()
        assert sorted(tuple(row) for row in ids) == relevant


class TestJudgedPairs:
    def test_what_was_before_and_after(self, spark: SparkSession) -> None:
        before, after = "2020-01-01 10:00:00", "2020-01-02 10:00:00"
        events = [
            event(before, "view", 10, 1),
            event(before, "purchase", 10, 1),
            event(after, "purchase", 10, 1),
            event(before, "remove_from_cart", 20, 1),
            event(after, "cart", 30, 1),
        ]
        with judged_pairs(events_frame(spark, events), dt.datetime(2020, 1, 2, tzinfo=dt.UTC)) as pairs:
            numbered = pairs.of_both.join(pairs.products.drop("events"), "product_idx").drop("train")
            found = {row["product_id"]: row.asDict() for row in numbered.collect()}
            past = pairs.past.join(pairs.products, "product_idx").select("product_id", "rating", "purchases").collect()
            users = [row.asDict() for row in pairs.users.collect()]
        wanted = ("rating", "past_rating", "purchases", "afterwards", "known")
        assert {product: tuple(row[name] for name in wanted) for product, row in found.items()} == {
            10: (10.0, 6.0, 1, True, True),  # capped: 1 + 5 + 5
            20: (None, None, 0, False, True),
            30: (3.0, None, 0, True, False),
        }
        assert [tuple(row) for row in past] == [(10, 6.0, 1)]
        assert users == [{"user_id": 1, "user_idx": 0, "events": 5, "past_events": 3}]

"""The temporal holdouts: their cutoffs, their contents, and that nothing leaks from the future."""

import datetime as dt
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.recommendation import interactions
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.fitting import stats_in_process
from ecommerce_assets.recommendation.holdout import (
    Holdout,
    cutoff_second,
    holdout_cutoff,
    holdout_cutoffs,
    nested_cutoffs,
    prepare_holdouts,
)
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.local_holdout import LocalHoldout
from ecommerce_assets.recommendation.products import Products, products_of
from ecommerce_assets.recommendation.scoring import Past
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets_tests.helpers import event, events_frame


def seconds(*seconds: str) -> list[str]:
    return [f"2020-01-01 10:00:{second}" for second in seconds]


def utc_seconds(time: str) -> int:
    return int(dt.datetime.fromisoformat(time).replace(tzinfo=dt.UTC).timestamp())


class TestCutoff:
    @pytest.mark.parametrize(
        ("times", "share", "cutoff"),
        [
            # Ten events: at most two may be in the holdout.
            pytest.param(seconds(*(f"0{n}" for n in range(10))), 0.2, "2020-01-01 10:00:08", id="one per second"),
            pytest.param(
                [f"2020-01-{day:02d} 12:00:00" for day in range(1, 11)], 0.2, "2020-01-08 12:00:01", id="one per day"
            ),
            pytest.param(
                seconds("00", "01", "02", "03", "04", "05", "06", "07", "07", "09"),
                0.2,
                "2020-01-01 10:00:08",
                id="a second is not divided",
            ),
            pytest.param(
                [*["2020-01-01 23:59:59"] * 8, *["2020-01-02 00:00:00"] * 2], 0.2, "2020-01-02 00:00:00", id="midnight"
            ),
            pytest.param(
                [*["2020-01-01 10:00:00"] * 7, "2020-01-02 10:00:00", "2020-01-02 10:00:05", "2020-01-02 10:00:09"],
                0.2,
                "2020-01-02 10:00:01",
                id="inside the last day",
            ),
            pytest.param(seconds("00", "01", "02", "03", "04"), 0.2, "2020-01-01 10:00:04", id="exactly one fifth"),
            pytest.param(seconds("00", "01", "02", "03"), 0.5, "2020-01-01 10:00:02", id="another share"),
            pytest.param(seconds(*["00"] * 7, "01", "01", "01"), 0.2, None, id="a last second of three tenths"),
            pytest.param(seconds("00", "01", "02", "03"), 0.2, None, id="four events: one is a quarter"),
            pytest.param(seconds(*["00"] * 10), 0.2, None, id="all in one second"),
            pytest.param([], 0.2, None, id="no event"),
        ],
    )
    def test_by_hand(self, times: list[str], share: float, cutoff: str | None) -> None:
        counts = Counter(map(utc_seconds, times))
        hours = Counter(utc_seconds(time) // 3600 * 3600 for time in times)
        assert cutoff_second(hours, counts, share) == (utc_seconds(cutoff) if cutoff else None)

    def test_all_shares_are_found_by_one_reading_of_hours_and_seconds(self, spark: SparkSession) -> None:
        times = seconds("00", "01", "02", "03", "04", "05", "06", "07.100000", "07.900000", "09")
        events = events_frame(spark, [event(time) for time in [*reversed(times), *["2020-01-01 08:00:00"] * 10]])
        contents = holdout_cutoffs(events, [0.05, 0.1, 0.25, 0.6, 0.01])
        expected = ["10:00:08", "10:00:08", "10:00:05", "08:00:01", None]
        assert [cutoff and f"{cutoff:%H:%M:%S}" for cutoff in contents] == expected


EARLY, MIDDLE, LATE = (f"2020-01-0{day} 10:00:00" for day in (1, 2, 3))
INNER, OUTER = dt.datetime(2020, 1, 2, tzinfo=dt.UTC), dt.datetime(2020, 1, 3, tzinfo=dt.UTC)
SEGMENTATION = SegmentationParameters(k=2, maxIter=3)
EVENTS = [
    event(EARLY, "view", 10, 1),
    event("2020-01-01 11:00:00", "purchase", 10, 1),
    event(EARLY, "remove_from_cart", 30, 1),
    event(EARLY, "view", 20, 2),
    event(MIDDLE, "view", 20, 1),
    event(MIDDLE, "cart", 10, 2),
    event("2020-01-02 11:00:00", "view", 10, 2),  # the pair is relevant once
    event(MIDDLE, "view", 10, 3),
    event(MIDDLE, "remove_from_cart", 40, 2),  # not relevant
    event(LATE, "purchase", 40, 1),
    event(LATE, "view", 50, 1),
    event(LATE, "view", 20, 2),
    event(LATE, "remove_from_cart", 10, 3),
    event(LATE, "view", 10, 4),
]

Table = dict[Any, Any]


def random_log(seed: int, users: int = 40, products: int = 15) -> list[dict[str, Any]]:
    """Ten days; every third user buys expensive products, and users with a higher id arrive later."""
    rng = np.random.default_rng(seed)
    events = []
    for user in range(users):
        for _ in range(rng.integers(1, 25)):
            second = int(rng.integers(0, 86_400 * 10 * (user + 10) // (users + 10)))
            time = str(dt.datetime(2020, 1, 1) + dt.timedelta(seconds=second))
            kinds = (
                ["view", "cart", "purchase", "purchase"]
                if user % 3 == 0
                else ["view", "view", "cart", "remove_from_cart"]
            )
            product = int(products * rng.random() ** 2)
            events.append(event(time, str(rng.choice(kinds)), 100 + product, user, 100.0 if user % 3 == 0 else 5.0))
    return events


Ids = dict[str, dict[int, Any]]
Tables = tuple[pa.Table, pa.Table, pa.Table]


def ids_of(events: DataFrame) -> Ids:
    """The ids of users and products by number."""
    return {
        what: {row[1]: row[0] for row in build_index(events, f"{what}_id", f"{what}_idx").collect()}
        for what in ("user", "product")
    }


def by_id(holdout: Tables, products: Products, ids: Ids) -> dict[str, Table]:
    """The tables of a holdout with ids in place of numbers."""
    user, product = ids["user"].get, ids["product"].get
    users, pairs, segments = (table.to_pylist() for table in holdout)
    return {
        "relevant": {user(u["user_idx"]): sorted(map(product, u["relevant"])) for u in users},
        "history": {
            user(u["user_idx"]): {
                product(h["product_idx"]): (h["rating"], h["events"], h["purchased"]) for h in u["history"]
            }
            for u in users
        },
        "last": {(user(u["user_idx"]), product(h["product_idx"])): h["last"] for u in users for h in u["history"]},
        "of_users": {user(u["user_idx"]): (u["segment"], u["total_events"]) for u in users},
        "pairs": {
            (user(p["user_idx"]), product(p["product_idx"])): (p["rating"], p["events"], p["purchased"], p["last"])
            for p in pairs
        },
        "segments": {user(s["user_idx"]): s["segment"] for s in segments},
        "buckets": {user(u["user_idx"]): u["bucket"] for u in users},
        "products": dict.fromkeys(products.ids.tolist()),
    }


def tables(holdout: Holdout | LocalHoldout) -> Tables:
    """Users, interactions and segments."""
    if isinstance(holdout, LocalHoldout):
        return holdout.users, holdout.interactions, holdout.segments
    pairs = interactions.collect_pairs(StoredTable(holdout.interactions), "events", "purchased", "last")
    return holdout.users.toArrow(), pairs, holdout.segments.toArrow()


def products_known(holdout: Holdout | LocalHoldout) -> Products:
    if isinstance(holdout, LocalHoldout):
        return holdout.products
    return products_of(holdout.products.toArrow())


class TestInProcess:
    """The holdouts of `EVENTS` by hand; those by Spark are compared with them on larger logs."""

    @pytest.fixture(scope="class")
    @classmethod
    def contents(cls, spark: SparkSession) -> dict[str, Any]:
        """The holdouts, and the ratings of the pairs for the rmse."""
        events = events_frame(spark, EVENTS)
        ids = ids_of(events)
        with prepare_holdouts(events, OUTER, INNER, SEGMENTATION, in_process=True) as holdouts:
            pairs: Any = holdouts.pairs
            rmse = {(row["user_idx"], row["product_idx"]): row["rating"] for row in pairs.to_pylist()}
            parts = {name: getattr(holdouts, name) for name in ("inner", "outer")}
            return {"rmse": rmse} | {
                name: by_id(tables(each), products_known(each), ids) for name, each in parts.items()
            }

    def test_relevant_are_the_interactions_in_the_window(self, contents: dict[str, Any]) -> None:
        assert contents["inner"]["relevant"] == {1: [20], 2: [10], 3: [10]}
        assert contents["outer"]["relevant"] == {1: [40, 50], 2: [20], 4: [10]}

    def test_histories_end_at_the_cutoff(self, contents: dict[str, Any]) -> None:
        # rating, interactions, purchased
        assert contents["inner"]["history"] == {1: {10: (6.0, 2, True)}, 2: {20: (1.0, 1, False)}, 3: {}}
        assert contents["outer"]["history"] == {
            1: {10: (6.0, 2, True), 20: (1.0, 1, False)},
            2: {20: (1.0, 1, False), 10: (4.0, 2, False)},
            4: {},
        }
        assert contents["outer"]["last"][1, 10] == utc_seconds("2020-01-01 11:00:00") * 1_000_000

    def test_interactions_are_those_of_all_users_before_the_cutoff(self, contents: dict[str, Any]) -> None:
        inner, outer = ({pair: row[:3] for pair, row in contents[name]["pairs"].items()} for name in ("inner", "outer"))
        assert inner == {(1, 10): (6.0, 2, True), (2, 20): (1.0, 1, False)}
        assert outer == inner | {(1, 20): (1.0, 1, False), (2, 10): (4.0, 2, False), (3, 10): (1.0, 1, False)}

    def test_segments_and_activity_are_from_events_before_the_cutoff(self, contents: dict[str, Any]) -> None:
        assert [sorted(contents[name]["segments"]) for name in ("inner", "outer")] == [[1, 2], [1, 2, 3]]
        for name, events in (("inner", {1: 3, 2: 1, 3: None}), ("outer", {1: 4, 2: 4, 4: None})):
            segments = contents[name]["segments"]
            assert contents[name]["of_users"] == {user: (segments.get(user), n) for user, n in events.items()}

    def test_products_are_those_with_an_event_before_the_cutoff(self, contents: dict[str, Any]) -> None:
        assert list(contents["inner"]["products"]) == [10, 20, 30]
        assert list(contents["outer"]["products"]) == [10, 20, 30, 40]

    def test_pairs_of_the_rmse_have_the_rating_of_all_events(self, contents: dict[str, Any]) -> None:
        # user_idx and product_idx in the order of the number of events
        one, two, three, four = range(4)
        ten, twenty, forty, _, fifty = range(5)
        assert contents["rmse"] == {
            (one, ten): 6.0,
            (one, twenty): 1.0,
            (one, forty): 5.0,
            (one, fifty): 1.0,
            (two, ten): 4.0,
            (two, twenty): 2.0,
            (three, ten): 1.0,
            (four, ten): 1.0,
        }


@pytest.mark.parametrize(
    ("cutoff", "inner", "has_outer", "in_process"),
    [
        pytest.param("2020-01-01", None, False, True, id="nothing before the outer cutoff"),
        pytest.param("2020-01-04", "2020-01-02", False, True, id="nothing after the outer cutoff"),
        pytest.param("2020-01-03", "2020-01-01", True, True, id="nothing before the inner cutoff"),
        pytest.param(
            *("2020-01-04", "2020-01-02", False, False),
            id="nothing after the outer cutoff, by Spark",
            marks=pytest.mark.trial,
        ),
    ],
)
def test_there_is_no_holdout_if_a_side_is_empty(
    spark: SparkSession, cutoff: str, inner: str | None, has_outer: bool, in_process: bool
) -> None:
    at, inner_at = (time and dt.datetime.fromisoformat(time).replace(tzinfo=dt.UTC) for time in (cutoff, inner))
    with prepare_holdouts(events_frame(spark, EVENTS), at, inner_at, SEGMENTATION, in_process) as holdouts:
        assert (holdouts.outer is not None) == has_outer
        assert holdouts.inner is None


Contents = dict[str, Any]
SMALL = AlsParameters(rank=2, maxIter=2)
IDS = [str(n) for n in range(100, 115)]
CATEGORIES = pa.table({"product_id": IDS, "category_id": [n % 4 for n in range(15)], "category": pa.nulls(15)})


def contents_of(spark: SparkSession, log: list[dict[str, Any]], in_process: bool, fit: bool = False) -> Contents:
    """The holdouts of a log with string ids, at its nested cutoffs, and models that are fitted on them."""
    events = with_string_ids(spark, log).persist()
    cutoffs, ids = nested_cutoffs(events), ids_of(events)
    result: Contents = {}
    with prepare_holdouts(events, cutoffs.outer, cutoffs.inner, SEGMENTATION, in_process) as holdouts:
        pairs: Any = holdouts.pairs if in_process else holdouts.pairs.toArrow()
        result["rmse"] = sorted(tuple(row.values()) for row in pairs.to_pylist())
        for name in ("inner", "outer"):
            holdout = getattr(holdouts, name)
            rows, products = tables(holdout), products_known(holdout)
            result[name] = by_id(rows, products, ids)
            result[name]["stats"] = asdict(stats_in_process(*rows[1:], products, CATEGORIES))
            if fit:
                systems = Past.of(holdout, CATEGORIES, SMALL).fit(SMALL)
                result[name]["factors"] = systems.maker.training.item_factors
                result[name]["neighbours"] = asdict(systems.maker.training.neighbours)
                users: Any = systems.users
                result[name]["user_factors"] = sorted(map(str, users.select(["user_idx", "features"]).to_pylist()))
    events.unpersist()
    return result


def with_string_ids(spark: SparkSession, log: list[dict[str, Any]]) -> DataFrame:
    ids = {name: F.col(name).cast("string") for name in ("user_id", "product_id")}
    return events_frame(spark, log).withColumns(ids)


class TestRandomLog:
    @pytest.fixture(scope="class")
    @classmethod
    def log(cls) -> list[dict[str, Any]]:
        return sorted(random_log(1), key=lambda event: event["event_time"])

    @pytest.fixture(scope="class")
    @classmethod
    def outer(cls, spark: SparkSession, log: list[dict[str, Any]]) -> dt.datetime:
        """The outer cutoff."""
        events = with_string_ids(spark, log)
        cutoffs = nested_cutoffs(events)
        assert cutoffs.outer is not None
        assert cutoffs.events == len(log)
        assert cutoffs.outer == holdout_cutoff(events)
        assert cutoffs.inner == holdout_cutoff(events.where(events.event_time < timestamp(cutoffs.outer)))
        return cutoffs.outer

    @pytest.fixture(scope="class")
    @classmethod
    def original(cls, spark: SparkSession, log: list[dict[str, Any]]) -> dict[bool, Contents]:
        """The contents in process (True) and by Spark."""
        return {in_process: contents_of(spark, log, in_process, fit=in_process) for in_process in (True, False)}

    def test_spark_has_the_same_holdouts_as_this_process(self, original: dict[bool, Contents]) -> None:
        assert original[True]["rmse"] == original[False]["rmse"]
        for name in ("inner", "outer"):
            local, by_spark = (original[in_process][name] for in_process in (True, False))
            assert len(local["pairs"]) > 100
            for key in ("relevant", "history", "last", "pairs", "buckets", "products"):
                assert local[key] == by_spark[key], key
            # Two implementations of K-Means find different clusters.
            assert sorted(local["segments"]) == sorted(by_spark["segments"])
            events_of = [{user: n for user, (_, n) in each["of_users"].items()} for each in (local, by_spark)]
            assert events_of[0] == events_of[1]

    @pytest.mark.parametrize(
        "in_process",
        [pytest.param(True, id="in process"), pytest.param(False, id="by Spark", marks=pytest.mark.trial)],
    )
    def test_events_after_the_outer_cutoff_change_nothing_that_is_trained_on(
        self,
        spark: SparkSession,
        log: list[dict[str, Any]],
        outer: dt.datetime,
        original: dict[bool, Contents],
        in_process: bool,
    ) -> None:
        later = [e for e in log if e["event_time"] >= outer]
        assert len(later) > 20
        # Each user and product keeps its number of events, and so its index, from which ALS starts.
        rotated = [e["product_id"] for e in later[7:] + later[:7]]
        permuted = [{**e, "product_id": product} for e, product in zip(later, rotated, strict=True)]
        changed = contents_of(spark, [*log[: -len(later)], *permuted], in_process, fit=in_process)
        assert changed["outer"]["relevant"] != original[in_process]["outer"]["relevant"]
        # The users of the outer holdout, and their factors, are those with a later event.
        of_later_users = ("relevant", "history", "last", "of_users", "buckets", "user_factors")
        for name in ("inner", "outer"):
            for key, value in changed[name].items():
                if name == "inner" or key not in of_later_users:
                    np.testing.assert_equal(value, original[in_process][name][key], key)

"""product_pairs: by hand, and against mlxtend's association rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from mlxtend.frequent_patterns import association_rules, fpgrowth
from mlxtend.preprocessing import TransactionEncoder
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.events.sample import generate
from ecommerce_assets.recommendation import product_pairs as module
from ecommerce_assets.recommendation.checks import PRODUCT_PAIRS_CHECKS
from ecommerce_assets.recommendation.product_pairs import PRODUCT_PAIRS, PairParameters, product_pairs
from ecommerce_assets.storage.checks import CheckContext, measure, run_checks, summaries_of
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.helpers import EVENTS_DDL, event, events_frame

ALL = PairParameters(k=1_000_000, min_baskets=1)
Pairs = dict[Any, list[Any]]


def bought(user: int, session: str | None, *products: Any, time: str = "2020-01-01 12:00:00") -> list[dict[str, Any]]:
    return [event(time, "purchase", product, user, user_session=session) for product in products]


# Baskets: 10 20 30, 10 20, 10 40, 10, 20 30. The two users of session a have a basket each; 10 is bought twice in c.
FIVE_BASKETS = [
    *bought(1, "a", 10, 20, 30),
    *bought(2, "a", 20, 10),
    *bought(3, "b", 10, 40),
    *bought(3, "c", 10, 10),
    *bought(4, "d", 20, 30),
]


def pairs(
    spark: SparkSession,
    events: Sequence[dict[str, Any]],
    parameters: PairParameters = ALL,
    eligible: DataFrame | None = None,
) -> Pairs:
    """The pair products of each product that is bought, in their order, with their number of baskets."""
    found = product_pairs(events_frame(spark, events), parameters, eligible).where("kind = 'bought'")
    listed: Pairs = {}
    for row in found.orderBy("product_id", "rank").collect():
        listed.setdefault(row["product_id"], []).append((row["pair_product_id"], row["baskets"]))
        assert row["rank"] == len(listed[row["product_id"]])
    return listed


@pytest.mark.parametrize(
    ("event_type", "kind", "id_type"), [("purchase", "bought", "bigint"), ("view", "viewed", "string")]
)
def test_by_hand(spark: SparkSession, event_type: str, kind: str, id_type: str) -> None:
    events = [{**one, "event_type": event_type} for one in FIVE_BASKETS]
    events += [event("2020-01-01 12:00:00", "cart", product, 1, user_session="a") for product in (10, 20, 40)]
    frame = events_frame(spark, events)
    frame = frame.withColumn("product_id", frame["product_id"].cast(id_type))
    stored = PRODUCT_PAIRS.conform(product_pairs(frame, ALL))
    assert stored.dtypes == [(c.name, c.type) for c in PRODUCT_PAIRS.with_id_type(id_type).columns]
    of = str if id_type == "string" else int
    assert [tuple(row) for row in stored.orderBy("product_id", "rank").collect()] == [
        (of(one), kind, rank, of(other), baskets, *(pytest.approx(value, rel=1e-12) for value in values))
        for one, rank, other, baskets, *values in [
            (10, 1, 20, 2, 2 / 5, 2 / 4, 5 / 6),
            (10, 2, 40, 1, 1 / 5, 1 / 4, 5 / 4),
            (10, 3, 30, 1, 1 / 5, 1 / 4, 5 / 8),
            (20, 1, 30, 2, 2 / 5, 2 / 3, 5 / 3),
            (20, 2, 10, 2, 2 / 5, 2 / 3, 5 / 6),
            (30, 1, 20, 2, 2 / 5, 1.0, 5 / 3),
            (30, 2, 10, 1, 1 / 5, 1 / 2, 5 / 8),
            (40, 1, 10, 1, 1 / 5, 1.0, 5 / 4),
        ]
    ]


def test_a_pair_has_at_least_the_fewest_baskets_and_a_list_at_most_k(spark: SparkSession) -> None:
    assert pairs(spark, FIVE_BASKETS, PairParameters()) == {10: [(20, 2)], 20: [(30, 2), (10, 2)], 30: [(20, 2)]}
    assert pairs(spark, FIVE_BASKETS, PairParameters(k=1)) == {10: [(20, 2)], 20: [(30, 2)], 30: [(20, 2)]}
    assert pairs(spark, FIVE_BASKETS, PairParameters(min_baskets=3)) == {}


def test_ties_go_by_product_id(spark: SparkSession) -> None:
    assert pairs(spark, bought(1, "a", 9, 30, 4, 10), PairParameters(k=2, min_baskets=1)) == {
        4: [(9, 1), (10, 1)],
        9: [(4, 1), (10, 1)],
        10: [(4, 1), (9, 1)],
        30: [(4, 1), (9, 1)],
    }


def test_only_eligible_products_are_listed_and_before_the_cut_to_k(spark: SparkSession) -> None:
    eligible = spark.createDataFrame([(30,), (40,)], "product_id bigint")
    found = product_pairs(events_frame(spark, FIVE_BASKETS), PairParameters(k=1, min_baskets=1), eligible)
    assert {(row["product_id"], row["pair_product_id"], row["rank"]) for row in found.collect()} == {
        (10, 40, 1),  # a product that is not eligible itself
        (20, 30, 1),
    }
    supports = {row["support"] for row in found.where("product_id = 20").collect()}
    assert supports == {2 / 5}  # of all baskets


def test_a_basket_without_a_session_ends_where_the_gap_is_longer_than_the_window(spark: SparkSession) -> None:
    events = [
        *bought(1, None, 10, time="2020-01-01 12:00:00"),
        *bought(1, None, 20, time="2020-01-02 12:00:00"),  # one day later
        *bought(1, None, 30, time="2020-01-03 12:00:01"),  # a second more
        *bought(1, None, 40, time="2020-01-03 12:00:01"),
        *bought(2, None, 50, time="2020-01-01 12:00:00"),  # of another user
        # Neither a view nor a purchase in a session fills the gap.
        event("2020-01-02 20:00:00", "view", 60, 1, user_session=None),
        *bought(1, "s", 70, time="2020-01-02 20:00:00"),
    ]
    in_one_day = {10: [(20, 1)], 20: [(10, 1)], 30: [(40, 1)], 40: [(30, 1)]}
    assert pairs(spark, events) == in_one_day
    in_two = pairs(spark, events, PairParameters(window_days=2, min_baskets=1))
    assert {one: {other for other, _ in listed} for one, listed in in_two.items()} == {
        one: {10, 20, 30, 40} - {one} for one in (10, 20, 30, 40)
    }


def test_a_session_is_one_basket_however_long_it_lasts(spark: SparkSession) -> None:
    events = [*bought(1, "a", 10), *bought(1, "a", 20, time="2020-03-01 12:00:00")]
    assert pairs(spark, events) == {10: [(20, 1)], 20: [(10, 1)]}


def test_of_a_long_basket_the_latest_products_count(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASKET_CAP", 2)
    events = [
        *bought(1, "a", 10, 40, time="2020-01-01 12:00:00"),
        *bought(1, "a", 30, 20, time="2020-01-01 12:00:01"),
        *bought(1, "a", 40, time="2020-01-01 12:00:02"),  # again, and so the latest
    ]
    assert pairs(spark, events) == {20: [(40, 1)], 40: [(20, 1)]}


def test_without_events_there_are_no_pairs(spark: SparkSession) -> None:
    assert product_pairs(spark.createDataFrame([], EVENTS_DDL), ALL).collect() == []


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Views and purchases of a generated shop, those of a third of the users without sessions."""
    folder: Path = tmp_path_factory.mktemp("pairs")
    generate(folder, events=3_000, days=10)
    files = f"{folder}/raw/events/*/*.parquet"
    return duckdb.sql(
        "select epoch_us(event_time) as at, event_type, product_id, user_id, "
        "if(user_id % 3 = 0, null, user_session) as user_session "
        f"from read_parquet('{files}', hive_partitioning = false) "
        "where event_type in ('view', 'purchase') and user_id is not null and product_id is not null "
        "and event_time is not null"
    ).df()


def baskets_of(events: pd.DataFrame, cap: int) -> list[list[int]]:
    """The baskets of events of one type, computed with pandas: sessions, and days where there are none."""
    of_sessions, others = events[events.user_session.notna()], events[events.user_session.isna()]
    others = others.sort_values(["user_id", "at"])
    gaps = others.groupby("user_id")["at"].diff() > 86_400_000_000
    others = others.assign(user_session=gaps.groupby(others.user_id).cumsum())
    baskets = []
    for part in (of_sessions, others):
        for _, basket in part.groupby(["user_id", "user_session"]):
            latest = basket.groupby("product_id", as_index=False)["at"].max()
            latest = latest.sort_values(["at", "product_id"], ascending=[False, True])
            baskets.append(latest.product_id.head(cap).tolist())
    return baskets


@pytest.mark.parametrize(("event_type", "kind", "cap"), [("view", "viewed", 4), ("purchase", "bought", 50)])
def test_support_confidence_and_lift_are_those_of_mlxtend(
    spark: SparkSession, generated: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, event_type: str, kind: str, cap: int
) -> None:
    monkeypatch.setattr(module, "BASKET_CAP", cap)
    baskets = baskets_of(generated[generated.event_type == event_type], cap)
    encoder = TransactionEncoder()
    table = pd.DataFrame(encoder.fit_transform(baskets), columns=encoder.columns_)
    itemsets = fpgrowth(table, min_support=0.5 / len(baskets), use_colnames=True, max_len=2)
    rules = association_rules(itemsets, metric="support", min_threshold=0)
    expected = {
        (*rule.antecedents, *rule.consequents): (rule.support, rule.confidence, rule.lift)
        for rule in rules.itertuples()
    }
    frame = spark.createDataFrame(
        generated.astype(object).where(generated.notna(), None),
        "at bigint, event_type string, product_id bigint, user_id bigint, user_session string",
    )
    events = frame.selectExpr("timestamp_micros(at) as event_time", "*")
    found = {
        (row["product_id"], row["pair_product_id"]): (row["support"], row["confidence"], row["lift"])
        for row in product_pairs(events, ALL).where(f"kind = '{kind}'").collect()
    }
    assert len(found) > 20
    assert found.keys() == expected.keys()
    assert found == {pair: pytest.approx(values, rel=1e-9) for pair, values in expected.items()}


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        ([(1, "bought", 1, 2, 3, 0.3, 0.6, 1.5), (2, "viewed", 1, 1, 3, 0.3, 1.0, 1.5)], []),
        (
            [
                (1, "bought", 1, 2, 3, 0.3, 0.6, 1.5),
                (1, "bought", 1, 3, 3, 0.3, 0.6, 1.5),
                (4, "sold", 1, 4, 3, 0.3, 0.6, 1.5),
            ],
            ["unique_key", "known_kinds", "no_self_pairs"],
        ),
        ([(1, "viewed", 1, 2, 0, 0.3, 0.6, 1.5)], ["values_in_range"]),
        ([(1, "viewed", 1, 2, 3, 0.0, 0.6, 1.5)], ["values_in_range"]),
        ([(1, "viewed", 1, 2, 3, 0.7, 0.6, 1.5)], ["values_in_range"]),
        ([(1, "viewed", 1, 2, 3, 0.3, 1.1, 1.5)], ["values_in_range"]),
        ([(1, "viewed", 1, 2, 3, 0.3, 0.6, float("nan"))], ["values_in_range"]),
    ],
)
def test_checks_find_what_is_wrong(spark: SparkSession, rows: list[tuple[Any, ...]], broken: list[str]) -> None:
    columns = PRODUCT_PAIRS.with_id_type("bigint").columns
    frame = spark.createDataFrame(rows, ", ".join(f"{c.name} {c.type}" for c in columns))
    decided = {"product_eligibility": spark.range(100).selectExpr("id as product_id", "id <> 99 as eligible")}
    summaries = [make(frame, CheckContext(Stats()), decided.__getitem__) for make in summaries_of(PRODUCT_PAIRS_CHECKS)]
    stats = measure(frame, PRODUCT_PAIRS_CHECKS, summaries)[None]
    assert [r.name for r in run_checks(PRODUCT_PAIRS_CHECKS, CheckContext(stats)) if not r.passed] == broken

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
from pyspark.sql import SparkSession

from ecommerce_assets.events.sample import generate
from ecommerce_assets.recommendation import product_pairs as module
from ecommerce_assets.recommendation.product_pairs import PRODUCT_PAIRS, PairParameters, product_pairs
from ecommerce_assets_tests.helpers import event, events_frame

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
) -> Pairs:
    """The pair products of each product that is bought, in the order of rank, with their number of baskets."""
    bought_pairs = product_pairs(events_frame(spark, events), parameters).where("kind = 'bought'")
    listed: Pairs = {}
    for row in bought_pairs.orderBy("product_id", "rank").collect():
        listed.setdefault(row["product_id"], []).append((row["pair_product_id"], row["baskets"]))
        assert row["rank"] == len(listed[row["product_id"]])
    return listed


def test_by_hand(spark: SparkSession) -> None:
    events = [{**one, "event_type": event_type} for one in FIVE_BASKETS for event_type in ("purchase", "view")]
    events += [event("2020-01-01 12:00:00", "cart", product, 1, user_session="a") for product in (10, 20, 40)]
    frame = events_frame(spark, events)
    frame = frame.withColumn("product_id", frame["product_id"].cast("string"))
    stored = PRODUCT_PAIRS.conform(product_pairs(frame, ALL))
    assert stored.dtypes == [(c.name, c.type) for c in PRODUCT_PAIRS.with_id_type("string").columns]
    assert [tuple(row) for row in stored.orderBy("kind", "product_id", "rank").collect()] == [
        (str(one), kind, rank, str(other), baskets, *(pytest.approx(value, rel=1e-12) for value in values))
        for kind in ("bought", "viewed")
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


def test_lists_have_at_most_k_products_of_min_baskets_and_ties_go_by_product_id(spark: SparkSession) -> None:
    assert PairParameters().min_baskets == 2
    events = [*bought(1, "a", 9, 30, 4, 10), *bought(2, "b", 9, 30, 4, 10), *bought(3, "c", 50, 60)]
    assert pairs(spark, events, PairParameters(k=2)) == {
        4: [(9, 2), (10, 2)],
        9: [(4, 2), (10, 2)],
        10: [(4, 2), (9, 2)],
        30: [(4, 2), (9, 2)],
    }


def test_only_eligible_products_are_listed_and_before_the_cut_to_k(spark: SparkSession) -> None:
    eligible = spark.createDataFrame([(30,), (40,)], "product_id bigint")
    listed = product_pairs(events_frame(spark, FIVE_BASKETS), PairParameters(k=1, min_baskets=1), eligible)
    assert {(row["product_id"], row["pair_product_id"], row["rank"], row["support"]) for row in listed.collect()} == {
        (10, 40, 1, 1 / 5),  # products that are not eligible have lists too
        (20, 30, 1, 2 / 5),  # the share of all baskets
    }


def test_a_basket_without_a_session_ends_after_a_gap_longer_than_the_window(spark: SparkSession) -> None:
    events = [
        *bought(1, None, 10, time="2020-01-01 12:00:00"),
        *bought(1, None, 20, time="2020-01-03 12:00:00"),  # two days later
        *bought(1, None, 30, time="2020-01-05 12:00:01"),  # a second more
        *bought(1, None, 40, time="2020-01-05 12:00:01"),
        *bought(2, None, 50, time="2020-01-01 12:00:00"),  # of another user
        # Neither a view nor a purchase in a session fills the gap.
        event("2020-01-04 20:00:00", "view", 60, 1, user_session=None),
        *bought(1, "s", 70, time="2020-01-04 20:00:00"),
        # A session is one basket, however long it lasts.
        *bought(3, "a", 80),
        *bought(3, "a", 90, time="2020-03-01 12:00:00"),
    ]
    baskets = [{10, 20}, {30, 40}, {80, 90}]
    listed = pairs(spark, events, PairParameters(window_days=2, min_baskets=1))
    assert {one: {other for other, _ in others} for one, others in listed.items()} == {
        one: basket - {one} for basket in baskets for one in basket
    }


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


def test_support_confidence_and_lift_are_those_of_mlxtend(
    spark: SparkSession, generated: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BASKET_CAP", 4)
    frame = spark.createDataFrame(
        generated.astype(object).where(generated.notna(), None),
        "at bigint, event_type string, product_id bigint, user_id bigint, user_session string",
    )
    events = frame.selectExpr("timestamp_micros(at) as event_time", "*")
    listed = product_pairs(events, ALL).collect()
    for event_type, kind in (("view", "viewed"), ("purchase", "bought")):
        baskets = baskets_of(generated[generated.event_type == event_type], 4)
        encoder = TransactionEncoder()
        table = pd.DataFrame(encoder.fit_transform(baskets), columns=encoder.columns_)
        itemsets = fpgrowth(table, min_support=0.5 / len(baskets), use_colnames=True, max_len=2)
        rules = association_rules(itemsets, metric="support", min_threshold=0)
        expected = {
            (*rule.antecedents, *rule.consequents): pytest.approx((rule.support, rule.confidence, rule.lift), rel=1e-9)
            for rule in rules.itertuples()
        }
        assert len(expected) > 20
        assert expected == {
            (row["product_id"], row["pair_product_id"]): (row["support"], row["confidence"], row["lift"])
            for row in listed
            if row["kind"] == kind
        }

"""Scores compared with the published example of the R package rfm, and groups of a few users."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.segmentation.checks import CUSTOMER_GROUPS_CHECKS
from ecommerce_assets.segmentation.customer_groups import (
    CUSTOMER_GROUPS,
    GROUPS,
    assign_groups,
    score_bounds,
)
from ecommerce_assets.settings import RfmBounds, SettingsError, load_settings
from ecommerce_assets.storage.checks import CheckContext, measure, run_checks

EXAMPLE = Path(__file__).parent / "rfm_example.csv"
"""Values and scores of the 995 customers of `rfm_data_orders`, as `rfm_table_order` prints them for 2006-12-31 (README
of the R package rfm by A. Hebbali)."""

USERS_DDL = "user_id bigint, purchase_recency int, purchase_days bigint, monetary double"


def users_frame(spark: SparkSession, users: Sequence[tuple[Any, ...]]) -> DataFrame:
    return spark.createDataFrame(list(users), USERS_DDL)


def test_scores_equal_those_of_the_r_package_rfm(spark: SparkSession) -> None:
    with EXAMPLE.open() as file:
        customers = [[int(value) for value in row] for row in list(csv.reader(file))[1:]]
    users = users_frame(spark, [(n, r, f, float(m)) for n, (r, f, m, *_) in enumerate(customers)])
    bounds = score_bounds(users)
    assert bounds.purchase_recency == pytest.approx((115, 181, 297.4, 482))
    assert bounds.purchase_days == pytest.approx((4, 5, 6, 8))
    assert bounds.monetary == pytest.approx((255.8, 382, 506.4, 666))
    scored = assign_groups(users, bounds).orderBy("user_id").collect()
    assert [(row["r_score"], row["f_score"], row["m_score"]) for row in scored] == [tuple(c[3:]) for c in customers]


def test_equal_values_at_a_quintile_get_the_lower_score(spark: SparkSession) -> None:
    # Four of five bought on one day only, so the quintiles are 1, 1, 1 and 1.2.
    users = users_frame(spark, [(n, 10, 1, 20.0) for n in range(4)] + [(4, 10, 2, 20.0)])
    bounds = score_bounds(users)
    assert bounds.purchase_days == pytest.approx((2, 2, 2, 2.2))
    scored = {row["user_id"]: row for row in assign_groups(users, bounds).collect()}
    assert [scored[n]["f_score"] for n in range(5)] == [1, 1, 1, 1, 4]
    assert {(row["r_score"], row["m_score"], row["customer_group"]) for row in scored.values()} == {
        (5, 1, "New"),
        (5, 1, "Champions"),
    }


def test_each_pair_of_scores_belongs_to_one_group() -> None:
    for r in range(1, 6):
        for f in range(1, 6):
            groups = [g.name for g in GROUPS if g.lowest_r <= r <= g.highest_r and g.lowest_f <= f <= g.highest_f]
            assert len(groups) == 1, (r, f, groups)


def test_groups_by_recency_and_purchase_days(spark: SparkSession) -> None:
    bounds = RfmBounds(purchase_recency=(10, 20, 30, 40), purchase_days=(2, 3, 4, 5), monetary=(50, 100, 150, 200))
    buyers = [
        (9, 5, "Champions"),
        (29, 4, "Loyal"),
        (10, 2, "Potential Loyalists"),
        (9, 1, "New"),
        (19, 1, "Promising"),
        (20, 3, "Need Attention"),
        (20, 2, "About to Sleep"),
        (39, 5, "Cannot Lose"),
        (40, 4, "At Risk"),
        (30, 1, "Hibernating"),
        (40, 2, "Lost"),
    ]
    users = users_frame(spark, [(n, recency, days, 60.0) for n, (recency, days, _) in enumerate(buyers)])
    rows = assign_groups(users, bounds).orderBy("user_id").collect()
    assert [(row["customer_group"], row["m_score"]) for row in rows] == [(group, 2) for *_, group in buyers]


def test_users_without_purchases_are_prospects_and_do_not_change_the_bounds(spark: SparkSession) -> None:
    buyers = [(n, n, n + 1, float(n)) for n in range(11)]
    prospects = [(100 + n, None, 0, 0.0) for n in range(50)]
    users = users_frame(spark, buyers + prospects)
    bounds = score_bounds(users)
    assert bounds == RfmBounds(purchase_recency=(3, 5, 7, 9), purchase_days=(4, 6, 8, 10), monetary=(3, 5, 7, 9))
    fixed = score_bounds(users, RfmBounds(purchase_days=(2, 3, 5, 8)))
    assert fixed == RfmBounds(purchase_recency=(3, 5, 7, 9), purchase_days=(2, 3, 5, 8), monetary=(3, 5, 7, 9))
    assigned = assign_groups(users, bounds)
    assert assigned.dtypes == [(c.name, c.type) for c in CUSTOMER_GROUPS.with_id_type("bigint").columns]
    rows = {tuple(row)[4:] for row in assigned.where("user_id >= 100").collect()}
    assert rows == {(None, None, None, "Prospects")}


def test_a_shop_without_known_buyers_has_no_bounds(spark: SparkSession) -> None:
    users = users_frame(spark, [(1, None, 0, 0.0), (2, None, None, 0.0), (3, None, None, 20.0)])
    bounds = score_bounds(users)
    assert bounds == RfmBounds(purchase_recency=(), purchase_days=(), monetary=())
    groups = {row["user_id"]: row["customer_group"] for row in assign_groups(users, bounds).collect()}
    assert groups == {1: "Prospects", 2: "Prospects", 3: None}  # user 3 paid, but purchase_days is unknown


def test_buyers_of_free_products_have_the_group_of_their_scores(spark: SparkSession) -> None:
    users = users_frame(spark, [(1, 0, 1, 0.0), (2, 3, 2, 5.0)])
    groups = assign_groups(users, score_bounds(users))
    assert {row["user_id"]: row["customer_group"] for row in groups.collect()} == {1: "New", 2: "Hibernating"}
    checks = [check for check in CUSTOMER_GROUPS_CHECKS if check.name == "groups_match_scores"]
    [outcome] = run_checks(checks, CheckContext(measure(groups, checks)[None]))
    assert outcome.passed


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('{"purchase_days": [2, 3, 5, 3]}', r"purchase_days must be a list of four numbers in ascending order"),
        ('{"purchase_days": [2, 3, 5]}', r"got \[2, 3, 5\]"),
        ('{"frequency": [2, 3, 5, 8]}', r"among purchase_recency, purchase_days, monetary, got 'frequency'"),
        ("[2, 3", "must be JSON"),
    ],
)
def test_invalid_bounds_are_an_error_with_the_value(monkeypatch: pytest.MonkeyPatch, value: str, reason: str) -> None:
    monkeypatch.setenv("ECOMMERCE_RFM_BOUNDS", value)
    with pytest.raises(SettingsError, match=reason):
        load_settings()


def test_bounds_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOMMERCE_RFM_BOUNDS", '"monetary": [10, 20.5, 100, 500], "purchase_days": [2, 2, 3, 5]')
    assert load_settings().rfm_bounds == RfmBounds(monetary=(10, 20.5, 100, 500), purchase_days=(2, 2, 3, 5))


def test_user_features_of_an_earlier_release_are_an_error_with_the_missing_columns(spark: SparkSession) -> None:
    users = users_frame(spark, []).drop("purchase_recency", "purchase_days")
    with pytest.raises(ValueError, match="lacks the columns purchase_recency, purchase_days: materialise it again"):
        score_bounds(users)

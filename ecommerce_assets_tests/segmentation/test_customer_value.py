"""Purchase histories, the predictions for a simulated shop, and shops that are too small."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.segmentation import customer_value
from ecommerce_assets.segmentation.assets import customer_value as asset
from ecommerce_assets.segmentation.checks import CUSTOMER_VALUE_CHECKS
from ecommerce_assets.segmentation.customer_plots import CUSTOMER_VALUE_NOTES, CUSTOMER_VALUE_PLOTS
from ecommerce_assets.segmentation.customer_value import (
    CUSTOMER_VALUE,
    Buyers,
    ValueModel,
    build_customer_value,
    purchase_history,
    span_of,
)
from ecommerce_assets.segmentation.purchase_model import BgNbd, GammaGamma
from ecommerce_assets.storage.checks import CheckContext, measure, run_checks, summaries_of
from ecommerce_assets.storage.display import png, write_notes
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.helpers import event, events_frame
from ecommerce_assets_tests.segmentation.buyers import simulate

FIRST = dt.datetime(2019, 10, 1, tzinfo=dt.UTC)
TRUTH = ValueModel(BgNbd(0.8, 20.0, 0.8, 2.0), GammaGamma(6.0, 4.0, 60.0))


@pytest.fixture(scope="module")
def shop(spark: SparkSession) -> DataFrame:
    """120 days of purchases that are simulated by the model."""
    buyers = simulate(TRUTH.purchases, TRUTH.spending, buyers=1_500, days=120, seed=3)
    times = [FIRST + dt.timedelta(days=float(time)) for time in buyers.time]
    columns = {
        "user_id": buyers.buyer,
        "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "event_type": ["purchase"] * len(times),
        "price": buyers.price,
    }
    return spark.createDataFrame(pa.table(columns)).localCheckpoint()


def day(text: str) -> int:
    return (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days


def context_of(rows: DataFrame, results: dict[str, object]) -> CheckContext:
    """Returns the context of the checks, notes and plots of a version."""
    empty = CheckContext(Stats())
    summaries = [summary(rows, empty, lambda _: rows) for summary in summaries_of(CUSTOMER_VALUE_CHECKS)]
    stats = measure(rows, CUSTOMER_VALUE_CHECKS, summaries)[None]
    return CheckContext(stats.model_copy(update={"results": results}))


def test_history_counts_days_and_splits_them_at_the_cutoff(spark: SparkSession) -> None:
    events = events_frame(
        spark,
        [
            event("2019-10-01 23:59:59", "purchase", user_id=1, price=1.14),
            event("2019-10-05 00:00:00", "purchase", user_id=1, price=2.0),
            event("2019-10-05 18:00:00", "purchase", user_id=1, price=3.0),
            event("2019-10-06 00:00:00", "purchase", user_id=1, price=10.0),
            event("2019-10-09 12:00:00", "purchase", user_id=1, price=100.0),
            event("2019-10-02 12:00:00", "view", user_id=1, price=7.0),
            event("2019-10-08 12:00:00", "purchase", user_id=2, price=5.0),
            event("2019-10-01 12:00:00", "cart", user_id=3, price=5.0),
        ],
    )
    rows = purchase_history(events, dt.date(2019, 10, 5), dt.date(2019, 10, 8)).collect()
    assert sorted(map(tuple, rows)) == [
        (1, 3, day("2019-10-01"), day("2019-10-06"), 16.14, 2, day("2019-10-05"), 6.14, 1, 10.0),
        (2, 1, day("2019-10-08"), day("2019-10-08"), 5.0, 0, None, 0.0, 1, 5.0),
    ]


def test_holdout_is_the_last_fifth_of_the_days(spark: SparkSession) -> None:
    first, last = "2019-10-01 23:00:00", "2019-12-29 01:00:00"
    span = span_of(events_frame(spark, [event(first, "purchase", user_id=4), event(last, user_id=5)]))
    assert span is not None
    assert (span.days, span.buyers, span.holdout_days, span.cutoff) == (90, 1, 18, dt.date(2019, 12, 11))
    assert replace(span, reference=dt.datetime(2019, 10, 30, tzinfo=dt.UTC)).holdout_days == 7
    assert replace(span, reference=dt.datetime(2021, 10, 30, tzinfo=dt.UTC)).holdout_days == 90


@pytest.mark.spark_only
def test_predictions_for_a_simulated_shop_are_those_of_the_model_and_pass_the_holdout_test(shop: DataFrame) -> None:
    result = asset(shop)
    rows, report = result.value.toArrow().sort_by("user_id"), result.results
    assert rows.column_names == CUSTOMER_VALUE.names
    assert result.value.dtypes[1:] == [(c.name, c.type) for c in CUSTOMER_VALUE.columns[1:]]
    assert rows.num_rows == report["buyers"] == report["fitted_buyers"] == 1_500

    # Spark computes the predictions of the model.
    span = span_of(shop)
    assert span is not None
    history = purchase_history(shop, span.cutoff, span.end).toArrow().sort_by("user_id")
    buyers = Buyers.of(history, "purchase_days", "last_day", "value", span.end)
    fitted = report["model"]
    model = ValueModel(BgNbd(**fitted["purchases"]), GammaGamma(**fitted["spending"]))
    active = model.purchases.probability_active(buyers.repeats, buyers.last, buyers.age)
    purchases, value = model.expected(buyers, 90)
    assert rows.column("probability_active").to_numpy() == pytest.approx(active, rel=1e-9)
    assert rows.column("expected_purchases").to_numpy() == pytest.approx(purchases, rel=1e-9)
    assert rows.column("expected_value").to_numpy() == pytest.approx(value, rel=1e-9)

    # On the holdout the model is better than "same as before".
    holdout = report["holdout"]
    assert (holdout["cutoff"], holdout["days"]) == ("2020-01-04", 24)
    assert holdout["purchases"]["upper"] < 0
    assert holdout["value"]["upper"] < 0
    assert holdout["purchases"]["model"] == pytest.approx(holdout["purchases"]["actual"], rel=0.15)
    assert sum(group["buyers"] for group in holdout["by_past"]) == holdout["buyers"]
    assert sum(group["model"] for group in holdout["by_past"]) == pytest.approx(holdout["purchases"]["model"])

    context = context_of(result.value, report)
    assert [check.message for check in run_checks(CUSTOMER_VALUE_CHECKS, context) if not check.passed] == []
    [note] = write_notes(CUSTOMER_VALUE_NOTES, context, pytest.fail).values()
    assert f"{purchases.sum():,.0f} purchase days" in note
    assert f"{holdout['purchases']['same_as_before']:,.0f}" in note
    figure = CUSTOMER_VALUE_PLOTS[0].draw(context)
    assert figure is not None
    picture = png(figure)
    assert len(picture) < 100_000
    assert Image.open(io.BytesIO(picture)).width <= 900


@pytest.mark.spark_only
def test_a_large_shop_is_fitted_to_a_sample_and_every_buyer_is_predicted(
    shop: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer_value, "SAMPLED_BUYERS", 700)
    frame, report = build_customer_value(shop)
    assert 650 < report.fitted_buyers < 850
    assert frame.where("expected_value > 0").count() == report.buyers == 1_500


@pytest.mark.parametrize(("days", "reason"), [(27, "Days of events: 27;"), (60, "Repeat buyers: 1;")])
def test_a_shop_that_does_not_support_the_model_gets_nulls_and_a_reason(
    spark: SparkSession, days: int, reason: str
) -> None:
    last = (FIRST + dt.timedelta(days=days - 1)).date()
    events = [event("2019-10-01 10:00:00", "purchase", user_id=user) for user in (1, 2)]
    events += [event("2019-10-03 10:00:00", "purchase", user_id=1), event(f"{last} 10:00:00", user_id=1)]
    result = asset(events_frame(spark, events))
    assert sorted(map(tuple, result.value.collect())) == [(1, 2, None, None, None), (2, 1, None, None, None)]
    assert reason in result.results["reason"]
    context = context_of(result.value, result.results)
    assert all(check.passed for check in run_checks(CUSTOMER_VALUE_CHECKS, context))
    [note] = write_notes(CUSTOMER_VALUE_NOTES, context, pytest.fail).values()
    assert reason in note
    assert CUSTOMER_VALUE_PLOTS[0].draw(context) is None


def test_without_events_the_table_is_empty(spark: SparkSession) -> None:
    result = asset(events_frame(spark, []))
    assert result.value.collect() == []
    assert result.results["reference_date"] is None
    context = context_of(result.value, result.results)
    assert all(check.passed for check in run_checks(CUSTOMER_VALUE_CHECKS, context))


def test_checks_find_wrong_rows(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [(1, 2, 0.5, 1.0, 10.0), (1, 1, 1.5, 1.0, 10.0), (2, 0, 0.5, -1.0, float("inf"))],
        "user_id bigint, purchase_days bigint, probability_active double, expected_purchases double, "
        "expected_value double",
    )
    failed = run_checks(CUSTOMER_VALUE_CHECKS, context_of(rows, {"buyers": 2, "reason": None}))
    assert [check.name for check in failed if not check.passed] == [
        "unique_key",
        "every_buyer_has_a_row",
        "purchase_days_positive",
        "probabilities_in_range",
        "amounts_in_range",
    ]
    unexplained = run_checks(CUSTOMER_VALUE_CHECKS, context_of(rows, {"buyers": 3, "reason": "too few"}))
    assert "predicted_or_explained" in [check.name for check in unexplained if not check.passed]


def test_interval_covers_no_difference_between_equal_predictions() -> None:
    rng = np.random.default_rng(5)
    actual, model = rng.poisson(1, 400) * 1.0, rng.gamma(1, 1, 400)
    compared = customer_value._compare(actual, model, rng.permutation(model))
    assert compared.lower < 0 < compared.upper
    better = customer_value._compare(actual, actual + 0.1, actual - 0.5)
    assert (better.model_error, better.same_as_before_error) == pytest.approx((0.1, 0.5))
    assert (better.lower, better.upper) == pytest.approx((-0.4, -0.4))

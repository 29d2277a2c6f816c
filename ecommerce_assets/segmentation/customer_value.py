"""customer_value: which buyers are still active, and what they are expected to buy and spend in the next 90 days.

`build_customer_value` is the entry point. The models (purchase_model.py) count purchase days, which are days with at
least one purchase, and measure time in days from a buyer's first purchase in the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.bootstrap import bootstrap, mean_and_interval
from ecommerce_assets.features.expressions import distinct_count, exact_sum, of_type, utc, utc_day
from ecommerce_assets.features.summaries import FREQUENCY
from ecommerce_assets.segmentation.purchase_model import BgNbd, Floats, GammaGamma, Histories
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.spark.connect import frame_of
from ecommerce_assets.storage.checks import collect_in_one_job
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

HORIZON_DAYS = 90
"""Days after the reference date that the predictions are for."""

FEWEST_DAYS = 28
"""Minimum number of days of events for predictions."""

HOLDOUT_SHARE = 0.2
SHORTEST_HOLDOUT, LONGEST_HOLDOUT = 7, 90
"""Length of the holdout: a share of the days of events, and its limits in days."""

SAMPLED_BUYERS = 100_000
"""Approximate minimum size of the random sample of buyers that the model is fitted to and tested on. With fewer than
twice as many buyers, all of them are used. Every buyer gets a prediction."""

BUCKETS = 1_000
"""Of buyers, which `bootstrap` resamples."""

EPOCH = date(1970, 1, 1)

CUSTOMER_VALUE = TableSpec.of(
    ColumnSpec("user_id", "id", "The buyer.", key=True),
    ColumnSpec("purchase_days", "bigint", "Distinct days (UTC) with a purchase.", nullable=False),
    ColumnSpec(
        "probability_active",
        "double",
        "Probability that the buyer has not left for good. 1 for buyers with one purchase day: the model lets buyers "
        "leave only after a repeat purchase. Null if the data do not support the model.",
    ),
    ColumnSpec(
        "expected_purchases",
        "double",
        f"Expected purchase days in the {HORIZON_DAYS} days after the reference date; null if "
        "probability_active is null.",
    ),
    ColumnSpec(
        "expected_value",
        "double",
        f"Expected sum of price over purchases in the {HORIZON_DAYS} days after the reference date; null if "
        "probability_active is null.",
    ),
)


@dataclass(frozen=True)
class Span:
    """Time span of the events, and number of buyers.

    Attributes
    ----------
    first, reference
        Earliest and latest event_time, UTC.
    buyers
        Number of users with a purchase.
    """

    first: datetime
    reference: datetime
    buyers: int

    @property
    def days(self) -> int:
        """Returns the number of calendar days (UTC)."""
        return (self.end - self.first.date()).days + 1

    @property
    def end(self) -> date:
        """Returns the reference date (UTC)."""
        return self.reference.date()

    @property
    def holdout_days(self) -> int:
        """Returns the length of the holdout in days: the last fifth of the days, at least 7 and at most 90."""
        return min(max(round(HOLDOUT_SHARE * self.days), SHORTEST_HOLDOUT), LONGEST_HOLDOUT)

    @property
    def cutoff(self) -> date:
        """Returns the last day before the holdout."""
        return self.end - timedelta(days=self.holdout_days)


@dataclass(frozen=True)
class Buyers:
    """Purchases of buyers up to a reference date; one entry per buyer.

    Attributes
    ----------
    purchase_days
        Number of days with a purchase, at least 1.
    last, age
        Days from the first purchase to the last one, and to the reference date.
    value
        Sum of price over the purchases, in the currency of the shop.
    """

    purchase_days: Floats
    last: Floats
    age: Floats
    value: Floats

    @classmethod
    def of(cls, history: pa.Table, purchase_days: str, last_day: str, value: str, reference: date) -> Buyers:
        """Returns the buyers of `purchase_history`.

        Parameters
        ----------
        history
            Rows of `purchase_history`.
        purchase_days, last_day, value
            Names of the columns to use.
        reference
            Last day that these columns cover.
        """
        first_day = _floats(history, "first_day")
        return cls(
            purchase_days=_floats(history, purchase_days),
            last=_floats(history, last_day) - first_day,
            age=_day_number(reference) - first_day,
            value=_floats(history, value),
        )

    @property
    def repeats(self) -> Floats:
        """Returns the number of purchase days after the first one."""
        return self.purchase_days - 1

    @property
    def histories(self) -> Histories:
        """Returns the histories that BG/NBD is fitted to."""
        return Histories.grouped(self.repeats, self.last, self.age)


@dataclass(frozen=True)
class ValueModel:
    """When buyers buy again, and how much they spend on a purchase day."""

    purchases: BgNbd
    spending: GammaGamma

    @classmethod
    def fit(cls, buyers: Buyers) -> ValueModel:
        """Returns both models fitted to the same buyers.

        Gamma-Gamma is fitted to the mean value of all purchase days, the first one included, and also to buyers with a
        single purchase day, because most predictions are for them.

        Raises
        ------
        ValueError
            The data do not support a model; the message says why.
        """
        return cls(BgNbd.fit(buyers.histories), GammaGamma.fit(buyers.purchase_days, buyers.value))

    def log_likelihood(self, buyers: Buyers) -> dict[str, float]:
        """Returns the log-likelihood of each of the two models."""
        return {
            "purchases": self.purchases.log_likelihood(buyers.histories),
            "spending": self.spending.log_likelihood(buyers.purchase_days, buyers.value),
        }

    def expected(self, buyers: Buyers, days: int) -> tuple[Floats, Floats]:
        """Returns the expected purchase days and value (currency of the shop) of each buyer in the next `days` days."""
        purchases = self.purchases.expected_purchases(days, buyers.repeats, buyers.last, buyers.age)
        return purchases, purchases * self.spending.expected_value(buyers.purchase_days, buyers.value)


@dataclass(frozen=True)
class Comparison:
    """Predictions of an amount in the holdout, compared with "same as before".

    If most buyers buy nothing, the absolute error favours predictions near 0, so compare the sums too.

    Attributes
    ----------
    actual, model, same_as_before
        Sums over the buyers: purchase days, or value in the currency of the shop.
    model_error, same_as_before_error
        Mean absolute errors per buyer.
    difference, lower, upper
        Error of the model minus the error of "same as before", and its interval. The model is better if the whole
        interval is below 0.
    """

    actual: float
    model: float
    same_as_before: float
    model_error: float
    same_as_before_error: float
    difference: float
    lower: float
    upper: float


@dataclass(frozen=True)
class PastGroup:
    """Sums of purchase days in the holdout, over the buyers with the same number of purchase days before it."""

    purchase_days: str
    buyers: int
    actual: float
    model: float
    same_as_before: float


@dataclass(frozen=True)
class Holdout:
    """The test of the model on days that it was not fitted to.

    Attributes
    ----------
    cutoff
        Last day before the holdout (ISO 8601).
    days
        Length of the holdout in days.
    buyers
        Number of buyers in the test: those of the sample who bought before the holdout.
    """

    cutoff: str
    days: int
    buyers: int
    purchases: Comparison
    value: Comparison
    by_past: list[PastGroup]


@dataclass(frozen=True)
class ValueReport:
    """The stats of customer_value.

    Attributes
    ----------
    reference_date
        Latest event_time (ISO 8601, UTC); None without events.
    buyers, fitted_buyers
        Number of all buyers, and of the buyers that the model was fitted to.
    reason
        Why there are no predictions; None if there are.
    model, log_likelihood
        The model that is fitted to all days, and the log-likelihoods of BG/NBD and Gamma-Gamma.
    """

    reference_date: str | None
    buyers: int
    fitted_buyers: int = 0
    reason: str | None = None
    model: ValueModel | None = None
    log_likelihood: Mapping[str, float] | None = None
    holdout: Holdout | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return asdict(self)


def purchase_history(cleaned_events: DataFrame, cutoff: date, end: date) -> DataFrame:
    """Returns one row per user with a purchase until `end`.

    Parameters
    ----------
    cleaned_events
        Events in any order.
    cutoff, end
        Last day (UTC) before the holdout, and last day of the holdout.

    Returns
    -------
    DataFrame
        user_id; purchase_days, first_day, last_day and value over all; past_purchase_days, past_last_day (null
        without a purchase) and past_value until the cutoff; holdout_purchase_days and holdout_value after it. Days are
        numbers from 1970-01-01; values are in the currency of the shop.
    """
    day, price = F.col("day"), F.col("price")
    past = day <= _day_number(cutoff)
    purchases = cleaned_events.where(of_type("purchase"))
    by_day = purchases.select("user_id", utc_day(F.col("event_time")).alias("day"), "price")
    # As in user_features: one shuffle of narrow rows.
    by_user = by_day.where(day <= _day_number(end)).repartition("user_id").sortWithinPartitions("user_id")
    return by_user.groupBy("user_id").agg(
        distinct_count(day).alias("purchase_days"),
        F.min(day).alias("first_day"),
        F.max(day).alias("last_day"),
        exact_sum(price).alias("value"),
        distinct_count(F.when(past, day)).alias("past_purchase_days"),
        F.max(F.when(past, day)).alias("past_last_day"),
        exact_sum(F.when(past, price)).alias("past_value"),
        distinct_count(F.when(~past, day)).alias("holdout_purchase_days"),
        exact_sum(F.when(~past, price)).alias("holdout_value"),
    )


def build_customer_value(cleaned_events: DataFrame) -> tuple[DataFrame, ValueReport]:
    """Returns the rows of `CUSTOMER_VALUE` (not yet computed), and the report to store with them.

    The model is fitted before the cutoff and compared with "same as before" on the holdout, then fitted to all days.
    There are no predictions if there are fewer than `FEWEST_DAYS` days, or if the data before the cutoff do not support
    the model: predictions that cannot be tested are not published.
    """
    span = span_of(cleaned_events)
    if span is None:
        return _without_model(cleaned_events, EPOCH), ValueReport(None, 0, reason="There are no events.")
    report = ValueReport(span.reference.isoformat(), span.buyers)
    if span.days < FEWEST_DAYS:
        reason = f"Days of events: {span.days}; at least {FEWEST_DAYS} are needed."
        return _without_model(cleaned_events, span.end), replace(report, reason=reason)
    one_in = max(1, span.buyers // SAMPLED_BUYERS)
    sampled = cleaned_events.where(F.pmod(F.xxhash64("user_id"), F.lit(one_in)) == 0)
    table = purchase_history(sampled, span.cutoff, span.end).toArrow().sort_by("user_id")
    try:
        holdout = compare_on_holdout(table, span)
        buyers = Buyers.of(table, "purchase_days", "last_day", "value", span.end)
        model = ValueModel.fit(buyers)
    except ValueError as error:
        reason = f"Events up to the cutoff {span.cutoff} do not support the model. {error}"
        return _without_model(cleaned_events, span.end), replace(report, reason=reason)
    history = purchase_history(cleaned_events, span.cutoff, span.end)
    return predict(history, table, model, span), replace(
        report,
        fitted_buyers=table.num_rows,
        model=model,
        log_likelihood=model.log_likelihood(buyers),
        holdout=holdout,
    )


def span_of(cleaned_events: DataFrame) -> Span | None:
    """Returns the span of the events; None without events."""
    buyer = F.when(of_type("purchase"), F.col("user_id"))
    times = [F.unix_micros(edge("event_time")).alias(name) for name, edge in (("first", F.min), ("latest", F.max))]
    [row] = collect_in_one_job(cleaned_events.agg(*times, F.count_distinct(buyer).alias("buyers")))
    return None if row.latest is None else Span(utc(row.first), utc(row.latest), row.buyers)


def compare_on_holdout(history: pa.Table, span: Span) -> Holdout:
    """Returns how a model fitted up to the cutoff predicts the holdout, compared with "same as before".

    "Same as before" is the buyer's rate of repeat purchase days up to the cutoff, times the mean value of the purchase
    days. A buyer with a single purchase day has the rate 0, because there is no interval to compute a rate from.

    Parameters
    ----------
    history
        Rows of `purchase_history`.

    Raises
    ------
    ValueError
        The data before the cutoff do not support a model.
    """
    known = history.filter(pc.greater(history.column("past_purchase_days"), 0))
    buyers = Buyers.of(known, "past_purchase_days", "past_last_day", "past_value", span.cutoff)
    actual, actual_value = _floats(known, "holdout_purchase_days"), _floats(known, "holdout_value")
    expected, expected_value = ValueModel.fit(buyers).expected(buyers, span.holdout_days)
    same_as_before = span.holdout_days * buyers.repeats / np.maximum(buyers.age, 1)
    group_of = np.searchsorted(FREQUENCY.ends, buyers.purchase_days)
    groups = [
        PastGroup(
            FREQUENCY.label(int(number)),
            int(inside.sum()),
            *(float(amount[inside].sum()) for amount in (actual, expected, same_as_before)),
        )
        for number in np.unique(group_of)
        for inside in [group_of == number]
    ]
    return Holdout(
        cutoff=span.cutoff.isoformat(),
        days=span.holdout_days,
        buyers=known.num_rows,
        purchases=_compare(actual, expected, same_as_before),
        value=_compare(actual_value, expected_value, same_as_before * buyers.value / buyers.purchase_days),
        by_past=groups,
    )


def predict(history: DataFrame, fitted: pa.Table, model: ValueModel, span: Span) -> DataFrame:
    """Returns the rows of `CUSTOMER_VALUE`.

    The expected purchases of an active buyer depend only on purchase days and age. They are computed here for the
    pairs that occur, far fewer than buyers, and joined. Spark computes the rest in closed form.

    Parameters
    ----------
    history
        Rows of `purchase_history` up to the end of the span.
    fitted
        Those of its rows that the model was fitted to, which save a Spark query if they are all.
    """
    key = ["first_day", "purchase_days"]
    known = fitted if fitted.num_rows == span.buyers else history.select(*key).distinct().toArrow()
    pairs = known.group_by(key).aggregate([])
    repeats, age = _floats(pairs, "purchase_days") - 1, _day_number(span.end) - _floats(pairs, "first_day")
    expected = model.purchases.expected_if_active(HORIZON_DAYS, repeats, age)
    if_active = frame_of(
        history.sparkSession,
        pairs.append_column("expected_if_active", pa.array(expected)),
        "first_day int, purchase_days bigint, expected_if_active double",
    )
    aged = history.withColumn("age", _day_number(span.end) - F.col("first_day"))
    active, days = _probability_active(model.purchases), F.col("purchase_days")
    purchases = active * F.col("expected_if_active")
    value = model.spending.expected_value(days, F.col("value"))
    return aged.join(F.broadcast(if_active), key, "left").select(
        "user_id",
        "purchase_days",
        active.alias("probability_active"),
        purchases.alias("expected_purchases"),
        (purchases * value).alias("expected_value"),
    )


def _probability_active(model: BgNbd) -> Column:
    """Returns `BgNbd.probability_active` of the columns purchase_days, first_day, last_day and age."""
    repeats, last = F.col("purchase_days") - 1, F.col("last_day") - F.col("first_day")
    active = model.probability_of_repeat_buyers(repeats, last, F.col("age"), F)
    return F.when(repeats > 0, active).otherwise(1.0)


def _without_model(cleaned_events: DataFrame, end: date) -> DataFrame:
    """Returns the buyers, with null predictions."""
    predictions = CUSTOMER_VALUE.names[2:]
    nulls = [F.lit(None).cast("double").alias(name) for name in predictions]
    rows = purchase_history(cleaned_events, end, end).select("user_id", "purchase_days", *nulls)
    # The predictions are null because of the times and types of the events.
    return made_from(
        rows, {key: [(cleaned_events, "event_time"), (cleaned_events, "event_type")] for key in predictions}
    )


def _compare(actual: Floats, model: Floats, same_as_before: Floats) -> Comparison:
    """Returns sums, errors and the 95 % interval of their difference."""
    model_error, before_error = np.abs(model - actual), np.abs(same_as_before - actual)
    bucket = np.arange(len(actual)) % BUCKETS
    sums = bootstrap(np.column_stack([np.bincount(bucket), np.bincount(bucket, model_error - before_error)]))
    difference, lower, upper = mean_and_interval(sums[:, 0], sums[:, 1])
    return Comparison(
        actual=float(actual.sum()),
        model=float(model.sum()),
        same_as_before=float(same_as_before.sum()),
        model_error=float(model_error.mean()),
        same_as_before_error=float(before_error.mean()),
        difference=difference,
        lower=lower,
        upper=upper,
    )


def _day_number(day: date) -> int:
    return (day - EPOCH).days


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table.column(name).to_numpy(), np.float64)


def compared_in_words(compared: Mapping[str, Any]) -> str:
    """Returns whether the model is better than "same as before", with the interval of the difference in error.

    Parameters
    ----------
    compared
        The entry `purchases` or `value` of the holdout in `ValueReport.as_dict`.
    """
    interval = f"95 % interval of the difference in error {compared['lower']:+,.2f} to {compared['upper']:+,.2f}"
    if compared["upper"] < 0:
        return f'the model is better than "same as before" ({interval})'
    if compared["lower"] > 0:
        return f'the model is worse than "same as before" ({interval})'
    return f'the model is not better than "same as before" ({interval})'


def tested_in_words(results: Mapping[str, Any]) -> str:
    """Returns the result of the test in one sentence, or why there are no predictions.

    Parameters
    ----------
    results
        The dictionary of `ValueReport.as_dict`.
    """
    if results["reason"] is not None:
        return f"customer_value has no predictions. {results['reason']}"
    holdout = results["holdout"]
    return (
        f"customer_value, tested on the {holdout['days']} days after {holdout['cutoff']}: for purchase days "
        f"{compared_in_words(holdout['purchases'])}, for value {compared_in_words(holdout['value'])}."
    )

"""BG/NBD and Gamma-Gamma compared with published values and simulated buyers, and for extreme histories.

cdnow.csv has the 2,357 customers of the CDNOW sample of Fader and Hardie (brucehardie.com/datasets), equal ones in one
row, in weeks: repeat purchases, time to the last of them, age, mean value of the repeat purchases, number of customers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest

from ecommerce_assets.segmentation.purchase_model import PURCHASE_BOUND, BgNbd, Floats, GammaGamma, Histories
from ecommerce_assets_tests.segmentation.buyers import simulate

PUBLISHED = BgNbd(0.243, 4.414, 0.793, 2.426)
"""Table 2 of Fader, Hardie and Lee (2005); the log-likelihood is -9582.4."""

PUBLISHED_SPENDING = GammaGamma(6.25, 3.74, 15.44)
"""Fader and Hardie (2013), of the 946 customers with repeat purchases."""


@pytest.fixture(scope="module")
def cdnow() -> pa.Table:
    return pa.csv.read_csv(Path(__file__).parent / "cdnow.csv")


def histories(cdnow: pa.Table) -> Histories:
    return Histories(*(column(cdnow, name) for name in ("repeats", "last", "age", "customers")))


def column(table: pa.Table, name: str) -> Floats:
    return np.asarray(table.column(name).to_numpy(), np.float64)


def one(value: float) -> Floats:
    return np.array([value], np.float64)


def test_log_likelihood_is_the_published_one(cdnow: pa.Table) -> None:
    assert PUBLISHED.log_likelihood(histories(cdnow)) == pytest.approx(-9582.4, abs=0.05)


@pytest.mark.parametrize("days", [1, 7])
def test_fit_finds_the_published_parameters_in_weeks_and_in_days(cdnow: pa.Table, days: int) -> None:
    weeks = histories(cdnow)
    model = BgNbd.fit(Histories(weeks.repeats, days * weeks.last, days * weeks.age, weeks.buyers))
    assert (model.r, model.alpha / days, model.a, model.b) == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=6e-4)


@pytest.mark.parametrize(
    ("repeats", "last", "age", "expected", "active"),
    [
        (2, 30.43, 38.86, 1.226028, 0.726579),  # 1.226 is the worked example of the authors' note on Excel
        (1, 1.71, 38.86, 0.203187, 0.212101),
        (0, 0.0, 38.86, 0.195098, 1.0),
        (7, 29.43, 38.86, 3.337053, 0.641756),
        (29, 37.71, 38.0, 20.052949, 0.969130),
    ],
)
def test_predictions_are_those_of_the_package_lifetimes(
    repeats: float, last: float, age: float, expected: float, active: float
) -> None:
    history = one(repeats), one(last), one(age)
    assert PUBLISHED.expected_purchases(39, *history)[0] == pytest.approx(expected, abs=1e-6)
    assert PUBLISHED.probability_active(*history)[0] == pytest.approx(active, abs=1e-6)


def test_spending_fit_finds_the_published_parameters(cdnow: pa.Table) -> None:
    repeat = cdnow.filter(pc.greater(cdnow.column("repeats"), 0))
    purchases, mean = column(repeat, "repeats"), column(repeat, "mean_value")
    assert len(mean) == 946
    model = GammaGamma.fit(purchases, purchases * mean)
    assert (model.p, model.q, model.gamma) == pytest.approx((6.25, 3.74, 15.44), abs=0.01)


def test_expected_value_is_between_the_mean_of_the_buyer_and_of_all_buyers() -> None:
    value = PUBLISHED_SPENDING.expected_value(np.array([0.0, 2.0, 1.0]), np.array([0.0, 2 * 22.35, 11.77]))
    # 6.25 * 15.44 / 2.74 for all buyers; the first two customers in the authors' spreadsheet have 24.66 and 18.91.
    assert value == pytest.approx([35.22, 24.66, 18.91], abs=0.01)


def test_fit_recovers_the_parameters_of_simulated_buyers() -> None:
    buyers = simulate(BgNbd(0.8, 30.0, 0.9, 3.0), GammaGamma(6.0, 4.0, 60.0), buyers=5_000, days=400, seed=1)
    model = BgNbd.fit(Histories.grouped(buyers.repeats, np.ceil(buyers.last), np.ceil(buyers.age)))
    assert (model.r, model.alpha) == pytest.approx((0.8, 30.0), rel=0.1)
    assert (model.a / (model.a + model.b), model.a) == pytest.approx((0.9 / 3.9, 0.9), rel=0.15)
    spending = GammaGamma.fit(buyers.repeats + 1, buyers.value)
    assert (spending.p, spending.q, spending.gamma) == pytest.approx((6.0, 4.0, 60.0), rel=0.1)


def test_predictions_are_the_mean_of_simulated_purchases() -> None:
    truth = BgNbd(0.8, 30.0, 0.9, 3.0)
    spending = GammaGamma(6.0, 4.0, 60.0)
    buyers = simulate(truth, spending, buyers=50_000, days=400, seed=2, holdout_days=90)
    expected = truth.expected_purchases(90, buyers.repeats, buyers.last, buyers.age)
    for group in (buyers.repeats == 0, buyers.repeats == 1, buyers.repeats > 5):
        assert expected[group].sum() == pytest.approx(buyers.holdout[group].sum(), rel=0.04)


def test_expected_purchases_are_finite_and_smooth_for_extreme_histories() -> None:
    age, repeats = np.tril_indices(1_000)
    low, high = np.exp(-PURCHASE_BOUND), np.exp(PURCHASE_BOUND)
    for model in (BgNbd(low, 10 * low, low, high), BgNbd(high, 60 * high, high, low), BgNbd(1.0, 10.0, 1.0, 1.0)):
        expected = model.expected_if_active(90, repeats * 1.0, age * 1.0)
        most = 90 * (model.r + repeats) / (model.alpha + age)  # of a buyer who never leaves
        assert np.all((expected >= 0) & (expected <= most * (1 + 1e-7)))
    beside, at = (BgNbd(1.0, 10.0, a, 1.0).expected_if_active(90, one(5), one(50)) for a in (1 + 1e-5, 1.0))
    assert at == pytest.approx(beside, rel=1e-4)


def test_data_that_do_not_support_a_model_are_errors() -> None:
    equal = Histories(one(2), one(10), one(20), one(500))
    with pytest.raises(ValueError, match="same number of days"):
        BgNbd.fit(equal)
    few = Histories(np.array([0.0, 2.0]), np.array([0.0, 10.0]), np.array([20.0, 20.0]), np.array([500.0, 99.0]))
    with pytest.raises(ValueError, match="Repeat buyers: 99;"):
        BgNbd.fit(few)
    with pytest.raises(ValueError, match="paid the same"):
        GammaGamma.fit(np.array([1.0, 2.0]), np.array([5.0, 10.0]))
    with pytest.raises(ValueError, match="paid anything"):
        GammaGamma.fit(one(3), one(0))

"""Models of when buyers buy again (`BgNbd`) and how much they spend (`GammaGamma`). NumPy and SciPy only.

Fader, Hardie and Lee, "'Counting Your Customers' the Easy Way: An Alternative to the Pareto/NBD Model", Marketing
Science 24(2), 2005. Fader and Hardie, "The Gamma-Gamma Model of Monetary Value", 2013.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_REPEAT_BUYERS = 100
"""Minimum number of repeat buyers: with fewer, the four parameters are mostly noise."""

PURCHASE_BOUND, SPENDING_BOUND = 4.0, 8.0
"""Limits of the logarithm of each parameter, in units of the mean age and the mean value of the data. If buyers
hardly differ, or hardly ever leave, the best parameters are near 0 or infinity. Within the limits, SciPy's
hypergeometric function is exact for buyers with a mean age of 10 days or more."""


@dataclass(frozen=True)
class Histories:
    """Purchase histories in any unit of time. Equal histories may be grouped.

    Attributes
    ----------
    repeats
        (n,) x: purchases after the first one.
    last
        (n,) t_x: time from the first purchase to the last.
    age
        (n,) T: time from the first purchase to the reference date.
    buyers
        (n,) number of buyers with each history.
    """

    repeats: Floats
    last: Floats
    age: Floats
    buyers: Floats

    @classmethod
    def grouped(cls, repeats: Floats, last: Floats, age: Floats) -> Histories:
        """Returns one entry for each distinct history; the arguments have one entry for each buyer."""
        distinct, buyers = np.unique(np.column_stack([repeats, last, age]), axis=0, return_counts=True)
        x, t_x, T = distinct.astype(np.float64).T
        return cls(x, t_x, T, buyers.astype(np.float64))


@dataclass(frozen=True)
class BgNbd:
    """The BG/NBD model: a buyer purchases at a constant rate, and may leave for good after each repeat purchase.

    Rates follow a gamma distribution (shape r, rate alpha), the probabilities of leaving a beta distribution (a, b).
    alpha is in the unit of time of the histories.
    """

    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def fit(cls, histories: Histories) -> BgNbd:
        """Returns the model with the parameters of maximum likelihood.

        Raises
        ------
        ValueError
            If there are fewer than `MIN_REPEAT_BUYERS` repeat buyers, or all buyers bought equally often.
        """
        repeat_buyers = int(histories.buyers[histories.repeats > 0].sum())
        if repeat_buyers < MIN_REPEAT_BUYERS:
            raise ValueError(f"Repeat buyers: {repeat_buyers:,}; at least {MIN_REPEAT_BUYERS} are needed.")
        if np.ptp(histories.repeats) == 0:
            raise ValueError("All buyers bought on the same number of days.")
        unit = float(np.average(histories.age, weights=histories.buyers))
        scaled = Histories(histories.repeats, histories.last / unit, histories.age / unit, histories.buyers)

        def objective(parameters: Floats) -> tuple[float, Floats]:
            return cls(*parameters)._log_likelihood_and_gradient(scaled)

        starts = [(0.5, 0.5, 1.0, 2.0), (2.0, 2.0, 0.5, 5.0)]
        r, alpha, a, b = _maximise(objective, starts, PURCHASE_BOUND)
        return cls(r, alpha * unit, a, b)

    def log_likelihood(self, histories: Histories) -> float:
        """Returns the log-likelihood of the histories (equation 6 of the paper)."""
        return self._log_likelihood_and_gradient(histories)[0]

    def _log_likelihood_and_gradient(self, histories: Histories) -> tuple[float, Floats]:
        from scipy.special import gammaln, psi

        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        x, n = histories.repeats, histories.buyers
        until_now, until_last = np.log(alpha + histories.age), np.log(alpha + histories.last)
        active = -(r + x) * until_now
        # A buyer without a repeat purchase cannot have left.
        left = np.where(x > 0, np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * until_last, -np.inf)
        either = np.logaddexp(active, left)
        each = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + either
        each += gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
        is_active, has_left = np.exp(active - either), np.exp(left - either)
        gradient = [
            psi(r + x) - psi(r) + np.log(alpha) - is_active * until_now - has_left * until_last,
            r / alpha - (r + x) * (is_active / (alpha + histories.age) + has_left / (alpha + histories.last)),
            psi(a + b) - psi(a + b + x) + has_left / a,
            psi(a + b) + psi(b + x) - psi(b) - psi(a + b + x) - has_left / (b + np.maximum(x, 1) - 1),
        ]
        return float(n @ each), np.array([n @ part for part in gradient])

    def probability_active(self, repeats: Floats, last: Floats, age: Floats) -> Floats:
        """Returns the probability that buyers with these histories have not left; 1 without a repeat purchase.

        Fader and Hardie, "Computing P(alive) Using the BG/NBD Model", 2008.
        """
        active = self.probability_of_repeat_buyers(np.maximum(repeats, 1), last, age, np)
        return np.where(repeats > 0, active, 1.0)

    def probability_of_repeat_buyers(self, repeats: Any, last: Any, age: Any, functions: Any) -> Any:
        """Returns the same for at least one repeat purchase, for arrays or for columns of Spark.

        Parameters
        ----------
        functions
            `numpy` or `pyspark.sql.functions`.
        """
        logarithm = functions.log
        odds_of_leaving = functions.exp(
            math.log(self.a)
            - logarithm(self.b + repeats - 1)
            + (self.r + repeats) * (logarithm(self.alpha + age) - logarithm(self.alpha + last))
        )
        return 1 / (1 + odds_of_leaving)

    def expected_if_active(self, duration: float, repeats: Floats, age: Floats) -> Floats:
        """Returns the expected purchases within `duration` of buyers who have not left; they depend only on x and T.

        Equation 10 of the paper without its denominator. Euler's transformation of the hypergeometric function takes x
        out of all exponents, so that nothing overflows for frequent buyers.
        """
        from scipy.special import hyp2f1

        r, a, b = self.r, self.a, self.b
        if min(abs(a - 1), abs(a - r)) < 1e-7:
            a += 3e-7  # the formula is 0 / 0 where a is 1, and SciPy fails where a is r; both are continuous
        z = duration / (self.alpha + age + duration)
        remaining = (1 - z) ** (a - 1) * hyp2f1(a + b - 1 - r, a - 1, a + b + repeats - 1, z)
        return np.asarray((a + b + repeats - 1) / (a - 1) * (1 - remaining))

    def expected_purchases(self, duration: float, repeats: Floats, last: Floats, age: Floats) -> Floats:
        """Returns the expected purchases within `duration` after the reference date (equation 10 of the paper)."""
        active = self.probability_active(repeats, last, age)
        return active * self.expected_if_active(duration, repeats, age)


@dataclass(frozen=True)
class GammaGamma:
    """The Gamma-Gamma model: the values of a buyer's purchases vary around the buyer's mean value.

    Values follow a gamma distribution with shape p. Its rate differs between buyers, by a gamma distribution with shape
    q and rate gamma. How much a buyer spends does not depend on how often. q is above 1, so that the mean over the
    buyers is finite. gamma is in the unit of the values.
    """

    p: float
    q: float
    gamma: float

    @classmethod
    def fit(cls, purchases: Floats, value: Floats) -> GammaGamma:
        """Returns the model with the parameters of maximum likelihood; buyers who paid nothing do not count.

        Parameters
        ----------
        purchases
            (n,) number of purchases of each buyer, at least 1.
        value
            (n,) sum of the values of these purchases.

        Raises
        ------
        ValueError
            If nobody paid anything, or all buyers paid the same.
        """
        paid = value > 0
        if not paid.any():
            raise ValueError("No buyer paid anything.")
        n, m = purchases[paid], value[paid] / purchases[paid]
        unit = float(m.mean())
        if np.ptp(m) <= 1e-9 * unit:
            raise ValueError("All buyers paid the same.")

        def objective(parameters: Floats) -> tuple[float, Floats]:
            p, above_1, gamma = parameters
            return cls(p, 1 + above_1, gamma)._log_likelihood_and_gradient(n, m / unit)

        p, above_1, gamma = _maximise(objective, [(2.0, 2.0, 1.0), (10.0, 1.0, 0.1)], SPENDING_BOUND)
        return cls(p, 1 + above_1, gamma * unit)

    def log_likelihood(self, purchases: Floats, value: Floats) -> float:
        """Returns the log-likelihood of the mean values of the buyers who paid (equation 1a of the paper)."""
        paid = value > 0
        return self._log_likelihood_and_gradient(purchases[paid], value[paid] / purchases[paid])[0]

    def _log_likelihood_and_gradient(self, n: Floats, m: Floats) -> tuple[float, Floats]:
        from scipy.special import gammaln, psi

        p, q, gamma = self.p, self.q, self.gamma
        shape, total = p * n + q, np.log(gamma + n * m)
        each = gammaln(shape) - gammaln(p * n) - gammaln(q) + q * np.log(gamma)
        each += (p * n - 1) * np.log(m) + p * n * np.log(n) - shape * total
        gradient = [
            n * (psi(shape) - psi(p * n) + np.log(n * m) - total),
            psi(shape) - psi(q) + np.log(gamma) - total,
            q / gamma - shape / (gamma + n * m),
        ]
        return float(each.sum()), np.array([part.sum() for part in gradient])

    def expected_value(self, purchases: Any, value: Any) -> Any:
        """Returns the expected value of the next purchase of buyers who spent `value` on this number of purchases.

        Equation 5 of the paper; without purchases, it is the mean over all buyers. For arrays or for columns of Spark.
        """
        return self.p * (self.gamma + value) / (self.p * purchases + self.q - 1)


def _maximise(
    objective: Callable[[Floats], tuple[float, Floats]], starts: Sequence[tuple[float, ...]], bound: float
) -> tuple[float, ...]:
    """Returns the parameters with the highest log-likelihood, over several starting points.

    Parameters
    ----------
    objective
        Returns the log-likelihood and its gradient for positive parameters.
    bound
        Maximum absolute value of their logarithms.
    """
    from scipy.optimize import minimize

    size = abs(objective(np.array(starts[0]))[0])

    def negative(logarithms: Floats) -> tuple[float, Floats]:
        parameters = np.exp(logarithms)
        value, gradient = objective(parameters)
        return -value / size, -gradient * parameters / size

    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-9}
    bounds = [(-bound, bound)] * len(starts[0])
    ends = [minimize(negative, np.log(start), jac=True, bounds=bounds, options=options) for start in starts]
    best = min(ends, key=lambda end: float(end.fun))
    return tuple(float(parameter) for parameter in np.exp(best.x))

"""Bootstrap intervals of means over users: `bootstrap` resamples sums, `mean_and_interval` reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROUNDS = 1000
SEED = 42
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]


def bootstrap(buckets: Floats) -> Floats:
    """Returns resampled sums over buckets of users, by the Poisson bootstrap.

    In each round, each bucket counts a Poisson(1) number of times (Hanley and MacGibbon 2006; Chamandy et al. 2012).
    If users are assigned to buckets at random, the intervals are those of resampled users.

    Parameters
    ----------
    buckets
        (b, v) sums of v values in b buckets.

    Returns
    -------
    array
        (1 + ROUNDS, v); row 0 has the sums of the data, each other row the sums of one round.
    """
    rng = np.random.default_rng(SEED)
    weights = rng.poisson(1, (ROUNDS, len(buckets))).astype(np.float64)
    return np.vstack([buckets.sum(axis=0), weights @ buckets])


def mean_and_interval(users: Floats, sums: Floats) -> tuple[float, float, float]:
    """Returns the mean per user, and the lower and upper bound of its percentile interval.

    Parameters
    ----------
    users
        (1 + ROUNDS,) number of users: of the data, then of each round.
    sums
        (1 + ROUNDS,) sum of the value, in the same order.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / users
    rounds = means[1:][np.isfinite(means[1:])]
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(rounds, [tail, 1 - tail]) if len(rounds) else (means[0], means[0])
    return float(means[0]), float(lower), float(upper)

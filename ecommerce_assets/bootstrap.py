"""Bootstrap intervals of means over users. NumPy only. Use `bootstrap`, then `mean_and_interval`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROUNDS = 1000
SEED = 42
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]


def bootstrap(buckets: Floats) -> Floats:
    """Resampled sums over buckets of users.

    The Poisson bootstrap (Hanley and MacGibbon 2006; Chamandy et al. 2012): in each round every bucket counts a
    Poisson(1) number of times. Users are in buckets at random, so that the intervals are those of resampled users.

    Parameters
    ----------
    buckets
        (b, v) sums of each bucket.

    Returns
    -------
    array
        (1 + rounds, v); row 0 holds the plain sums, the others one round each.
    """
    rng = np.random.default_rng(SEED)
    weights = rng.poisson(1, (ROUNDS, len(buckets))).astype(np.float64)
    return np.vstack([buckets.sum(axis=0), weights @ buckets])


def mean_and_interval(users: Floats, sums: Floats) -> tuple[float, float, float]:
    """Mean per user with the percentile interval of its bootstrap rounds; element 0 is the data itself."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / users
    rounds = means[1:][np.isfinite(means[1:])]
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(rounds, [tail, 1 - tail]) if len(rounds) else (means[0], means[0])
    return float(means[0]), float(lower), float(upper)

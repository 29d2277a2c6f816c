"""Ranking metrics of lists and their bootstrap intervals, in NumPy. What is compared is evaluation.py's business."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

RANKING_METRICS = ("precision", "recall", "ndcg", "map", "hit_rate")
BOOTSTRAP_ROUNDS = 1000
BOOTSTRAP_SEED = 42
CONFIDENCE = 0.95

CELLS = 1 << 22
"""Draws at once: 100 MB."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def hits_of(listed: Integers, owners: Integers, relevant: Integers) -> Flags:
    """Which places of which lists hold something relevant.

    Parameters
    ----------
    listed
        (n, k) products from 0, -1 where a place is empty.
    owners, relevant
        Pairs of a list's row and a product that is relevant in it.
    """
    width = max(int(listed.max(initial=-1)), int(relevant.max(initial=-1))) + 1
    keys = np.arange(len(listed))[:, None] * width + listed
    return np.isin(keys, owners * width + relevant) & (listed >= 0)


def ranking_metrics(hits: Flags, relevant: Integers) -> dict[str, Floats]:
    """The metrics at k of n lists; with r the number of relevant products:

    - precision: hits / k (Spark's `precisionAt`: a list shorter than k counts as if padded with misses)
    - recall: hits / r
    - ndcg: sum of 1 / log2(rank + 1) over hits, divided by that of the best possible list, which has min(r, k) hits
      (binary relevance, Järvelin and Kekäläinen 2002; Spark's `ndcgAt`)
    - map: sum over hits of the precision at their rank, divided by min(r, k) (Spark's `meanAveragePrecisionAt`)
    - hit_rate: 1 if there is a hit

    Parameters
    ----------
    hits
        (n, k), whether the product at each rank is relevant; False beyond the end of a list.
    relevant
        r of each list, above zero.

    Returns
    -------
    dict
        (n,) doubles by metric.

    Examples
    --------
    >>> found = ranking_metrics(np.array([[True, False, True, False]]), np.array([2]))
    >>> {name: round(float(value[0]), 3) for name, value in found.items()}
    {'precision': 0.5, 'recall': 1.0, 'ndcg': 0.92, 'map': 0.833, 'hit_rate': 1.0}
    """
    k = hits.shape[1]
    rank = np.arange(1, k + 1)
    gain = 1 / np.log2(rank + 1)
    count = hits.sum(axis=1)
    best = np.minimum(relevant, k)
    return {
        "precision": count / k,
        "recall": count / relevant,
        "ndcg": hits @ gain / np.concatenate([[0.0], np.cumsum(gain)])[best],
        "map": (hits * np.cumsum(hits, axis=1) / rank).sum(axis=1) / best,
        "hit_rate": (count > 0).astype(np.float64),
    }


def bootstrap_sums(users: Integers, slices: Mapping[str, Flags], values: Floats) -> dict[str, Floats]:
    """Resampled sums of per-user values, by slice, from groups of users who are alike in everything that counts.

    The Poisson bootstrap (Hanley and MacGibbon 2006; Chamandy et al. 2012): in each round every user counts a
    Poisson(1) number of times, so n users who are alike count Poisson(n) times together. Most users have no hit at all:
    a draw per group, not per user, is a small part of the work. The draws depend on the order of the groups alone.

    Parameters
    ----------
    users
        (g,) number of users of each group, above zero.
    slices
        By name, the groups that belong to it.
    values
        (g, v) values of each user of a group.

    Returns
    -------
    dict
        By slice, an array of shape (1 + rounds, 1 + v): row 0 holds the plain sums, the others one round each; column 0
        holds the number of users, the others the sums of the values.
    """
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    columns = np.column_stack([np.ones(len(users)), values])
    plain = users.astype(np.float64)
    sums = {name: [plain[own] @ columns[own]] for name, own in slices.items()}
    at_once = max(1, CELLS // max(len(users), 1))
    for start in range(0, BOOTSTRAP_ROUNDS, at_once):
        rounds = min(at_once, BOOTSTRAP_ROUNDS - start)
        weights = rng.poisson(users, (rounds, len(users))).astype(np.float64)
        for name, own in slices.items():
            sums[name].append(weights[:, own] @ columns[own])
    return {name: np.vstack(parts) for name, parts in sums.items()}


def mean_and_interval(users: Floats, sums: Floats) -> tuple[float, float, float]:
    """Mean per user with the percentile interval of its bootstrap rounds; element 0 is the data itself."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / users
    rounds = means[1:][np.isfinite(means[1:])]
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(rounds, [tail, 1 - tail]) if len(rounds) else (means[0], means[0])
    return float(means[0]), float(lower), float(upper)


def novelty(share_of_users: Floats) -> Floats:
    """-log2 of the share of users who knew a product before; infinite where nobody did.

    Self-information after Zhou et al. (PNAS 2010) and Vargas and Castells (RecSys 2011): the mean over what is
    recommended is high for a recommender that shows the less known.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log2(share_of_users))

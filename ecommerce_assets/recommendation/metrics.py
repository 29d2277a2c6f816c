"""Metrics of ranked lists, in NumPy: `ranking_metrics`, `serendipity`, `category_diversity` and `novelty`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RANKING_METRICS = ("precision", "recall", "ndcg", "map", "hit_rate")

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def among(values: Integers, others: Integers) -> Flags:
    """Returns which of the values are among the others, like `np.isin`; faster than it if the others are few."""
    if not len(others):
        return np.zeros(values.shape, np.bool_)
    ordered = np.sort(others)
    places = np.searchsorted(ordered, values)
    places[places == len(ordered)] = 0
    return np.asarray(ordered[places] == values)


def hits_of(listed: Integers, owners: Integers, relevant: Integers) -> Flags:
    """Returns (n, k) which places of the lists have a relevant product.

    Parameters
    ----------
    listed
        (n, k) products from 0; -1 for an empty place.
    owners, relevant
        Pairs of a list, by its row, and a product that is relevant to its user.
    """
    width = max(int(listed.max(initial=-1)), int(relevant.max(initial=-1))) + 1
    keys = np.arange(len(listed))[:, None] * width + listed
    return among(keys, owners * width + relevant) & (listed >= 0)


def ranking_metrics(hits: Flags, relevant: Integers) -> dict[str, Floats]:
    """Returns the metrics at k of n lists. With r relevant products:

    - precision: hits / k (Spark's `precisionAt`: a list shorter than k counts as if padded with misses)
    - recall: hits / r
    - ndcg: sum of 1 / log2(rank + 1) over hits, divided by that of the best possible list, which has min(r, k) hits
      (binary relevance, Järvelin and Kekäläinen 2002; Spark's `ndcgAt`)
    - map: sum over hits of the precision at their rank, divided by min(r, k) (Spark's `meanAveragePrecisionAt`)
    - hit_rate: 1 if there is a hit

    Parameters
    ----------
    hits
        (n, k) whether the product at each rank is relevant; False beyond the end of a list.
    relevant
        r of each list, above zero.

    Returns
    -------
    dict
        (n,) doubles by metric.

    Examples
    --------
    >>> metrics = ranking_metrics(np.array([[True, False, True, False]]), np.array([2]))
    >>> {name: round(float(value[0]), 3) for name, value in metrics.items()}
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


def serendipity(listed: Integers, hits: Flags, popular: Integers) -> Floats:
    """Returns the number of relevant products that are not in the popularity list, divided by k.

    Ge, Delgado-Battenfeld and Jannach, "Beyond Accuracy: Evaluating Recommender Systems by Coverage and Serendipity"
    (RecSys 2010), with popularity as the primitive recommender.

    Parameters
    ----------
    listed, popular
        (n, k) products of the lists, and of the popularity lists of the same users; -1 for an empty place.
    hits
        (n, k) which places of `listed` have a relevant product.

    Returns
    -------
    array
        (n,) from 0 to 1.
    """
    expected = (listed[:, :, None] == popular[:, None, :]).any(axis=2)
    return np.asarray((hits & ~expected).sum(axis=1) / listed.shape[1], np.float64)


def category_diversity(listed: Integers, category: Integers) -> Floats:
    """Returns the share of each list's pairs of products that have different categories.

    Intra-list diversity: Ziegler et al., "Improving Recommendation Lists Through Topic Diversification" (WWW 2005),
    with the dissimilarity 1 between two categories and 0 within one. Products of unknown category are left out.

    Parameters
    ----------
    listed
        (n, k) products; -1 for an empty place.
    category
        (p,) number of each product's category; -1: unknown.

    Returns
    -------
    array
        (n,) from 0 to 1; NaN if a list has fewer than two products of known category.
    """
    if not len(category):
        return np.full(len(listed), np.nan)
    of_place = np.where(listed >= 0, category[listed], -1)
    known = of_place >= 0
    both = known[:, :, None] & known[:, None, :]
    same = both & (of_place[:, :, None] == of_place[:, None, :])
    count = known.sum(axis=1)
    pairs = count * (count - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Every product is in one pair with itself.
        return np.asarray(1 - (same.sum(axis=(1, 2)) - count) / pairs, np.float64)


def novelty(share_of_users: Floats) -> Floats:
    """Returns -log2 of the share of users who knew each product before; infinite if nobody did.

    Self-information: Zhou et al. (PNAS 2010); Vargas and Castells (RecSys 2011). The mean over the recommended products
    is high for a system that shows little-known products.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log2(share_of_users))

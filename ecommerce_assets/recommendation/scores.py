"""Metrics of lists, summed by slice and bucket of users. `score_lists` scores one batch of users.

Scores of batches and partitions add up with `+`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ecommerce_assets.bootstrap import bootstrap, mean_and_interval
from ecommerce_assets.recommendation.lists import SOURCES, Lists
from ecommerce_assets.recommendation.metrics import (
    RANKING_METRICS,
    Flags,
    Floats,
    Integers,
    category_diversity,
    hits_of,
    ranking_metrics,
    serendipity,
)

BUCKETS = 200
"""Number of buckets of users, by a hash of their id. The bootstrap resamples buckets; the width of an interval has a
relative error of 1 / sqrt(2 · 200), about 5 %."""

USER_METRICS = (*RANKING_METRICS, "serendipity", "served")
"""Metrics that are means over users, with an interval."""

Slice = str

Interval = list[float]
"""Value, lower and upper end of the 95 % interval."""


@dataclass(frozen=True)
class Scores:
    """Sums of metrics over users.

    Attributes
    ----------
    systems
        Names of the systems.
    sums
        By slice, (BUCKETS, 1 + systems * metrics): number of users, then for each system the sum of each of
        `USER_METRICS`.
    shown
        (systems, p) number of users whose list has the product.
    diversity
        (systems, 2) sum of the diversity of lists, and the number of lists that have a diversity.
    users_per_source
        By source, number of users whose published list has an entry from it.
    """

    systems: tuple[str, ...]
    sums: Mapping[Slice, Floats] = field(default_factory=dict)
    shown: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    diversity: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    users_per_source: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Scores) -> Scores:
        if not self.sums:
            return other
        if not other.sums:
            return self
        sums: dict[Slice, Floats] = defaultdict(lambda: np.zeros(next(iter(self.sums.values())).shape))
        for part in (self.sums, other.sums):
            for name, values in part.items():
                sums[name] = sums[name] + values
        return Scores(
            self.systems,
            dict(sums),
            self.shown + other.shown,
            self.diversity + other.diversity,
            {s: self.users_per_source.get(s, 0) + other.users_per_source.get(s, 0) for s in SOURCES},
        )

    @property
    def users(self) -> int:
        """Number of users."""
        return int(self.sums["all"][:, 0].sum()) if self.sums else 0

    def column(self, system: str, metric: str) -> int:
        """Returns the column of a metric in the arrays of `sums`."""
        return 1 + self.systems.index(system) * len(USER_METRICS) + USER_METRICS.index(metric)

    def mean(self, system: str, metric: str, part: Slice = "all") -> float:
        """Returns the mean of a metric over the users of a slice."""
        total = self.sums[part].sum(axis=0)
        return float(total[self.column(system, metric)] / total[0])


def bootstrap_means(scores: Scores, system: str, metric: str) -> Floats:
    """Returns (1 + rounds,) means of a metric: over all users, then over the users of each bootstrap round.

    All systems and models that are scored on the same users have the same rounds, so their differences are paired.
    """
    sums = bootstrap(scores.sums["all"][:, [0, scores.column(system, metric)]])
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, 1] / sums[:, 0])


def interval(means: Floats) -> Interval:
    """Returns [value, lower, upper] of the means of `bootstrap_means`, or of their differences."""
    return list(mean_and_interval(np.ones(len(means)), means))


def paired_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> Interval | None:
    """Returns the mean NDCG of `one` less that of `other`, with its bootstrap 95 % interval.

    A user is in the same bucket in every evaluation, so resampling buckets pairs the users.

    Parameters
    ----------
    one, other
        Results of two evaluations.

    Returns
    -------
    list or None
        [value, lower, upper]; None if one of them has no NDCG by bucket.
    """
    sums = [np.array(results.get("ndcg_by_bucket") or (), float).reshape(-1, 2) for results in (one, other)]
    if any(not len(each) or not each[:, 0].sum() for each in sums):
        return None
    # Both use the same draws of buckets. Columns: users and NDCG of `one`, users and NDCG of `other`.
    drawn = bootstrap(np.hstack(sums))
    with np.errstate(invalid="ignore", divide="ignore"):
        return interval(drawn[:, 1] / drawn[:, 0] - drawn[:, 3] / drawn[:, 2])


@dataclass(frozen=True)
class Relevant:
    """The relevant products of n users.

    Attributes
    ----------
    owners, positions
        Pairs of a user, by number in the batch, and a known product.
    counts
        (n,) number of relevant products including unknown ones, at least 1.
    """

    owners: Integers
    positions: Integers
    counts: Integers


def score_lists(
    lists: Mapping[str, Lists],
    published: str,
    popular: str,
    relevant: Relevant,
    category: Integers,
    slices: Mapping[Slice, Flags],
    buckets: Integers,
) -> Scores:
    """Returns the scores of the lists of all systems for one batch of n users.

    Parameters
    ----------
    lists
        Lists by system.
    published
        The system whose entries are counted by source.
    popular
        The system that serendipity is measured against.
    relevant
        The relevant products.
    category
        (p,) number of each product's category; -1: unknown.
    slices
        By name, (n,) True for users in the slice; `all` is added.
    buckets
        (n,) bucket of each user, 0 to `BUCKETS` - 1.
    """
    users, products = len(relevant.counts), len(category)
    columns: list[npt.NDArray[np.float64]] = [np.ones(users)]
    shown, diversity = np.zeros((len(lists), products), np.int32), np.zeros((len(lists), 2))
    for number, each in enumerate(lists.values()):
        hits = hits_of(each.positions, relevant.owners, relevant.positions)
        metrics = ranking_metrics(hits, relevant.counts)
        metrics["serendipity"] = serendipity(each.positions, hits, lists[popular].positions)
        metrics["served"] = np.asarray(each.filled.any(axis=1), np.float64)
        columns += [metrics[metric] for metric in USER_METRICS]
        shown[number] = np.bincount(each.positions[each.filled], minlength=products)
        by_list = category_diversity(each.positions, category)
        diversity[number] = [np.nansum(by_list), np.count_nonzero(~np.isnan(by_list))]
    values = np.column_stack(columns)
    sums = {}
    for name, members in {"all": np.ones(users, np.bool_), **slices}.items():
        if members.any():
            total = np.zeros((BUCKETS, values.shape[1]))
            np.add.at(total, buckets[members], values[members])
            sums[name] = total
    entries = lists[published]
    users_per_source = {
        source: int(((entries.sources == code) & entries.filled).any(axis=1).sum())
        for code, source in enumerate(SOURCES)
    }
    return Scores(tuple(lists), sums, shown, diversity, users_per_source)

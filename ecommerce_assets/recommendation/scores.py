"""How good lists are for a batch of users: metrics summed by slice and bucket of users. NumPy only.

`score_lists` scores one batch; scores of batches and partitions add up with `+`.
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
"""Of users, by a hash of their id. Intervals come from resampled buckets: the error of an interval's width is
1 / sqrt(2 · 200), a twentieth."""

USER_METRICS = (*RANKING_METRICS, "serendipity", "served")
"""Metrics that are means over users, with an interval."""

Slice = str

Interval = list[float]
"""Value, lower and upper end of the 95 % interval."""


@dataclass(frozen=True)
class Scores:
    """Sums over users.

    Attributes
    ----------
    systems
        Names of the systems.
    sums
        By slice, (BUCKETS, 1 + systems * metrics): number of users, then for each system the sum of each of
        `USER_METRICS`.
    shown
        (systems, p) how many users each product was shown to.
    diversity
        (systems, 2) sum of the lists' diversity, and the number of lists that have one.
    users_per_source
        By source, users with at least one entry of the published list from it.
    """

    systems: tuple[str, ...]
    sums: Mapping[Slice, Floats] = field(default_factory=dict)
    shown: Integers = field(default_factory=lambda: np.zeros((0, 0), np.int64))
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
        """Number of the column in the arrays of `sums`."""
        return 1 + self.systems.index(system) * len(USER_METRICS) + USER_METRICS.index(metric)

    def mean(self, system: str, metric: str, part: Slice = "all") -> float:
        """Mean of a metric over the users of a slice."""
        total = self.sums[part].sum(axis=0)
        return float(total[self.column(system, metric)] / total[0])


def bootstrap_means(scores: Scores, system: str, metric: str) -> Floats:
    """(1 + rounds,) mean of a metric over all users, then over those of each bootstrap round.

    The rounds are the same for all systems and models that are scored on the same users, so differences are paired.
    """
    sums = bootstrap(scores.sums["all"][:, [0, scores.column(system, metric)]])
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, 1] / sums[:, 0])


def interval(means: Floats) -> Interval:
    """[value, lower, upper] of such means or their differences."""
    return list(mean_and_interval(np.ones(len(means)), means))


def paired_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> Interval | None:
    """Mean NDCG of `one` less that of `other`, with the bootstrap 95 % interval.

    Users are in the same bucket in each evaluation, so buckets pair them: users that both evaluations have cancel out.

    Parameters
    ----------
    one, other
        Results of two evaluations.

    Returns
    -------
    list or None
        [value, lower, upper]; None where one of them has no holdout or no NDCG by bucket.
    """
    sums = [np.array(results.get("ndcg_by_bucket") or (), float).reshape(-1, 2) for results in (one, other)]
    if any(not len(each) or not each[:, 0].sum() for each in sums):
        return None
    # One draw of buckets for both: columns are users and NDCG of each.
    drawn = bootstrap(np.hstack(sums))
    with np.errstate(invalid="ignore", divide="ignore"):
        return interval(drawn[:, 1] / drawn[:, 0] - drawn[:, 3] / drawn[:, 2])


@dataclass(frozen=True)
class Relevant:
    """What was relevant to n users.

    Attributes
    ----------
    owners, positions
        Pairs of a user, by number in the batch, and a known product.
    counts
        (n,) number of relevant products, unknown products included, above zero.
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
    """The scores of the systems' lists for one batch of n users.

    Parameters
    ----------
    lists
        By system.
    published, popular
        The systems that customers see, and the one that surprises nobody.
    category
        (p,) number of each product's category; -1: unknown.
    slices
        By name, (n,) which users belong to it; `all` is added.
    buckets
        (n,) bucket of each user, 0 to `BUCKETS` - 1.
    """
    users, products = len(relevant.counts), len(category)
    hits = {name: hits_of(made.positions, relevant.owners, relevant.positions) for name, made in lists.items()}
    columns: list[npt.NDArray[np.float64]] = [np.ones(users)]
    shown, diversity = np.zeros((len(lists), products), np.int64), np.zeros((len(lists), 2))
    for number, (name, made) in enumerate(lists.items()):
        metrics = ranking_metrics(hits[name], relevant.counts)
        metrics["serendipity"] = serendipity(made.positions, hits[name], lists[popular].positions)
        metrics["served"] = np.asarray(made.filled.any(axis=1), np.float64)
        columns += [metrics[metric] for metric in USER_METRICS]
        shown[number] = np.bincount(made.positions[made.filled], minlength=products)
        within = category_diversity(made.positions, category)
        diversity[number] = [np.nansum(within), np.count_nonzero(~np.isnan(within))]
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

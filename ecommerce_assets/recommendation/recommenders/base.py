"""The protocol `Recommender`, the `Training` that recommenders are fitted on, and the `Users` that they serve.

All in NumPy. A fitted recommender can be pickled, so it works in this process and in Spark's Python workers
(`mapInArrow`). Products are identified by position, their place in the order of the ids, which also breaks ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.top_k import Excluded

MAX_CELLS = 1 << 22
"""Maximum number of users times products that `Ranking` filters at once: 21 MB."""

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ProductStats:
    """Counts and categories of p products, by position.

    Attributes
    ----------
    users
        (p,) distinct users who interacted with the product.
    recent_users
        (p,) distinct users whose last interaction with the product was in the most recent tenth of the time.
    category
        (p,) number of its category from 0; -1: unknown.
    segment_users
        By segment, (p,) distinct users of the segment who interacted with the product.
    segment_sizes
        By segment, its number of users.
    total_users
        Number of users who interacted with any product.
    """

    users: Integers
    recent_users: Integers
    category: Integers
    segment_users: Mapping[str, Integers] = field(default_factory=dict)
    segment_sizes: Mapping[str, int] = field(default_factory=dict)
    total_users: int = 0

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def categories(self) -> int:
        """Number of categories, at least 1."""
        return max(int(self.category.max(initial=-1)) + 1, 1)


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: row i has the items and values begins[i] to begins[i + 1]."""

    begins: Integers
    items: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.begins) - 1

    @classmethod
    def of(cls, rows: Integers, items: Integers, values: Floats, count: int) -> Ragged:
        """Returns `count` rows from entries in any order; entries of a row keep their order."""
        order = np.argsort(rows, kind="stable")
        begins = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)
        return cls(begins, items[order].astype(np.int64), values[order].astype(np.float32))

    @classmethod
    def empty(cls, count: int) -> Ragged:
        """Returns `count` rows without entries."""
        return cls(np.zeros(count + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    def where(self, allowed: Flags) -> Ragged:
        """Returns the same rows with only the allowed items; `allowed` is by the number of the item."""
        kept = allowed[self.items]
        return Ragged(np.concatenate([[0], np.cumsum(kept)])[self.begins], self.items[kept], self.values[kept])


@dataclass(frozen=True)
class Training:
    """The data that recommenders are fitted on: summaries of the interactions before a time.

    Attributes
    ----------
    products
        Stats of each product.
    neighbours
        For each product its neighbours and their similarities, best first.
    item_factors
        (p, rank) factors of the products; zeros where the ALS model does not know the product.
    eligible
        (p,) True for products that may be recommended; None: all.
    """

    products: ProductStats
    neighbours: Ragged
    item_factors: Floats
    eligible: Flags | None = None

    @cached_property
    def is_eligible(self) -> Flags:
        """(p,) True for products that may be recommended."""
        return np.ones(len(self.products), np.bool_) if self.eligible is None else self.eligible

    @cached_property
    def eligible_neighbours(self) -> Ragged:
        """The neighbours that may be recommended."""
        return self.neighbours if self.eligible is None else self.neighbours.where(self.eligible)


@dataclass(frozen=True)
class Users:
    """A batch of n users.

    Attributes
    ----------
    begins
        (n + 1,) the history of user i is begins[i] to begins[i + 1] of the next five arrays, the latest product first.
    positions, ratings, events, ages, purchased
        Product, rating, number of interactions, days from the last interaction to the reference time, and whether the
        product was purchased.
    segments
        (n,) name of the user's segment; None without one.
    factors
        (n, rank) factors of the user; zeros where the ALS model does not know the user.
    exclude
        Which products of the history must not be recommended.
    """

    begins: Integers
    positions: Integers
    ratings: Floats
    events: Integers
    ages: Floats
    purchased: Flags
    segments: npt.NDArray[np.object_]
    factors: Floats
    exclude: Exclude = Exclude.purchased

    def __len__(self) -> int:
        return len(self.begins) - 1

    @cached_property
    def owners(self) -> Integers:
        """The user of each entry of the histories, by number in the batch."""
        return np.repeat(np.arange(len(self)), np.diff(self.begins))

    @cached_property
    def ranks(self) -> Integers:
        """The rank of each entry in its user's history, 0 for the latest product."""
        return np.arange(len(self.positions)) - self.begins[self.owners]

    @cached_property
    def is_excluded(self) -> Flags:
        """Which entries of the histories must not be recommended."""
        if self.exclude == Exclude.purchased:
            return self.purchased
        return np.full(len(self.positions), self.exclude == Exclude.seen)

    @cached_property
    def excluded(self) -> Excluded:
        """Positions of the products that must not be recommended to each user."""
        begins = np.concatenate([[0], np.cumsum(self.is_excluded)])[self.begins]
        return Excluded(begins, self.positions[self.is_excluded])

    def take(self, rows: Integers) -> Users:
        """Returns these users of the batch, in this order."""
        counts = np.diff(self.begins)[rows]
        begins = np.concatenate([[0], np.cumsum(counts)])
        entries = np.arange(begins[-1]) + np.repeat(self.begins[rows] - begins[:-1], counts)
        return Users(
            begins,
            self.positions[entries],
            self.ratings[entries],
            self.events[entries],
            self.ages[entries],
            self.purchased[entries],
            self.segments[rows],
            self.factors[rows],
            self.exclude,
        )


@dataclass(frozen=True)
class Candidates:
    """Products for n users, best first; the last places of a row may be empty.

    Attributes
    ----------
    positions
        (n, k) position of the product; -1 for an empty place.
    scores
        (n, k) above zero and not rising along a row; 0 for an empty place.
    """

    positions: Integers
    scores: Floats

    @classmethod
    def empty(cls, users: int, k: int) -> Candidates:
        """Returns candidates without products."""
        return cls(np.full((users, k), -1, np.int64), np.zeros((users, k), np.float32))

    @property
    def filled(self) -> Flags:
        """(n, k) which places have a product."""
        return self.positions >= 0

    def take(self, rows: Integers) -> Candidates:
        """Returns the candidates of these users."""
        return Candidates(self.positions[rows], self.scores[rows])


class Recommender(Protocol):
    """A way to choose products for users.

    Attributes
    ----------
    name
        The system's name in als_evaluation.
    source
        The name in the column `source` of recommendations.
    """

    name: str
    source: str

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Returns the recommender that is fitted on these interactions."""

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns up to k products for each user, without excluded ones; nothing for users that it does not know."""


def best_of_pairs(
    owners: Integers, positions: Integers, scores: Floats | npt.NDArray[np.float64], users: int, k: int
) -> Candidates:
    """Returns the k products with the highest scores of each user, ties by position.

    The pairs of `owners` and `positions` are distinct and in the order of the owners.
    """
    from ecommerce_assets.recommendation.neighbour_kernels import best_of_rows

    best, ranked = Candidates.empty(users, k), np.empty((users, k), scores.dtype)
    best_of_rows(np.searchsorted(owners, np.arange(users + 1)), positions, scores, best.positions, ranked)
    best.scores[best.filled] = ranked[best.filled]
    return best


def best_of_sums(users: Users, weighted: Ragged, rows: Ragged, products: int, k: int) -> Candidates:
    """Returns the k products with the highest sum, over each user's items, of the item's weight times the row's value.

    Parameters
    ----------
    weighted
        For each user, items and their weights.
    rows
        For each item, products and their values.
    """
    from ecommerce_assets.recommendation.neighbour_kernels import best_sums

    best, excluded = Candidates.empty(len(users), k), users.excluded
    best_sums(
        weighted.begins,
        weighted.items,
        weighted.values,
        rows.begins,
        rows.items,
        rows.values,
        products,
        excluded.begins,
        excluded.items,
        best.positions,
        best.scores,
    )
    return best


@dataclass(frozen=True)
class Ranking:
    """Products in the same order for all users, with scores above zero."""

    positions: Integers
    scores: Floats
    products: int

    @classmethod
    def of(cls, scores: npt.NDArray[np.float64]) -> Ranking:
        """Returns the ranking of scores by position: the highest first, ties by position; without scores of zero."""
        order = np.lexsort((np.arange(len(scores)), -scores))
        order = order[scores[order] > 0]
        return cls(order, scores[order].astype(np.float32), len(scores))

    @cached_property
    def _place_of(self) -> Integers:
        """(p,) place of each product in the ranking; products that are not ranked come last."""
        place = np.full(self.products, len(self.positions), np.int64)
        place[self.positions] = np.arange(len(self.positions))
        return place

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns the first k products for each user that are not excluded."""
        best, excluded = Candidates.empty(len(users), k), users.excluded
        # Of the first k + b products at most b are excluded. Users are sorted by b, so that a chunk is narrow.
        widths = np.minimum(len(self.positions), k + np.diff(excluded.begins))
        narrow_first, start = np.argsort(widths, kind="stable"), 0
        while start < len(users):
            rows = narrow_first[start : start + max(1, MAX_CELLS // max(int(widths[narrow_first[start]]), 1))]
            width = int(widths[rows[-1]])
            rows = rows[: max(1, MAX_CELLS // max(width, 1))]
            width, start = int(widths[rows[-1]]), start + len(rows)
            owners, positions = excluded.of(rows)
            places = self._place_of[positions]
            shown = np.ones((len(rows), width), np.bool_)
            shown[owners[places < width], places[places < width]] = False
            slots = np.cumsum(shown, axis=1, dtype=np.int32) - 1
            row, column = np.nonzero(shown & (slots < k))
            slot = slots[row, column]
            best.positions[rows[row], slot] = self.positions[column]
            best.scores[rows[row], slot] = self.scores[column]
        return best

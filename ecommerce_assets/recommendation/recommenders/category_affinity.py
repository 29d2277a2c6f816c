"""Category affinity: the popular products of the categories that the user prefers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import (
    Candidates,
    Integers,
    Ragged,
    Training,
    Users,
    best_of_sums,
)

DEPTH = 100
"""Maximum number of candidates per category, the most popular products."""


def affinities(users: Users, category: Integers, categories: int) -> Ragged:
    """Returns for each user the categories of the history, with their shares in the sum of the ratings."""
    of_entry = category[users.positions]
    known = of_entry >= 0
    keys, place = np.unique(users.owners[known] * categories + of_entry[known], return_inverse=True)
    sums = np.bincount(place, users.ratings[known], len(keys))
    owners, of_key = np.divmod(keys, categories)
    total = np.bincount(owners, sums, len(users))
    return Ragged.of(owners, of_key, (sums / total[owners]).astype(np.float32), len(users))


@dataclass(frozen=True)
class CategoryAffinity:
    """The score is the user's affinity to the category times the product's share of the category's users."""

    category: Integers
    rows: Ragged
    name = "category_affinity"
    source = "category"

    @classmethod
    def fit(cls, training: Training) -> CategoryAffinity:
        """Keeps the most popular eligible products of each category."""
        stats = training.products
        has_category = stats.category >= 0
        known = np.flatnonzero(has_category & (stats.users > 0) & training.is_eligible)
        category, users = stats.category[known], stats.users[known]
        total = np.bincount(stats.category[has_category], stats.users[has_category], stats.categories)
        order = np.lexsort((known, -users, category))
        ranked = category[order]
        best = order[np.arange(len(ranked)) - np.searchsorted(ranked, ranked) < DEPTH]
        shares = (users[best] / total[category[best]]).astype(np.float32)
        return cls(stats.category, Ragged.of(category[best], known[best], shares, stats.categories))

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users whose products have no category."""
        return best_of_sums(users, affinities(users, self.category, len(self.rows)), self.rows, len(self.category), k)

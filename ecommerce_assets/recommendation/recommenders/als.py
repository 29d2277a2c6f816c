"""ALS: the products with the highest preference that als_model predicts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Floats, Integers, Training, Users
from ecommerce_assets.recommendation.top_k import Excluded, Items, top_k

MIN_SCORE = 1e-6
"""Lower predicted preferences are noise from factors that are nearly zero."""


@dataclass(frozen=True)
class Als:
    """The score is the predicted preference, the dot product of the factors of the user and the product.

    Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008).
    """

    factors: Floats
    positions: Integers
    products: int
    name = "als"
    source = "als"

    @classmethod
    def fit(cls, training: Training) -> Als:
        """Keeps the factors of the eligible products that the model knows."""
        known = np.flatnonzero(training.item_factors.any(axis=1) & training.is_eligible)
        return cls(training.item_factors[known], known, len(training.products))

    @cached_property
    def _items(self) -> Items:
        return Items.of(self.factors)

    @cached_property
    def _place_of(self) -> Integers:
        """(p,) row of each product in `factors`; -1 for products without a row."""
        place = np.full(self.products, -1, np.int64)
        place[self.positions] = np.arange(len(self.positions))
        return place

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users whose factors are zero or nearly zero."""
        candidates = Candidates.empty(len(users), k)
        rows = np.flatnonzero(users.factors.any(axis=1))
        if not len(rows) or not len(self.positions):
            return candidates
        owners, positions = users.excluded.of(rows)
        places = self._place_of[positions]
        owners, places = owners[places >= 0], places[places >= 0]
        excluded = Excluded(np.searchsorted(owners, np.arange(len(rows) + 1)), places)
        best, scores = top_k(users.factors[rows], self._items, excluded, k)
        enough = (best >= 0) & (scores >= MIN_SCORE)
        candidates.positions[rows] = np.where(enough, self.positions[best], -1)
        candidates.scores[rows] = np.where(enough, scores, 0)
        return candidates

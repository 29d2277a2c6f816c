"""The user's weightiest products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Flags, Training, Users, best_of_pairs

TIE = 1e-3
"""Of the rating: of products with equal ratings the latest comes first."""


@dataclass(frozen=True)
class Weightiest:
    """The user's own products with the highest rating; the score is the rating."""

    eligible: Flags
    name = "weightiest"
    source = "weightiest"

    @classmethod
    def fit(cls, training: Training) -> Weightiest:
        """Keeps which products may be recommended; there is nothing else to learn."""
        return cls(training.is_eligible)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Nothing for users without products that they may get."""
        allowed = ~users.is_excluded & self.eligible[users.positions]
        # In doubles: a float32 has no room for the tie-break of a long history.
        scores = users.ratings[allowed].astype(np.float64) + TIE / (1.0 + users.ranks[allowed])
        return best_of_pairs(users.owners[allowed], users.positions[allowed], scores, len(users), k)

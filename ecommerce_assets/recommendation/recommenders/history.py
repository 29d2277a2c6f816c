"""The user's own products: the latest ones, and those with the highest ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Flags, Training, Users, best_of_pairs

TIE_BREAK = 1e-3
"""Added to a rating, divided by 1 + the rank in the history: of products with equal ratings, the latest comes first."""


@dataclass(frozen=True)
class Latest:
    """The user's own products, the latest first; the score is 1 / (1 + rank from the latest)."""

    eligible: Flags
    name = "latest"
    source = "latest"
    title = "the user's latest products"

    @classmethod
    def fit(cls, training: Training) -> Latest:
        """Keeps which products are eligible; there is nothing else to learn."""
        return cls(training.is_eligible)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users without an allowed product in their history."""
        allowed = ~users.is_excluded & self.eligible[users.positions]
        scores = (1 / (1.0 + users.ranks[allowed])).astype(np.float32)
        return best_of_pairs(users.owners[allowed], users.positions[allowed], scores, len(users), k)


@dataclass(frozen=True)
class Weightiest:
    """The user's own products with the highest ratings; the score is the rating."""

    eligible: Flags
    name = "weightiest"
    source = "weightiest"
    title = "the user's weightiest products"

    @classmethod
    def fit(cls, training: Training) -> Weightiest:
        """Keeps which products are eligible; there is nothing else to learn."""
        return cls(training.is_eligible)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users without an allowed product in their history."""
        allowed = ~users.is_excluded & self.eligible[users.positions]
        # In doubles: float32 is too coarse for the tie-break of a long history.
        scores = users.ratings[allowed].astype(np.float64) + TIE_BREAK / (1.0 + users.ranks[allowed])
        return best_of_pairs(users.owners[allowed], users.positions[allowed], scores, len(users), k)

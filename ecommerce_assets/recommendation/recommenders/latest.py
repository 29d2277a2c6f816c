"""The user's latest products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Flags, Training, Users, best_of_pairs


@dataclass(frozen=True)
class Latest:
    """The user's own products, the latest first; the score is 1 / (1 + rank from the latest)."""

    eligible: Flags
    name = "latest"
    source = "latest"

    @classmethod
    def fit(cls, training: Training) -> Latest:
        """Keeps which products may be recommended; there is nothing else to learn."""
        return cls(training.is_eligible)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Nothing for users without products that they may get."""
        allowed = ~users.is_excluded & self.eligible[users.positions]
        scores = (1 / (1.0 + users.ranks[allowed])).astype(np.float32)
        return best_of_pairs(users.owners[allowed], users.positions[allowed], scores, len(users), k)

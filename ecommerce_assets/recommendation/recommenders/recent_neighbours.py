"""Neighbours of recent history: as neighbours, but a user's latest products count most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Ragged, Training, Users, best_of_sums


@dataclass(frozen=True)
class RecentNeighbours:
    """The score is the sum of the similarities to the user's products, each divided by 1 + its rank from the latest.

    Weights that fall with the rank: Ludewig and Jannach, "Evaluation of Session-based Recommendation Algorithms"
    (User Modeling and User-Adapted Interaction, 2018).
    """

    rows: Ragged
    name = "recent_neighbours"
    source = "recent_neighbours"

    @classmethod
    def fit(cls, training: Training) -> RecentNeighbours:
        """From item_neighbours."""
        return cls(training.eligible_neighbours)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Nothing for users whose products have no neighbours."""
        weights = (1 / (1.0 + users.ranks)).astype(np.float32)
        return best_of_sums(users, Ragged(users.begins, users.positions, weights), self.rows, len(self.rows), k)

"""Neighbours: products that share users with the products of the user's history; see `item_neighbours`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Ragged, Training, Users, best_of_sums


@dataclass(frozen=True)
class Neighbours:
    """The score is the sum of the similarities to the user's products, each times its rating.

    Item-based collaborative filtering: Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms"
    (WWW 2001), with the Jaccard similarities of `item_neighbours`.
    """

    rows: Ragged
    name = "neighbours"
    source = "neighbours"
    title = "neighbours"

    @classmethod
    def fit(cls, training: Training) -> Neighbours:
        """Keeps the eligible neighbours of each product."""
        return cls(training.eligible_neighbours)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users whose products have no neighbours."""
        weighted = Ragged(users.begins, users.positions, users.ratings)
        return best_of_sums(users, weighted, self.rows, len(self.rows), k)


@dataclass(frozen=True)
class RecentNeighbours:
    """The score is the sum of the similarities to the user's products, each divided by 1 + its rank from the latest.

    Weights that fall with the rank: Ludewig and Jannach, "Evaluation of Session-based Recommendation Algorithms"
    (User Modeling and User-Adapted Interaction, 2018).
    """

    rows: Ragged
    name = "recent_neighbours"
    source = "recent_neighbours"
    title = "neighbours of recent history"

    @classmethod
    def fit(cls, training: Training) -> RecentNeighbours:
        """Keeps the eligible neighbours of each product."""
        return cls(training.eligible_neighbours)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users whose products have no neighbours."""
        weights = (1 / (1.0 + users.ranks)).astype(np.float32)
        return best_of_sums(users, Ragged(users.begins, users.positions, weights), self.rows, len(self.rows), k)

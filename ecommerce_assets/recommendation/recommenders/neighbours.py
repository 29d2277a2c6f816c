"""Neighbours: products that the same users interacted with as with the products of the user's history."""

from __future__ import annotations

from dataclasses import dataclass

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

    @classmethod
    def fit(cls, training: Training) -> Neighbours:
        """From item_neighbours."""
        return cls(training.eligible_neighbours)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Nothing for users whose products have no neighbours."""
        weighted = Ragged(users.begins, users.positions, users.ratings)
        return best_of_sums(users, weighted, self.rows, len(self.rows), k)

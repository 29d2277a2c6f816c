"""Popularity: the products with the most users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Ranking, Training, Users


@dataclass(frozen=True)
class Popularity:
    """The score is the number of distinct users who interacted."""

    ranking: Ranking
    name = "popularity"
    source = "popular"

    @classmethod
    def fit(cls, training: Training) -> Popularity:
        """From the stats of the products."""
        return cls(Ranking.of(np.where(training.is_eligible, training.products.users, 0.0)))

    def recommend(self, users: Users, k: int) -> Candidates:
        """The same for every user, without what is excluded."""
        return self.ranking.recommend(users, k)

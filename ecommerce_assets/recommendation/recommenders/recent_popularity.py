"""Recent popularity: the products with the most users of late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Ranking, Training, Users


@dataclass(frozen=True)
class RecentPopularity:
    """The score is the number of distinct users whose last interaction was in the recent tenth of the time."""

    ranking: Ranking
    name = "recent_popularity"
    source = "recent_popular"

    @classmethod
    def fit(cls, training: Training) -> RecentPopularity:
        """From the stats of the products."""
        return cls(Ranking.of(np.where(training.is_eligible, training.products.recent_users, 0.0)))

    def recommend(self, users: Users, k: int) -> Candidates:
        """The same for every user, without what is excluded."""
        return self.ranking.recommend(users, k)

"""Popularity: the products with the most users, in all, recently, and in the user's segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Integers, Ranking, Training, Users


@dataclass(frozen=True)
class _OneRanking:
    """The same products for every user, without those that are excluded."""

    ranking: Ranking

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns the same products for every user, without those that are excluded."""
        return self.ranking.recommend(users, k)


class Popularity(_OneRanking):
    """The score is the number of distinct users who interacted with the product."""

    name = "popularity"
    source = "popular"

    @classmethod
    def fit(cls, training: Training) -> Popularity:
        """Ranks the eligible products by their users."""
        return cls(_eligible_ranking(training, training.products.users))


class RecentPopularity(_OneRanking):
    """The score is the number of distinct users whose last interaction was in the recent tenth of the time."""

    name = "recent_popularity"
    source = "recent_popular"

    @classmethod
    def fit(cls, training: Training) -> RecentPopularity:
        """Ranks the eligible products by their recent users."""
        return cls(_eligible_ranking(training, training.products.recent_users))


@dataclass(frozen=True)
class SegmentPopularity:
    """The score is the number of distinct users of the segment who interacted with the product."""

    rankings: Mapping[str, Ranking]
    name = "segment_popularity"
    source = "segment_popular"

    @classmethod
    def fit(cls, training: Training) -> SegmentPopularity:
        """Ranks the eligible products by their users in each segment."""
        by_segment = training.products.segment_users
        return cls({segment: _eligible_ranking(training, users) for segment, users in by_segment.items()})

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users without a segment."""
        candidates = Candidates.empty(len(users), k)
        for segment, ranking in self.rankings.items():
            rows = np.flatnonzero(users.segments == segment)
            if len(rows):
                best = ranking.recommend(users.take(rows), k)
                candidates.positions[rows], candidates.scores[rows] = best.positions, best.scores
        return candidates


def _eligible_ranking(training: Training, users: Integers) -> Ranking:
    """Returns the eligible products, those with the most users first."""
    return Ranking.of(np.where(training.is_eligible, users, 0.0))

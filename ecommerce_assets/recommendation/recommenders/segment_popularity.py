"""Segment popularity: the products with the most users of the user's segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Ranking, Training, Users


@dataclass(frozen=True)
class SegmentPopularity:
    """The score is the number of distinct users of the segment who interacted."""

    rankings: Mapping[str, Ranking]
    name = "segment_popularity"
    source = "segment_popular"

    @classmethod
    def fit(cls, training: Training) -> SegmentPopularity:
        """From the users of each segment."""
        by_segment = training.products.segment_users
        rankings = {name: Ranking.of(np.where(training.is_eligible, users, 0.0)) for name, users in by_segment.items()}
        return cls(rankings)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Nothing for users without a segment."""
        candidates = Candidates.empty(len(users), k)
        for name, ranking in self.rankings.items():
            rows = np.flatnonzero(users.segments == name)
            if len(rows):
                best = ranking.recommend(users.take(rows), k)
                candidates.positions[rows], candidates.scores[rows] = best.positions, best.scores
        return candidates

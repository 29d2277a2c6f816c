"""The user's own products: the latest ones, and those with the highest ratings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ecommerce_assets.recommendation.recommenders.base import Candidates, Flags, Training, Users, best_of_pairs

TIE_BREAK = 1e-3
"""Added to a rating, divided by 1 + the rank in the history: of products with equal ratings, the latest comes first."""


@dataclass(frozen=True)
class _OwnProducts(ABC):
    """The products of the user's history with the highest scores."""

    eligible: Flags

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Keeps which products are eligible; there is nothing else to learn."""
        return cls(training.is_eligible)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users without an allowed product in their history."""
        allowed = ~users.is_excluded & self.eligible[users.positions]
        scores = self._scores(users)[allowed]
        return best_of_pairs(users.owners[allowed], users.positions[allowed], scores, len(users), k)

    @abstractmethod
    def _scores(self, users: Users) -> npt.NDArray[Any]:
        """Returns the scores of all entries of the histories."""


class Latest(_OwnProducts):
    """The user's own products, the latest first; the score is 1 / (1 + rank from the latest)."""

    name = "latest"
    source = "latest"

    def _scores(self, users: Users) -> npt.NDArray[Any]:
        return (1 / (1.0 + users.ranks)).astype(np.float32)


class Weightiest(_OwnProducts):
    """The user's own products with the highest ratings; the score is the rating."""

    name = "weightiest"
    source = "weightiest"

    def _scores(self, users: Users) -> npt.NDArray[Any]:
        # In doubles: float32 is too coarse for the tie-break of a long history.
        return users.ratings.astype(np.float64) + TIE_BREAK / (1.0 + users.ranks)

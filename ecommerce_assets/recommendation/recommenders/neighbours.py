"""Neighbours: products that share users with the products of the user's history; see `item_neighbours`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np

from ecommerce_assets.recommendation.recommenders.base import Candidates, Floats, Ragged, Training, Users, best_of_sums


@dataclass(frozen=True)
class _ItemBased(ABC):
    """The score is the weighted sum of the similarities to the user's products."""

    rows: Ragged

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Keeps the eligible neighbours of each product."""
        return cls(training.eligible_neighbours)

    def recommend(self, users: Users, k: int) -> Candidates:
        """Returns nothing for users whose products have no neighbours."""
        weighted = Ragged(users.begins, users.positions, self._weights(users))
        return best_of_sums(users, weighted, self.rows, len(self.rows), k)

    @abstractmethod
    def _weights(self, users: Users) -> Floats:
        """Returns the weights of all entries of the histories."""


class Neighbours(_ItemBased):
    """The score is the sum of the similarities to the user's products, each times its rating.

    Item-based collaborative filtering: Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms"
    (WWW 2001), with the Jaccard similarities of `item_neighbours`.
    """

    name = "neighbours"
    source = "neighbours"

    def _weights(self, users: Users) -> Floats:
        return users.ratings


class RecentNeighbours(_ItemBased):
    """The score is the sum of the similarities to the user's products, each divided by 1 + its rank from the latest.

    Weights that fall with the rank: Ludewig and Jannach, "Evaluation of Session-based Recommendation Algorithms"
    (User Modeling and User-Adapted Interaction, 2018).
    """

    name = "recent_neighbours"
    source = "recent_neighbours"

    def _weights(self, users: Users) -> Floats:
        return (1 / (1.0 + users.ranks)).astype(np.float32)

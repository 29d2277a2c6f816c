"""The blend: a logistic regression that ranks the candidates of all recommenders.

`fit_blend` trains it and `Blend.best` ranks. Two-stage ranking: Covington, Adams and Sargin, "Deep Neural Networks for
YouTube Recommendations" (RecSys 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.base import (
    Candidates,
    Flags,
    Floats,
    Integers,
    Training,
    Users,
    best_of_pairs,
)
from ecommerce_assets.recommendation.recommenders.category_affinity import affinities
from ecommerce_assets.recommendation.recommenders.history import Latest
from ecommerce_assets.recommendation.recommenders.neighbours import Neighbours

FEATURES = (
    *(f"{recommender.name} {what}" for recommender in RECOMMENDERS for what in ("score", "rank")),
    "own",
    "own rank",
    "own rating",
    "own events",
    "own recency",
    "popularity",
    "trend",
    "affinity",
    "log affinity",
)
"""Features of a candidate; see `pool_candidates`. The names are stored in blend_model."""

RANK_OFFSET = 10
MIN_AFFINITY = 0.02

MAX_TRAINING_USERS = 2_000
"""Maximum number of training users; more users did not improve the weights."""

MIN_TRAINING_USERS = 100
"""Minimum number of training users; with fewer, a regression on about 27 features fits noise."""

REGULARISATION = 1.0
"""scikit-learn's C."""


@dataclass(frozen=True)
class Pool:
    """The candidates of n users, without duplicates.

    Attributes
    ----------
    owners, positions
        (c,) number of the user in the batch, and position of the product; sorted by both.
    sources
        (c,) number of the recommender in `RECOMMENDERS` that ranked the product highest; ties: the first one.
    features
        (c, f) values of `FEATURES`.
    """

    owners: Integers
    positions: Integers
    sources: npt.NDArray[np.int8]
    features: Floats


def pool_candidates(training: Training, users: Users, candidates: Mapping[str, Candidates]) -> Pool:
    """Returns the candidates of all recommenders with their features, each product once per user.

    The features of a user and a candidate:

    - `<recommender> score`: its score divided by the score of the user's first candidate; 0 if it is not a candidate
    - `<recommender> rank`: 1 / (10 + rank); 0 if it is not a candidate
    - `own`: 1 if the product is in the user's history
    - `own rank`: 1 / (10 + rank from the latest product); `own rating`: the rating; `own events`:
      log(1 + interactions); `own recency`: 1 / (1 + days since the last interaction); all 0 if the product is not in
      the history
    - `popularity`: log(1 + users of the product); `trend`: the share of recent users among them
    - `affinity`: the share of the product's category in the user's ratings; `log affinity`: log(0.02 + affinity)

    Parameters
    ----------
    training
        The stats of the p products.
    users
        The n users.
    candidates
        The candidates by the name of the recommender.
    """
    products = len(training.products)
    entries = {system.name: _entries(candidates[system.name], products) for system in RECOMMENDERS}
    union, place = np.unique(np.concatenate([keys for keys, *_ in entries.values()]), return_inverse=True)
    owners, positions = np.divmod(union, products)
    features = np.zeros((len(union), len(FEATURES)), np.float32)
    best_rank, sources = np.full(len(union), np.iinfo(np.int64).max), np.zeros(len(union), np.int8)
    begin = 0
    for number, (keys, ranks, scores) in enumerate(entries.values()):
        rows = place[begin : begin + len(keys)]
        begin += len(keys)
        features[rows, 2 * number], features[rows, 2 * number + 1] = scores, 1 / (RANK_OFFSET + ranks)
        better = ranks < best_rank[rows]
        best_rank[rows[better]], sources[rows[better]] = ranks[better], number
    column = 2 * len(RECOMMENDERS)
    _history_features(users, union, products, features[:, column : column + 5])
    stats = training.products
    features[:, column + 5] = np.log1p(stats.users[positions])
    features[:, column + 6] = stats.recent_users[positions] / np.maximum(stats.users[positions], 1)
    affinity = _affinity(users, owners, positions, training)
    features[:, column + 7], features[:, column + 8] = affinity, np.log(MIN_AFFINITY + affinity)
    return Pool(owners, positions, sources, features)


def _entries(candidates: Candidates, products: int) -> tuple[Integers, Integers, Floats]:
    """Returns for each candidate its key (user * products + position), rank from 1 and share of the best score."""
    users, places = np.nonzero(candidates.filled)
    scores = candidates.scores[users, places] / candidates.scores[users, 0]
    return users * products + candidates.positions[users, places], places + 1, scores


def _history_features(users: Users, keys: Integers, products: int, features: Floats) -> None:
    """Fills the five `own` features of the candidates with these keys, in place."""
    history = users.owners * products + users.positions
    if not len(history) or not len(keys):
        return
    order = np.argsort(history)
    place = np.minimum(np.searchsorted(history[order], keys), len(history) - 1)
    in_history = history[order][place] == keys
    entries = order[place[in_history]]
    values: tuple[npt.NDArray[Any], ...] = (
        np.ones(len(history)),
        1 / (RANK_OFFSET + 1.0 + users.ranks),
        users.ratings,
        np.log1p(users.events),
        1 / (1 + np.maximum(users.ages, 0)),
    )
    for number, value in enumerate(values):
        features[in_history, number] = value[entries]


def _affinity(users: Users, owners: Integers, positions: Integers, training: Training) -> Floats:
    """Returns the affinity of each candidate's user to its category."""
    stats = training.products
    categories = stats.categories
    shares = affinities(users, stats.category, categories)
    keys = np.repeat(np.arange(len(users)), np.diff(shares.begins)) * categories + shares.items
    category = stats.category[positions]
    affinity = np.zeros(len(owners), np.float32)
    if not len(keys):
        return affinity
    candidate_keys = owners * categories + category
    place = np.minimum(np.searchsorted(keys, candidate_keys), len(keys) - 1)
    known = (category >= 0) & (keys[place] == candidate_keys)
    affinity[known] = shares.values[place[known]]
    return affinity


@dataclass(frozen=True)
class Blend:
    """A logistic regression on standardised features.

    Without weights (too few training users) it ranks the user's latest products first, then neighbours.

    Attributes
    ----------
    weights
        (f,) weight of each standardised feature; None: no weights.
    means, scales
        (f,) mean and standard deviation of each feature in the training examples.
    intercept
        Intercept of the regression.
    """

    weights: npt.NDArray[np.float64] | None = None
    means: npt.NDArray[np.float64] | None = None
    scales: npt.NDArray[np.float64] | None = None
    intercept: float = 0.0

    def scores(self, pool: Pool) -> npt.NDArray[np.float64]:
        """Returns (c,) predicted probabilities that the user interacts with the candidate.

        Without weights: from 0.5 to 1 for the user's latest products, up to 0.5 for neighbours, 0 for others.
        """
        return self._scores(self._values(pool))

    def _scores(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.maximum(values, 0) if self.weights is None else 1 / (1 + np.exp(-values)), np.float64)

    def _values(self, pool: Pool) -> npt.NDArray[np.float64]:
        """Returns the values to rank by: logits, or scores without weights; -inf: not listed."""
        if self.weights is None or self.means is None or self.scales is None:
            latest, neighbours = (
                pool.features[:, FEATURES.index(f"{system.name} score")] for system in (Latest, Neighbours)
            )
            values = np.where(latest > 0, 1 + latest, neighbours).astype(np.float64) / 2
            return np.asarray(np.where(values > 0, values, -np.inf))
        scaled = self.weights / self.scales
        # The last digits of `@` depend on the batch; with einsum, equal candidates tie.
        values = np.einsum("ij,j->i", pool.features, scaled, dtype=np.float64)
        return np.asarray(values + (self.intercept - self.means @ scaled))

    def best(self, pool: Pool, users: int, k: int) -> tuple[Candidates, Integers]:
        """Returns the k best candidates of each user, ties by position, and (n, k) their places in the pool."""
        values = self._values(pool)
        listed = np.flatnonzero(np.isfinite(values))
        places = best_of_pairs(pool.owners[listed], listed, values[listed], users, k).positions
        best, filled = Candidates.empty(users, k), places >= 0
        best.positions[filled] = pool.positions[places[filled]]
        best.scores[filled] = self._scores(values[places[filled]])
        return best, places

    def document(self) -> dict[str, Any]:
        """Returns JSON values for `Blend.of`."""
        if self.weights is None or self.means is None or self.scales is None:
            return {"features": None, "intercept": None}
        numbers = zip(self.weights.tolist(), self.means.tolist(), self.scales.tolist(), strict=True)
        features = {
            name: {"weight": weight, "mean": mean, "scale": scale}
            for name, (weight, mean, scale) in zip(FEATURES, numbers, strict=True)
        }
        return {"features": features, "intercept": self.intercept}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Blend:
        """Returns the blend of a document.

        Raises
        ------
        ValueError
            If it has other features than this version of the code.
        """
        features = document["features"]
        if features is None:
            return cls()
        if tuple(features) != FEATURES:
            raise ValueError(
                "blend_model was trained with other features than this version of the code has. Materialise "
                "als_evaluation and blend_model again."
            )
        values = [[feature[name] for feature in features.values()] for name in ("weight", "mean", "scale")]
        weights, means, scales = map(np.array, values)
        return cls(weights, means, scales, document["intercept"])


def import_in_background() -> None:
    """Imports scikit-learn, which takes a second, in a thread while Spark works."""
    Thread(target=import_module, args=("sklearn.linear_model",), daemon=True).start()


def fit_blend(features: Floats, relevant: Flags) -> Blend:
    """Returns a blend trained with scikit-learn's LogisticRegression: standardised features, L2 with C = 1.

    Parameters
    ----------
    features
        (c, f) features of the candidates of the training users.
    relevant
        (c,) True if the user interacted with the candidate after the cutoff.

    Returns
    -------
    Blend
        Without weights if all candidates are relevant, or none.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if relevant.all() or not relevant.any():
        return Blend()
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=REGULARISATION, solver="newton-cholesky").fit(scaler.transform(features), relevant)
    return Blend(model.coef_[0].astype(np.float64), scaler.mean_, scaler.scale_, float(model.intercept_[0]))

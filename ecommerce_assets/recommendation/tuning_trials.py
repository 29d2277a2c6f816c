"""What a trial of the tuning is: the parameters that were tried, and how good the model was that they made.

How candidates are chosen and judged stands in tuning.py, what is told of all of them in tuning_document.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.judging import SYSTEMS, Judged
from ecommerce_assets.recommendation.metrics import Floats, ranking_metrics

METRIC, SYSTEM = "ndcg", "published"
"""What is made as large as it gets: the NDCG of the lists that customers would see, fallback and all."""

SEARCHED = ("rank", "regParam", "alpha", "nonnegative")

BUCKETS = 200
"""Of users. Trials are compared on the same users, so their differences are resampled by bucket: the error of an
interval's width is 1 / sqrt(2 · 200), a twentieth."""


@dataclass(frozen=True)
class Scores:
    """How good one model was.

    Attributes
    ----------
    users
        (BUCKETS,) number of users in each bucket.
    sums
        By system, (BUCKETS,) sum of the users' NDCG.
    metrics
        By system, by metric: mean over all users.
    """

    users: Floats
    sums: Mapping[str, Floats]
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def value(self) -> float:
        """What is compared."""
        return self.metrics[SYSTEM][METRIC]

    @classmethod
    def of(cls, found: Judged) -> Scores:
        """From a judgement with `BUCKETS` buckets."""
        weights = found.users.astype(np.float64)
        sums, metrics = {}, {}
        for system in SYSTEMS:
            measured = ranking_metrics(found.hits[system], found.wanted)
            metrics[system] = {name: float(np.average(own, weights=weights)) for name, own in measured.items()}
            sums[system] = _by_bucket(found, weights * measured[METRIC])
        return cls(_by_bucket(found, weights), sums, metrics)


def _by_bucket(found: Judged, values: Floats) -> Floats:
    return np.bincount(found.buckets, values, BUCKETS).astype(np.float64)


@dataclass(frozen=True)
class Trial:
    """One candidate: its scores, or why there are none."""

    number: int
    parameters: AlsParameters
    seconds: float
    scores: Scores | None = None
    error: str | None = None

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that are searched."""
        return {name: value for name, value in self.parameters.as_dict().items() if name in SEARCHED}

    def __str__(self) -> str:
        return f"trial {self.number} ({told(self.params)})"


@dataclass(frozen=True)
class Found:
    """All trials, and the share that each parameter has in what the best have in common (empty: too few trials)."""

    trials: Sequence[Trial]
    importance: Mapping[str, float] = field(default_factory=dict)


def told(params: Mapping[str, Any]) -> str:
    """Parameters in a sentence."""
    constraint = "nonnegative" if params["nonnegative"] else "unconstrained"
    return f"rank {params['rank']}, regParam {params['regParam']:.3g}, alpha {params['alpha']:.3g}, {constraint}"


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest NDCG, the earliest of equal ones; None where none succeeded."""
    return max((t for t in trials if t.scores), key=lambda t: t.scores.value if t.scores else 0.0, default=None)

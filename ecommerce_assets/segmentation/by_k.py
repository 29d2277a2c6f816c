"""Computes the quality of the segmentation for several k, to choose k by. `quality_by_k` is the entry point."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ecommerce_assets.progress import Log, Progress
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, standardised
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.stored_table import StoredTable

MIN_K, MAX_K = 2, 10


@dataclass(frozen=True)
class Quality:
    """Quality of the segmentation with one k.

    Attributes
    ----------
    clusters
        Number of clusters that K-Means found.
    silhouette
        From -1 to 1; None if there are too few different users.
    cost
        Sum of squared distances to the centres, in standardised features.
    reason
        Why there is no silhouette; None if there is one.
    seconds
        Duration of the fit.
    """

    k: int
    clusters: int
    silhouette: float | None
    cost: float
    reason: str | None
    seconds: float


def quality_by_k(
    user_features: StoredTable,
    ks: Iterable[int],
    parameters: SegmentationParameters,
    log: Log,
    engine: Engine = Engine.auto,
) -> list[Quality]:
    """Returns the quality for each k, in ascending order. The users are read and standardised once.

    Parameters
    ----------
    ks
        Numbers of clusters.
    parameters
        Parameters of K-Means; k is ignored.
    log
        Called with progress lines; see `Progress`.
    """
    ks = sorted(ks)
    results: list[Quality] = []
    with standardised(user_features, engine) as users:
        progress = Progress(log, "segmentation_by_k", len(ks), "fit")
        for k in ks:
            start = time.monotonic()
            fit = users.fit(replace(parameters, k=k))
            clusters, silhouette = len(fit.model.centres), fit.silhouette
            reason = None if silhouette is not None else "too few users"
            if clusters < k:
                silhouette, reason = None, f"fewer than {k} different users"
            seconds = round(time.monotonic() - start, 3)
            results.append(Quality(k, clusters, silhouette, fit.cost, reason, seconds))
            text = f"no silhouette ({reason})" if silhouette is None else f"silhouette {silhouette:.3f}"
            progress.step(len(results), f"k = {k}, {text}")
    return results

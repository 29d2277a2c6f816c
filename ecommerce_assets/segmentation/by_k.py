"""How good a segmentation into k clusters would be, for several k: what to look at before changing k.

The same rows, stages and parameters as in pipeline.py, so that the k in use finds what segmentation_model has.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame

from ecommerce_assets.progress import Say, duration
from ecommerce_assets.segmentation.pipeline import (
    SegmentationParameters,
    clustering,
    laid_out,
    scaling,
    silhouette_of,
)

SMALLEST, LARGEST = 2, 10


def quality_by_k(
    user_features: DataFrame, ks: Iterable[int], parameters: SegmentationParameters, say: Say
) -> list[dict[str, Any]]:
    """For each k: k, clusters (found), silhouette, cost (sum of squared distances to the centres), reason, seconds.

    silhouette is None where it says nothing, and `reason` then says why. The users are read and scaled once.

    Parameters
    ----------
    ks
        Numbers of clusters.
    parameters
        Of K-Means; its k is not used.
    say
        Told after each k what was found, what share of the work is done and how long the rest will take.
    """
    from pyspark.ml import Pipeline

    found: list[dict[str, Any]] = []
    todo = sorted(ks)
    with laid_out(user_features) as users:
        scaled = Pipeline(stages=scaling()).fit(users).transform(users).select("features").persist()
        try:
            began = time.monotonic()
            for k in todo:
                started = time.monotonic()
                tried = _try(scaled, replace(parameters, k=k))
                found.append({**tried, "seconds": round(time.monotonic() - started, 3)})
                # The work for one k grows about as k does.
                done = sum(todo[: len(found)]) / sum(todo)
                left = (time.monotonic() - began) * (1 - done) / done
                quality = tried["silhouette"]
                said = f"no silhouette, {tried['reason']}" if quality is None else f"silhouette {quality:.3f}"
                say(f"k = {k}: {said}; {done:.0%} done, about {duration(left)} left.")
        finally:
            scaled.unpersist()
    return found


def _try(scaled: DataFrame, parameters: SegmentationParameters) -> dict[str, Any]:
    model = clustering(parameters).fit(scaled)
    clusters = len(model.clusterCenters())
    quality = silhouette_of(model.transform(scaled))
    reason = None if quality is not None else "there are too few users"
    if clusters < parameters.k:
        quality, reason = None, f"there are fewer than {parameters.k} different users"
    cost = float(model.summary.trainingCost)
    return {"k": parameters.k, "clusters": clusters, "silhouette": quality, "cost": cost, "reason": reason}

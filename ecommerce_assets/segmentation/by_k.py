"""How good a segmentation into k clusters would be, for several k: what to look at before changing k.

The users, the engine and the parameters are those of segmentation_model, so the k in use finds the same clusters.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ecommerce_assets.progress import Say, duration
from ecommerce_assets.segmentation.model import Fit
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, standardised
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.stored_table import StoredTable

SMALLEST, LARGEST = 2, 10


def quality_by_k(
    user_features: StoredTable,
    ks: Iterable[int],
    parameters: SegmentationParameters,
    say: Say,
    engine: Engine = Engine.auto,
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
    found: list[dict[str, Any]] = []
    todo = sorted(ks)
    with standardised(user_features, engine) as users:
        began = time.monotonic()
        for k in todo:
            started = time.monotonic()
            tried = _quality(users.fit(replace(parameters, k=k)))
            found.append({**tried, "seconds": round(time.monotonic() - started, 3)})
            # The work for one k grows about as k does.
            done = sum(todo[: len(found)]) / sum(todo)
            left = (time.monotonic() - began) * (1 - done) / done
            quality = tried["silhouette"]
            said = f"no silhouette, {tried['reason']}" if quality is None else f"silhouette {quality:.3f}"
            say(f"k = {k}: {said}; {done:.0%} done, about {duration(left)} left.")
    return found


def _quality(fit: Fit) -> dict[str, Any]:
    k, clusters, quality = fit.model.parameters.k, len(fit.model.centres), fit.silhouette
    reason = None if quality is not None else "there are too few users"
    if clusters < k:
        quality, reason = None, f"there are fewer than {k} different users"
    return {"k": k, "clusters": clusters, "silhouette": quality, "cost": fit.cost, "reason": reason}

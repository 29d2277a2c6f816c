"""The quality of the segmentation for several k, to choose k by.

The users, the engine and the parameters are those of segmentation_model, so the k in use finds the same clusters.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ecommerce_assets.progress import Log, duration
from ecommerce_assets.segmentation.model import Fit
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, standardised
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.stored_table import StoredTable

SMALLEST, LARGEST = 2, 10


def quality_by_k(
    user_features: StoredTable,
    ks: Iterable[int],
    parameters: SegmentationParameters,
    say: Log,
    engine: Engine = Engine.auto,
) -> list[dict[str, Any]]:
    """Returns k, clusters, silhouette, cost (sum of squared distances to the centres), reason and seconds for each k.

    clusters is the number of clusters that K-Means gave. If the silhouette is None, `reason` says why. The users are
    read and standardised once.

    Parameters
    ----------
    ks
        Numbers of clusters.
    parameters
        Of K-Means; its k is not used.
    say
        Called after each k with the silhouette, the share of the work that is done and the time that is left.
    """
    results: list[dict[str, Any]] = []
    todo = sorted(ks)
    with standardised(user_features, engine) as users:
        began = time.monotonic()
        for k in todo:
            started = time.monotonic()
            tried = _quality(users.fit(replace(parameters, k=k)))
            results.append({**tried, "seconds": round(time.monotonic() - started, 3)})
            # The work for one k grows about as k does.
            done = sum(todo[: len(results)]) / sum(todo)
            left = (time.monotonic() - began) * (1 - done) / done
            quality = tried["silhouette"]
            text = f"no silhouette, {tried['reason']}" if quality is None else f"silhouette {quality:.3f}"
            say(f"k = {k}: {text}; {done:.0%} done, about {duration(left)} left.")
    return results


def _quality(fit: Fit) -> dict[str, Any]:
    k, clusters, quality = fit.model.parameters.k, len(fit.model.centres), fit.silhouette
    reason = None if quality is not None else "there are too few users"
    if clusters < k:
        quality, reason = None, f"there are fewer than {k} different users"
    return {"k": k, "clusters": clusters, "silhouette": quality, "cost": fit.cost, "reason": reason}

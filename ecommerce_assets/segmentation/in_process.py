"""K-Means in this process, for segments that are fitted anew at a cutoff and not published.

`LocalSegmentation.fit` is the entry point. The published segments are Spark's (pipeline.py). scikit-learn's K-Means has
the same parameters and other initial centres, and needs no Spark jobs where Spark's needs twenty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.naming import name_segment
from ecommerce_assets.segmentation.pipeline import SegmentationParameters

Floats = npt.NDArray[np.float64]

STARTS = 3
"""K-Means runs from so many sets of centres, of which the best counts."""


@dataclass(frozen=True)
class LocalSegmentation:
    """A fitted segmentation.

    Attributes
    ----------
    mean, scale
        (f,) of the features; a feature that is constant has scale 0, as in Spark.
    centres
        (k, f) in scaled features.
    names
        (k,) segment names.
    """

    mean: Floats
    scale: Floats
    centres: Floats
    names: npt.NDArray[np.object_]

    @classmethod
    def fit(cls, user_features: pa.Table, parameters: SegmentationParameters) -> LocalSegmentation:
        """Standardises the features of all users, fits K-Means (k-means++ and Lloyd), and names the clusters.

        Parameters
        ----------
        user_features
            `CLUSTERING_FEATURES`; null counts as 0. One user at least.
        """
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        features = _matrix(user_features)
        mean, deviation = features.mean(axis=0), features.std(axis=0, ddof=min(1, len(features) - 1))
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        scaled = (features - mean) * scale
        clusters = min(parameters.k, len(np.unique(scaled, axis=0)))
        kmeans = KMeans(clusters, n_init=STARTS, max_iter=parameters.maxIter, random_state=parameters.seed % 2**32)
        with threadpool_limits(1):  # threads add up in any order, and two fits shall agree
            numbers = kmeans.fit(scaled).labels_
        means = [features[numbers == number].mean(axis=0).tolist() for number in range(clusters)]
        names = [name_segment(dict(zip(CLUSTERING_FEATURES, each, strict=True))) for each in means]
        return cls(mean, scale, kmeans.cluster_centers_, np.array(names, object))

    def segments(self, user_features: pa.Table) -> npt.NDArray[Any]:
        """The name of each user's segment, that of the nearest centre."""
        scaled = (_matrix(user_features) - self.mean) * self.scale
        # Squared distances without the users' own part, which is the same for all centres.
        distances = (self.centres**2).sum(axis=1) - 2 * scaled @ self.centres.T
        return np.asarray(self.names[distances.argmin(axis=1)])


def _matrix(user_features: pa.Table) -> Floats:
    columns = [pc.fill_null(user_features.column(name).cast(pa.float64()), 0.0) for name in CLUSTERING_FEATURES]
    return np.column_stack([column.to_numpy() for column in columns])

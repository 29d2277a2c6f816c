"""The engine `local`: K-Means in this process, with scikit-learn. `LocalUsers.fit` is the entry point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.segmentation.model import Fit, Floats, SegmentationModel, SegmentationParameters, scale_of
from ecommerce_assets.segmentation.naming import name_segment

N_INIT = 5
"""Number of K-Means runs, each with other initial centres; the one with the lowest cost is used."""

NO_USERS = "No users to segment: user_features has no rows. Check that cleaned_events has events."


class LocalUsers:
    """All users with standardised features: mean 0 and sample standard deviation 1; constant features are 0.

    Parameters
    ----------
    user_features
        `user_id` and `CLUSTERING_FEATURES`. The order of the rows does not change the fit. Null counts as 0.

    Raises
    ------
    ValueError
        If there are no users.
    """

    def __init__(self, user_features: pa.Table) -> None:
        if not user_features.num_rows:
            raise ValueError(NO_USERS)
        scaled = feature_matrix(user_features.sort_by("user_id"))
        self._mean, self._std = scaled.mean(axis=0), scaled.std(axis=0, ddof=min(1, len(scaled) - 1))
        self._std[np.ptp(scaled, axis=0) == 0] = 0.0  # because the mean is rounded, it can be above 0
        scaled -= self._mean
        scaled *= scale_of(self._std)
        self._scaled = scaled

    def fit(self, parameters: SegmentationParameters) -> Fit:
        """Returns the best of five runs of Lloyd's algorithm, each from centres that k-means++ draws.

        k-means++: Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding" (SODA 2007), with greedy
        choice among 2 + log k candidates. A run ends when no user changes its cluster, when the squares of the
        distances that the centres move sum to at most 1e-4 times the mean variance of the features, or after `maxIter`
        iterations. If there are fewer than k different users, the number of clusters is the number of different users.
        """
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        clusters = _count_different(self._scaled, parameters.k)
        kmeans = KMeans(clusters, n_init=N_INIT, max_iter=parameters.maxIter, random_state=parameters.seed % 2**32)
        with threadpool_limits(1):  # threads sum in random order, and two fits must agree
            kmeans.fit(self._scaled)
        model = SegmentationModel(self._mean, self._std, kmeans.cluster_centers_, parameters)
        return Fit(model, float(kmeans.inertia_), silhouette(self._scaled, kmeans.labels_))


def feature_matrix(user_features: pa.Table) -> Floats:
    """Returns the features, one row per user; null counts as 0."""
    columns = [pc.fill_null(user_features.column(name).cast(pa.float64()), 0.0) for name in CLUSTERING_FEATURES]
    return np.column_stack([column.to_numpy() for column in columns])


def silhouette(points: Floats, numbers: npt.NDArray[np.integer]) -> float | None:
    """Returns the mean silhouette with squared Euclidean distance, or None if it is undefined; see `Fit`.

    The mean squared distance of x to the points of a cluster is |x|² + mean |y|² - 2 x · mean y, so no distance
    between two points is computed, as in Spark's `ClusteringEvaluator`. The silhouette of a point that is alone in its
    cluster is 0.

    Parameters
    ----------
    points
        (n, f), standardised.
    numbers
        (n,) numbers of their clusters.
    """
    sizes = np.bincount(numbers)
    clusters = np.flatnonzero(sizes)
    if len(clusters) < 2 or len(points) <= len(clusters):
        return None
    squares = np.einsum("ij,ij->i", points, points)
    within, nearest = np.zeros(len(points)), np.full(len(points), np.inf)
    for cluster in clusters:
        inside = numbers == cluster
        size = sizes[cluster]
        distance = squares + squares[inside].mean() - 2 * points @ points[inside].mean(axis=0)
        within[inside] = distance[inside] * size / max(size - 1, 1)  # without the point itself
        nearest = np.where(inside, nearest, np.minimum(nearest, distance))
    larger = np.maximum(within, nearest)
    each = np.divide(nearest - within, larger, out=np.zeros_like(larger), where=larger > 0)
    each[(sizes == 1)[numbers]] = 0.0
    return float(each.mean())


def segment_names(features: Floats, numbers: npt.NDArray[np.intp], clusters: int) -> npt.NDArray[np.object_]:
    """Returns the name of each segment, by the mean features of its users; see `name_segment`."""
    means = [features[numbers == number].mean(axis=0).tolist() for number in range(clusters)]
    return np.array([name_segment(dict(zip(CLUSTERING_FEATURES, each, strict=True))) for each in means], object)


def _count_different(rows: Floats, most: int) -> int:
    """Returns the number of different rows, at most `most`."""
    count = 0
    while len(rows) and count < most:
        rows = rows[(rows != rows[0]).any(axis=1)]
        count += 1
    return count

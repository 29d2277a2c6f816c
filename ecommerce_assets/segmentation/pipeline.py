"""The segmentation model: what it sees of a user, how it is fitted, how good it is, and which user falls where.

What a segment is called is naming.py's business, what sets it apart profile.py's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, USER_FEATURES
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES, name_segment
from ecommerce_assets.segmentation.profile import Segment
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

if TYPE_CHECKING:  # Spark ML takes a second to import, which only a run needs
    from pyspark.ml import PipelineModel
    from pyspark.ml.clustering import KMeans

SEGMENTED_USERS = TableSpec.of(
    *(
        ColumnSpec(c.name, "double", f"{c.description} As the model saw it: 0 for null.", nullable=False)
        if c.name in CLUSTERING_FEATURES
        else c
        for c in USER_FEATURES.columns
    ),
    ColumnSpec("segment_id", "int", "Number of the K-Means cluster, from 0.", nullable=False),
    ColumnSpec("segment", "string", f"Name of the segment: {', '.join(SEGMENT_NAMES)}.", nullable=False),
)

SEGMENTATION_MODEL_PARTS = {
    "StandardScaler.mean": "vector",
    "StandardScaler.std": "vector",
    "KMeans.clusterCenters": "array<vector>",
}
"""What of the fitted model segmented_users is computed from."""

ROWS_PER_PARTITION = 2_000_000


@dataclass(frozen=True)
class SegmentationParameters:
    """Parameters of the K-Means stage, by Spark's names."""

    k: int = 5
    seed: int = 42
    maxIter: int = 20

    def as_dict(self) -> dict[str, Any]:
        """By Spark's names."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SegmentationParameters:
        """From values such as a version's parameters; other names are ignored, missing ones get their default."""
        return cls(**{name: values[name] for name in asdict(cls()) if values.get(name) is not None})

    @classmethod
    def of_model(cls, model: PipelineModel) -> SegmentationParameters:
        """The parameters that a fitted pipeline was made with."""
        kmeans = model.stages[-1]
        return cls(kmeans.getOrDefault("k"), kmeans.getOrDefault("seed"), kmeans.getOrDefault("maxIter"))


def as_seen(user_features: DataFrame) -> DataFrame:
    """The users with the clustering features as doubles, null → 0.0; all other columns as they are."""
    seen = {name: F.coalesce(F.col(name).cast("double"), F.lit(0.0)) for name in CLUSTERING_FEATURES}
    return user_features.withColumns(seen)


def fit_segmentation(
    user_features: DataFrame, parameters: SegmentationParameters, count: int | None = None
) -> PipelineModel:
    """VectorAssembler → StandardScaler (mean 0, standard deviation 1) → KMeans, fitted on all users.

    The rows are laid out by a hash of user_id and sorted, in a number of partitions that depends on the number of users
    alone: k-means|| draws by partition, so a shuffled input would otherwise find other clusters. Two partial sums are
    the same in either order, more are not: from 4 million users on, two fits may differ in the last digit.

    Parameters
    ----------
    count
        Number of users, where it is known.

    Raises
    ------
    ValueError
        If there are no users.
    """
    from pyspark.ml import Pipeline

    with laid_out(user_features, count) as users:
        return Pipeline(stages=[*scaling(), clustering(parameters)]).fit(users)


@contextmanager
def laid_out(user_features: DataFrame, count: int | None = None) -> Iterator[DataFrame]:
    """The users as the model is fitted on them, kept until the end of the block.

    Raises ValueError where there are none.
    """
    users = as_seen(user_features).select("user_id", *CLUSTERING_FEATURES)
    count = users.count() if count is None else count
    if not count:
        raise ValueError("There are no users to segment: user_features has no rows, so no event was accepted.")
    partitions = max(2, math.ceil(count / ROWS_PER_PARTITION))
    fixed = users.repartition(partitions, "user_id").sortWithinPartitions("user_id").persist()
    try:
        yield fixed
    finally:
        fixed.unpersist()


def scaling() -> list[Any]:
    """The stages before K-Means: one vector of all features, each with mean 0 and standard deviation 1."""
    from pyspark.ml.feature import StandardScaler, VectorAssembler

    return [
        VectorAssembler(inputCols=list(CLUSTERING_FEATURES), outputCol="features_raw"),
        StandardScaler(inputCol="features_raw", outputCol="features", withMean=True, withStd=True),
    ]


def clustering(parameters: SegmentationParameters) -> KMeans:
    """The last stage."""
    from pyspark.ml.clustering import KMeans

    # The other solver, block, fails where there are fewer different users than k (Spark 4.3).
    return KMeans(featuresCol="features", predictionCol="segment_id", solver="row", **parameters.as_dict())


def cluster_count(model: PipelineModel) -> int:
    """Number of cluster centres found: fewer than k where there are fewer different users."""
    kmeans: Any = model.stages[-1]
    return len(kmeans.clusterCenters())


def silhouette(model: PipelineModel, user_features: DataFrame) -> float | None:
    """Mean silhouette with squared Euclidean distance (Rousseeuw 1987), -1 to 1.

    None where it says nothing: fewer than two clusters have users, or there are no more users than clusters.
    """
    return silhouette_of(model.transform(as_seen(user_features)))


def silhouette_of(clustered: DataFrame) -> float | None:
    """The same, of users that have their `features` and `segment_id`."""
    from pyspark.ml.evaluation import ClusteringEvaluator

    clustered = clustered.select("features", "segment_id").persist()
    try:
        sizes = [row["count"] for row in clustered.groupBy("segment_id").count().collect()]
        if len(sizes) < 2 or sum(sizes) <= len(sizes):
            return None
        evaluator = ClusteringEvaluator(featuresCol="features", predictionCol="segment_id", metricName="silhouette")
        return float(evaluator.evaluate(clustered))
    finally:
        clustered.unpersist()


def assign_segments(
    model: PipelineModel, user_features: DataFrame, segments: list[Segment] | None = None
) -> tuple[DataFrame, list[Segment]]:
    """Every user with `segment_id` and `segment`, in the columns of `SEGMENTED_USERS`, and the segments by number.

    Parameters
    ----------
    segments
        Those that are known of the model, with their names; None: they are named for these users.
    """
    clustered = model.transform(as_seen(user_features)).drop("features_raw", "features")
    segments = _segments(clustered) if segments is None else segments
    named = F.lit(None).cast("string")
    for segment in segments:
        named = F.when(F.col("segment_id") == segment.segment_id, segment.name).otherwise(named)
    return clustered.withColumn("segment", named), segments


def _segments(clustered: DataFrame) -> list[Segment]:
    """Each segment's size and profile, and its name by them."""
    means = [F.avg(name).alias(name) for name in CLUSTERING_FEATURES]
    variances = [F.var_pop(name).alias(f"variance of {name}") for name in CLUSTERING_FEATURES]
    known = [F.count("*").alias("users"), F.sum("monetary").alias("revenue"), *means, *variances]
    segments = []
    for row in sorted(clustered.groupBy("segment_id").agg(*known).collect(), key=lambda row: row["segment_id"]):
        found = {name: float(row[name]) for name in CLUSTERING_FEATURES}
        spread = {name: float(row[f"variance of {name}"]) for name in CLUSTERING_FEATURES}
        segments.append(
            Segment(row["segment_id"], name_segment(found), row["users"], found, float(row["revenue"]), spread)
        )
    return segments

"""Fits the segmentation model and assigns users to segments.

`fit_segmentation` fits the model, `assign_segments` applies it. Two engines fit the same kind of model (model.py):
`local` (local.py, one machine) and `mllib` (Spark, any cluster).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, USER_FEATURES
from ecommerce_assets.segmentation.local import NO_USERS, LocalUsers
from ecommerce_assets.segmentation.model import ASSEMBLER, KMEANS, SCALER, Fit, Floats, SegmentationModel
from ecommerce_assets.segmentation.model import SegmentationParameters as SegmentationParameters
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES, name_segment
from ecommerce_assets.segmentation.profile import Segment
from ecommerce_assets.spark import engine as engines
from ecommerce_assets.spark.engine import Engine, EngineChoice
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.stored_table import StoredTable

SEGMENTED_USERS = TableSpec.of(
    *(
        ColumnSpec(c.name, "double", f"{c.description} 0 if user_features has null.", nullable=False)
        if c.name in CLUSTERING_FEATURES
        else c
        for c in USER_FEATURES.columns
    ),
    ColumnSpec("segment_id", "int", "Number of the K-Means cluster, from 0.", nullable=False),
    ColumnSpec("segment", "string", f"Name of the segment: {', '.join(SEGMENT_NAMES)}.", nullable=False),
)

ROWS_PER_PARTITION = 2_000_000

BYTES_PER_USER = 500
"""Memory of the local engine per user: features as read, sorted and as a matrix, and two copies in scikit-learn."""


def fill_features(user_features: DataFrame) -> DataFrame:
    """Returns the users with the clustering features as doubles, null → 0.0; the other columns do not change."""
    filled = {name: F.coalesce(F.col(name).cast("double"), F.lit(0.0)) for name in CLUSTERING_FEATURES}
    return user_features.withColumns(filled)


def choose_engine(user_features: StoredTable, engine: Engine = Engine.auto) -> EngineChoice:
    """Returns the engine that is asked for; `auto`: local if Spark runs on this machine and the users fit in memory.

    The estimate for the local engine is 500 bytes per user.
    """

    def estimate() -> tuple[str, int]:
        users = user_features.rows
        return f"{users:,} users", users * BYTES_PER_USER

    return engines.choose_engine(user_features.frame.sparkSession, engine, estimate)


def fit_segmentation(
    user_features: StoredTable, parameters: SegmentationParameters, engine: Engine = Engine.auto
) -> Fit:
    """Returns K-Means with k clusters, fitted to the standardised features of all users (mean 0, standard deviation 1).

    Both engines give the same kind of model. The local one needs no Spark jobs; see `LocalUsers.fit` for its initial
    centres and stopping rule. MLlib starts with k-means|| (Bahmani et al., "Scalable K-Means++", VLDB 2012) and stops
    when no centre moves by more than 1e-4, or after `maxIter` iterations.

    Raises
    ------
    ValueError
        If there are no users.
    """
    with standardised(user_features, engine) as users:
        return users.fit(parameters)


@contextmanager
def standardised(user_features: StoredTable, engine: Engine = Engine.auto) -> Iterator[LocalUsers | MllibUsers]:
    """Yields the standardised users, read once for several fits.

    Raises ValueError if there are no users.
    """
    if choose_engine(user_features, engine).engine == Engine.local:
        yield LocalUsers(user_features.to_arrow("user_id", *CLUSTERING_FEATURES))
        return
    with MllibUsers.of(user_features) as users:
        yield users


@dataclass(frozen=True)
class MllibUsers:
    """All users with their standardised features, for Spark's K-Means: the engine `mllib`.

    Attributes
    ----------
    scaled
        The column `features`, persisted.
    mean, std
        (f,) mean and sample standard deviation of the features.
    """

    scaled: DataFrame
    mean: Floats
    std: Floats

    @classmethod
    @contextmanager
    def of(cls, user_features: StoredTable) -> Iterator[MllibUsers]:
        """Yields the users in a fixed order and partitioning, persisted until the end of the block.

        The rows are partitioned by a hash of user_id and sorted. The number of partitions depends only on the number of
        users: k-means|| draws by partition, so a shuffled input would otherwise give other clusters. The sum over more
        than two partitions depends on their order: above 4 million users, two fits may differ in the last digit.

        Raises ValueError if there are no users.
        """
        from pyspark.ml import Pipeline
        from pyspark.ml.feature import StandardScaler, VectorAssembler

        users, count = fill_features(user_features.frame).select("user_id", *CLUSTERING_FEATURES), user_features.rows
        if not count:
            raise ValueError(NO_USERS)
        partitions = max(2, math.ceil(count / ROWS_PER_PARTITION))
        fixed = users.repartition(partitions, "user_id").sortWithinPartitions("user_id")
        pipeline = Pipeline(stages=[VectorAssembler(**ASSEMBLER), StandardScaler(**SCALER)]).fit(fixed)
        scaler: Any = pipeline.stages[1]
        scaled = pipeline.transform(fixed).select("features").persist()
        try:
            yield cls(scaled, scaler.mean.toArray(), scaler.std.toArray())
        finally:
            scaled.unpersist()

    def fit(self, parameters: SegmentationParameters) -> Fit:
        """Returns the fit of Spark's K-Means; see `fit_segmentation`."""
        from pyspark.ml.clustering import KMeans

        # The other solver, block, fails with fewer different users than k (Spark 4.3).
        kmeans = KMeans(**KMEANS, solver="row", **parameters.as_dict()).fit(self.scaled)
        model = SegmentationModel(self.mean, self.std, np.array(kmeans.clusterCenters()), parameters)
        return Fit(model, float(kmeans.summary.trainingCost), _silhouette(kmeans.transform(self.scaled)))


def _silhouette(clustered: DataFrame) -> float | None:
    """Returns the silhouette of users with `features` and `segment_id`; see `Fit`."""
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
    model: SegmentationModel, user_features: DataFrame, segments: list[Segment] | None = None
) -> tuple[DataFrame, list[Segment]]:
    """Returns every user with the columns of `SEGMENTED_USERS`, and the segments by number.

    Parameters
    ----------
    model
        The fitted model.
    user_features
        Users with the columns of `USER_FEATURES`.
    segments
        Segments of the model with their names; None: computed from these users.
    """
    clustered = model.assign(fill_features(user_features))
    segments = _segments(clustered) if segments is None else segments
    named = F.lit(None).cast("string")
    for segment in segments:
        named = F.when(F.col("segment_id") == segment.segment_id, segment.name).otherwise(named)
    return clustered.withColumn("segment", named), segments


def _segments(clustered: DataFrame) -> list[Segment]:
    """Returns each segment with its size, means and variances, and the name that the means give."""
    means = [F.avg(name).alias(name) for name in CLUSTERING_FEATURES]
    variances = [F.var_pop(name).alias(f"variance of {name}") for name in CLUSTERING_FEATURES]
    viewed = F.bool_or(F.coalesce(F.col("views") > 0, F.lit(True))) if "views" in clustered.columns else F.lit(True)
    sums = [F.count("*").alias("users"), F.sum("monetary").alias("revenue"), viewed.alias("has_views")]
    aggregates = [*sums, *means, *variances]
    segments = []
    for row in sorted(clustered.groupBy("segment_id").agg(*aggregates).collect(), key=lambda row: row["segment_id"]):
        centre = {name: float(row[name]) for name in CLUSTERING_FEATURES}
        spread = {name: float(row[f"variance of {name}"]) for name in CLUSTERING_FEATURES}
        name, revenue = name_segment(centre), float(row["revenue"])
        segments.append(Segment(row["segment_id"], name, row["users"], centre, revenue, spread, row["has_views"]))
    return segments

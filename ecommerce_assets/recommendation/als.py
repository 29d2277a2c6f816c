"""Implicit-feedback ALS: its parameters and its fit. Who is recommended what is recommend.py's business."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.sql import DataFrame

ALS_MODEL_PARTS = {
    "userFactors.id": "int",
    "userFactors.features": "array<float>",
    "itemFactors.id": "int",
    "itemFactors.features": "array<float>",
}
"""What of the fitted model other tables are computed from: folders of the saved model, and their columns."""


@dataclass(frozen=True)
class AlsParameters:
    """Parameters of ALS, by Spark's names."""

    rank: int = 50
    maxIter: int = 15
    regParam: float = 0.1
    alpha: float = 1.0
    nonnegative: bool = True
    seed: int = 42

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_als(interactions: DataFrame, parameters: AlsParameters) -> ALSModel:
    """Factors for every user and product of the interactions.

    Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008): preference 1 for every
    pair, confidence 1 + alpha · rating; the regularisation of each row is scaled by its number of ratings (Zhou et al.,
    ALS-WR, 2008), as in Spark MLlib.

    Parameters
    ----------
    interactions
        `user_idx`, `product_idx` (int), `rating`. The Spark context needs a checkpoint directory: without one the
        lineage of 15 iterations overflows the stack.

    Raises
    ------
    ValueError
        Where there are no interactions.
    """
    spark = interactions.sparkSession
    if interactions.isEmpty():
        raise ValueError("There is nothing to learn from: interaction_data has no rows (no view, cart or purchase).")
    blocks = max(2, spark.sparkContext.defaultParallelism)
    # The order of the ratings in a block is the order in which they are summed: fixed, so that two fits agree.
    fixed = (
        interactions.select("user_idx", "product_idx", "rating")
        .repartition(blocks, "user_idx")
        .sortWithinPartitions("user_idx", "product_idx")
    )
    als = ALS(
        userCol="user_idx",
        itemCol="product_idx",
        ratingCol="rating",
        implicitPrefs=True,
        coldStartStrategy="drop",
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        **parameters.as_dict(),
    )
    return als.fit(fixed)

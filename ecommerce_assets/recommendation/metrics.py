"""Ranking metrics per user and their bootstrap intervals. What is compared with what is evaluation.py's business."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

RANKING_METRICS = ("precision", "recall", "ndcg", "map", "hit_rate")
BOOTSTRAP_ROUNDS = 1000
CONFIDENCE = 0.95
_BUCKETS = 16


def ranking_metrics(lists: DataFrame, relevant: DataFrame, k: int) -> DataFrame:
    """The metrics at k of every list of every user with something relevant.

    With r the number of relevant products and hits those of the list's first k that are relevant:

    - precision: hits / k (Spark's `precisionAt`: a list shorter than k counts as if padded with misses)
    - recall: hits / r
    - ndcg: sum of 1 / log2(rank + 1) over hits, divided by that of the best possible list, which has min(r, k) hits
      (binary relevance, Järvelin and Kekäläinen 2002; Spark's `ndcgAt`)
    - map: sum over hits of the precision at their rank, divided by min(r, k) (Spark's `meanAveragePrecisionAt`)
    - hit_rate: 1 if there is a hit

    Parameters
    ----------
    lists
        `user_id`, `system`, `rank` (from 1), `product_id`.
    relevant
        `user_id`, `product_id`, distinct.
    k
        Length of the list that counts.

    Returns
    -------
    DataFrame
        `user_id`, `system`, then one double per metric. A user without a hit, or without a list, has no row: all its
        metrics are zero.
    """
    hits = lists.where(F.col("rank") <= k).join(relevant, ["user_id", "product_id"])
    so_far = F.row_number().over(Window.partitionBy("user_id", "system").orderBy("rank"))
    scored = (
        hits.withColumn("hits_so_far", so_far)
        .groupBy("user_id", "system")
        .agg(
            F.count("*").alias("hits"),
            F.sum(1 / F.log2(F.col("rank") + 1)).alias("dcg"),
            F.sum(F.col("hits_so_far") / F.col("rank")).alias("precisions"),
        )
    )
    wanted = relevant.groupBy("user_id").agg(F.count("*").alias("r"))
    best = F.least("r", F.lit(k))
    gains = [0.0]
    for rank in range(1, k + 1):
        gains.append(gains[-1] + 1 / math.log2(rank + 1))
    ideal = F.element_at(F.array(*[F.lit(gain) for gain in gains]), best.cast("int") + 1)
    return wanted.join(scored, "user_id").select(
        "user_id",
        "system",
        (F.col("hits") / k).alias("precision"),
        (F.col("hits") / F.col("r")).alias("recall"),
        (F.col("dcg") / ideal).alias("ndcg"),
        (F.col("precisions") / best).alias("map"),
        F.lit(1.0).alias("hit_rate"),
    )


def bootstrap_sums(
    per_user: DataFrame, slice_columns: Sequence[str], values: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Resampled sums of per-user values, by slice, in one pass and without collecting a user.

    The Poisson bootstrap (Hanley and MacGibbon 2006; Chamandy et al. 2012): in each round every user counts a
    Poisson(1) number of times, so that rounds can be summed apart and added up. Users are dealt into buckets by a hash
    of their id and the bucket seeds the draw: the same data gives the same intervals on any cluster.

    Parameters
    ----------
    per_user
        One row per user: `user_id`, a string column for each way of slicing, a double column for each value.

    Returns
    -------
    dict
        By slice, an array of shape (1 + rounds, 1 + len(values)): row 0 holds the plain sums, the others one round
        each; column 0 holds the number of users, the others the sums of the values.
    """
    width, slicing, columns = 1 + len(values), list(slice_columns), list(values)
    bucketed = per_user.withColumn("bucket", F.pmod(F.xxhash64("user_id"), F.lit(_BUCKETS)).cast("int"))

    def resample(table: pa.Table) -> pa.Table:
        table = table.sort_by("user_id")
        rows = np.column_stack([np.ones(table.num_rows), *[table.column(v).to_numpy() for v in columns]])
        rng = np.random.default_rng(int(table.column("bucket")[0].as_py()))
        weights = rng.poisson(1.0, (BOOTSTRAP_ROUNDS, len(rows))).astype(np.float64)
        names, sums = [], []
        for column in slicing:
            slices = np.asarray(table.column(column).to_pylist())
            for name in sorted(set(slices.tolist())):
                own = slices == name
                names.append(name)
                sums.append(np.vstack([rows[own].sum(axis=0), weights[:, own] @ rows[own]]).ravel())
        return pa.table({"slice": names, "sums": pa.array(list(sums), pa.list_(pa.float64()))})

    collected = (
        bucketed.select("user_id", "bucket", *slicing, *columns)
        .groupBy("bucket")
        .applyInArrow(resample, "slice string, sums array<double>")
        .toArrow()
        .to_pylist()
    )
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for row in sorted(collected, key=str):  # in a fixed order, so that the last digit is the same every time
        part = np.asarray(row["sums"]).reshape(1 + BOOTSTRAP_ROUNDS, width)
        sums[row["slice"]] = sums.get(row["slice"], 0.0) + part
    return sums


def mean_and_interval(users: npt.NDArray[np.float64], sums: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean per user with the percentile interval of its bootstrap rounds; element 0 is the data itself."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / users
    rounds = means[1:][np.isfinite(means[1:])]
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(rounds, [tail, 1 - tail]) if len(rounds) else (means[0], means[0])
    return float(means[0]), float(lower), float(upper)


def novelty_per_product(train_pairs: DataFrame) -> DataFrame:
    """`product_id`, `novelty`: -log2 of the share of users who interacted with the product before the cut-off.

    Self-information after Zhou et al. (PNAS 2010) and Vargas and Castells (RecSys 2011): the mean over what is
    recommended is high for a recommender that shows the less known.
    """
    users = train_pairs.select("user_id").distinct().count()
    counted = train_pairs.groupBy("product_id").agg(F.count_distinct("user_id").alias("seen_by"))
    return counted.select("product_id", (-F.log2(F.col("seen_by") / F.lit(max(users, 1)))).alias("novelty"))

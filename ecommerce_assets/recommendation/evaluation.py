"""als_evaluation: does the recommender beat popularity on what its users did next?

Trains on the past, judges on the future, with the same functions that make the published tables. The metrics
themselves stand in metrics.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp, utc
from ecommerce_assets.features.user_features import build_user_features
from ecommerce_assets.recommendation.als import AlsParameters, Engine, choose_engine, fit_als, fit_local
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import WEIGHTS, build_interactions
from ecommerce_assets.recommendation.local_als import predictions
from ecommerce_assets.recommendation.metrics import (
    RANKING_METRICS,
    bootstrap_sums,
    mean_and_interval,
    novelty_per_product,
    ranking_metrics,
)
from ecommerce_assets.recommendation.recommend import ALS_SOURCE, Exclude, recommend
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, assign_segments, fit_segmentation
from ecommerce_assets.storage.column_lineage import made_from
from ecommerce_assets.storage.tables import Column, TableSchema

ALS_EVALUATION = TableSchema.of(
    Column(
        "metric",
        "string",
        "rmse, precision, recall, ndcg, map, hit_rate, coverage, novelty or served.",
        key=True,
        constant=True,
    ),
    Column("k", "int", "Length of the list; null for rmse.", constant=True),
    Column(
        "system",
        "string",
        "als (the model alone), published (with its fallback), popularity, or a difference: als - popularity, "
        "published - popularity.",
        key=True,
        constant=True,
    ),
    Column(
        "slice",
        "string",
        "all; events: none, few (1-4), some (5-19), many (20+) before the cut-off; segment: by the past alone.",
        key=True,
    ),
    Column("value", "double", "Mean over the users of the slice (coverage: share of the catalogue).", nullable=False),
    Column("lower", "double", "Lower end of the bootstrap 95 % interval; null where there is none."),
    Column("upper", "double", "Upper end of the bootstrap 95 % interval; null where there is none."),
    Column("users", "bigint", "Users whom the value is about.", nullable=False),
)

JUDGED_BY = ("event_time", "event_type", "product_id", "category_id", "price", "user_id")
"""Columns of cleaned_events that the recommendations and the segments are made from."""

HOLDOUT_SHARE = 0.2
RMSE_TRAIN_PERCENT = 80
RMSE_SEED = 42
SYSTEMS = ("als", "published", "popularity")
BASELINE = "popularity"
FEW, SOME = 5, 20


@dataclass(frozen=True)
class Evaluation:
    """The rows of the table, in its columns' order, and what else was found."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def frame(self, events: DataFrame) -> DataFrame:
        """The table; `events` are those that were judged by."""
        types = ", ".join(f"`{c.name}` {c.type}" for c in ALS_EVALUATION.columns)
        made = events.sparkSession.createDataFrame(self.rows, types)
        judged_by = [(events, name) for name in JUDGED_BY]
        return made_from(made, {c.name: judged_by for c in ALS_EVALUATION.columns if not c.constant})


def evaluate(
    events: DataFrame,
    als: AlsParameters,
    segmentation: SegmentationParameters,
    exclude: Exclude,
    k: int,
    engine: Engine = Engine.auto,
) -> Evaluation:
    """rmse on a random split, and the ranking metrics on a temporal holdout.

    Parameters
    ----------
    events
        cleaned_events.
    als, segmentation
        Parameters of the published models; both are fitted anew on the past alone.
    exclude, k
        As in the published recommendations.
    engine
        What fitted the published model.
    """
    error, error_facts = rmse(events, als, engine)
    ranking, ranking_facts = holdout(events, als, segmentation, exclude, k, engine)
    return Evaluation(error + ranking, {**error_facts, **ranking_facts})


def rmse(
    events: DataFrame, parameters: AlsParameters, engine: Engine = Engine.auto
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Root mean squared error of the prediction against `rating` on a fifth of the pairs, after training on the rest.

    Kept because people compare it over time: what implicit ALS predicts is a preference near 0 to 1, the rating goes up
    to 10. Pairs whose user or product the training part lacks are left out and counted.
    """
    users, products = build_index(events, "user_id", "user_idx"), build_index(events, "product_id", "product_idx")
    pairs = build_interactions(events, users, products).join(users, "user_idx").join(products, "product_idx")
    draw = F.pmod(F.xxhash64("user_id", "product_id", F.lit(RMSE_SEED)), F.lit(100))
    split = pairs.select("user_idx", "product_idx", "rating", (draw < RMSE_TRAIN_PERCENT).alias("train")).persist()
    try:
        chosen = choose_engine(split, parameters, engine).engine
        measured = _rmse_local(split, parameters) if chosen == Engine.local else _rmse_mllib(split, parameters)
    finally:
        split.unpersist()
    known, left_out, known_users, error = measured
    facts = {"rmse": error, "rmse_pairs": known, "rmse_pairs_left_out": left_out}
    return [("rmse", None, "als", "all", error, None, None, known_users)] if error is not None else [], facts


def _rmse_local(split: DataFrame, parameters: AlsParameters) -> tuple[int, int, int, float | None]:
    """Known pairs, those left out, users of the known ones, and the error: in one job that collects the pairs."""
    columns = [F.col(name).cast("int") for name in ("user_idx", "product_idx")]
    table: pa.Table = split.select(*columns, F.col("rating").cast("float"), "train").toArrow()
    train, test = table.filter(table.column("train")), table.filter(pc.invert(table.column("train")))
    if not train.num_rows or not test.num_rows:
        return 0, test.num_rows, 0, None
    users, products = fit_local(train, parameters)
    user_idx, product_idx, rating = (test.column(i).to_numpy() for i in range(3))
    known, predicted = predictions(users, products, user_idx, product_idx)
    if not known.any():
        return 0, len(known), 0, None
    error = float(np.sqrt(np.mean((rating[known].astype(np.float64) - predicted) ** 2)))
    return int(known.sum()), int((~known).sum()), len(np.unique(user_idx[known])), error


def _rmse_mllib(split: DataFrame, parameters: AlsParameters) -> tuple[int, int, int, float | None]:
    train, test = split.where("train"), split.where("not train")
    held_out = test.count()
    if not held_out or train.isEmpty():
        return 0, held_out, 0, None
    squared = F.pow(F.col("rating") - F.col("prediction"), 2)
    predicted = fit_als(train, parameters, Engine.mllib).transform(test)
    known, users, mean = predicted.agg(F.count("*"), F.count_distinct("user_idx"), F.avg(squared)).collect()[0]
    return known, held_out - known, users, math.sqrt(mean) if known else None


def holdout_cutoff(events: DataFrame, share: float = HOLDOUT_SHARE) -> datetime | None:
    """The earliest second from which on at most `share` of the events lie; None where that would leave none.

    Found exactly by two small counts (by day, then by second of one day) instead of a sort of all events.
    """
    by_day = events.groupBy(F.to_date("event_time").alias("at")).count().collect()
    total = sum(row["count"] for row in by_day)
    later = 0
    for row in sorted(by_day, key=lambda r: r["at"], reverse=True):
        if later + row["count"] > share * total:
            crowded = row["at"]
            break
        later += row["count"]
    else:
        return None
    second = F.unix_seconds("event_time")
    in_day = events.where(F.to_date("event_time") == F.lit(crowded)).groupBy(second.alias("at")).count().collect()
    # The first second that no longer fits lies in the training part; the holdout begins with the next one.
    for row in sorted(in_day, key=lambda r: r["at"], reverse=True):
        if later + row["count"] > share * total:
            return utc(row["at"] * 1_000_000) + timedelta(seconds=1) if later else None
        later += row["count"]
    return None


def relevant_products(train: DataFrame, future: DataFrame, exclude: Exclude) -> DataFrame:
    """`user_id`, `product_id`: what each user viewed, put in the cart or bought afterwards, less what is excluded."""
    touched = F.col("event_type").isin(*WEIGHTS)
    relevant = future.where(touched).select("user_id", "product_id").distinct()
    if exclude == Exclude.none:
        return relevant
    barred = train.where(F.col("event_type") == "purchase" if exclude == Exclude.purchased else touched)
    return relevant.join(barred.select("user_id", "product_id").distinct(), ["user_id", "product_id"], "left_anti")


def holdout(
    events: DataFrame,
    als: AlsParameters,
    segmentation: SegmentationParameters,
    exclude: Exclude,
    k: int,
    engine: Engine = Engine.auto,
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Ranking metrics on the last fifth of the events, for all users who then did something that can be recommended."""
    cutoff = holdout_cutoff(events)
    if cutoff is None:
        return [], {"holdout": f"none: the last second alone holds more than {HOLDOUT_SHARE:.0%} of the events"}
    train = events.where(F.col("event_time") < timestamp(cutoff))
    future = events.where(F.col("event_time") >= timestamp(cutoff))
    relevant = relevant_products(train, future, exclude).persist()
    pairs = train.where(F.col("event_type").isin(*WEIGHTS))
    facts: dict[str, Any] = {"cutoff": cutoff.isoformat(), "holdout_users": 0}
    users = relevant.select("user_id").distinct()
    facts["holdout_users"] = users.count()
    if not facts["holdout_users"] or pairs.isEmpty():
        return [], {**facts, "holdout": "none: nobody did anything after the cut-off that could be recommended"}
    user_index = build_index(train, "user_id", "user_idx").persist()
    product_index = build_index(train, "product_id", "product_idx").persist()
    interactions = build_interactions(train, user_index, product_index).persist()
    past = build_user_features(train).persist()  # three jobs of the segmentation read it
    segmented, _ = assign_segments(fit_segmentation(past, segmentation), past)
    described = users.join(segmented.select("user_id", "segment", "total_events"), "user_id", "left").persist()
    model = fit_als(interactions, als, engine)
    inputs = (described.select("user_id", "segment"), user_index, product_index, interactions)
    published = recommend(*inputs, model, exclude, k).persist()
    # Popularity alone knows no segments.
    popular = recommend(described.select("user_id"), *inputs[1:], None, exclude, k).persist()
    lists = (
        published.where(F.col("source") == ALS_SOURCE)
        .withColumn("system", F.lit("als"))
        .unionByName(published.withColumn("system", F.lit("published")))
        .unionByName(popular.withColumn("system", F.lit("popularity")))
    )
    rows = _ranking_rows(lists, relevant, described, k)
    rows += _catalogue_rows(lists, product_index, pairs, facts["holdout_users"], k)
    facts["metrics"] = _overall(rows)
    facts["users_per_source"] = {
        row["source"]: row["users"]
        for row in published.groupBy("source").agg(F.count_distinct("user_id").alias("users")).collect()
    }
    for frame in (relevant, user_index, product_index, interactions, past, described, published, popular):
        frame.unpersist()
    return rows, facts


def _ranking_rows(lists: DataFrame, relevant: DataFrame, described: DataFrame, k: int) -> list[tuple[Any, ...]]:
    events = F.coalesce("total_events", F.lit(0))
    activity = F.when(events == 0, "events: none").when(events < FEW, "events: few").when(events < SOME, "events: some")
    slices = described.select(
        "user_id",
        F.lit("all").alias("all"),
        activity.otherwise("events: many").alias("activity"),
        F.concat(F.lit("segment: "), F.coalesce("segment", F.lit("none"))).alias("segment"),
    )
    found = ranking_metrics(lists, relevant, k)
    wide = found.groupBy("user_id").pivot("system", list(SYSTEMS)).agg(*[F.first(m).alias(m) for m in RANKING_METRICS])
    values = [f"{system}_{metric}" for system in SYSTEMS for metric in RANKING_METRICS]
    per_user = slices.join(wide, "user_id", "left").fillna(0.0, values)
    rows = []
    for name, sums in sorted(bootstrap_sums(per_user, ("all", "activity", "segment"), values).items()):
        rows += _slice_rows(name, sums, values, k)
    return rows


def _slice_rows(name: str, sums: np.ndarray[Any, Any], values: list[str], k: int) -> list[tuple[Any, ...]]:
    users, column = sums[:, 0], {value: sums[:, i + 1] for i, value in enumerate(values)}
    rows = []
    for metric in RANKING_METRICS:
        baseline = column[f"{BASELINE}_{metric}"]
        compared = {system: column[f"{system}_{metric}"] for system in SYSTEMS}
        compared |= {f"{s} - {BASELINE}": compared[s] - baseline for s in SYSTEMS if s != BASELINE}
        for system, summed in compared.items():
            rows.append((metric, k, system, name, *mean_and_interval(users, summed), int(users[0])))
    return rows


def _overall(rows: list[tuple[Any, ...]]) -> dict[str, dict[str, list[float | None]]]:
    """Value and interval of each metric and system over all users: what the training metadata repeats."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for metric, _, system, part, value, lower, upper, _ in rows:
        if part == "all":
            found.setdefault(metric, {})[system] = [value, lower, upper]
    return found


def _catalogue_rows(
    lists: DataFrame, product_index: DataFrame, pairs: DataFrame, users: int, k: int
) -> list[tuple[Any, ...]]:
    """Catalogue coverage (share of products shown to anyone), novelty of what is shown, share of users served."""
    products = product_index.count()
    shown = (
        lists.join(novelty_per_product(pairs), "product_id", "left")
        .groupBy("system")
        .agg(
            F.count_distinct("product_id").alias("shown"),
            F.count_distinct("user_id").alias("served"),
            F.avg("novelty").alias("novelty"),
        )
    )
    by_system = {row["system"]: row for row in shown.collect()}
    rows: list[tuple[Any, ...]] = []
    for system in SYSTEMS:
        found = by_system.get(system)
        rows.append(("coverage", k, system, "all", found["shown"] / products if found else 0.0, None, None, users))
        rows.append(("served", k, system, "all", found["served"] / users if found else 0.0, None, None, users))
        if found and found["novelty"] is not None:
            rows.append(("novelty", k, system, "all", found["novelty"], None, None, found["served"]))
    return rows

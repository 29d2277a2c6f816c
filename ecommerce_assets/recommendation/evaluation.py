"""als_evaluation: does the recommender beat popularity on what its users did next?

Trains on the past, judges on the future, with the same features, segments, engines and lists as the published tables.
What is offered and what of it was relevant is judging.py, the metrics themselves stand in metrics.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp, utc
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, build_user_features
from ecommerce_assets.recommendation.als import AlsParameters, Engine, choose_engine, fit_als, fit_local
from ecommerce_assets.recommendation.fallback import PopularityList, build_fallback
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import WEIGHTS, rating_of
from ecommerce_assets.recommendation.judging import BASELINE, SYSTEMS, Judged, judge
from ecommerce_assets.recommendation.lists import Recommender
from ecommerce_assets.recommendation.local_als import predictions
from ecommerce_assets.recommendation.metrics import (
    RANKING_METRICS,
    bootstrap_sums,
    mean_and_interval,
    novelty,
    ranking_metrics,
)
from ecommerce_assets.recommendation.recommend import Exclude, is_excluded, item_factors, products_of
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
NO_HOLDOUT = f"none: the last second alone holds more than {HOLDOUT_SHARE:.0%} of the events"
RMSE_TRAIN_PERCENT = 80
RMSE_SEED = 42


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
    cutoff = holdout_cutoff(events)
    with judged_pairs(events, cutoff) as pairs:
        error, error_facts = rmse(pairs, als, engine)
        if cutoff is None:
            return Evaluation(error, {**error_facts, "holdout": NO_HOLDOUT})
        past = events.where(F.col("event_time") < timestamp(cutoff))
        ranking, ranking_facts = holdout(pairs, past, als, segmentation, exclude, k, engine)
    return Evaluation(error + ranking, {**error_facts, "cutoff": cutoff.isoformat(), **ranking_facts})


@dataclass(frozen=True)
class Pairs:
    """What users did with products before the cut-off and after it; the frames are persisted.

    Attributes
    ----------
    of_both
        One row per user and product with any event: `user_idx`, `product_idx`; `rating` and `past_rating` (null where
        there is no view, cart or purchase, at all or before the cut-off); `purchases` before the cut-off; `afterwards`:
        whether there is a view, cart or purchase after it; `known`: whether the product occurs before it; `train`:
        whether the rmse is trained with it.
    users, products
        `user_id`, `user_idx`, `events`, `past_events`, and the same of products.
    """

    of_both: DataFrame
    users: DataFrame
    products: DataFrame

    @property
    def past(self) -> DataFrame:
        """interaction_data as it was at the cut-off: the columns that the recommendations are made from."""
        known = self.of_both.where("past_rating is not null")
        return known.select("user_idx", "product_idx", F.col("past_rating").alias("rating"), "purchases")


@contextmanager
def judged_pairs(events: DataFrame, cutoff: datetime | None) -> Iterator[Pairs]:
    """All that is judged, from one reading of the events."""
    past = F.col("event_time") < timestamp(cutoff) if cutoff else F.lit(True)
    touched = F.col("event_type").isin(*WEIGHTS)
    draw = F.pmod(F.xxhash64("user_id", "product_id", F.lit(RMSE_SEED)), F.lit(100))
    # A user's events meet in one task, as build_interactions has them.
    by_user = events.select("user_id", "product_id", "event_type", past.alias("past")).repartition("user_id")
    counted = by_user.groupBy("user_id", "product_id").agg(
        rating_of().alias("rating"),
        rating_of(F.col("past")).alias("past_rating"),
        F.count_if(F.col("past") & (F.col("event_type") == "purchase")).alias("purchases"),
        F.count("*").alias("events"),
        F.count_if("past").alias("past_events"),
        F.coalesce(F.bool_or(~F.col("past") & touched), F.lit(False)).alias("afterwards"),
    )
    with persisted(counted) as counted:
        sums = {"count": F.sum("events"), "past_events": F.sum("past_events")}
        with (
            persisted(build_index(counted, "user_id", "user_idx", **sums)) as users,
            persisted(build_index(counted, "product_id", "product_idx", **sums)) as products,
        ):
            known = (F.col("past_events") > 0).alias("known")
            numbered = (
                counted.drop("events", "past_events")
                .join(users.select("user_id", "user_idx"), "user_id")
                .join(F.broadcast(products.select("product_id", "product_idx", known)), "product_id")
                .withColumn("train", draw < RMSE_TRAIN_PERCENT)
            )
            with persisted(numbered.drop("user_id", "product_id")) as of_both:
                of_both.count()
                counted.unpersist()  # it is all in there: two copies would stand beside the models
                yield Pairs(of_both, users, products)


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, kept from its first use to the end of the block."""
    kept = frame.persist()
    try:
        yield kept
    finally:
        kept.unpersist()


def rmse(
    pairs: Pairs, parameters: AlsParameters, engine: Engine = Engine.auto
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Root mean squared error of the prediction against `rating` on a fifth of the pairs, after training on the rest.

    Kept because people compare it over time: what implicit ALS predicts is a preference near 0 to 1, the rating goes up
    to 10. Pairs whose user or product the training part lacks are left out and counted.
    """
    split = pairs.of_both.where("rating is not null").select("user_idx", "product_idx", "rating", "train")
    chosen = choose_engine(split, parameters, engine).engine
    measured = _rmse_local(split, parameters) if chosen == Engine.local else _rmse_mllib(split, parameters)
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


def is_relevant(exclude: Exclude) -> SparkColumn:
    """Of a judged pair: viewed, put in the cart or bought after the cut-off, and not excluded by what was before."""
    return F.col("afterwards") & ~is_barred(exclude)


def is_barred(exclude: Exclude) -> SparkColumn:
    """Of a judged pair: excluded by what was before the cut-off."""
    return F.col("past_rating").isNotNull() & is_excluded(exclude)


def holdout(
    pairs: Pairs,
    past: DataFrame,
    als: AlsParameters,
    segmentation: SegmentationParameters,
    exclude: Exclude,
    k: int,
    engine: Engine = Engine.auto,
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Ranking metrics for all users who did something after the cut-off that could have been recommended.

    Parameters
    ----------
    past
        The events before the cut-off.
    """

    def listed(condition: SparkColumn) -> SparkColumn:
        return F.collect_list(F.when(condition, F.col("product_idx")))

    relevant = is_relevant(exclude)
    wanted = F.count_if(relevant).cast("int")
    per_user = (
        pairs.of_both.groupBy("user_idx")
        .agg(
            wanted.alias("wanted"),
            listed(relevant & F.col("known")).alias("relevant"),
            listed(is_barred(exclude)).alias("excluded"),
        )
        .where("wanted > 0")
    )
    interactions = pairs.past
    with persisted(per_user) as judged:
        facts: dict[str, Any] = {"holdout_users": judged.count()}
        if not facts["holdout_users"] or interactions.isEmpty():
            return [], {**facts, "holdout": "none: nobody did anything after the cut-off that could be recommended"}
        # Only what is used: Spark then leaves out the other columns, and half of the work, of the features.
        features = build_user_features(past).select("user_id", "total_events", *CLUSTERING_FEATURES)
        with persisted(features) as features:
            segmented, _ = assign_segments(fit_segmentation(features, segmentation), features)
            described = segmented.select("user_id", "segment", "total_events")
            segments = described.join(pairs.users.select("user_id", "user_idx"), "user_id").drop("user_id")
            model = fit_als(interactions, als, engine)
            products = products_of(pairs.products.where("past_events > 0"))
            with persisted(segments) as segments:
                fallback = build_fallback(interactions, segments, products.position_of, len(products.ids))
                recommender = Recommender(item_factors(model, products), fallback, k)
                asked = judged.join(segments, "user_idx", "left").join(
                    model.userFactors.withColumnRenamed("id", "user_idx"), "user_idx", "left"
                )
                found = judge(asked, products, recommender)
    rows = _ranking_rows(found, k)
    rows += _catalogue_rows(found, fallback.overall, k)
    facts["metrics"] = _overall(rows)
    facts["users_per_source"] = {source: int(found.users[own > 0].sum()) for source, own in found.from_source.items()}
    return rows, facts


def _ranking_rows(found: Judged, k: int) -> list[tuple[Any, ...]]:
    columns: dict[str, Any] = {}
    for system in SYSTEMS:
        metrics = ranking_metrics(found.hits[system], found.wanted)
        columns |= {f"{system}_{metric}": values for metric, values in metrics.items()}
    sums = bootstrap_sums(found.users, found.slices, np.column_stack(list(columns.values())))
    rows = []
    for name in sorted(sums):
        rows += _slice_rows(name, sums[name], list(columns), k)
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


def _catalogue_rows(found: Judged, popularity: PopularityList, k: int) -> list[tuple[Any, ...]]:
    """Catalogue coverage (share of products shown to anyone), novelty of what is shown, share of users served."""
    users, products = int(found.users.sum()), len(popularity.positions)
    novelty_of = np.empty(products)
    novelty_of[popularity.positions] = novelty(popularity.shares)
    rows: list[tuple[Any, ...]] = []
    for system in SYSTEMS:
        shown = found.shown[system]
        served = int(found.users[found.lengths[system] > 0].sum())
        rows.append(("coverage", k, system, "all", float(np.count_nonzero(shown) / products), None, None, users))
        rows.append(("served", k, system, "all", served / users, None, None, users))
        told = (shown > 0) & np.isfinite(novelty_of)
        if told.any():
            mean = float(np.average(novelty_of[told], weights=shown[told]))
            rows.append(("novelty", k, system, "all", mean, None, None, served))
    return rows

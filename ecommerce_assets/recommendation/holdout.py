"""The temporal holdout: what users did before a cutoff, which is trained on, and after it, which lists are scored by.

`prepare` is the entry point. It makes two holdouts from one reading of the events: the `outer` one, which scores, and
the `inner` one before it, which trains the blend.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp, utc
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, build_user_features
from ecommerce_assets.recommendation.fitting import history_entry
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import WEIGHTS, rating_of
from ecommerce_assets.recommendation.scores import BUCKETS
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, assign_segments, fit_segmentation

HOLDOUT_SHARE = 0.2
RMSE_TRAIN_PERCENT = 80
RMSE_SEED = 42


@dataclass(frozen=True)
class Holdout:
    """What a model is trained on and scored with; the frames are persisted.

    Attributes
    ----------
    users
        Users with an interaction after the cutoff: `user_idx`, `bucket` (see `BUCKETS`), `history` (as `users_of` reads
        it), `segment`, `total_events` (both by the past alone, null without one), and `relevant`: `product_idx` of the
        products that the user interacted with after the cutoff, whether or not they are excluded.
    pairs
        interaction_data as it was at the cutoff, the user's `bucket`, and `relevant`: whether the user interacted with
        the product after it; without a rating where the user did not before it.
    interactions
        interaction_data as it was at the cutoff.
    size
        Number of them.
    segments
        `user_idx`, `segment`, `total_events`, by the past alone.
    products
        `product_id`, `product_idx` of the products with an event before the cutoff.
    """

    users: DataFrame
    pairs: DataFrame
    size: int
    segments: DataFrame
    products: DataFrame

    @property
    def interactions(self) -> DataFrame:
        return self.pairs.where("rating is not null").drop("relevant", "bucket")


@dataclass(frozen=True)
class Prepared:
    """The holdouts, and the pairs for the rmse.

    Attributes
    ----------
    pairs
        `user_idx`, `product_idx`, `rating`, and `train`: whether the rmse is trained with the pair. Persisted.
    outer
        None where there is no cutoff, or nothing on one of its sides.
    inner
        None where there is none, or it was not asked for.
    """

    pairs: DataFrame
    outer: Holdout | None
    inner: Holdout | None


@contextmanager
def prepare(
    events: DataFrame,
    cutoff: datetime | None,
    inner_cutoff: datetime | None,
    segmentation: SegmentationParameters,
) -> Iterator[Prepared]:
    """The holdouts of these events; the inner one is between the two cutoffs.

    Parameters
    ----------
    events
        cleaned_events.
    segmentation
        Parameters of the segments, which are fitted on what is before the outer cutoff.
    """
    cutoffs = {name: at for name, at in (("outer", cutoff), ("inner", inner_cutoff)) if at is not None}
    with ExitStack() as stack:

        def kept(frame: DataFrame) -> DataFrame:
            return stack.enter_context(persisted(frame))

        counted = events_by_pair(events, cutoffs).persist()
        sums = {f"{name}_events": F.sum(f"{name}_events") for name in cutoffs}
        users, products = (
            kept(build_index(counted, f"{what}_id", f"{what}_idx", count=F.sum("events"), **sums))
            for what in ("user", "product")
        )
        draw = F.pmod(F.xxhash64("user_id", "product_id", F.lit(RMSE_SEED)), F.lit(100))
        pairs = kept(
            counted.drop("events", *sums)
            .join(users.select("user_id", "user_idx"), "user_id")
            .join(F.broadcast(products.select("product_id", "product_idx")), "product_id")
            .withColumn("train", draw < RMSE_TRAIN_PERCENT)
            .withColumn("bucket", F.pmod(F.xxhash64("user_id"), F.lit(BUCKETS)).cast("int"))
            .drop("user_id", "product_id")
        )
        found = pairs.agg(
            F.count("*"),
            *(F.count(f"{name}_rating").alias(f"{name} past") for name in cutoffs),
            *(F.count_if(f"{name}_relevant").alias(f"{name} relevant") for name in cutoffs),
        ).collect()[0]
        counted.unpersist()  # it is all in the pairs: two copies would be in memory beside the models
        holdouts: dict[str, Holdout] = {}
        model, known_segments = None, None
        for name, at in cutoffs.items():
            is_holdout = F.col(f"{name}_relevant")
            if not (found[f"{name} past"] and found[f"{name} relevant"]):
                break
            past = events.where(F.col("event_time") < timestamp(at))
            # Only what is used: Spark then leaves out the other columns, and half of the work, of the features.
            features = kept(build_user_features(past).select("user_id", "total_events", *CLUSTERING_FEATURES))
            model = model or fit_segmentation(features, segmentation)
            segmented, known_segments = assign_segments(model, features, known_segments)
            segments = kept(
                segmented.select("user_id", "segment", "total_events")
                .join(users.select("user_id", "user_idx"), "user_id")
                .drop("user_id")
            )
            per_user = (
                pairs.groupBy("user_idx", "bucket")
                .agg(
                    F.collect_list(F.when(is_holdout, F.col("product_idx"))).alias("relevant"),
                    F.collect_list(F.when(F.col(f"{name}_rating").isNotNull(), history_entry(f"{name}_"))).alias(
                        "history"
                    ),
                )
                .where(F.size("relevant") > 0)
                .join(segments, "user_idx", "left")
            )
            known = products.where(F.col(f"{name}_events") > 0).select("product_id", "product_idx")
            holdouts[name] = Holdout(kept(per_user), _pairs_of(pairs, name), found[f"{name} past"], segments, known)
        rated = pairs.where("rating is not null").select("user_idx", "product_idx", "rating", "train")
        yield Prepared(rated, holdouts.get("outer"), holdouts.get("inner"))


def events_by_pair(events: DataFrame, cutoffs: dict[str, datetime]) -> DataFrame:
    """One row per user and product with any event.

    Returns
    -------
    DataFrame
        `user_id`, `product_id`, `events`, `rating` (null without a view, cart or purchase); and for each cutoff by its
        name, of the events before it: `…_rating`, `…_interaction_count`, `…_purchases`, `…_last_interaction_at`,
        `…_events`; and `…_relevant`: whether there is an interaction from it on and before the next cutoff.
    """
    touched, at = F.col("event_type").isin(*WEIGHTS), F.col("event_time")
    # A user's events meet in one task, as build_interactions has them.
    by_user = events.select("user_id", "product_id", "event_type", "event_time").repartition("user_id")
    aggregates = [rating_of().alias("rating"), F.count("*").alias("events")]
    end: SparkColumn = F.lit(True)
    for name, cutoff in sorted(cutoffs.items(), key=lambda item: item[1], reverse=True):
        past = at < timestamp(cutoff)
        aggregates += [
            rating_of(past).alias(f"{name}_rating"),
            F.count_if(past & touched).alias(f"{name}_interaction_count"),
            F.count_if(past & (F.col("event_type") == "purchase")).alias(f"{name}_purchases"),
            F.max(F.when(past & touched, at)).alias(f"{name}_last_interaction_at"),
            F.count_if(past).alias(f"{name}_events"),
            F.coalesce(F.bool_or(~past & touched & end), F.lit(False)).alias(f"{name}_relevant"),
        ]
        end = past
    return by_user.groupBy("user_id", "product_id").agg(*aggregates)


def _pairs_of(pairs: DataFrame, name: str) -> DataFrame:
    """The pairs of the holdout at the cutoff of this name."""
    columns = ("rating", "interaction_count", "purchases", "last_interaction_at", "relevant")
    of_cutoff = [F.col(f"{name}_{column}").alias(column) for column in columns]
    return pairs.select("user_idx", "product_idx", "bucket", *of_cutoff).where("rating is not null or relevant")


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, kept from its first use to the end of the block."""
    kept = frame.persist()
    try:
        yield kept
    finally:
        kept.unpersist()


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

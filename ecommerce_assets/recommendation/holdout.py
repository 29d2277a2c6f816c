"""The temporal holdout: the past that is trained on, and the future that the lists are judged by.

What is offered and what of it was relevant is judging.py; what is made of it stands in evaluation.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp, utc
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, build_user_features
from ecommerce_assets.recommendation.fallback import Fallback, build_fallback
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import WEIGHTS, rating_of
from ecommerce_assets.recommendation.judging import Judged, judge
from ecommerce_assets.recommendation.lists import Products, Recommender
from ecommerce_assets.recommendation.recommend import Exclude, is_excluded, item_factors, products_of
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, assign_segments, fit_segmentation

if TYPE_CHECKING:
    from pyspark.ml.recommendation import ALSModel

HOLDOUT_SHARE = 0.2
RMSE_TRAIN_PERCENT = 80
RMSE_SEED = 42


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


@dataclass(frozen=True)
class Holdout:
    """All that a model is judged with, and that does not depend on the model; the frames are persisted.

    Attributes
    ----------
    users
        Those who did something after the cut-off that could have been recommended: `user_idx`, `wanted`, `relevant`,
        `excluded`, as `judge` wants them.
    segments
        `user_idx`, `segment`, `total_events`, by the past alone.
    interactions
        interaction_data as it was at the cut-off.
    """

    users: DataFrame
    user_count: int
    segments: DataFrame
    interactions: DataFrame
    products: Products
    fallback: Fallback

    def judge(self, model: ALSModel, k: int, buckets: int | None = None) -> Judged:
        """The lists of a model that was fitted on `interactions`, beside popularity.

        With `buckets`, users are told apart by that many: a user is in the same one whichever model is judged.
        """
        recommender = Recommender(item_factors(model, self.products), self.fallback, k)
        factors = model.userFactors.withColumnRenamed("id", "user_idx")
        asked = self.users.join(self.segments, "user_idx", "left").join(factors, "user_idx", "left")
        if buckets is not None:
            asked = asked.withColumn("bucket", F.pmod(F.xxhash64("user_idx"), F.lit(buckets)).cast("int"))
        return judge(asked, self.products, recommender)


@contextmanager
def prepared_holdout(
    pairs: Pairs, past: DataFrame, segmentation: SegmentationParameters, exclude: Exclude
) -> Iterator[Holdout | None]:
    """The holdout; None where nobody did anything after the cut-off that could be recommended, or anything before it.

    Parameters
    ----------
    past
        The events before the cut-off.
    segmentation
        Parameters of the segments, which are fitted anew on the past.
    exclude
        As in the published recommendations.
    """

    def listed(condition: SparkColumn) -> SparkColumn:
        return F.collect_list(F.when(condition, F.col("product_idx")))

    relevant, barred = is_relevant(exclude), is_barred(exclude)
    per_user = (
        pairs.of_both.where(relevant | barred)  # most pairs are neither, and lists are slow to make
        .groupBy("user_idx")
        .agg(
            F.count_if(relevant).cast("int").alias("wanted"),
            listed(relevant & F.col("known")).alias("relevant"),
            listed(barred).alias("excluded"),
        )
        .where("wanted > 0")
    )
    interactions = pairs.past
    with persisted(per_user) as users:
        count = users.count()
        if not count or interactions.isEmpty():
            yield None
            return
        # Only what is used: Spark then leaves out the other columns, and half of the work, of the features.
        features = build_user_features(past).select("user_id", "total_events", *CLUSTERING_FEATURES)
        with persisted(features) as features:
            segmented, _ = assign_segments(fit_segmentation(features, segmentation), features)
            described = segmented.select("user_id", "segment", "total_events")
            segments = described.join(pairs.users.select("user_id", "user_idx"), "user_id").drop("user_id")
            with persisted(segments) as segments:
                products = products_of(pairs.products.where("past_events > 0"))
                fallback = build_fallback(interactions, segments, products.position_of, len(products.ids))
                yield Holdout(users, count, segments, interactions, products, fallback)

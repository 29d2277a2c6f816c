"""The temporal holdout: models are trained on the events before a cutoff, and lists are scored by the events after it.

`prepare` is the entry point. It makes two holdouts from one reading of the events: the `outer` one, which scores, and
the `inner` one before it, which trains the blend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp, utc
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, build_user_features
from ecommerce_assets.recommendation.fitting import history_entry
from ecommerce_assets.recommendation.indices import build_index
from ecommerce_assets.recommendation.interactions import WEIGHTS, rating_of
from ecommerce_assets.recommendation.local_holdout import LocalHoldout, local_holdouts
from ecommerce_assets.recommendation.scores import BUCKETS
from ecommerce_assets.segmentation.pipeline import SegmentationParameters, assign_segments, fit_segmentation
from ecommerce_assets.spark.connect import has_workers, persisted
from ecommerce_assets.spark.engine import MEMORY_SHARE, Engine, is_local
from ecommerce_assets.spark.free_memory import free_memory
from ecommerce_assets.storage.stored_table import StoredTable

HOLDOUT_SHARE = 0.2
RMSE_TRAIN_PERCENT = 80
RMSE_SEED = 42
SECONDS_PER_HOUR = 3600

EVENTS_IN_PROCESS = 8_000_000
"""With more events the users go to Spark's workers, which share no interpreter lock but take seconds to start."""

BYTES_PER_EVENT = 200
"""Memory of the pairs, their histories and the users, by events, which are more than the pairs."""


@dataclass(frozen=True)
class Holdout:
    """The data that a model is trained on and scored with; the frames are persisted.

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
    segments
        `user_idx`, `segment`, `total_events`, by the past alone.
    products
        `product_id`, `product_idx` of the products with an event before the cutoff.
    """

    users: DataFrame
    pairs: DataFrame
    segments: DataFrame
    products: DataFrame

    @property
    def interactions(self) -> DataFrame:
        return self.pairs.where("rating is not null").drop("relevant", "bucket")


@dataclass(frozen=True)
class Holdouts:
    """The holdouts, and the pairs for the rmse: all in this process, or all as Spark frames.

    Attributes
    ----------
    pairs
        `user_idx`, `product_idx`, `rating`, and `train`: whether the rmse is trained with the pair.
    outer
        None without a cutoff, or without events on one of its sides.
    inner
        None if there is none, or if it was not requested.
    """

    pairs: DataFrame | pa.Table
    outer: Holdout | LocalHoldout | None
    inner: Holdout | LocalHoldout | None


def fits_in_process(spark: SparkSession, events: int, engine: Engine) -> bool:
    """Returns whether the holdouts of this number of events fit in this process; see `choose_engine`."""
    if engine == Engine.mllib or not is_local(spark):
        return False
    has_memory = events * BYTES_PER_EVENT <= MEMORY_SHARE * free_memory()
    return has_memory and (events <= EVENTS_IN_PROCESS or not has_workers(spark))


@contextmanager
def prepare_holdouts(
    events: DataFrame,
    cutoff: datetime | None,
    inner_cutoff: datetime | None,
    segmentation: SegmentationParameters,
    in_process: bool = False,
) -> Iterator[Holdouts]:
    """The holdouts of these events; the inner one is between the two cutoffs.

    Parameters
    ----------
    events
        cleaned_events.
    segmentation
        Parameters of the segments, which are fitted on what is before the outer cutoff.
    in_process
        Collect the pairs and the users, see `fits_in_process`; else they stay in Spark, persisted.
    """
    cutoffs = {name: at for name, at in (("outer", cutoff), ("inner", inner_cutoff)) if at is not None}
    if in_process:
        yield _prepare_in_process(events, cutoffs, segmentation)
        return
    with ExitStack() as stack, ExitStack() as until_paired:

        def kept(frame: DataFrame) -> DataFrame:
            return stack.enter_context(persisted(frame))

        counted = until_paired.enter_context(persisted(events_by_pair(events, cutoffs)))
        sums = {f"{name}_events": F.sum(f"{name}_events") for name in cutoffs}
        users, products = (
            kept(build_index(counted, f"{what}_id", f"{what}_idx", count=F.sum("events"), **sums))
            for what in ("user", "product")
        )
        pairs = kept(
            counted.drop("events", *sums)
            .join(users.select("user_id", "user_idx"), "user_id")
            .join(F.broadcast(products.select("product_id", "product_idx")), "product_id")
            .withColumns(_draws())
            .drop("user_id", "product_id")
        )
        found = pairs.agg(
            F.count("*"),
            *(F.count(f"{name}_rating").alias(f"{name} past") for name in cutoffs),
            *(F.count_if(f"{name}_relevant").alias(f"{name} relevant") for name in cutoffs),
        ).collect()[0]
        until_paired.close()  # it is all in the pairs: two copies would be in memory beside the models
        holdouts: dict[str, Holdout] = {}
        model, known_segments = None, None
        for name, at in cutoffs.items():
            is_holdout = F.col(f"{name}_relevant")
            if not (found[f"{name} past"] and found[f"{name} relevant"]):
                break
            past = events.where(F.col("event_time") < timestamp(at))
            # Only what is used: Spark then leaves out the other columns, and half of the work, of the features.
            features = kept(build_user_features(past).select("user_id", "total_events", *CLUSTERING_FEATURES))
            model = model or fit_segmentation(StoredTable(features), segmentation).model
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
            holdouts[name] = Holdout(kept(per_user), _pairs_of(pairs, name), segments, known)
        rated = pairs.where("rating is not null").select("user_idx", "product_idx", "rating", "train")
        yield Holdouts(rated, holdouts.get("outer"), holdouts.get("inner"))


def _draws() -> dict[str, SparkColumn]:
    """By hashes of the ids: `train`, whether the rmse is trained with the pair, and the user's `bucket`."""
    draw = F.pmod(F.xxhash64("user_id", "product_id", F.lit(RMSE_SEED)), F.lit(100))
    return {
        "train": draw < RMSE_TRAIN_PERCENT,
        "bucket": F.pmod(F.xxhash64("user_id"), F.lit(BUCKETS)).cast("int"),
    }


def _prepare_in_process(
    events: DataFrame, cutoffs: dict[str, datetime], segmentation: SegmentationParameters
) -> Holdouts:
    """One query for the pairs, and one for the users of each holdout."""
    by_pair = events_by_pair(events, cutoffs).withColumns(_draws())
    columns = ["user_id", "product_id", "events", "rating", "train", "bucket"]
    columns += [f"{name}_{column}" for name in cutoffs for column in ("rating", "relevant", "events")]
    cast = [F.col(f"{name}_interaction_count").cast("int").alias(f"{name}_interactions") for name in cutoffs]
    cast += [(F.col(f"{name}_purchases") > 0).alias(f"{name}_purchased") for name in cutoffs]
    cast += [F.unix_micros(f"{name}_last_interaction_at").alias(f"{name}_last") for name in cutoffs]

    def features_before(name: str) -> pa.Table:
        past = events.where(F.col("event_time") < timestamp(cutoffs[name]))
        features = build_user_features(past, cutoffs[name]).select("user_id", "total_events", *CLUSTERING_FEATURES)
        table = features.toArrow()
        # Recency counts from the latest event before the cutoff.
        recency = pc.subtract(table.column("recency"), pc.min(table.column("recency")))
        return table.set_column(table.schema.get_field_index("recency"), "recency", recency)

    pairs, holdouts = local_holdouts(
        by_pair.select(*columns, *cast).toArrow(), list(cutoffs), features_before, segmentation
    )
    return Holdouts(pairs, holdouts.get("outer"), holdouts.get("inner"))


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
    """Returns the pairs of the holdout at the cutoff of this name."""
    columns = ("rating", "interaction_count", "purchases", "last_interaction_at", "relevant")
    of_cutoff = [F.col(f"{name}_{column}").alias(column) for column in columns]
    return pairs.select("user_idx", "product_idx", "bucket", *of_cutoff).where("rating is not null or relevant")


@dataclass(frozen=True)
class Cutoffs:
    """Returns the cutoffs of the two holdouts, None for a missing one, and the number of events."""

    outer: datetime | None
    inner: datetime | None
    events: int


def nested_cutoffs(events: DataFrame) -> Cutoffs:
    """Returns the cutoff of the events, and the cutoff of the events before it; see `holdout_cutoff`."""
    hours = _counts(events, SECONDS_PER_HOUR)
    outer_hour, _ = _crowded(hours, HOLDOUT_SHARE)
    total = sum(hours.values())
    if outer_hour is None:
        return Cutoffs(None, None, total)
    # The outer cutoff is in its hour, or right after it: the inner one is in one of a few hours.
    before = {hour: count for hour, count in hours.items() if hour < outer_hour}
    ends = (before, before | {outer_hour: hours[outer_hour]})
    first, last = (_crowded(each, HOLDOUT_SHARE)[0] for each in ends)
    wanted = {hour for hour in hours if (first or 0) <= hour <= (last if last is not None else outer_hour)}
    seconds = _counts(events, 1, wanted | {outer_hour})
    outer = _cutoff(hours, seconds, HOLDOUT_SHARE)
    if outer is None:
        return Cutoffs(None, None, total)
    of_past = {second: count for second, count in seconds.items() if second < outer}
    before[outer_hour] = sum(count for second, count in of_past.items() if second >= outer_hour)
    inner = _cutoff(before, of_past, HOLDOUT_SHARE)
    return Cutoffs(_time(outer), _time(inner), total)


def holdout_cutoff(events: DataFrame, share: float = HOLDOUT_SHARE) -> datetime | None:
    """The earliest second from which on at most `share` of the events lie; None where that would leave none.

    Found exactly by two small counts (by hour, then by second of one hour) instead of a sort of all events.
    """
    hours = _counts(events, SECONDS_PER_HOUR)
    hour, _ = _crowded(hours, share)
    return None if hour is None else _time(_cutoff(hours, _counts(events, 1, {hour}), share))


def _counts(events: DataFrame, seconds: int, hours: Iterable[int] | None = None) -> dict[int, int]:
    """Number of events by the first second of each span of so many seconds, in these hours or in all."""
    second = F.unix_seconds("event_time")
    hour = second - F.pmod(second, F.lit(SECONDS_PER_HOUR))
    chosen = events if hours is None else events.where(hour.isin(*hours))
    counted = chosen.groupBy((second - F.pmod(second, F.lit(seconds))).alias("at")).count().toArrow()
    return dict(zip(counted.column("at").to_pylist(), counted.column("count").to_pylist(), strict=True))


def _crowded(counts: Mapping[int, int], share: float) -> tuple[int | None, int]:
    """Counted back from the end, the first span that no longer fits into the share, and the events after it."""
    total, later = sum(counts.values()), 0
    for at in sorted(counts, reverse=True):
        if later + counts[at] > share * total:
            return at, later
        later += counts[at]
    return None, later


def _cutoff(hours: Mapping[int, int], seconds: Mapping[int, int], share: float) -> int | None:
    """The second after the last one that no longer fits; `seconds` must have those of the hour that is crowded."""
    hour, later = _crowded(hours, share)
    if hour is None:
        return None
    in_hour = {second: count for second, count in seconds.items() if hour <= second < hour + SECONDS_PER_HOUR}
    total = sum(hours.values())
    for second in sorted(in_hour, reverse=True):
        # The first second that no longer fits is in the training part; the holdout begins with the next one.
        if later + in_hour[second] > share * total:
            return second + 1 if later else None
        later += in_hour[second]
    return None


def _time(second: int | None) -> datetime | None:
    return None if second is None else utc(second * 1_000_000)

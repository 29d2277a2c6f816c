"""The temporal holdouts: models are trained on the events before a cutoff and scored on the events after it.

`prepare_holdouts` is the entry point. It makes two holdouts from one reading of the events: the `outer` one scores the
lists, and the `inner` one before it trains the blend. `nested_cutoffs` and `holdout_cutoffs` find the cutoffs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ecommerce_assets.spark.engine import MEMORY_SHARE, Engine, free_memory, is_local
from ecommerce_assets.storage.stored_table import StoredTable

HOLDOUT_SHARE = 0.2
"""Maximum share of the events in a holdout."""

RMSE_TRAIN_PERCENT = 80
RMSE_SEED = 42
SECONDS_PER_HOUR = 3600

EVENTS_IN_PROCESS = 8_000_000
"""With more events, Spark's workers score the users: they do not share the interpreter lock, but take seconds to start.
"""

BYTES_PER_EVENT = 200
"""Upper estimate of the memory of the pairs, their histories and the users, per event."""


@dataclass(frozen=True)
class Holdout:
    """The data that models are trained on and scored with; the frames are persisted.

    Attributes
    ----------
    users
        Users with an interaction after the cutoff: `user_idx`, `bucket` (see `BUCKETS`), `history` (as `users_of` reads
        it), `segment` and `total_events` (from the events before the cutoff, null without any), and `relevant`: the
        `product_idx` of the products that the user interacted with after the cutoff, including excluded ones.
    pairs
        interaction_data as it was at the cutoff, the user's `bucket`, and `relevant`: whether the user interacted with
        the product after the cutoff. Pairs without an interaction before the cutoff have no rating.
    interactions
        interaction_data as it was at the cutoff.
    segments
        `user_idx`, `segment`, `total_events`, from the events before the cutoff.
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
        `user_idx`, `product_idx`, `rating`, and `train`: whether the pair is in the training part of the rmse.
    outer, inner
        None if there is no cutoff for it, or no interaction before or after its cutoff.
    """

    pairs: DataFrame | pa.Table
    outer: Holdout | LocalHoldout | None
    inner: Holdout | LocalHoldout | None


def fits_in_process(spark: SparkSession, events: int, engine: Engine, more_bytes: int = 0) -> bool:
    """Returns whether the holdouts of this number of events, and further bytes, fit in this process."""
    if engine == Engine.mllib or not is_local(spark):
        return False
    has_memory = events * BYTES_PER_EVENT + more_bytes <= MEMORY_SHARE * free_memory()
    return has_memory and (events <= EVENTS_IN_PROCESS or not has_workers(spark))


@contextmanager
def prepare_holdouts(
    events: DataFrame,
    cutoff: datetime | None,
    inner_cutoff: datetime | None,
    segmentation: SegmentationParameters,
    in_process: bool,
) -> Iterator[Holdouts]:
    """Yields the holdouts of these events; the inner one is between the two cutoffs.

    Parameters
    ----------
    events
        cleaned_events.
    segmentation
        Parameters of the segments, which are fitted on the events before the outer cutoff.
    in_process
        True: the pairs and users are collected into this process, see `fits_in_process`; False: they are persisted in
        Spark.
    """
    cutoffs = {name: at for name, at in (("outer", cutoff), ("inner", inner_cutoff)) if at is not None}
    if in_process:
        yield _prepare_in_process(events, cutoffs, segmentation)
        return
    with ExitStack() as stack, ExitStack() as until_indexed:

        def persist(frame: DataFrame) -> DataFrame:
            return stack.enter_context(persisted(frame))

        by_pair = until_indexed.enter_context(persisted(events_by_pair(events, cutoffs)))
        sums = {f"{name}_events": F.sum(f"{name}_events") for name in cutoffs}
        users, products = (
            persist(build_index(by_pair, f"{kind}_id", f"{kind}_idx", count=F.sum("events"), **sums))
            for kind in ("user", "product")
        )
        pairs = persist(
            by_pair.drop("events", *sums)
            .join(users.select("user_id", "user_idx"), "user_id")
            .join(F.broadcast(products.select("product_id", "product_idx")), "product_id")
            .withColumns(_hashed_columns())
            .drop("user_id", "product_id")
        )
        counts = pairs.agg(
            F.count("*"),
            *(F.count(f"{name}_rating").alias(f"{name} past") for name in cutoffs),
            *(F.count_if(f"{name}_relevant").alias(f"{name} relevant") for name in cutoffs),
        ).collect()[0]
        until_indexed.close()  # `pairs` has all of it: a second copy would be in memory beside the models
        holdouts: dict[str, Holdout] = {}
        model, known_segments = None, None
        for name, at in cutoffs.items():
            is_relevant = F.col(f"{name}_relevant")
            if not (counts[f"{name} past"] and counts[f"{name} relevant"]):
                break
            past = events.where(F.col("event_time") < timestamp(at))
            # Only the columns that are used: Spark then skips half of the work for the features.
            features = persist(build_user_features(past).select("user_id", "total_events", *CLUSTERING_FEATURES))
            model = model or fit_segmentation(StoredTable(features), segmentation).model
            segmented, known_segments = assign_segments(model, features, known_segments)
            segments = persist(
                segmented.select("user_id", "segment", "total_events")
                .join(users.select("user_id", "user_idx"), "user_id")
                .drop("user_id")
            )
            per_user = (
                pairs.groupBy("user_idx", "bucket")
                .agg(
                    F.collect_list(F.when(is_relevant, F.col("product_idx"))).alias("relevant"),
                    F.collect_list(F.when(F.col(f"{name}_rating").isNotNull(), history_entry(f"{name}_"))).alias(
                        "history"
                    ),
                )
                .where(F.size("relevant") > 0)
                .join(segments, "user_idx", "left")
            )
            known = products.where(F.col(f"{name}_events") > 0).select("product_id", "product_idx")
            holdouts[name] = Holdout(persist(per_user), _pairs_of(pairs, name), segments, known)
        rated = pairs.where("rating is not null").select("user_idx", "product_idx", "rating", "train")
        yield Holdouts(rated, holdouts.get("outer"), holdouts.get("inner"))


def _hashed_columns() -> dict[str, SparkColumn]:
    """Returns columns from hashes of the ids: `train` (see `Holdouts`) and the user's `bucket`."""
    percentile = F.pmod(F.xxhash64("user_id", "product_id", F.lit(RMSE_SEED)), F.lit(100))
    return {
        "train": percentile < RMSE_TRAIN_PERCENT,
        "bucket": F.pmod(F.xxhash64("user_id"), F.lit(BUCKETS)).cast("int"),
    }


def _prepare_in_process(
    events: DataFrame, cutoffs: dict[str, datetime], segmentation: SegmentationParameters
) -> Holdouts:
    """Returns the holdouts from one query for the pairs, and one for the users of each holdout."""
    by_pair = events_by_pair(events, cutoffs).withColumns(_hashed_columns())
    columns = ["user_id", "product_id", "events", "rating", "train", "bucket"]
    columns += [f"{name}_{column}" for name in cutoffs for column in ("rating", "relevant", "events")]
    cast = [F.col(f"{name}_interaction_count").cast("int").alias(f"{name}_interactions") for name in cutoffs]
    cast += [(F.col(f"{name}_purchases") > 0).alias(f"{name}_purchased") for name in cutoffs]
    cast += [F.unix_micros(f"{name}_last_interaction_at").alias(f"{name}_last") for name in cutoffs]

    def features_before(name: str) -> pa.Table:
        past = events.where(F.col("event_time") < timestamp(cutoffs[name]))
        features = build_user_features(past, cutoffs[name]).select("user_id", "total_events", *CLUSTERING_FEATURES)
        table = features.toArrow()
        # Recency is counted back from the latest event before the cutoff.
        recency = pc.subtract(table.column("recency"), pc.min(table.column("recency")))
        return table.set_column(table.schema.get_field_index("recency"), "recency", recency)

    pairs, holdouts = local_holdouts(
        by_pair.select(*columns, *cast).toArrow(), list(cutoffs), features_before, segmentation
    )
    return Holdouts(pairs, holdouts.get("outer"), holdouts.get("inner"))


def events_by_pair(events: DataFrame, cutoffs: dict[str, datetime]) -> DataFrame:
    """Returns one row per user and product with any event.

    Returns
    -------
    DataFrame
        `user_id`, `product_id`, `events`, `rating` (null without a view, cart or purchase). For each cutoff, with its
        name as prefix: `…_rating`, `…_interaction_count`, `…_purchases`, `…_last_interaction_at` and `…_events` of the
        events before it, and `…_relevant`: whether there is an interaction from it until the next cutoff.
    """
    is_interaction, at = F.col("event_type").isin(*WEIGHTS), F.col("event_time")
    # Repartitioned as in build_interactions.
    by_user = events.select("user_id", "product_id", "event_type", "event_time").repartition("user_id")
    aggregates = [rating_of().alias("rating"), F.count("*").alias("events")]
    end: SparkColumn = F.lit(True)
    for name, cutoff in sorted(cutoffs.items(), key=lambda item: item[1], reverse=True):
        past = at < timestamp(cutoff)
        aggregates += [
            rating_of(past).alias(f"{name}_rating"),
            F.count_if(past & is_interaction).alias(f"{name}_interaction_count"),
            F.count_if(past & (F.col("event_type") == "purchase")).alias(f"{name}_purchases"),
            F.max(F.when(past & is_interaction, at)).alias(f"{name}_last_interaction_at"),
            F.count_if(past).alias(f"{name}_events"),
            F.coalesce(F.bool_or(~past & is_interaction & end), F.lit(False)).alias(f"{name}_relevant"),
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
    """The cutoffs of the two holdouts, None if there is none, and the number of events."""

    outer: datetime | None
    inner: datetime | None
    events: int


def nested_cutoffs(events: DataFrame) -> Cutoffs:
    """Returns the cutoff of the events, and the cutoff of the events before it; see `holdout_cutoffs`."""
    hours = _counts(events, SECONDS_PER_HOUR)
    outer_hour, _ = _boundary(hours, HOLDOUT_SHARE)
    total = sum(hours.values())
    if outer_hour is None:
        return Cutoffs(None, None, total)
    # The outer cutoff is in this hour or right after it, so the inner one is in one of a few hours.
    before = {hour: count for hour, count in hours.items() if hour < outer_hour}
    ends = (before, before | {outer_hour: hours[outer_hour]})
    first, last = (_boundary(each, HOLDOUT_SHARE)[0] for each in ends)
    needed = {hour for hour in hours if (first or 0) <= hour <= (last if last is not None else outer_hour)}
    seconds = _counts(events, 1, needed | {outer_hour})
    outer = cutoff_second(hours, seconds, HOLDOUT_SHARE)
    if outer is None:
        return Cutoffs(None, None, total)
    of_past = {second: count for second, count in seconds.items() if second < outer}
    before[outer_hour] = sum(count for second, count in of_past.items() if second >= outer_hour)
    inner = cutoff_second(before, of_past, HOLDOUT_SHARE)
    return Cutoffs(_time(outer), _time(inner), total)


def holdout_cutoff(events: DataFrame) -> datetime | None:
    """Returns the cutoff of `HOLDOUT_SHARE`; see `holdout_cutoffs`."""
    [cutoff] = holdout_cutoffs(events, [HOLDOUT_SHARE])
    return cutoff


def holdout_cutoffs(events: DataFrame, shares: Sequence[float]) -> list[datetime | None]:
    """Returns for each share the earliest second from which at most this share of the events happened.

    None if no event would be left in the holdout. The cutoffs are exact, from two small counts (by hour, then by second
    of the hours with a cutoff) instead of a sort of all events.
    """
    hours = _counts(events, SECONDS_PER_HOUR)
    needed = {hour for hour, _ in (_boundary(hours, share) for share in shares) if hour is not None}
    seconds = _counts(events, 1, needed) if needed else {}
    return [_time(cutoff_second(hours, seconds, share)) for share in shares]


def _counts(events: DataFrame, span: int, hours: Iterable[int] | None = None) -> dict[int, int]:
    """Returns the number of events by the first second of each span, in seconds; of these hours, or of all."""
    second = F.unix_seconds("event_time")
    hour = second - F.pmod(second, F.lit(SECONDS_PER_HOUR))
    chosen = events if hours is None else events.where(hour.isin(*hours))
    counted = chosen.groupBy((second - F.pmod(second, F.lit(span))).alias("at")).count().toArrow()
    return dict(zip(counted.column("at").to_pylist(), counted.column("count").to_pylist(), strict=True))


def _boundary(counts: Mapping[int, int], share: float) -> tuple[int | None, int]:
    """Returns the latest span that does not fit into the share any more, and the number of events after it."""
    total, later = sum(counts.values()), 0
    for at in sorted(counts, reverse=True):
        if later + counts[at] > share * total:
            return at, later
        later += counts[at]
    return None, later


def cutoff_second(hours: Mapping[int, int], seconds: Mapping[int, int], share: float) -> int | None:
    """Returns the cutoff of a share, in seconds since 1970; see `holdout_cutoffs`.

    Parameters
    ----------
    hours, seconds
        Number of events by the first second of each hour, and by second; `seconds` may have only those of the hour in
        which the share is exceeded.
    share
        Maximum share of the events from the cutoff on.
    """
    hour, later = _boundary(hours, share)
    if hour is None:
        return None
    in_hour = {second: count for second, count in seconds.items() if hour <= second < hour + SECONDS_PER_HOUR}
    total = sum(hours.values())
    for second in sorted(in_hour, reverse=True):
        # The second in which the share is exceeded is in the training part; the holdout begins with the next one.
        if later + in_hour[second] > share * total:
            return second + 1 if later else None
        later += in_hour[second]
    return None


def _time(second: int | None) -> datetime | None:
    return None if second is None else utc(second * 1_000_000)

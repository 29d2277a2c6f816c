"""Splits parsed raw events into accepted events, rejected events and exact repeats. Entry point: `classify`.

parsing.py has the rules for single values; the rules here need the day of the partition or other events of that day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from operator import add

import numpy as np
import numpy.typing as npt
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.events.schema import EVENTS, PARTITION_COLUMN

ROWS_PER_TASK = 5_000_000
"""Maximum number of raw rows of a day in one task, about 1 GB. Larger days have several tasks, and as many files."""

ROWS_OF_SMALL_DAYS = 100_000
"""Maximum number of rows of consecutive days that share a task, because a task has a fixed cost."""

DAYS_PER_TASK = 8
"""Maximum number of days that share a task: the number of files that Spark's writer keeps open
(`spark.sql.maxConcurrentOutputFileWriters`)."""


def classify(parsed: DataFrame, rows_of_day: Mapping[str, int] | None = None, has_event_ids: bool = False) -> DataFrame:
    """Returns every distinct raw event with the first rule that it breaks.

    Parameters
    ----------
    parsed
        `event_date` (date), the event columns, `reject_reason`, `original` and `source_file`, as returned by
        `ParsedEvents.frame`.
    rows_of_day
        Number of rows by day (`YYYY-MM-DD`), to divide large days into several tasks and to put small days into one;
        None: one task for all.
    has_event_ids
        True: events of a day with the same `event_id` are one event, of which the first by time is kept.

    Returns
    -------
    DataFrame
        `event_date` (date), the event columns, `reject_reason` (null if accepted), `original` (struct of strings, null
        if accepted), `source_file` (null if accepted), and `copies`: the number of equal accepted rows of the day.
        Rows of a partition are sorted by time and then by their values, so that the written files depend neither on the
        order of the raw rows nor on the other days.
    """
    checked = _check_day(parsed).withColumn("copies", F.lit(1).cast("bigint"))
    if has_event_ids:
        checked = _one_per_event_id(checked)
    tasks, task = _tasks(rows_of_day or {})
    helpers = {
        # Unique for each rejected row, because only accepted rows have repeats.
        "rejected_row": F.when(F.col("reject_reason").isNotNull(), F.monotonically_increasing_id()),
        # Instead of the price, because Spark normalizes a double that it groups by and then does not recognize the sort
        # order. Different doubles have different hashes: xxhash64 of one 64-bit value is a bijection.
        "price_hash": F.xxhash64("price"),
        "task": task,
    }
    # The time first, because it decides nearly all comparisons and logs are nearly sorted by it.
    values = [name for name in EVENTS.names if name != "price"]
    keys = [*values, "price_hash", PARTITION_COLUMN, "reject_reason", "original", "source_file", "rejected_row", "task"]
    return (
        checked.withColumns(helpers)
        # One shuffle for both the repeats and the layout of the files. Sorted first, so that repeats are adjacent and
        # need no hash table; `first` keeps Spark from removing this sort. The second sort only has an effect if Spark
        # used a hash table nevertheless.
        .repartition(tasks, "task")
        .sortWithinPartitions(*keys)
        .groupBy(*keys)
        .agg(F.first("price").alias("price"), F.sum("copies").alias("copies"))
        .sortWithinPartitions(*keys)
        .select(PARTITION_COLUMN, *EVENTS.names, "reject_reason", "original", "source_file", "copies")
    )


def _check_day(parsed: DataFrame) -> DataFrame:
    """Rejects events outside the day of their partition; keeps original values and file for rejected events only."""
    misplaced = F.to_date("event_time") != F.col(PARTITION_COLUMN)
    reason = F.when(misplaced, "event outside its day").otherwise(F.col("reject_reason"))
    values = F.struct(*[F.col(name).cast("string").alias(name) for name in EVENTS.names])
    rejected = F.col("reject_reason").isNotNull()
    return parsed.withColumn("reject_reason", reason).withColumns(
        {
            "original": F.when(rejected, F.coalesce("original", values)),
            "source_file": F.when(rejected, F.col("source_file")),
        }
    )


def _one_per_event_id(checked: DataFrame) -> DataFrame:
    """Keeps one of the accepted events of a day with the same `event_id`: the first by time, then by other values."""
    has_id = F.col("reject_reason").isNull() & F.col("event_id").isNotNull()
    columns = checked.columns
    order = F.struct(*EVENTS.names)
    firsts = (
        checked.where(has_id)
        .groupBy(PARTITION_COLUMN, "event_id")
        .agg(F.min_by(F.struct(*columns), order).alias("first"), F.count("*").alias("events"))
        .select("first.*", "events")
        .withColumn("copies", F.col("events"))
        .select(*columns)
    )
    return checked.where(~has_id).unionByName(firsts)


def _tasks(rows_of_day: Mapping[str, int]) -> tuple[int, Column]:
    """The number of tasks, and the column to repartition by, whose hash sends a row to its task."""
    if not rows_of_day:
        return 1, F.lit(0)
    origin, end = date.fromisoformat(min(rows_of_day)), date.fromisoformat(max(rows_of_day))
    rows = [rows_of_day.get(str(origin + timedelta(days=n)), 0) for n in range((end - origin).days + 1)]
    firsts, counts = _tasks_of_days(rows)
    # An array lookup by day number takes the same time for any number of days.
    day = F.datediff(PARTITION_COLUMN, F.lit(origin))
    first, count = (F.get(F.array(*map(F.lit, numbers)), day) for numbers in (firsts, counts))
    tasks = max(map(add, firsts, counts))
    task = first + F.pmod(F.hash("event_time", "user_id"), count)
    return tasks, F.get(F.array(*map(F.lit, _numbers_by_task(tasks))), task)


def _tasks_of_days(rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """The number of the first task of each day, and its number of tasks; small consecutive days share a task."""
    firsts: list[int] = []
    counts: list[int] = []
    tasks, days, in_task = 0, DAYS_PER_TASK, 0
    for of_day in rows:
        count = max(1, math.ceil(of_day / ROWS_PER_TASK))
        is_shared = days < DAYS_PER_TASK and in_task + of_day <= ROWS_OF_SMALL_DAYS
        days, in_task = (days + 1, in_task + of_day) if is_shared else (1, of_day)
        firsts.append(tasks - 1 if is_shared else tasks)
        counts.append(count)
        tasks += 0 if is_shared else count
    return firsts, counts


def _numbers_by_task(tasks: int) -> list[int]:
    """For each task a number that `DataFrame.repartition` sends to it.

    It replaces `repartitionById`, which Spark 4.0 and Sail lack.
    """
    numbers: dict[int, int] = {}
    start = 0
    while len(numbers) < tasks:
        candidates = np.arange(start, start + 16 * tasks)
        start += len(candidates)
        for task, number in zip((_murmur3(candidates) % tasks).tolist(), candidates.tolist(), strict=True):
            numbers.setdefault(task, number)
    return [numbers[task] for task in range(tasks)]


def _murmur3(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Spark's hash of ints: Murmur3 (x86, 32 bits) with the seed 42."""
    mixed = _rotate_left(numbers.astype(np.uint32) * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    hashed = _rotate_left(mixed ^ np.uint32(42), 13) * np.uint32(5) + np.uint32(0xE6546B64)
    hashed ^= np.uint32(4)  # bytes
    hashed = (hashed ^ (hashed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashed = (hashed ^ (hashed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (hashed ^ (hashed >> np.uint32(16))).astype(np.int32).astype(np.int64)


def _rotate_left(bits: npt.NDArray[np.uint32], places: int) -> npt.NDArray[np.uint32]:
    return (bits << np.uint32(places)) | (bits >> np.uint32(32 - places))


def accepted_events(classified: DataFrame) -> DataFrame:
    """Returns the accepted rows of `classify`, once each: the event columns and `event_date`."""
    return classified.where("reject_reason is null").select(*EVENTS.names, PARTITION_COLUMN)


def rejected_events(classified: DataFrame) -> DataFrame:
    """Returns the rejected rows: `reject_reason`, the original values as text, `source_file` and `event_date`."""
    return classified.where("reject_reason is not null").select(
        "reject_reason", "original.*", "source_file", PARTITION_COLUMN
    )


def count_by_day(classified: DataFrame) -> dict[str, dict[str, int]]:
    """Returns the counts `accepted`, `repeats`, `rejected` and `rejected: <reason>` of each day that has rows."""
    counts = classified.groupBy(PARTITION_COLUMN, "reject_reason").agg(
        F.count("*").alias("rows"), F.sum("copies").alias("copies")
    )
    days: dict[str, dict[str, int]] = {}
    for row in sorted(counts.collect(), key=lambda r: (r[PARTITION_COLUMN], r["reject_reason"] or "")):
        day = days.setdefault(str(row[PARTITION_COLUMN]), {"accepted": 0, "repeats": 0, "rejected": 0})
        if row["reject_reason"] is None:
            day["accepted"], day["repeats"] = row["rows"], row["copies"] - row["rows"]
        else:
            day["rejected"] += row["rows"]
            day[f"rejected: {row['reject_reason']}"] = row["rows"]
    return days

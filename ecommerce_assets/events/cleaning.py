"""Splits parsed raw events into accepted events, rejected events and exact repeats.

Pure functions on DataFrames. Values are parsed and judged one by one in parsing.py; here are the rules that need the
partition's day or other events of it.
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
"""Raw rows of a day that one task cleans, about 1 GB: larger days are shared by several, and have as many files."""

ROWS_OF_SMALL_DAYS = 100_000
"""Days share a task while they have no more rows together: a task for a few hundred rows costs more than the rows."""

DAYS_PER_TASK = 8
"""As many as the files that Spark's writer keeps open (`spark.sql.maxConcurrentOutputFileWriters`)."""


def classify(parsed: DataFrame, rows_of_day: Mapping[str, int] | None = None, has_event_ids: bool = False) -> DataFrame:
    """Every raw event with the first rule that it breaks, equal ones together.

    Parameters
    ----------
    parsed
        `event_date` (date), the event columns, `reject_reason`, `original` and `source_file`, as ParsedEvents gives
        them.
    rows_of_day
        For each day (`YYYY-MM-DD`) its number of rows: large days are shared by several tasks, small days share one;
        None: one task for all.
    has_event_ids
        Events of a day with the same `event_id` are one, of which the first by time is kept.

    Returns
    -------
    DataFrame
        `event_date` (date), the event columns, `reject_reason` (null: accepted), `original` (struct of strings; null
        if accepted), `source_file` (null if accepted), and `copies`: the number of equal accepted rows of the day that
        this row stands for. By time inside its partitions, and in a fixed order among events of one time, so that what
        is written depends neither on the order of the raw rows nor on which other days are cleaned.
    """
    judged = _judge(parsed).withColumn("copies", F.lit(1).cast("bigint"))
    if has_event_ids:
        judged = _one_per_event_id(judged)
    tasks, task = _tasks(rows_of_day or {})
    marks = {
        # A repeat is looked for among accepted rows only; a number of its own keeps each rejected row apart.
        "rejected_row": F.when(F.col("reject_reason").isNotNull(), F.monotonically_increasing_id()),
        # In place of the price: Spark rewrites a double that it groups by, and then no longer sees that rows are sorted
        # by it. No two prices have one hash: of a single number it only turns and multiplies the bits.
        "price_hash": F.xxhash64("price"),
        "task": task,
    }
    # The time comes first: it decides nearly all comparisons, and logs are nearly in its order.
    values = [name for name in EVENTS.names if name != "price"]
    keys = [*values, "price_hash", PARTITION_COLUMN, "reject_reason", "original", "source_file", "rejected_row", "task"]
    return (
        judged.withColumns(marks)
        # One shuffle serves the search for repeats and the layout. Sorted before they are counted, equal rows are next
        # to each other, and no hash table of all rows is needed. `first`, for Spark leaves out a sort before what does
        # not ask for an order. Sorted again where Spark chose a hash table all the same; else there is nothing left to
        # sort, and Spark sees that.
        .repartition(tasks, "task")
        .sortWithinPartitions(*keys)
        .groupBy(*keys)
        .agg(F.first("price").alias("price"), F.sum("copies").alias("copies"))
        .sortWithinPartitions(*keys)
        .select(PARTITION_COLUMN, *EVENTS.names, "reject_reason", "original", "source_file", "copies")
    )


def _judge(parsed: DataFrame) -> DataFrame:
    """Reject events outside their partition's day; keep the original values and the file of rejected events only."""
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


def _one_per_event_id(judged: DataFrame) -> DataFrame:
    """Accepted events of a day with the same `event_id` as one: the first by time, then by its other values."""
    has_id = F.col("reject_reason").isNull() & F.col("event_id").isNotNull()
    columns = judged.columns
    order = F.struct(*EVENTS.names)
    firsts = (
        judged.where(has_id)
        .groupBy(PARTITION_COLUMN, "event_id")
        .agg(F.min_by(F.struct(*columns), order).alias("first"), F.count("*").alias("events"))
        .select("first.*", "events")
        .withColumn("copies", F.col("events"))
        .select(*columns)
    )
    return judged.where(~has_id).unionByName(firsts)


def _tasks(rows_of_day: Mapping[str, int]) -> tuple[int, Column]:
    """The number of tasks, and a number whose hash sends a row to its task."""
    if not rows_of_day:
        return 1, F.lit(0)
    origin, end = date.fromisoformat(min(rows_of_day)), date.fromisoformat(max(rows_of_day))
    rows = [rows_of_day.get(str(origin + timedelta(days=n)), 0) for n in range((end - origin).days + 1)]
    firsts, counts = _tasks_of_days(rows)
    # Looked up by the number of the day since the first: as quick for a thousand days as for one.
    place = F.datediff(PARTITION_COLUMN, F.lit(origin))
    first, count = (F.get(F.array(*map(F.lit, numbers)), place) for numbers in (firsts, counts))
    tasks = max(map(add, firsts, counts))
    task = first + F.pmod(F.hash("event_time", "user_id"), count)
    return tasks, F.get(F.array(*map(F.lit, _numbers_by_task(tasks))), task)


def _tasks_of_days(rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """The number of each day's first task, and how many tasks the day has; days in a row share a task if small."""
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
    """For each task a number that `DataFrame.repartition` sends to it, and to no other.

    Spark 4.1 has `repartitionById` for that, Spark 4.0 has not.
    """
    numbers: dict[int, int] = {}
    start = 0
    while len(numbers) < tasks:
        found = np.arange(start, start + 16 * tasks)
        start += len(found)
        for task, number in zip((_hashed(found) % tasks).tolist(), found.tolist(), strict=True):
            numbers.setdefault(task, number)
    return [numbers[task] for task in range(tasks)]


def _hashed(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Spark's hash of ints: Murmur3 (x86, 32 bits) with the seed 42."""
    mixed = _turned(numbers.astype(np.uint32) * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    hashed = _turned(mixed ^ np.uint32(42), 13) * np.uint32(5) + np.uint32(0xE6546B64)
    hashed ^= np.uint32(4)  # bytes
    hashed = (hashed ^ (hashed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashed = (hashed ^ (hashed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (hashed ^ (hashed >> np.uint32(16))).astype(np.int32).astype(np.int64)


def _turned(bits: npt.NDArray[np.uint32], places: int) -> npt.NDArray[np.uint32]:
    return (bits << np.uint32(places)) | (bits >> np.uint32(32 - places))


def accepted_events(classified: DataFrame) -> DataFrame:
    """The rows that are kept: the event columns and `event_date`."""
    return classified.where("reject_reason is null").select(*EVENTS.names, PARTITION_COLUMN)


def rejected_events(classified: DataFrame) -> DataFrame:
    """The rows that are not: `reject_reason`, the original values as text, `source_file` and `event_date`."""
    return classified.where("reject_reason is not null").select(
        "reject_reason", "original.*", "source_file", PARTITION_COLUMN
    )


def count_by_day(classified: DataFrame) -> dict[str, dict[str, int]]:
    """For each day that has rows: `accepted`, `repeats`, `rejected`, and `rejected: <reason>` for each reason."""
    counted = classified.groupBy(PARTITION_COLUMN, "reject_reason").agg(
        F.count("*").alias("rows"), F.sum("copies").alias("copies")
    )
    days: dict[str, dict[str, int]] = {}
    for row in sorted(counted.collect(), key=lambda r: (r[PARTITION_COLUMN], r["reject_reason"] or "")):
        day = days.setdefault(str(row[PARTITION_COLUMN]), {"accepted": 0, "repeats": 0, "rejected": 0})
        if row["reject_reason"] is None:
            day["accepted"], day["repeats"] = row["rows"], row["copies"] - row["rows"]
        else:
            day["rejected"] += row["rows"]
            day[f"rejected: {row['reject_reason']}"] = row["rows"]
    return days

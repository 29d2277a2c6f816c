"""The rules that a raw row must meet, and the three places where it can end: accepted, rejected, dropped as a repeat.

Pure functions on DataFrames. Which files are read is raw.py's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import partial, reduce
from operator import add, or_

import numpy as np
import numpy.typing as npt
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BinaryType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, PARTITION_COLUMN
from ecommerce_assets.settings import EARLIEST_DAY

ROWS_PER_TASK = 5_000_000
"""Raw rows of a day that one task cleans, about 1 GB: larger days are shared by several, and have as many files."""

ROWS_OF_SMALL_DAYS = 100_000
"""Days share a task while they have no more rows together: a task for a few hundred rows costs more than the rows."""

DAYS_PER_TASK = 8
"""As many as the files that Spark's writer keeps open (`spark.sql.maxConcurrentOutputFileWriters`)."""

MAX_PRICE = 1e12
"""A larger price is no amount of money but a misread number: it counts as unreadable."""

_WHITESPACE = " \t\r\n"
_TEXTS = tuple(column.name for column in EVENTS.columns if column.type == "string")
_WHOLE_NUMBER = r"^[+-]?\d+(\.0*)?$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_STARTS_LIKE_A_DATE = r"^\d{4}-\d{2}-\d{2}"
_INTEGERS = (ByteType, ShortType, IntegerType, LongType)
_EXACT_IN_DOUBLE = 2.0**53


def classify(
    raw: Sequence[DataFrame], id_type: str = "bigint", rows_of_day: Mapping[str, int] | None = None
) -> DataFrame:
    """Every raw row, cleaned, with the first rule that it breaks.

    Parameters
    ----------
    raw
        Frames with `event_date` (the partition's day, as date or text), `source_file` and the event columns in whatever
        types the files have.
    id_type
        `bigint` or `string`, the type of product_id and user_id.
    rows_of_day
        For each day (`YYYY-MM-DD`) its number of rows: large days are shared by several tasks, small days share one;
        None: one task for all.

    Returns
    -------
    DataFrame
        `event_date` (date), the event columns in their own types, `reject_reason` (null: accepted), `original` (struct
        of texts; null where accepted), `source_file` (null where accepted), and `copies`: how many equal accepted rows
        of the day this row stands for. By time inside its partitions, and in a fixed order among events of one time, so
        that what is written depends neither on the order of the raw rows nor on which other days are cleaned.
    """
    cleaned = reduce(DataFrame.unionByName, [_clean(frame, id_type) for frame in raw])
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
        cleaned.withColumns(marks)
        # One shuffle serves the search for repeats and the layout. Sorted before they are counted, equal rows are next
        # to each other, and no hash table of all rows is needed. `first`, for Spark leaves out a sort before what does
        # not ask for an order. Sorted again where Spark chose a hash table all the same; else there is nothing left to
        # sort, and Spark sees that.
        .repartition(tasks, "task")
        .sortWithinPartitions(*keys)
        .groupBy(*keys)
        .agg(F.first("price").alias("price"), F.count("*").alias("copies"))
        .sortWithinPartitions(*keys)
        .select(PARTITION_COLUMN, *EVENTS.names, "reject_reason", "original", "source_file", "copies")
    )


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


def day_of(name: str, kind: DataType) -> Column:
    """The day, UTC, of a raw time column of the given type; null where the time is missing or unreadable."""
    return F.to_date(_timestamp(F.col(name), _trimmed(name), kind))


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


def _clean(frame: DataFrame, id_type: str) -> DataFrame:
    types = {field.name: field.dataType for field in frame.schema.fields}
    # A step of its own, or Spark would trim a text anew wherever it is used.
    frame = frame.withColumns({f"text_{name}": _trimmed(name) for name in EVENTS.names})

    def read(name: str, reader: Callable[[Column, Column, DataType], Column]) -> Column:
        return reader(F.col(name), F.col(f"text_{name}"), types[name])

    read_id = partial(_id, id_type=id_type)
    clean = {
        "event_time": read("event_time", _timestamp),
        "event_type": F.col("text_event_type"),
        "product_id": read("product_id", read_id),
        "category_id": read("category_id", _whole_number),
        "category_code": F.col("text_category_code"),
        "brand": F.col("text_brand"),
        "price": read("price", _price) + F.lit(0.0),  # minus zero is zero
        "user_id": read("user_id", read_id),
        "user_session": F.col("text_user_session"),
    }
    # Names with a prefix of their own, so that the rules can look at the raw and the clean value of a column at once.
    both = frame.select(
        F.col(PARTITION_COLUMN).cast("date").alias(PARTITION_COLUMN),
        *[name for name in frame.columns if name != PARTITION_COLUMN],
        *[column.alias(f"clean_{name}") for name, column in clean.items()],
    )
    judged = both.withColumn("reject_reason", _reject_reason(types))
    rejected = F.col("reject_reason").isNotNull()
    original = F.struct(*[F.col(name).cast("string").alias(name) for name in EVENTS.names])
    return judged.select(
        PARTITION_COLUMN,
        *[F.col(f"clean_{name}").alias(name) for name in EVENTS.names],
        "reject_reason",
        F.when(rejected, original).alias("original"),
        F.when(rejected, F.col("source_file")).alias("source_file"),
    )


def _reject_reason(types: Mapping[str, DataType]) -> Column:
    event_time, price = F.col("clean_event_time"), F.col("clean_price")

    def missing(name: str) -> Column:
        # Only text (or bytes) can be there and say nothing; to write a number or a time as text takes long.
        return F.col(f"text_{name}" if isinstance(types[name], StringType | BinaryType) else name).isNull()

    reason = F.when(missing("event_time"), "missing event_time").when(event_time.isNull(), "unreadable event_time")
    # The zero time of a program says no more than none, and does not speak against the day it was put into.
    is_zero = event_time < F.lit(EARLIEST_DAY).cast("timestamp")
    misplaced = F.when(is_zero, "unreadable event_time").otherwise("event outside its day")
    reason = reason.when(F.to_date(event_time) != F.col(PARTITION_COLUMN), misplaced)
    known = F.col("clean_event_type").isin(*EVENT_TYPES)
    reason = reason.when(missing("event_type") | ~known, "unknown event_type")
    for name in ("user_id", "product_id"):
        reason = reason.when(missing(name), f"missing {name}")
        reason = reason.when(F.col(f"clean_{name}").isNull(), f"unreadable {name}")
    reason = reason.when(missing("price"), "missing price").when(price.isNull(), "unreadable price")
    reason = reason.when(F.isnan(price), "price is not a number")
    reason = reason.when(F.abs(price) == float("inf"), "infinite price").when(price < 0, "negative price")
    return reason.when(price > MAX_PRICE, "unreadable price")


def _trimmed(name: str) -> Column:
    """A raw value as text without blanks, tabs and line ends around it; null where nothing is left."""
    raw = F.col(name).cast("string")
    trimmed = F.btrim(raw, F.lit(_WHITESPACE))
    if name in _TEXTS:
        # Spark takes ten times as long to trim any other character than blanks, so it is asked to only where one may
        # be: a million events are read and cleaned in 1.7 s instead of 2.3. Not for numbers and times that come as
        # text too: the method for all of them would be too large for Java to compile, and take 12 s instead of 4.
        blank = F.trim(raw)
        padded = reduce(or_, [blank < "!", *(F.endswith(blank, F.lit(mark)) for mark in _WHITESPACE.strip(" "))])
        trimmed = F.when(padded, trimmed).otherwise(blank)
    return F.when(trimmed != "", trimmed)


# What follows reads a raw value, or the same as trimmed text, whichever suits the type that the file has it in.


def _timestamp(raw: Column, text: Column, kind: DataType) -> Column:
    if isinstance(kind, TimestampType | TimestampNTZType | DateType):
        return raw.cast("timestamp")  # the session's time zone is UTC
    # Spark would take a bare year or a bare time of day for a timestamp; only what starts with a date is one.
    return F.when(text.rlike(_STARTS_LIKE_A_DATE), text.try_cast("timestamp"))


def _id(raw: Column, text: Column, kind: DataType, id_type: str) -> Column:
    if id_type == "bigint":
        return _whole_number(raw, text, kind)
    # A shop whose string ids came through pandas as 17.0 means 17.
    return _whole_number(raw, text, kind).cast("string") if isinstance(kind, DoubleType | FloatType) else text


def _whole_number(raw: Column, text: Column, kind: DataType) -> Column:
    if isinstance(kind, _INTEGERS):
        return raw.cast("bigint")
    if isinstance(kind, DoubleType | FloatType):
        # pandas turns a column of ids with a gap into doubles; up to 2^53 they are still exact.
        exact = (raw == F.floor(raw)) & (F.abs(raw) <= _EXACT_IN_DOUBLE)
        return F.when(exact, raw.try_cast("bigint"))
    return F.when(text.rlike(_WHOLE_NUMBER), F.regexp_replace(text, r"\.0*$", "").try_cast("bigint"))


def _price(raw: Column, text: Column, kind: DataType) -> Column:
    if isinstance(kind, (*_INTEGERS, DoubleType, FloatType, DecimalType)):
        return raw.cast("double")
    named = F.lower(text).isin("nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
    return F.when(text.rlike(_NUMBER) | named, text.try_cast("double"))

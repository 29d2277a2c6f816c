"""The rules about days and repeats, the layout of the tasks, and that no row is lost."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.events.cleaning import (
    _numbers_by_task,
    _tasks_of_days,
    accepted_events,
    classify,
    count_by_day,
    rejected_events,
)
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets.events.schema import EVENTS, REJECTED_EVENTS
from ecommerce_assets_tests.helpers import write_day

DAY = "2019-10-01"
GOOD: dict[str, str | None] = {
    "event_time": "2019-10-01 12:00:00 UTC",
    "event_type": "view",
    "product_id": "17",
    "category_id": "2053013555631882655",
    "category_code": "electronics.smartphone",
    "brand": "acme",
    "price": "9.99",
    "user_id": "5",
    "user_session": "s1",
    "event_id": None,
}
TEXTS = pa.schema([(name, pa.string()) for name in GOOD])


def parsed(
    spark: SparkSession, folder: Path, *rows: dict[str, str | None], **days: list[dict[str, str | None]]
) -> DataFrame:
    """The parsed rows of raw files with string columns, of one day or by day."""
    by_day = days or {DAY: list(rows)}
    for day, of_day in by_day.items():
        write_day(folder, day, pa.Table.from_pylist([{**GOOD, **row} for row in of_day], schema=TEXTS))
    raw = find_raw_events(str(folder), sorted(by_day))
    return raw.parsed(str(folder / "scratch"), "bigint").frame(spark)


REJECTED: dict[str, tuple[dict[str, str | None], str]] = {
    "next day": ({"event_time": "2019-10-02 00:00:00 UTC"}, "event outside its day"),
    "previous day": ({"event_time": "2019-10-01T01:30:00+05:30"}, "event outside its day"),  # 20:00 UTC
    "two rules": ({"event_time": "1990-01-01 00:00:00 UTC", "price": "-1"}, "event outside its day"),
    "zero time": ({"event_time": "1970-01-01 00:00:00 UTC"}, "unreadable event_time"),
    "no time": ({"event_time": "yesterday", "price": "x"}, "unreadable event_time"),
    "event type": ({"event_type": "wishlist", "user_id": "x"}, "unknown event_type"),
    "price": ({"price": "-0.01"}, "negative price"),
}


def test_rejected_events_keep_their_original_values_and_the_first_reason(spark: SparkSession, tmp_path: Path) -> None:
    rows = [{"user_session": name, **change} for name, (change, _) in REJECTED.items()]
    classified = classify(parsed(spark, tmp_path, *rows))
    table = rejected_events(classified)
    assert table.columns == [*REJECTED_EVENTS.names, "event_date"]
    rejected = {row["user_session"]: row for row in table.collect()}
    assert {name: row["reject_reason"] for name, row in rejected.items()} == {n: r for n, (_, r) in REJECTED.items()}
    for name, (change, reason) in REJECTED.items():
        if reason != "event outside its day":  # whose values were parsed
            assert rejected[name].asDict().items() >= {**GOOD, "user_session": name, **change}.items()
        assert rejected[name]["source_file"] == f"{tmp_path}/raw/events/event_date={DAY}/part-0.parquet"


def test_exact_repeats_of_an_accepted_event_of_one_day_count_once(spark: SparkSession, tmp_path: Path) -> None:
    same, zero, rejected = {"brand": " acme "}, {"price": "0"}, {"price": "-1"}
    first_day = [{}, same, {"price": "9.990"}, {"user_session": "s2"}, rejected, rejected]
    first_day += [zero, {"price": "-0.00"}, {"price": "0.00"}]
    days: dict[str, list[dict[str, str | None]]] = {DAY: first_day, "2019-10-02": [{"event_time": "2019-10-02 12:00"}]}
    classified = classify(parsed(spark, tmp_path, **days)).persist()
    assert count_by_day(classified) == {
        DAY: {"accepted": 3, "repeats": 4, "rejected": 2, "rejected: negative price": 2},
        "2019-10-02": {"accepted": 1, "repeats": 0, "rejected": 0},
    }
    table = accepted_events(classified)
    assert table.columns == [*EVENTS.names, "event_date"]
    types = {c.name: "bigint" if c.type == "id" else c.type for c in EVENTS.columns}
    assert dict(table.dtypes).items() >= types.items()
    assert sorted(row["price"] for row in table.collect()) == [0.0, 9.99, 9.99, 9.99]
    assert rejected_events(classified).count() == 2


def test_event_id_distinguishes_equal_events_and_identifies_repeats(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        {"event_id": "a"},
        {"event_id": "b"},  # equal to the first one, but another event
        {"event_id": "b", "event_time": "2019-10-01 12:00:01", "brand": "other"},  # a repeat
        {"event_id": "b", "price": "-1"},  # rejected, so not a repeat
        {},
        {},
    ]
    classified = classify(parsed(spark, tmp_path, *rows), has_event_ids=True).persist()
    accepted = sorted((r["event_id"] or "", r["brand"]) for r in accepted_events(classified).collect())
    assert accepted == [("", "acme"), ("a", "acme"), ("b", "acme")]
    counts = count_by_day(classified)[DAY]
    assert (counts["accepted"], counts["repeats"], counts["rejected"]) == (3, 2, 1)


def test_event_ids_are_detected_from_the_footer(tmp_path: Path) -> None:
    for event_id, expected in ((None, False), ("a", True)):
        write_day(tmp_path, DAY, pa.Table.from_pylist([{**GOOD, "event_id": event_id}], schema=TEXTS))
        raw = find_raw_events(str(tmp_path), [DAY])
        assert raw.parsed(str(tmp_path / "scratch"), "bigint").has_event_ids is expected


@pytest.mark.spark_only
def test_large_day_has_several_tasks_of_its_own(spark: SparkSession, tmp_path: Path) -> None:
    tasks_of_day = {"2019-10-01": 2, "2019-10-08": 1, "2019-10-15": 3}
    days: dict[str, list[dict[str, str | None]]] = {
        day: [{"event_time": f"{day} 12:00:{n:02d} UTC", "user_id": str(n)} for n in range(40)] * 2
        for day in tasks_of_day
    }
    rows_of_day = {day: tasks * 5_000_000 for day, tasks in tasks_of_day.items()}
    frame = parsed(spark, tmp_path, **days)
    classified = classify(frame, rows_of_day).withColumn("task", F.spark_partition_id()).persist()
    tasks = {str(row[0]): row[1] for row in classified.groupBy("event_date").agg(F.collect_set("task")).collect()}
    assert {day: len(numbers) for day, numbers in tasks.items()} == tasks_of_day
    assert len({number for numbers in tasks.values() for number in numbers}) == 6
    # Repeats are in the same task nevertheless.
    assert {tuple(row) for row in classified.select("copies").distinct().collect()} == {(2,)}
    assert classified.count() == 3 * 40


@pytest.mark.parametrize(
    ("rows", "firsts", "counts"),
    [
        ([40_000, 40_000, 40_000, 10], [0, 0, 1, 1], [1, 1, 1, 1]),
        ([10] * 18, [0] * 8 + [1] * 8 + [2] * 2, [1] * 18),
        ([10, 12_000_000, 10, 10], [0, 1, 4, 4], [1, 3, 1, 1]),
        ([100_001, 0, 5_000_000], [0, 1, 2], [1, 1, 1]),
    ],
)
def test_small_days_share_a_task(rows: list[int], firsts: list[int], counts: list[int]) -> None:
    assert _tasks_of_days(rows) == (firsts, counts)


@pytest.mark.spark_only
def test_numbers_by_task_are_repartitioned_to_their_tasks(spark: SparkSession) -> None:
    for tasks in (1, 90):
        numbers = _numbers_by_task(tasks)
        frame = spark.createDataFrame([(number,) for number in numbers], "task int").repartition(tasks, "task")
        partitions = {row["task"]: row["at"] for row in frame.withColumn("at", F.spark_partition_id()).collect()}
        assert [partitions[number] for number in numbers] == list(range(tasks))


@pytest.mark.spark_only
@pytest.mark.parametrize("by_sorting", [True, False])
def test_events_are_sorted_by_time_in_a_fixed_order(spark: SparkSession, tmp_path: Path, by_sorting: bool) -> None:
    times = [f"2019-10-01 {n % 24:02d}:{n * 7 % 60:02d}:{n % 5:02d}" for n in range(500)]
    rows: list[dict[str, str | None]] = [
        {"event_time": time, "user_id": str(n % 3), "price": str(n % 4)} for n, time in enumerate(times)
    ]
    setting = "spark.sql.execution.replaceHashWithSortAgg"
    previous = spark.conf.get(setting)
    spark.conf.set(setting, by_sorting)
    try:
        tables = []
        for number, given in enumerate((rows, rows[::-1])):
            frame = parsed(spark, tmp_path / str(number), *given).repartition(5)
            classified = classify(frame, rows_of_day={DAY: 1})
            tables.append([tuple(row) for row in accepted_events(classified).collect()])
            if by_sorting:
                with redirect_stdout(io.StringIO()) as printed:
                    classified.explain()
                plan = printed.getvalue().partition("== Initial Plan ==")[0]
                assert "SortAggregate" in plan
                assert plan.count("Sort [") == 1
    finally:
        spark.conf.set(setting, previous)
    assert tables[0] == tables[1]
    assert [row[0] for row in tables[0]] == sorted(row[0] for row in tables[0])
    assert len(tables[0]) == len({(row["event_time"], row["user_id"], row["price"]) for row in rows})


IRREGULAR = st.sampled_from([None, "", " ", "abc", "17", "-3", "1.0", "NaN", "2019-10-01 10:00:00", "view", "purchase"])
ROWS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(EVENTS.names, IRREGULAR)), max_size=60)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, has_event_ids=st.booleans())
def test_no_row_is_lost(
    spark: SparkSession, tmp_path: Path, rows: list[dict[str, str | None]], has_event_ids: bool
) -> None:
    classified = classify(parsed(spark, tmp_path, *rows), has_event_ids=has_event_ids)
    counts = count_by_day(classified).get(DAY, {"accepted": 0, "repeats": 0, "rejected": 0})
    assert counts["accepted"] + counts["repeats"] + counts["rejected"] == len(rows)
    assert sum(n for name, n in counts.items() if name.startswith("rejected: ")) == counts["rejected"]

"""Every rule of cleaning on hand-made rows, and that no row is lost whatever comes."""

from __future__ import annotations

import datetime as dt
import io
from contextlib import redirect_stdout
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.events.cleaning import (
    _numbers_by_task,
    _tasks_of_days,
    accepted_events,
    classify,
    count_by_day,
    rejected_events,
)
from ecommerce_assets.events.schema import EVENTS, REJECTED_EVENTS
from ecommerce_assets_tests.helpers import EVENTS_DDL, event

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
}


def text_frame(spark: SparkSession, *rows: dict[str, str | None], day: str = DAY) -> DataFrame:
    """Rows as they come from a CSV: all text."""
    values = [(day, "f.parquet", *[{**GOOD, **row}[name] for name in EVENTS.names]) for row in rows]
    names = ["event_date", "source_file", *EVENTS.names]
    return spark.createDataFrame(values, ", ".join(f"{name} string" for name in names))


def typed_frame(spark: SparkSession, events: list[dict[str, Any]], day: str = DAY, ddl: str = EVENTS_DDL) -> DataFrame:
    frame = spark.createDataFrame([tuple(e.values()) for e in events], ddl)
    return frame.withColumns({"event_date": F.lit(day), "source_file": F.lit("f.parquet")})


def only(frame: DataFrame) -> Row:
    [row] = frame.collect()
    return row


BAD: list[tuple[dict[str, str | None], str]] = [
    ({"event_time": None}, "missing event_time"),
    ({"event_time": "  "}, "missing event_time"),
    ({"event_time": "yesterday"}, "unreadable event_time"),
    ({"event_time": "2019"}, "unreadable event_time"),
    ({"event_time": "12:00:00"}, "unreadable event_time"),
    ({"event_time": "2019-02-30 10:00:00"}, "unreadable event_time"),
    ({"event_time": "1970-01-01 00:00:00 UTC"}, "unreadable event_time"),  # the zero time of a program
    ({"event_time": "1990-01-01 00:00:00 UTC"}, "event outside its day"),
    ({"event_time": "2019-10-02 00:00:00 UTC"}, "event outside its day"),
    ({"event_time": "2019-09-30T23:59:59+00:00"}, "event outside its day"),
    ({"event_type": "wishlist"}, "unknown event_type"),
    ({"event_type": None}, "unknown event_type"),
    ({"user_id": None}, "missing user_id"),
    ({"user_id": "abc"}, "unreadable user_id"),
    ({"user_id": "99999999999999999999"}, "unreadable user_id"),
    ({"product_id": ""}, "missing product_id"),
    ({"product_id": "1.5"}, "unreadable product_id"),
    ({"price": None}, "missing price"),
    ({"price": "abc"}, "unreadable price"),
    ({"price": "12d"}, "unreadable price"),
    ({"price": "1e300"}, "unreadable price"),
    ({"price": "NaN"}, "price is not a number"),
    ({"price": "inf"}, "infinite price"),
    ({"price": "-Infinity"}, "infinite price"),
    ({"price": "-0.01"}, "negative price"),
    ({"event_time": "2019-10-01T01:30:00+05:30"}, "event outside its day"),  # 20:00 UTC of the day before
]

GOOD_VALUES: list[tuple[dict[str, str | None], str, Any]] = [
    ({"event_time": "2019-10-01T11:57:06+00:00"}, "event_time", dt.datetime(2019, 10, 1, 11, 57, 6)),
    ({"event_time": "2019-10-01 11:57:06"}, "event_time", dt.datetime(2019, 10, 1, 11, 57, 6)),
    ({"event_time": "2019-10-01 11:57:06.25 UTC"}, "event_time", dt.datetime(2019, 10, 1, 11, 57, 6, 250_000)),
    ({"user_id": "1515915625519388267"}, "user_id", 1515915625519388267),
    ({"user_id": " 42 "}, "user_id", 42),
    ({"user_id": "42.0"}, "user_id", 42),
    ({"category_id": "unknown"}, "category_id", None),
    ({"category_code": " "}, "category_code", None),
    ({"brand": "\tacme "}, "brand", "acme"),
    ({"brand": ""}, "brand", None),
    ({"user_session": None}, "user_session", None),
    ({"price": "0.00"}, "price", 0.0),
    ({"price": " 1e3"}, "price", 1000.0),
    ({"event_type": " purchase"}, "event_type", "purchase"),
]


@pytest.fixture(scope="module")
def classified_cases(spark: SparkSession) -> tuple[dict[str, Row], dict[str, Row]]:
    """All cases in one reading: accepted and rejected rows by the case's number, which stands in user_session."""
    cases = [change for change, *_ in [*BAD, *GOOD_VALUES]]
    numbered = [{"user_session": str(number), **change} for number, change in enumerate(cases)]
    classified = classify([text_frame(spark, *numbered)]).persist()
    at = F.col("event_time").cast("timestamp_ntz")  # as Python sees it: without the zone of this machine
    accepted = accepted_events(classified).withColumn("event_time", at).collect()
    rejected = rejected_events(classified).collect()
    classified.unpersist()
    return {str(r["user_session"]): r for r in accepted}, {str(r["user_session"]): r for r in rejected}


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda n: f"{BAD[n][0]}")
def test_bad_rows_are_rejected_with_their_reason_and_their_text(
    classified_cases: tuple[dict[str, Row], dict[str, Row]], number: int
) -> None:
    accepted, rejected = classified_cases
    change, reason = BAD[number]
    assert str(number) not in accepted
    row = rejected[str(number)]
    assert row["reject_reason"] == reason
    assert {name: row[name] for name in EVENTS.names} == {**GOOD, "user_session": str(number), **change}
    assert row["source_file"] == "f.parquet"


@pytest.mark.parametrize("number", range(len(GOOD_VALUES)), ids=lambda n: f"{GOOD_VALUES[n][0]}")
def test_readable_values_are_accepted_and_tidied(
    classified_cases: tuple[dict[str, Row], dict[str, Row]], number: int
) -> None:
    change, column, value = GOOD_VALUES[number]
    key = change.get("user_session", str(len(BAD) + number))
    assert classified_cases[0][str(key)][column] == value


def test_texts_are_trimmed_as_python_trims_them(spark: SparkSession) -> None:
    """Of blanks, tabs and line ends, and of nothing else: all texts of up to four of these characters."""
    texts = ["".join(marks) for n in range(5) for marks in product(" \t\r\n\x01\xa0ä!", repeat=n)]
    frame = text_frame(spark, *[{"brand": text, "user_session": str(n)} for n, text in enumerate(texts)])
    found = {int(r["user_session"]): r["brand"] for r in accepted_events(classify([frame])).collect()}
    assert found == {n: text.strip(" \t\r\n") or None for n, text in enumerate(texts)}


def test_types_other_than_ours_are_understood(spark: SparkSession) -> None:
    ddl = (
        "event_time timestamp_ntz, event_type string, product_id int, category_id double, category_code string, "
        "brand string, price decimal(10,2), user_id double, user_session bigint"
    )
    row = event("2019-10-01 10:00:00", product_id=7, user_id=5.0, category_id=2.0, user_session=None)
    row |= {"event_time": dt.datetime(2019, 10, 1, 10), "price": None, "user_session": 99}
    frame = typed_frame(spark, [row], ddl=ddl).withColumn("price", F.lit("3.10").cast("decimal(10,2)"))
    cleaned = only(accepted_events(classify([frame])))
    assert (cleaned["product_id"], cleaned["user_id"], cleaned["category_id"]) == (7, 5, 2)
    assert (cleaned["price"], cleaned["user_session"]) == (3.1, "99")
    half = typed_frame(spark, [row | {"user_id": 5.5}], ddl=ddl).withColumn("price", F.lit("1").cast("decimal(10,2)"))
    assert only(rejected_events(classify([half])))["reject_reason"] == "unreadable user_id"


def test_ids_can_be_strings(spark: SparkSession) -> None:
    classified = classify([text_frame(spark, {"user_id": " u-7 ", "product_id": "SKU 1"})], id_type="string")
    row = only(accepted_events(classified))
    assert (row["user_id"], row["product_id"]) == ("u-7", "SKU 1")


def test_exact_repeats_of_an_accepted_row_count_once(spark: SparkSession) -> None:
    same_after_cleaning = {"brand": " acme "}
    other = {"user_session": "s2"}
    bad = {"price": "-1"}
    frame = text_frame(spark, {}, same_after_cleaning, {}, other, bad, bad)
    classified = classify([frame])
    assert accepted_events(classified).count() == 2
    assert rejected_events(classified).count() == 2, "rejected rows are all kept"
    counts = count_by_day(classified)
    assert counts == {DAY: {"accepted": 2, "repeats": 2, "rejected": 2, "rejected: negative price": 2}}


def test_zero_below_zero_is_zero(spark: SparkSession) -> None:
    classified = classify([text_frame(spark, {"price": "-0.00"}, {"price": "0.00"}, {"price": "0"})])
    assert only(accepted_events(classified))["price"] == 0.0
    assert count_by_day(classified) == {DAY: {"accepted": 1, "repeats": 2, "rejected": 0}}


def test_equal_rows_of_two_days_are_no_repeats(spark: SparkSession) -> None:
    first = text_frame(spark, {})
    second = text_frame(spark, {"event_time": "2019-10-02 12:00:00 UTC"}, day="2019-10-02")
    assert accepted_events(classify([first, second])).count() == 2


def test_a_large_day_has_several_tasks_and_shares_none(spark: SparkSession) -> None:
    days = ["2019-10-01", "2019-10-08", "2019-10-15"]
    frames = [
        text_frame(
            spark,
            *[{"event_time": f"{day} 12:00:{n:02d} UTC", "user_id": str(n)} for n in range(40)] * 2,
            day=day,
        )
        for day in days
    ]
    tasks_of_day = dict(zip(days, (2, 1, 3), strict=True))
    rows_of_day = {day: tasks * 5_000_000 for day, tasks in tasks_of_day.items()}
    classified = classify(frames, rows_of_day=rows_of_day).withColumn("task", F.spark_partition_id()).persist()
    tasks = {str(row[0]): row[1] for row in classified.groupBy("event_date").agg(F.collect_set("task")).collect()}
    assert {day: len(own) for day, own in tasks.items()} == tasks_of_day
    assert len({task for own in tasks.values() for task in own}) == 6
    # Repeats meet all the same.
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


def test_each_task_has_a_number_of_its_own(spark: SparkSession) -> None:
    for tasks in (1, 2, 7, 90):
        numbers = _numbers_by_task(tasks)
        frame = spark.createDataFrame([(number,) for number in numbers], "task int").repartition(tasks, "task")
        found = {row["task"]: row["at"] for row in frame.withColumn("at", F.spark_partition_id()).collect()}
        assert [found[number] for number in numbers] == list(range(tasks))


@pytest.mark.parametrize("by_sorting", [True, False])
def test_rows_come_in_a_fixed_order_by_time(spark: SparkSession, by_sorting: bool) -> None:
    times = [f"2019-10-01 {n % 24:02d}:{n * 7 % 60:02d}:{n % 5:02d}" for n in range(500)]
    rows: list[dict[str, str | None]] = [
        {"event_time": time, "user_id": str(n % 3), "price": str(n % 4)} for n, time in enumerate(times)
    ]
    setting = "spark.sql.execution.replaceHashWithSortAgg"
    before = spark.conf.get(setting)
    spark.conf.set(setting, by_sorting)
    try:
        found = []
        for given in (rows, rows[::-1]):
            classified = classify([text_frame(spark, *given).repartition(5)], rows_of_day={DAY: 1})
            found.append([tuple(row) for row in accepted_events(classified).collect()])
            if by_sorting:
                with redirect_stdout(io.StringIO()) as printed:
                    classified.explain()
                plan = printed.getvalue().partition("== Initial Plan ==")[0]
                assert "SortAggregate" in plan
                assert plan.count("Sort [") == 1
    finally:
        spark.conf.set(setting, before)
    assert found[0] == found[1]
    assert [row[0] for row in found[0]] == sorted(row[0] for row in found[0])
    assert len(found[0]) == len({(row["event_time"], row["user_id"], row["price"]) for row in rows})


def test_tables_have_their_columns(spark: SparkSession) -> None:
    classified = classify([text_frame(spark, {}, {"price": "x"})])
    assert accepted_events(classified).columns == [*EVENTS.names, "event_date"]
    assert rejected_events(classified).columns == [*REJECTED_EVENTS.names, "event_date"]
    kinds = dict(accepted_events(classified).dtypes)
    declared = {c.name: "bigint" if c.type == "id" else c.type for c in EVENTS.columns}
    assert {name: kinds[name] for name in EVENTS.names} == declared


odd_text = st.sampled_from([None, "", " ", "abc", "17", "-3", "1.0", "NaN", "2019-10-01 10:00:00", "view", "purchase"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(EVENTS.names, odd_text)), max_size=30))
def test_no_row_is_lost(spark: SparkSession, rows: list[dict[str, str | None]]) -> None:
    counts = count_by_day(classify([text_frame(spark, *rows)])).get(DAY, {"accepted": 0, "repeats": 0, "rejected": 0})
    assert counts["accepted"] + counts["repeats"] + counts["rejected"] == len(rows)
    assert sum(n for name, n in counts.items() if name.startswith("rejected: ")) == counts["rejected"]

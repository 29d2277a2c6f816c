"""Bad input of every kind from file to cleaned day: each row is accepted, rejected or a repeat."""

from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.events.cleaning import classify, count_by_day, rejected_events
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets_tests.events.landing_files import HEADER, NEXT_DAY, ROW, csv_file, land_one, parquet_file

VALUES = [
    ("event_time", "", "missing event_time"),
    ("event_time", "soon", "unreadable event_time"),
    ("event_time", "2019-10-01 10:00:00 BST", "unreadable event_time"),
    ("event_time", "1970-01-01 00:00:00", "unreadable event_time"),
    ("event_type", "wishlist", "unknown event_type"),
    ("user_id", "NA", "missing user_id"),
    ("product_id", " ", "missing product_id"),
    ("price", "abc", "unreadable price"),
    ("price", "inf", "infinite price"),
    ("price", "-0.01", "negative price"),
    ("category_id", "x", None),
    ("brand", r"\N", None),
    ("event_time", "2019/10/01 10:00", None),
    ("user_id", "17.0", None),
]
LINES = [f"{ROW},x", ROW.replace("acme", '"acme'), "cut off"]


def test_rows_that_landing_counts_are_accepted_rejected_or_repeats(
    spark: SparkSession, tmp_path: Path, data_dir: Path
) -> None:
    names = HEADER.split(",")
    rows = [
        ",".join({**dict(zip(names, ROW.split(","), strict=True)), "user_session": str(n), column: value}.values())
        for n, (column, value, _) in enumerate(VALUES)
    ]
    summary = land_one(csv_file(tmp_path, *rows, *LINES, ROW, ROW, NEXT_DAY), data_dir)
    raw = find_raw_events(str(data_dir), ["2019-10-01", "2019-10-02"])
    classified = classify(raw.parsed(str(tmp_path / "parsed"), "bigint").frame(spark)).cache()
    by_day = count_by_day(classified)
    total = sum((Counter(counts) for counts in by_day.values()), Counter())
    assert total["accepted"] + total["rejected"] + total["repeats"] == summary.sources[0].rows_landed
    assert total["accepted"] == sum(reason is None for *_, reason in VALUES) + 2
    assert total["repeats"] == 1
    expected = Counter(reason for *_, reason in VALUES if reason) + Counter({"unreadable line": len(LINES)})
    assert {f"rejected: {reason}": count for reason, count in expected.items()}.items() <= total.items()
    rejected = rejected_events(classified).collect()
    assert len(rejected) == total["rejected"] == sum(expected.values())
    kept = {row["user_session"]: row for row in rejected if row["user_session"]}
    for number, (column, value, reason) in enumerate(VALUES):
        if reason:
            assert kept[str(number)][column] == (value or None)


DAY = date(2020, 1, 1)
NOON = datetime(2020, 1, 1, 12)
PARTITIONS: dict[str, tuple[dict[str, pa.Array], str | None]] = {
    "another day": ({"event_time": pa.array([NOON + timedelta(days=99)])}, "event outside its day"),
    "nanoseconds": ({}, None),
    "ids as doubles": ({"user_id": pa.array([17.0])}, None),
    "ids as fractions": ({"user_id": pa.array([17.5])}, "unreadable user_id"),
    "ids that are null": ({"user_id": pa.array([None], pa.int64())}, "missing user_id"),
    "prices as text": ({"price": pa.array(["cheap"])}, "unreadable price"),
    "prices NaN": ({"price": pa.array([float("nan")])}, "price is not a number"),
    "times as text": ({"event_time": pa.array(["soon"])}, "unreadable event_time"),
}


@pytest.fixture(scope="module")
def counts_by_day(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """Counts of one day for each kind of partition, and a day without rows, cleaned in one Spark job."""
    data_dir = tmp_path_factory.mktemp("partitions")
    days = [str(DAY + timedelta(days=number)) for number in range(len(PARTITIONS) + 1)]
    for number, (day, (columns, _)) in enumerate(zip(days, PARTITIONS.values(), strict=False)):
        time = pa.array([NOON + timedelta(days=number)], pa.timestamp("ns"))
        parquet_file(data_dir / f"raw/events/event_date={day}/x", **{"event_time": time, **columns})
    parquet_file(data_dir / f"raw/events/event_date={days[-1]}/x", 0)
    raw = find_raw_events(str(data_dir), days)
    return count_by_day(classify(raw.parsed(str(data_dir / "parsed"), "bigint").frame(spark)))


@pytest.mark.parametrize(("number", "name"), list(enumerate(PARTITIONS)))
def test_partitions_of_other_jobs_are_parsed(counts_by_day: dict[str, dict[str, int]], number: int, name: str) -> None:
    reason = PARTITIONS[name][1]
    counts = counts_by_day[str(DAY + timedelta(days=number))]
    assert (counts["accepted"], counts["rejected"]) == ((0, 1) if reason else (1, 0))
    assert not reason or counts[f"rejected: {reason}"] == 1


def test_day_without_rows_has_no_counts(counts_by_day: dict[str, dict[str, int]]) -> None:
    assert len(counts_by_day) == len(PARTITIONS)

"""Finding raw files: what is there, what is missing, and what the person is told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.events.cleaning import accepted_events, classify
from ecommerce_assets.events.raw import RawDataError, find_raw_events
from ecommerce_assets_tests.helpers import event, events_frame, write_day


def test_days_are_told_apart_and_rows_counted(tmp_path: Path) -> None:
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")] * 3)
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 11:00:00")], name="part-1")
    write_day(tmp_path, "2019-10-03", [event("2019-10-03 10:00:00")])
    raw = find_raw_events(str(tmp_path), ["2019-10-01", "2019-10-02", "2019-10-03"])
    assert (raw.days, raw.absent) == (("2019-10-01", "2019-10-03"), ("2019-10-02",))
    assert (raw.rows("2019-10-01"), raw.rows("2019-10-03")) == (4, 1)
    first, second = raw.inputs()
    assert [f.path for f in first.files] == [f"event_date=2019-10-01/part-{n}.parquet" for n in (0, 1)]
    assert first.fingerprint != second.fingerprint


def test_fingerprint_follows_names_and_sizes(tmp_path: Path) -> None:
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    before = find_raw_events(str(tmp_path), ["2019-10-01"]).inputs()[0].fingerprint
    assert find_raw_events(str(tmp_path), ["2019-10-01"]).inputs()[0].fingerprint == before
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")], name="late")
    assert find_raw_events(str(tmp_path), ["2019-10-01"]).inputs()[0].fingerprint != before


def test_hidden_and_foreign_files_are_left_alone(tmp_path: Path) -> None:
    path = write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    for name in ("_SUCCESS", ".part-0.parquet.crc", "_temporary.parquet", "notes.txt"):
        (path.parent / name).write_text("x")
    assert find_raw_events(str(tmp_path), ["2019-10-01"]).rows("2019-10-01") == 1


def test_absent_folder_says_where_it_looked_and_how_to_land(tmp_path: Path) -> None:
    with pytest.raises(RawDataError) as error:
        find_raw_events(str(tmp_path), ["2019-10-01"])
    assert str(tmp_path / "raw" / "events") in str(error.value)
    assert "python -m ecommerce_assets.events.landing" in str(error.value)


def test_absent_day_is_named_with_its_folder(tmp_path: Path) -> None:
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    with pytest.raises(RawDataError) as error:
        find_raw_events(str(tmp_path), ["2019-10-05"])
    assert "2019-10-05" in str(error.value)
    assert str(tmp_path / "raw" / "events" / "event_date=2019-10-05") in str(error.value)
    with pytest.raises(RawDataError, match="any day from 2019-10-05 to 2019-10-06"):
        find_raw_events(str(tmp_path), ["2019-10-05", "2019-10-06"])


def test_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "events" / "event_date=2019-10-01"
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_text("event_time,event_type\n")
    with pytest.raises(RawDataError, match=r"event_date=2019-10-01/part-0\.parquet is not a readable Parquet file"):
        find_raw_events(str(tmp_path), ["2019-10-01"])


def test_missing_column_is_named_and_optional_ones_become_null(spark: SparkSession, tmp_path: Path) -> None:
    whole = event("2019-10-01 10:00:00", brand="acme")
    optional = ("user_session", "brand", "category_code", "category_id")
    table = pa.Table.from_pylist([{n: v for n, v in whole.items() if n not in optional}])
    write_day(tmp_path, "2019-10-01", table)
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    [row] = accepted_events(classify(raw.frames(spark))).collect()
    assert [row[name] for name in optional] == [None] * 4
    write_day(tmp_path, "2019-10-01", table.drop_columns(["price", "user_id"]), name="bad")
    with pytest.raises(RawDataError, match=r"bad\.parquet lacks the columns price, user_id; it has event_time"):
        find_raw_events(str(tmp_path), ["2019-10-01"])


def test_files_of_different_types_are_read_together(spark: SparkSession, tmp_path: Path) -> None:
    one, two = event("2019-10-01 10:00:00"), event("2019-10-01 11:00:00", product_id=2)
    write_day(tmp_path, "2019-10-01", [one])
    as_text = {name: None if value is None else str(value) for name, value in two.items()}
    schema = pa.schema([(name, pa.string()) for name in as_text])
    write_day(tmp_path, "2019-10-01", pa.Table.from_pylist([as_text], schema=schema), name="text")
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    rows = accepted_events(classify(raw.frames(spark))).orderBy("product_id").collect()
    assert [row["product_id"] for row in rows] == [1, 2]


def test_nanoseconds_of_pandas_are_read(spark: SparkSession, tmp_path: Path) -> None:
    row = event("2019-10-01 10:00:00")
    frame = pd.DataFrame([row])
    frame["event_time"] = frame["event_time"].astype("datetime64[ns, UTC]")
    folder = tmp_path / "raw" / "events" / "event_date=2019-10-01"
    folder.mkdir(parents=True)
    frame.to_parquet(folder / "pandas.parquet")
    assert "ns" in str(pq.read_schema(folder / "pandas.parquet").field("event_time").type)
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    [cleaned] = accepted_events(classify(raw.frames(spark))).selectExpr("string(event_time) at").collect()
    assert cleaned["at"] == "2019-10-01 10:00:00"


@pytest.mark.parametrize("fraction", ["123", "123456", "000128", "999999"])
def test_nanoseconds_lose_nothing_above_them(spark: SparkSession, tmp_path: Path, fraction: str) -> None:
    # 2,000 milliseconds (or microseconds) in a row: in floating point one of eight (or 64) came out one too early.
    step = 1_000_000 if len(fraction) == 3 else 1_000
    begin = pd.Timestamp(f"2019-10-01 10:00:00.{fraction}", tz="UTC").value
    ticks = [begin + number * step for number in range(2_000)]
    times = pa.array(ticks, pa.timestamp("ns", "UTC"))
    rows = pa.Table.from_pylist([event("2019-10-01 10:00:00", product_id=n) for n in range(len(ticks))])
    write_day(tmp_path, "2019-10-01", rows.set_column(0, "event_time", times))
    found = accepted_events(classify(find_raw_events(str(tmp_path), ["2019-10-01"]).frames(spark)))
    read = {
        row["product_id"]: row["at"] for row in found.selectExpr("product_id", "unix_micros(event_time) at").collect()
    }
    assert read == {number: tick // 1_000 for number, tick in enumerate(ticks)}


def test_times_as_spark_writes_them_are_read_beside_others(spark: SparkSession, tmp_path: Path) -> None:
    other = write_day(tmp_path, "2019-10-01", [event("2019-10-01 11:00:00.5", product_id=2)])
    by_spark = events_frame(spark, [event("2019-10-01 10:00:00.25")]).coalesce(1)
    by_spark.sparkSession.conf.set("spark.sql.parquet.outputTimestampType", "INT96")
    try:
        by_spark.write.parquet(str(tmp_path / "spark"))
    finally:
        by_spark.sparkSession.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    [written] = (tmp_path / "spark").glob("*.parquet")
    assert pq.ParquetFile(written).schema.column(0).physical_type == "INT96"
    written.rename(other.parent / "spark.parquet")
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    found = accepted_events(classify(raw.frames(spark))).selectExpr("string(event_time) at").collect()
    assert sorted(row["at"] for row in found) == ["2019-10-01 10:00:00.25", "2019-10-01 11:00:00.5"]


def test_a_range_that_ends_before_it_begins_has_no_days(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="No day was asked for: a range is its first day, three dots and its last"):
        find_raw_events(str(tmp_path), [])

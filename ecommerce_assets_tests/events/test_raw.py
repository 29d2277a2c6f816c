"""Finding raw files: what is there, what is missing, and what the person is told."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.events.cleaning import accepted_events, classify
from ecommerce_assets.events.landing import land
from ecommerce_assets.events.parsing import IdType
from ecommerce_assets.events.raw import RawDataError, RawEvents, find_raw_events
from ecommerce_assets_tests.helpers import event, events_frame, write_day


def events_of(spark: SparkSession, raw: RawEvents, id_type: IdType = "bigint") -> DataFrame:
    """The parsed rows of the raw files."""
    return raw.parsed(f"{raw.folder.path}/../../scratch", id_type).frame(spark)


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


def test_fingerprint_follows_names_sizes_and_times(tmp_path: Path) -> None:
    def fingerprint() -> str:
        return find_raw_events(str(tmp_path), ["2019-10-01"]).inputs()[0].fingerprint

    path = write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    found = [fingerprint()]
    assert fingerprint() == found[0]
    size = path.stat().st_size
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00", price=2.0)])
    os.utime(path, (1, 1))
    assert path.stat().st_size == size, "replaced by a file of the same size with an older time"
    found.append(fingerprint())
    write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")], name="late")
    found.append(fingerprint())
    assert len(set(found)) == 3


def test_hidden_files_are_ignored_and_others_named(tmp_path: Path) -> None:
    path = write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    for name in ("_SUCCESS", ".part-0.parquet.crc", "_temporary.parquet", "notes.txt", "events.csv"):
        (path.parent / name).write_text("x")
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    assert raw.rows("2019-10-01") == 1
    assert [file.path.partition("/")[2] for file in raw.other_files] == ["events.csv", "notes.txt"]


@pytest.mark.parametrize("name", ["000000_0", "x.PARQUET", "data.pq", "part-0"])
def test_parquet_is_read_whatever_its_name(spark: SparkSession, tmp_path: Path, name: str) -> None:
    path = write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    path.rename(path.parent / name)
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    assert raw.rows("2019-10-01") == 1
    assert accepted_events(classify(events_of(spark, raw))).count() == 1


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    path = write_day(tmp_path / "elsewhere", "2019-10-01", [event("2019-10-01 10:00:00")])
    other = write_day(tmp_path, "2019-10-02", [event("2019-10-02 10:00:00")])
    days = other.parent.parent
    (days / "event_date=2019-10-01").symlink_to(path.parent)
    (other.parent / "link.parquet").symlink_to(path)
    (other.parent / "loop").symlink_to(days)
    (days / "event_date=2019-10-03").mkdir()
    (days / "event_date=2019-10-03/gone.parquet").symlink_to(tmp_path / "gone")
    raw = find_raw_events(str(tmp_path), [f"2019-10-0{n}" for n in (1, 2, 3)])
    assert {day: raw.rows(day) for day in raw.days} == {"2019-10-01": 1, "2019-10-02": 2}
    assert "gone.parquet cannot be read" in raw.unreadable["2019-10-03"]


def test_a_day_without_any_parquet_is_unreadable_and_not_empty(tmp_path: Path) -> None:
    good = write_day(tmp_path, "2019-10-01", [event("2019-10-01 10:00:00")])
    bad = good.parent.parent / "event_date=2019-10-02"
    bad.mkdir()
    (bad / "events.csv").write_text("event_time,event_type\n")
    raw = find_raw_events(str(tmp_path), ["2019-10-01", "2019-10-02"])
    assert raw.days == ("2019-10-01",)
    assert "event_date=2019-10-02 has no Parquet file, only events.csv: land it" in raw.unreadable["2019-10-02"]


def test_a_damaged_page_makes_its_day_unreadable_and_no_other(spark: SparkSession, tmp_path: Path) -> None:
    for day in ("2019-10-01", "2019-10-02"):
        rows = [event(f"{day} 10:00:00", product_id=n * 7919, user_id=n) for n in range(500)]
        path = write_day(tmp_path, day, rows)
    damage(path)
    raw = find_raw_events(str(tmp_path), ["2019-10-01", "2019-10-02"])
    assert raw.days == ("2019-10-01", "2019-10-02"), "the footer is sound"
    parsed = raw.parsed(str(tmp_path / "scratch"), "bigint")
    assert parsed.raw.days == ("2019-10-01",)
    assert "event_date=2019-10-02/part-0.parquet cannot be read" in parsed.raw.unreadable["2019-10-02"]
    assert parsed.frame(spark).count() == 500


def test_no_event_of_a_day_with_an_unreadable_file_is_read(spark: SparkSession, tmp_path: Path) -> None:
    for day in ("2019-10-01", "2019-10-02"):
        path = write_day(tmp_path, day, [event(f"{day} 10:00:00", product_id=n * 7919, user_id=n) for n in range(500)])
    write_day(tmp_path, "2019-10-02", [event("2019-10-02 11:00:00")], name="good")
    damage(path)
    parsed = find_raw_events(str(tmp_path), ["2019-10-01", "2019-10-02"]).parsed(str(tmp_path / "scratch"), "bigint")
    days = {str(row["event_date"]): row["count"] for row in parsed.frame(spark).groupBy("event_date").count().collect()}
    assert days == {"2019-10-01": 500}


def test_a_page_with_another_checksum_makes_its_day_unreadable(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([event("2019-10-01 10:00:00", product_id=n) for n in range(500)])
    path = write_day(tmp_path, "2019-10-01", rows)
    pq.write_table(rows, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(RawDataError, match="CRC checksum verification failed"):
        find_raw_events(str(tmp_path), ["2019-10-01"]).parsed(str(tmp_path / "scratch"), "bigint")


def test_a_damaged_page_of_a_landed_file_is_found(tmp_path: Path) -> None:
    lines = [f"2019-10-0{1 + n % 2} 10:00:00,view,{n * 7919},1.5,{n}" for n in range(2000)]
    (tmp_path / "x.csv").write_text("event_time,event_type,product_id,price,user_id\n" + "\n".join(lines) + "\n")
    land([str(tmp_path / "x.csv")], tmp_path / "shop")
    [path] = (tmp_path / "shop/raw/events/event_date=2019-10-02").glob("*.parquet")
    damage(path)
    raw = find_raw_events(str(tmp_path / "shop"), ["2019-10-01", "2019-10-02"])
    assert list(raw.damaged_days()) == ["2019-10-02"]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle, length = len(content) // 4, len(content) // 8
    content[middle : middle + length] = b"\xff" * length
    path.write_bytes(content)


def test_brotli_and_text_that_is_not_utf8_are_read(spark: SparkSession, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([event("2019-10-01 10:00:00", product_id=n) for n in range(3)])
    brands = pa.array([b"ok", b"caf\xe9", b"\xff"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, brands.buffers())  # said to be UTF-8, and not
    path = write_day(tmp_path, "2019-10-01", table)
    for kind, name in ((brands, "bytes"), (texts, "texts")):
        position = table.schema.get_field_index("brand")
        pq.write_table(table.set_column(position, "brand", kind), path.parent / f"{name}.parquet", compression="brotli")
    path.unlink()
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    rows = accepted_events(classify(events_of(spark, raw))).collect()
    assert sorted(str(row["brand"]) for row in rows) == ["None", "None", "ok"]


def test_landed_files_of_the_other_id_type_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("event_time,event_type,product_id,price,user_id\n2019-10-01,view,1,1.5,1\n")
    land([str(tmp_path / "x.csv")], tmp_path / "shop")
    with pytest.raises(RawDataError, match="landed with ECOMMERCE_ID_TYPE=bigint"):
        find_raw_events(str(tmp_path / "shop"), ["2019-10-01"], "string")


def test_absent_folder_says_where_it_looked_and_how_to_land(tmp_path: Path) -> None:
    with pytest.raises(RawDataError) as error:
        find_raw_events(str(tmp_path), ["2019-10-01"])
    assert str(tmp_path / "raw" / "events") in str(error.value)
    assert "ecommerce-assets land" in str(error.value)


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
    with pytest.raises(RawDataError, match=r"event_date=2019-10-01/part-0\.parquet cannot be read"):
        find_raw_events(str(tmp_path), ["2019-10-01"])


def test_missing_column_is_named_and_optional_ones_become_null(spark: SparkSession, tmp_path: Path) -> None:
    whole = event("2019-10-01 10:00:00", brand="acme")
    optional = ("user_session", "brand", "category_code", "category_id")
    table = pa.Table.from_pylist([{n: v for n, v in whole.items() if n not in optional}])
    write_day(tmp_path, "2019-10-01", table)
    raw = find_raw_events(str(tmp_path), ["2019-10-01"])
    [row] = accepted_events(classify(events_of(spark, raw))).collect()
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
    rows = accepted_events(classify(events_of(spark, raw))).orderBy("product_id").collect()
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
    [cleaned] = accepted_events(classify(events_of(spark, raw))).selectExpr("cast(event_time as string) at").collect()
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
    found = accepted_events(classify(events_of(spark, find_raw_events(str(tmp_path), ["2019-10-01"]))))
    read = {
        row["product_id"]: row["at"] for row in found.selectExpr("product_id", "unix_micros(event_time) at").collect()
    }
    assert read == {number: tick // 1_000 for number, tick in enumerate(ticks)}


@pytest.mark.spark_only
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
    found = accepted_events(classify(events_of(spark, raw))).selectExpr("cast(event_time as string) at").collect()
    assert sorted(row["at"] for row in found) == ["2019-10-01 10:00:00.25", "2019-10-01 11:00:00.5"]


def test_a_range_that_ends_before_it_begins_has_no_days(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="range of days is empty"):
        find_raw_events(str(tmp_path), [])

"""Raw files: which are found, how they are parsed, and errors that name the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.events.landing import land
from ecommerce_assets.events.raw import RawDataError, RawEvents, find_raw_events
from ecommerce_assets_tests.helpers import event, events_frame, write_day

DAY, NEXT_DAY = "2019-10-01", "2019-10-02"


def parsed(raw: RawEvents) -> list[dict[str, Any]]:
    """The rows of the parsed files, which must all be accepted."""
    folder = Path(raw.folder.path).parents[1] / "parsed"
    assert raw.parsed(str(folder), "bigint").raw == raw
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert {row["reject_reason"] for row in rows} <= {None}
    return rows


def many_events(day: str) -> list[dict[str, Any]]:
    return [event(f"{day} 10:00:00", product_id=n * 7919, user_id=n) for n in range(500)]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle, length = len(content) // 4, len(content) // 8
    content[middle : middle + length] = b"\xff" * length
    path.write_bytes(content)


def test_days_files_and_rows_are_found(tmp_path: Path) -> None:
    write_day(tmp_path, DAY, [event(f"{DAY} 10:00:00")] * 3)
    write_day(tmp_path, DAY, [event(f"{DAY} 11:00:00")], name="part-1")
    write_day(tmp_path, "2019-10-03", [event("2019-10-03 10:00:00")])
    raw = find_raw_events(str(tmp_path), [DAY, NEXT_DAY, "2019-10-03"])
    assert (raw.days, raw.absent) == ((DAY, "2019-10-03"), (NEXT_DAY,))
    assert (raw.rows(DAY), raw.rows("2019-10-03")) == (4, 1)
    first, second = raw.inputs()
    assert [f.path for f in first.files] == [f"event_date={DAY}/part-{n}.parquet" for n in (0, 1)]
    assert first.fingerprint != second.fingerprint


def test_fingerprint_depends_on_names_sizes_and_times(tmp_path: Path) -> None:
    def fingerprint() -> str:
        return find_raw_events(str(tmp_path), [DAY]).inputs()[0].fingerprint

    path = write_day(tmp_path, DAY, [event(f"{DAY} 10:00:00")])
    fingerprints = [fingerprint()]
    assert fingerprint() == fingerprints[0]
    size = path.stat().st_size
    write_day(tmp_path, DAY, [event(f"{DAY} 10:00:00", price=2.0)])
    os.utime(path, (1, 1))
    assert path.stat().st_size == size, "replaced by a file of the same size with an older time"
    fingerprints.append(fingerprint())
    write_day(tmp_path, DAY, [event(f"{DAY} 10:00:00")], name="late")
    fingerprints.append(fingerprint())
    assert len(set(fingerprints)) == 3


def test_parquet_files_are_read_whatever_their_name_and_others_are_reported(tmp_path: Path) -> None:
    path = write_day(tmp_path, DAY, [event(f"{DAY} 10:00:00")])
    for name in ("000000_0", "x.PARQUET", "data.pq"):
        (path.parent / name).write_bytes(path.read_bytes())
    path.rename(path.parent / "part-0")
    for name in ("_SUCCESS", ".part-0.parquet.crc", "_temporary.parquet", "notes.txt", "events.csv"):
        (path.parent / name).write_text("x")
    raw = find_raw_events(str(tmp_path), [DAY])
    assert raw.rows(DAY) == len(parsed(raw)) == 4
    assert [file.path.partition("/")[2] for file in raw.other_files] == ["events.csv", "notes.txt"]


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    path = write_day(tmp_path / "elsewhere", DAY, [event(f"{DAY} 10:00:00")])
    other = write_day(tmp_path, NEXT_DAY, [event(f"{NEXT_DAY} 10:00:00")])
    days = other.parent.parent
    (days / f"event_date={DAY}").symlink_to(path.parent)
    (other.parent / "link.parquet").symlink_to(path)
    (other.parent / "loop").symlink_to(days)
    (days / "event_date=2019-10-03").mkdir()
    (days / "event_date=2019-10-03/gone.parquet").symlink_to(tmp_path / "gone")
    raw = find_raw_events(str(tmp_path), [f"2019-10-0{n}" for n in (1, 2, 3)])
    assert {day: raw.rows(day) for day in raw.days} == {DAY: 1, NEXT_DAY: 2}
    assert "gone.parquet cannot be read" in raw.unreadable["2019-10-03"]


class TestUnreadable:
    def test_day_without_parquet_is_unreadable_and_not_empty(self, tmp_path: Path) -> None:
        good = write_day(tmp_path, DAY, [event(f"{DAY} 10:00:00")])
        bad = good.parent.parent / f"event_date={NEXT_DAY}"
        bad.mkdir()
        (bad / "events.csv").write_text("event_time,event_type\n")
        raw = find_raw_events(str(tmp_path), [DAY, NEXT_DAY])
        assert raw.days == (DAY,)
        assert f"event_date={NEXT_DAY} has no Parquet file, only events.csv" in raw.unreadable[NEXT_DAY]

    def test_day_with_a_damaged_page_is_left_out_with_its_readable_files(
        self, spark: SparkSession, tmp_path: Path
    ) -> None:
        for day in (DAY, NEXT_DAY):
            path = write_day(tmp_path, day, many_events(day))
        write_day(tmp_path, NEXT_DAY, [event(f"{NEXT_DAY} 11:00:00")], name="good")
        damage(path)
        raw = find_raw_events(str(tmp_path), [DAY, NEXT_DAY])
        assert raw.days == (DAY, NEXT_DAY), "the footer is valid"
        events = raw.parsed(str(tmp_path / "scratch"), "bigint")
        assert events.raw.days == (DAY,)
        assert f"event_date={NEXT_DAY}/part-0.parquet cannot be read" in events.raw.unreadable[NEXT_DAY]
        rows = events.frame(spark).groupBy("event_date").count().collect()
        assert [(str(row["event_date"]), row["count"]) for row in rows] == [(DAY, 500)]

    def test_page_with_a_wrong_checksum_is_unreadable(self, tmp_path: Path) -> None:
        rows = pa.Table.from_pylist(many_events(DAY))
        path = write_day(tmp_path, DAY, rows)
        pq.write_table(rows, path, compression="none", use_dictionary=False, write_page_checksum=True)
        content = bytearray(path.read_bytes())
        content[5000] ^= 1
        path.write_bytes(content)
        with pytest.raises(RawDataError, match="CRC checksum verification failed"):
            find_raw_events(str(tmp_path), [DAY]).parsed(str(tmp_path / "scratch"), "bigint")

    def test_damaged_page_of_a_landed_file_is_found(self, tmp_path: Path) -> None:
        lines = [f"2019-10-0{1 + n % 2} 10:00:00,view,{n * 7919},1.5,{n}" for n in range(2000)]
        (tmp_path / "x.csv").write_text("event_time,event_type,product_id,price,user_id\n" + "\n".join(lines) + "\n")
        land([str(tmp_path / "x.csv")], tmp_path / "shop")
        [path] = (tmp_path / f"shop/raw/events/event_date={NEXT_DAY}").glob("*.parquet")
        damage(path)
        raw = find_raw_events(str(tmp_path / "shop"), [DAY, NEXT_DAY])
        assert list(raw.damaged_days()) == [NEXT_DAY]
        with pytest.raises(RawDataError, match="landed with ECOMMERCE_ID_TYPE=bigint"):
            find_raw_events(str(tmp_path / "shop"), [DAY], "string")

    @pytest.mark.parametrize(
        ("days", "error"),
        [
            ([], "range of days is empty"),
            (["2019-10-05"], "event_date=2019-10-05 does not exist"),
            (["2019-10-05", "2019-10-06"], "any day from 2019-10-05 to 2019-10-06"),
            ([NEXT_DAY], r"event_date=2019-10-02/part-0\.parquet cannot be read"),
            (["2019-10-03"], r"bad\.parquet lacks the columns price, user_id; it has event_time"),
        ],
    )
    def test_error_names_the_day_or_file(self, tmp_path: Path, days: list[str], error: str) -> None:
        write_day(tmp_path, DAY, [event(f"{DAY} 10:00:00")])
        write_day(tmp_path, NEXT_DAY, [event(f"{NEXT_DAY} 10:00:00")]).write_text("event_time,event_type\n")
        table = pa.Table.from_pylist([event("2019-10-03 10:00:00")])
        write_day(tmp_path, "2019-10-03", table.drop_columns(["price", "user_id"]), name="bad")
        with pytest.raises(RawDataError, match=error):
            find_raw_events(str(tmp_path), days)

    def test_error_for_a_missing_folder_names_the_command_that_lands(self, tmp_path: Path) -> None:
        with pytest.raises(RawDataError, match=f"{tmp_path}/raw/events.*ecommerce-assets land"):
            find_raw_events(str(tmp_path), [DAY])


class TestTypes:
    def test_brotli_and_strings_that_are_not_utf8_are_read(self, tmp_path: Path) -> None:
        table = pa.Table.from_pylist([event(f"{DAY} 10:00:00", product_id=n) for n in range(3)])
        brands = pa.array([b"ok", b"caf\xe9", b"\xff"], pa.binary())
        strings = pa.Array.from_buffers(pa.string(), 3, brands.buffers())  # declared as UTF-8
        path = write_day(tmp_path, DAY, table)
        for brand, name in ((brands, "bytes"), (strings, "strings")):
            position = table.schema.get_field_index("brand")
            changed = table.set_column(position, "brand", brand)
            pq.write_table(changed, path.parent / f"{name}.parquet", compression="brotli")
        path.unlink()
        rows = parsed(find_raw_events(str(tmp_path), [DAY]))
        assert sorted(str(row["brand"]) for row in rows) == [*["None"] * 4, "ok", "ok"]

    def test_files_with_other_types_and_without_optional_columns_are_read_together(self, tmp_path: Path) -> None:
        optional = ("user_session", "brand", "category_code", "category_id")
        short = {name: value for name, value in event(f"{DAY} 10:00:00").items() if name not in optional}
        write_day(tmp_path, DAY, pa.Table.from_pylist([short]))
        text = {name: str(value or "") for name, value in event(f"{DAY} 11:00:00", product_id=2, brand="b").items()}
        write_day(tmp_path, DAY, pa.Table.from_pylist([text]), name="text")
        rows = sorted(parsed(find_raw_events(str(tmp_path), [DAY])), key=lambda row: row["product_id"])
        assert [(row["product_id"], row["brand"], row["category_id"]) for row in rows] == [
            (1, None, None),
            (2, "b", None),
        ]

    @pytest.mark.parametrize("fraction", ["123", "123456", "000128", "999999"])
    def test_nanoseconds_of_pandas_are_truncated_exactly(self, tmp_path: Path, fraction: str) -> None:
        # 2,000 consecutive milliseconds or microseconds: in floating point some of them would be one too early.
        step = 1_000_000 if len(fraction) == 3 else 1_000
        start = pd.Timestamp(f"{DAY} 10:00:00.{fraction}", tz="UTC").value
        ticks = [start + number * step for number in range(2_000)]
        times = pa.array(ticks, pa.timestamp("ns", "UTC"))
        rows = pa.Table.from_pylist([event(f"{DAY} 10:00:00", product_id=n) for n in range(len(ticks))])
        write_day(tmp_path, DAY, rows.set_column(0, "event_time", times))
        moments = {row["product_id"]: row["event_time"] for row in parsed(find_raw_events(str(tmp_path), [DAY]))}
        expected = {number: pd.Timestamp(tick // 1_000, unit="us", tz="UTC") for number, tick in enumerate(ticks)}
        assert moments == expected

    @pytest.mark.spark_only
    def test_int96_times_of_spark_are_read(self, spark: SparkSession, tmp_path: Path) -> None:
        other = write_day(tmp_path, DAY, [event(f"{DAY} 11:00:00.5", product_id=2)])
        spark.conf.set("spark.sql.parquet.outputTimestampType", "INT96")
        try:
            events_frame(spark, [event(f"{DAY} 10:00:00.25")]).coalesce(1).write.parquet(str(tmp_path / "spark"))
        finally:
            spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        [written] = (tmp_path / "spark").glob("*.parquet")
        assert pq.ParquetFile(written).schema.column(0).physical_type == "INT96"
        written.rename(other.parent / "spark.parquet")
        times = sorted(str(row["event_time"]) for row in parsed(find_raw_events(str(tmp_path), [DAY])))
        assert times == [f"{DAY} 10:00:00.250000+00:00", f"{DAY} 11:00:00.500000+00:00"]

"""Landing, seen from outside: files in, partitions, summary and error sentences out."""

import csv
import gzip
import io
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from ecommerce_assets.events.cleaning import classify, count_by_day
from ecommerce_assets.events.landing import LandingError, land, splitting, target
from ecommerce_assets.events.landing import run as landing_run
from ecommerce_assets.events.landing.__main__ import main
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets.events.schema import EVENTS
from ecommerce_assets_tests.events.landing_files import (
    HEADER,
    NEXT_DAY,
    ROW,
    csv_file,
    days,
    events_table,
    files,
    land_one,
    landed,
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "shop"


class TestCsv:
    def test_rows_are_split_by_day_as_text(self, tmp_path: Path, data_dir: Path) -> None:
        summary = land_one(csv_file(tmp_path, NEXT_DAY, ROW), data_dir)
        assert days(data_dir) == ["2019-10-01", "2019-10-02"]
        assert landed(data_dir) == [tuple(ROW.split(",")), tuple(NEXT_DAY.split(","))]
        assert summary.rows_by_day == ((date(2019, 10, 1), 1), (date(2019, 10, 2), 1))
        (file,) = data_dir.glob("raw/events/event_date=2019-10-01/*.parquet")
        schema = pq.read_schema(file)
        assert schema.names == EVENTS.names
        assert set(map(str, schema.types)) == {"string"}

    def test_one_file_named_by_content_and_a_success_marker(self, tmp_path: Path, data_dir: Path) -> None:
        summary = land_one(csv_file(tmp_path, ROW), data_dir)
        names = sorted(path.name for path in (data_dir / "raw/events/event_date=2019-10-01").iterdir())
        assert names == ["_SUCCESS", f"land-{summary.sources[0].content}-0-1rows.parquet"]
        assert len(summary.sources[0].content) == 16

    @pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst", ".CSV.GZ"])
    def test_compressed(self, tmp_path: Path, data_dir: Path, ending: str) -> None:
        plain = csv_file(tmp_path, ROW, NEXT_DAY).read_bytes()
        path = tmp_path / f"packed{ending}"
        packed = {"gz": gzip.compress, "zst": lambda b: pa.compress(b, "zstd", asbytes=True)}
        path.write_bytes(packed.get(ending.lower().rpartition(".")[2], bytes)(plain))
        land_one(path, data_dir)
        assert len(landed(data_dir)) == 2

    def test_the_same_content_compressed_is_the_same_content(self, tmp_path: Path, data_dir: Path) -> None:
        plain = csv_file(tmp_path, ROW)
        packed = tmp_path / "other.csv.gz"
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        land_one(plain, data_dir)
        assert land_one(packed, data_dir).sources[0].rows_already_landed == 1
        assert len(landed(data_dir)) == 1

    def test_values_are_not_changed(self, tmp_path: Path, data_dir: Path) -> None:
        line = '2019-10-01 00:00:00 UTC, VIEW ,007,NULL,N/A,"a, ""b"" \'c\'",abc,9007199254740993123,é日本'
        land_one(csv_file(tmp_path, line), data_dir)
        assert landed(data_dir) == [
            (
                "2019-10-01 00:00:00 UTC",
                " VIEW ",
                "007",
                "NULL",
                "N/A",
                "a, \"b\" 'c'",
                "abc",
                "9007199254740993123",
                "é日本",
            )
        ]

    def test_empty_fields_are_null(self, tmp_path: Path, data_dir: Path) -> None:
        land_one(csv_file(tmp_path, '2019-10-01 00:00:00 UTC,view,1,,"",,1,3,'), data_dir)
        assert landed(data_dir, "category_id, category_code, brand, user_session") == [(None,) * 4]

    def test_column_order_extra_and_absent_columns(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(
            tmp_path,
            "0,3,1.5,1,view,1.1.1.1,2019-10-01 00:00:00",
            header=",user_id,price,product_id,event_type,ip,event_time",
        )
        summary = land_one(path, data_dir)
        assert landed(data_dir, "event_time, event_type, product_id, price, user_id") == [
            ("2019-10-01 00:00:00", "view", "1", "1.5", "3")
        ]
        (source,) = summary.sources
        assert source.dropped_columns == ("(no name)", "ip")
        assert source.absent_columns == ("user_session", "brand", "category_code", "category_id")
        assert "left out, being no event columns: (no name), ip" in str(summary)
        assert "absent, will be null: user_session, brand, category_code, category_id" in str(summary)

    def test_byte_order_mark_and_windows_line_ends(self, tmp_path: Path, data_dir: Path) -> None:
        summary = land_one(csv_file(tmp_path, ROW, NEXT_DAY, header="\ufeff" + HEADER, end="\r\n"), data_dir)
        assert landed(data_dir) == [tuple(ROW.split(",")), tuple(NEXT_DAY.split(","))]
        assert summary.sources[0].unreadable_lines.count == 0

    def test_mixed_line_ends_and_empty_lines(self, tmp_path: Path, data_dir: Path) -> None:
        path = tmp_path / "events.csv"
        path.write_bytes(f"{HEADER}\r\n{ROW}\n\n{NEXT_DAY}\r\n\r\n".encode())
        summary = land_one(path, data_dir)
        assert landed(data_dir) == [tuple(ROW.split(",")), tuple(NEXT_DAY.split(","))]
        assert summary.sources[0].rows_read == 2

    def test_a_field_of_two_lines(self, tmp_path: Path, data_dir: Path) -> None:
        summary = land_one(csv_file(tmp_path, ROW.replace("acme", '"ac\nme"'), NEXT_DAY), data_dir)
        assert landed(data_dir, "brand") == [("ac\nme",), ("acme",)]
        assert summary.sources[0].unreadable_lines.count == 0

    def test_a_name_that_looks_like_a_pattern(self, tmp_path: Path, data_dir: Path) -> None:
        csv_file(tmp_path, NEXT_DAY, name="it's 1.csv")
        land_one(csv_file(tmp_path, ROW, name="it's [1].csv"), data_dir)
        assert days(data_dir) == ["2019-10-01"]


class TestDays:
    def test_day_in_utc_of_a_text(self, tmp_path: Path, data_dir: Path) -> None:
        day_of = {
            "2019-10-01 00:00:00 UTC": "2019-10-01",
            "2020-09-24T11:57:06+00:00": "2020-09-24",
            "2019-10-01T23:30:00-03:00": "2019-10-02",
            "2019-10-01 00:10:00+0300": "2019-09-30",
            "2019-10-01 00:10:00 +03:00": "2019-09-30",
            "2019-10-01T23:59:59Z": "2019-10-01",
            "2019-10-01 23:59:59 z": "2019-10-01",
            "2019-10-01 23:59:59utc": "2019-10-01",
            "2019-10-01 00:10:00+3": "2019-09-30",
            "2019-10-01 00:10:00UTC+3:00": "2019-09-30",
            "\t2019-10-01 23:59:59 -0:30": "2019-10-02",
            "2019-10-01 23:59:59": "2019-10-01",
            "2019-10-01 23:59:59.999999": "2019-10-01",
            "2019-10-01T23:59:59.999 UTC": "2019-10-01",
            "2019-10-01 01:00:00 Europe/Moscow": "2019-09-30",
            "  2019-10-01  ": "2019-10-01",
        }
        land_one(csv_file(tmp_path, *[ROW.replace("2019-10-01 00:00:00 UTC", time) for time in day_of]), data_dir)
        found = {time: day for day in days(data_dir) for (time,) in landed(data_dir, "event_time", day)}
        assert found == day_of

    def test_rows_without_a_readable_time_go_to_the_first_readable_day(self, tmp_path: Path, data_dir: Path) -> None:
        times = ["", "soon", "infinity", "12345-01-01 00:00:00", "1569888000", "2019-13-01"]
        bad = [ROW.replace("2019-10-01 00:00:00 UTC", time) for time in times]
        summary = land_one(csv_file(tmp_path, *bad, NEXT_DAY, *bad, ROW), data_dir)
        assert summary.sources[0].rows_without_time == 12
        assert summary.rows_by_day == ((date(2019, 10, 1), 1), (date(2019, 10, 2), 13))
        found = [time for (time,) in landed(data_dir, "event_time", "2019-10-02")]
        assert all(found.count(time or None) == 2 for time in times)

    @pytest.mark.parametrize("zero", ["0001-01-01", "1970-01-01", "1989-12-31"])
    @pytest.mark.parametrize("typed", [False, True])
    def test_zero_times_of_programs_are_no_days(self, tmp_path: Path, data_dir: Path, zero: str, typed: bool) -> None:
        if typed:
            times = pa.array([datetime.fromisoformat(zero), datetime(2019, 10, 2)], pa.timestamp("us"))
            pq.write_table(events_table(2, event_time=times), tmp_path / "e.parquet")
            summary = land_one(tmp_path / "e.parquet", data_dir)
        else:
            summary = land_one(csv_file(tmp_path, ROW.replace("2019-10-01", zero), NEXT_DAY), data_dir)
        assert summary.sources[0].rows_without_time == 1
        assert summary.rows_by_day == ((date(2019, 10, 2), 2),)
        assert "FIRST_DAY" not in str(summary)

    def test_cleaning_rejects_zero_times(self, tmp_path: Path, data_dir: Path, spark: SparkSession) -> None:
        zero = [ROW.replace("2019-10-01", day) for day in ("0001-01-01", "1970-01-01")]
        land_one(csv_file(tmp_path, *zero, ROW, ROW.replace("2019-10-01", "1990-01-01")), data_dir)
        assert days(data_dir) == ["1990-01-01", "2019-10-01"]
        raw = find_raw_events(str(data_dir), ["2019-10-01"])
        counts = count_by_day(classify(raw.frames(spark)))["2019-10-01"]
        assert (counts["accepted"], counts["rejected: event outside its day"]) == (1, 2)

    def test_parquet_times_of_all_kinds(self, tmp_path: Path, data_dir: Path) -> None:
        late = datetime(2019, 10, 1, 23, 59, 59, 500000)
        kinds = [pa.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "Asia/Tokyo")]
        for number, kind in enumerate([*kinds, pa.timestamp("us", "UTC")]):
            moment = late.replace(microsecond=0, tzinfo=UTC) if kind.tz else late.replace(microsecond=0)
            times = pa.array([moment, None], kind)
            pq.write_table(events_table(2, event_time=times), tmp_path / f"{number}.parquet")
        summary = land([str(tmp_path / "*.parquet")], data_dir)
        assert days(data_dir) == ["2019-10-01"]
        assert sum(source.rows_without_time for source in summary.sources) == len(summary.sources)
        assert {str(row[0]) for row in landed(data_dir, "event_time")} == {
            "2019-10-01 23:59:59",
            "2019-10-01 23:59:59+00:00",
            "None",
        }


class TestParquet:
    def test_types_are_kept(self, tmp_path: Path, data_dir: Path) -> None:
        price = pa.array([Decimal("1.10")], pa.decimal128(10, 2))
        source = tmp_path / "drop.parquet"
        pq.write_table(events_table(price=price, product_id=pa.array([7], pa.int32())), source)
        land_one(source, data_dir)
        (file,) = data_dir.glob("raw/events/*/*.parquet")
        schema = pq.read_schema(file)
        assert [str(schema.field(name).type) for name in ("event_time", "product_id", "price", "user_id")] == [
            "timestamp[us]",
            "int32",
            "decimal128(10, 2)",
            "int64",
        ]
        assert landed(data_dir, "user_id, price") == [(9007199254740993123, Decimal("1.10"))]

    def test_nanoseconds_become_microseconds_because_spark_reads_no_others(
        self, tmp_path: Path, data_dir: Path
    ) -> None:
        pq.write_table(
            events_table(event_time=pa.array([1569888000123456789], pa.timestamp("ns"))), tmp_path / "n.parquet"
        )
        summary = land_one(tmp_path / "n.parquet", data_dir)
        (file,) = data_dir.glob("raw/events/*/*.parquet")
        assert str(pq.read_schema(file).field("event_time").type) == "timestamp[us]"
        assert "event_time: nanoseconds are cut to microseconds" in str(summary)

    def test_a_timestamped_drop_is_one_source(self, tmp_path: Path, data_dir: Path) -> None:
        drop = tmp_path / "cleaned_data_20241201_120000.parquet"
        drop.mkdir()
        for part in range(3):
            pq.write_table(events_table(part + 1), drop / f"part-{part}.snappy.parquet")
        (drop / "_SUCCESS").touch()
        (drop / ".part-0.crc").write_bytes(b"x")
        summary = land_one(drop, data_dir)
        assert [source.rows_landed for source in summary.sources] == [6]
        assert len(list(data_dir.glob("raw/events/*/*.parquet"))) == 1

    def test_parts_of_different_types_keep_their_digits(self, tmp_path: Path, data_dir: Path) -> None:
        drop = tmp_path / "drop"
        drop.mkdir()
        pq.write_table(events_table(), drop / "a.parquet")
        pq.write_table(events_table(user_id=pa.array([None], pa.float64())), drop / "b.parquet")
        land_one(drop, data_dir)
        assert landed(data_dir, "user_id") == [(9007199254740993123,), (None,)]
        assert len(list(data_dir.glob("raw/events/event_date=2019-10-01/land-*-[01]-1rows.parquet"))) == 2

    def test_folder_names_are_columns(self, tmp_path: Path, data_dir: Path) -> None:
        part = tmp_path / "drop" / "event_type=cart"
        part.mkdir(parents=True)
        pq.write_table(events_table().drop_columns(["event_type"]), part / "a.parquet")
        land_one(tmp_path / "drop", data_dir)
        assert landed(data_dir, "event_type") == [("cart",)]

    def test_folder_names_make_a_different_content(self, tmp_path: Path, data_dir: Path) -> None:
        for kind in ("cart", "view"):
            part = tmp_path / kind / f"event_type={kind}"
            part.mkdir(parents=True)
            pq.write_table(events_table().drop_columns(["event_type"]), part / "a.parquet")
        land([str(tmp_path / "cart"), str(tmp_path / "view")], data_dir)
        assert landed(data_dir, "event_type") == [("cart",), ("view",)]

    def test_an_empty_part_of_other_types(self, tmp_path: Path, data_dir: Path) -> None:
        drop = tmp_path / "drop"
        drop.mkdir()
        pq.write_table(events_table(0, user_id=pa.array([], pa.string())), drop / "a.parquet")
        pq.write_table(events_table(2, event_time=pa.array(["2019-10-01", None])), drop / "b.parquet")
        land_one(drop, data_dir)
        assert len(landed(data_dir, "user_id")) == 2

    def test_glob_and_folder_of_sources(self, tmp_path: Path, data_dir: Path) -> None:
        drops = tmp_path / "in"
        for number in range(2):
            (drops / f"drop_{number}.parquet").mkdir(parents=True)
            pq.write_table(events_table(number + 1), drops / f"drop_{number}.parquet" / "part.parquet")
        csv_file(drops, ROW, name="one.csv")
        by_glob = land([str(drops / "*")], data_dir)
        assert sum(source.rows_landed for source in by_glob.sources) == 4
        by_folder = land([str(drops), str(drops / "one.csv")], data_dir)
        assert [source.rows_already_landed for source in by_folder.sources] == [1, 2, 1]
        assert sum(source.rows_landed for source in by_folder.sources) == 0


class TestFolders:
    def test_csv_files_in_folders_with_a_value_are_sources(self, tmp_path: Path, data_dir: Path) -> None:
        for day in ("2019-10-01", "2019-10-02"):
            part = tmp_path / "export" / f"brand=x{day}" / "hour=0"
            part.mkdir(parents=True)
            csv_file(part, ROW.replace("2019-10-01", day))
        land_one(tmp_path / "export", data_dir)
        assert landed(data_dir, "brand, event_time") == [
            ("acme", "2019-10-01 00:00:00 UTC"),
            ("acme", "2019-10-02 00:00:00 UTC"),
        ]

    def test_csv_beside_parquet_in_folders_with_a_value(self, tmp_path: Path, data_dir: Path) -> None:
        part = tmp_path / "export" / "brand=x"
        (part / "deeper").mkdir(parents=True)
        csv_file(part, NEXT_DAY)
        csv_file(tmp_path / "export", ROW)
        pq.write_table(events_table(), part / "a.parquet")
        pq.write_table(events_table(2), part / "deeper" / "b.parq")
        summary = land_one(tmp_path / "export", data_dir)
        assert [source.rows_landed for source in summary.sources] == [3, 1, 1]
        assert sorted(landed(data_dir, "brand")) == [("acme",)] * 2 + [("x",)] * 3

    def test_parq_is_parquet(self, tmp_path: Path, data_dir: Path) -> None:
        drop = tmp_path / "drop"
        drop.mkdir()
        pq.write_table(events_table(2), drop / "a.parq")
        land_one(drop / "a.parq", data_dir)
        assert land_one(drop, data_dir).sources[0].rows_already_landed == 2

    def test_other_files_are_named(self, tmp_path: Path, data_dir: Path) -> None:
        drop = tmp_path / "drop"
        (drop / "dt=1").mkdir(parents=True)
        csv_file(drop, ROW)
        for name in ("a.json", "dt=1/b.csv.zip", "_SUCCESS", ".a.crc"):
            (drop / name).touch()
        summary = land_one(drop, data_dir)
        assert summary.other_files == (drop / "a.json", drop / "dt=1/b.csv.zip")
        assert f"neither CSV nor Parquet by name\n  {drop}/a.json\n  {drop}/dt=1/b.csv.zip\n" in str(summary)


class TestImperfectLines:
    def test_a_cut_off_last_line_is_unreadable_and_reported(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW)
        path.write_bytes(path.read_bytes() + b"2019-10-01 00:00:01 UTC,view,1,2,a.b,ac")
        summary = land_one(path, data_dir)
        assert len(landed(data_dir)) == 1
        ((line, why),) = summary.sources[0].unreadable_lines.first
        assert (summary.sources[0].rows_read, summary.sources[0].unreadable_lines.count, line) == (2, 1, 3)
        assert why == "6 values where the header has 9; the file breaks off in this line"
        assert "line 3: 6 values where the header has 9" in str(summary)

    def test_unreadable_lines_are_counted_reported_and_copied(self, tmp_path: Path, data_dir: Path) -> None:
        stray = ROW.replace("acme", '"acme')
        path = csv_file(tmp_path, ROW, ROW + ",extra", stray, ROW, ROW.replace("acme", '"ac"me'))
        path.write_bytes(
            path.read_bytes() + ROW.replace("acme", "caf\xe9").encode("latin-1") + b"\n" + NEXT_DAY.encode()
        )
        summary = land_one(path, data_dir)
        (source,) = summary.sources
        assert (source.rows_read, source.rows_landed, source.unreadable_lines.count) == (7, 3, 4)
        assert source.unreadable_lines.first == (
            (3, "10 values where the header has 9"),
            (4, "a quote that is not closed"),
            (6, "not CSV: ',' expected after '\"'"),
            (7, "not UTF-8 text"),
        )
        assert source.unreadable_file == data_dir / f"raw/unreadable/events.csv-{source.content}.csv"
        with source.unreadable_file.open(newline="") as file:
            listed = list(csv.reader(file))
        assert listed[0] == ["line", "error", "text"]
        assert [row[0] for row in listed[1:]] == ["3", "4", "6", "7"]
        assert [row[2] for row in listed[1:3]] == [ROW + ",extra", stray]
        assert "caf\\xe9" in listed[4][2]
        assert "line 4: a quote that is not closed" in str(summary)

    def test_a_stray_quote_does_not_swallow_the_rows_up_to_the_next_one(self, tmp_path: Path, data_dir: Path) -> None:
        lines = [ROW.replace("acme", '"acme'), *[ROW] * 50, ROW.replace("s1", '"s1"')]
        summary = land_one(csv_file(tmp_path, *lines), data_dir)
        assert len(landed(data_dir)) == 51
        assert summary.sources[0].unreadable_lines.count == 1

    def test_only_the_first_five_lines_are_shown(self, tmp_path: Path, data_dir: Path) -> None:
        summary = land_one(csv_file(tmp_path, ROW, *[ROW + ",x"] * 7), data_dir)
        assert len(summary.sources[0].unreadable_lines.first) == 5
        assert "and 2 more" in str(summary)

    def test_an_endless_line(self, tmp_path: Path, data_dir: Path) -> None:
        summary = land_one(csv_file(tmp_path, ROW, "x" * 2_500_000, NEXT_DAY), data_dir)
        assert len(landed(data_dir)) == 2
        assert summary.sources[0].unreadable_lines.first[0][0] == 3


ODD_TEXT = st.text(alphabet=st.sampled_from(list("ab1, \"'\n\t\\é日#;\0")), max_size=6)
ODD_TIME = st.sampled_from(["2019-10-01 00:00:00 UTC", "2019-10-02T23:00:00-05:00", "", "x", "NULL", "2019-02-30"])
SHORT_HEADER = "event_time,event_type,product_id,price,user_id"


class TestNoRowIsLost:
    @settings(max_examples=15, deadline=None)
    @given(rows=st.lists(st.tuples(ODD_TIME, ODD_TEXT, ODD_TEXT, ODD_TEXT, ODD_TEXT), max_size=30))
    def test_written_rows_are_landed_rows(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
    ) -> None:
        folder = tmp_path_factory.mktemp("rows")
        rows = [("2019-10-01 00:00:00", "view", "1", "1.5", "2"), *rows]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([SHORT_HEADER.split(","), *rows])
        (folder / "events.csv").write_text(text.getvalue(), newline="")
        land_one(folder / "events.csv", folder / "shop")
        expected = [tuple(value or None for value in row) for row in rows]
        assert Counter(landed(folder / "shop", SHORT_HEADER)) == Counter(expected)

    @settings(max_examples=15, deadline=None)
    @given(lines=st.lists(st.binary(max_size=12) | st.text(alphabet='a,"1', max_size=8).map(str.encode), max_size=30))
    def test_every_line_is_a_row_or_reported(
        self, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
    ) -> None:
        folder = tmp_path_factory.mktemp("lines")
        filled = [line.replace(b"\n", b"") for line in lines]
        filled = [line for line in filled if line.removesuffix(b"\r")]
        body = [SHORT_HEADER.encode(), b"2019-10-01,view,1,1,1", *filled]
        (folder / "events.csv").write_bytes(b"\n".join(body) + b"\n")
        (source,) = land_one(folder / "events.csv", folder / "shop").sources
        rows = landed(folder / "shop", SHORT_HEADER)
        lines_in_rows = sum(1 + sum((value or "").count("\n") for value in row) for row in rows)
        assert lines_in_rows + source.unreadable_lines.count == len(body) - 1
        assert source.rows_landed == len(rows) == source.rows_read - source.unreadable_lines.count


class TestRepeatsAndInterrupts:
    def test_landing_twice_changes_nothing_and_says_so(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW, NEXT_DAY, ROW + ",x")
        land_one(path, data_dir)
        before = {name: stat for name, stat in files(data_dir).items() if name.endswith(".parquet")}
        names = list(files(data_dir))
        summary = land_one(path, data_dir)
        assert {name: stat for name, stat in files(data_dir).items() if name.endswith(".parquet")} == before
        assert list(files(data_dir)) == names
        assert (summary.sources[0].rows_landed, summary.sources[0].rows_already_landed) == (0, 2)
        assert "Nothing new" in str(summary)
        assert "2019-10-01...2019-10-02" in (summary.next_command or "")

    def test_two_copies_in_one_command_land_once(self, tmp_path: Path, data_dir: Path) -> None:
        paths = [csv_file(tmp_path, ROW, ROW + ",x", name=name) for name in ("a.csv", "b.csv")]
        summary = land([str(path) for path in paths], data_dir)
        assert [source.rows_landed for source in summary.sources] == [1, 0]
        assert summary.rows_by_day == ((date(2019, 10, 1), 1),)
        assert len(landed(data_dir)) == 1

    def test_other_sources_in_the_partition_stay(self, tmp_path: Path, data_dir: Path) -> None:
        land_one(csv_file(tmp_path, ROW, name="a.csv"), data_dir)
        land_one(csv_file(tmp_path, ROW, ROW, name="b.csv"), data_dir)
        assert len(landed(data_dir)) == 3

    def test_a_missing_day_is_landed_again(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW, NEXT_DAY)
        land_one(path, data_dir)
        (file,) = data_dir.glob("raw/events/event_date=2019-10-02/land-*.parquet")
        file.unlink()
        summary = land_one(path, data_dir)
        assert summary.sources[0].days_already_landed == (date(2019, 10, 1),)
        assert len(landed(data_dir)) == 2

    def test_an_interrupt_between_two_days_is_made_good(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = csv_file(tmp_path, ROW, NEXT_DAY)
        moves: list[Path] = []

        def move_one_then_die(staged: Path, final: Path) -> None:
            if moves:
                raise KeyboardInterrupt
            moves.append(final)
            real_move(staged, final)

        real_move = target._move
        monkeypatch.setattr(target, "_move", move_one_then_die)
        assert main([str(path), "--data-dir", str(data_dir)]) == 130
        monkeypatch.undo()
        assert days(data_dir) == ["2019-10-01"]
        assert not list(data_dir.glob("raw/.landing-*"))
        land_one(path, data_dir)
        assert len(landed(data_dir)) == 2

    def test_ctrl_c_while_duckdb_works(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(*_: object) -> None:
            raise RuntimeError("Query interrupted")

        monkeypatch.setattr(splitting, "split", interrupted)
        assert main([str(csv_file(tmp_path, ROW)), "--data-dir", str(data_dir)]) == 130
        assert "Run the same command again" in capsys.readouterr().err
        assert not files(data_dir)

    def test_leftovers_of_a_killed_landing_are_removed(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW)
        killed = (
            "import os, sys; from pathlib import Path; from ecommerce_assets.events.landing import land, run;"
            "run._publish = lambda *_: os._exit(9); land([sys.argv[1]], Path(sys.argv[2]))"
        )
        assert subprocess.run([sys.executable, "-c", killed, str(path), str(data_dir)], check=False).returncode == 9
        (leftover,) = data_dir.glob("raw/.landing-*/")
        assert list(leftover.glob("event_date=2019-10-01/land-*.parquet"))
        assert not landed(data_dir)
        land_one(path, data_dir)
        assert len(landed(data_dir)) == 1
        assert not list(data_dir.glob("raw/.landing-*/"))

    def test_a_marker_that_an_interrupt_left_out_is_written(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW)
        land_one(path, data_dir)
        (data_dir / "raw/events/event_date=2019-10-01/_SUCCESS").unlink()
        land_one(path, data_dir)
        assert (data_dir / "raw/events/event_date=2019-10-01/_SUCCESS").exists()

    def test_rows_that_duckdb_loses_stop_the_landing(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(splitting, "count_rows", lambda _: 1)
        with pytest.raises(LandingError, match="has 2 rows, of which DuckDB read 1; nothing was landed"):
            land_one(csv_file(tmp_path, ROW, NEXT_DAY), data_dir)
        assert not (data_dir / "raw/events").exists()

    def test_flawless_files_are_not_gone_through_line_by_line(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(landing_run, "mend")
        for end in ("\n", "\r\n"):
            land_one(csv_file(tmp_path, ROW, ROW.replace("acme", '"a, b"'), end=end), data_dir)

    def test_many_parts_of_a_day_become_one_file(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real_connect = splitting.connect

        def connect_stingily(spill: Path) -> duckdb.DuckDBPyConnection:
            connection = real_connect(spill)
            connection.execute("SET partitioned_write_max_open_files = 1")
            connection.execute("SET partitioned_write_flush_threshold = 1")
            return connection

        monkeypatch.setattr(splitting, "connect", connect_stingily)
        lines = [ROW.replace("10-01", f"10-{number % 7 + 1:02}") for number in range(10_000)]
        land_one(csv_file(tmp_path, *lines), data_dir)
        assert len(list(data_dir.glob("raw/events/*/*.parquet"))) == 7
        assert len(landed(data_dir)) == 10_000


class TestErrors:
    """Each is one sentence on stderr, exit code 2, and nothing is written."""

    def fails(self, sources: Sequence[Path | str], data_dir: Path, capsys: pytest.CaptureFixture[str]) -> str:
        before = files(data_dir)
        assert main([*map(str, sources), "--data-dir", str(data_dir)]) == 2
        assert files(data_dir) == before
        out, err = capsys.readouterr()
        assert not out
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    def test_missing_columns(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        good = csv_file(tmp_path, ROW, name="good.csv")
        path = csv_file(tmp_path, "a,b,c", header="event_time,event_type,cost")
        assert self.fails([good, path], data_dir, capsys) == (
            f"{path} lacks the columns product_id, price, user_id; it has event_time, event_type, cost: "
            "add --map COLUMN=product_id --default price=0 --map COLUMN=user_id."
        )
        assert not data_dir.exists()
        pq.write_table(events_table().drop_columns(["price"]), tmp_path / "x.parquet")
        assert self.fails([tmp_path / "x.parquet"], data_dir, capsys) == (
            f"{tmp_path}/x.parquet lacks the column price; it has event_time, event_type, product_id, user_id: "
            "add --default price=0."
        )

    def test_missing_header(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = csv_file(tmp_path, ROW, header=ROW)
        assert self.fails([path], data_dir, capsys) == (
            f"{path} has no header: its first line is data; "
            f"put a line with the column names before it, such as {HEADER}."
        )

    def test_repeated_column(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = csv_file(tmp_path, ROW, header=f"{HEADER},price")
        assert self.fails([path], data_dir, capsys) == f"{path} has more than one column called price."

    @pytest.mark.parametrize("names", [("Price", "price"), ("price", "Price")])
    def test_columns_that_differ_in_capital_letters(
        self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], names: Sequence[str]
    ) -> None:
        path, table = tmp_path / "x.parquet", events_table()
        prices = pa.table(dict.fromkeys(names, table["price"]))
        for name in table.drop_columns(["price"]).column_names:
            prices = prices.append_column(name, table[name])
        pq.write_table(prices, path)
        assert self.fails([path], data_dir, capsys) == (
            f"{path} has the columns Price and price, which differ only in capital letters: "
            "rename or remove one of them."
        )

    def test_empty(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("x.csv", "x.parquet", "x.csv.gz"):
            (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
            assert self.fails([tmp_path / name], data_dir, capsys) == f"{tmp_path / name} is empty."
        header_only = csv_file(tmp_path)
        assert self.fails([header_only], data_dir, capsys) == f"{header_only} is empty but for its header."
        pq.write_table(events_table(0), tmp_path / "no_rows.parquet")
        assert self.fails([tmp_path / "no_rows.parquet"], data_dir, capsys) == (
            f"{tmp_path}/no_rows.parquet is empty: it has columns but no rows."
        )
        (tmp_path / "folder").mkdir()
        assert self.fails([tmp_path / "folder"], data_dir, capsys) == (
            f"The folder {tmp_path}/folder holds no CSV and no Parquet files."
        )

    @pytest.mark.parametrize("content", [b"hello", b"PAR1" + b"x" * 100, b"PAR1" + b"x" * 100 + b"\x08\0\0\0PAR1"])
    def test_not_parquet(
        self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], content: bytes
    ) -> None:
        path = tmp_path / "x.parquet"
        path.write_bytes(content)
        assert self.fails([path], data_dir, capsys) == f"{path} is not a Parquet file, or it is cut off."

    def test_damaged_inside(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "x.parquet"
        pq.write_table(events_table(1000), path)
        path.write_bytes(path.read_bytes()[:4] + b"\xff" * 200 + path.read_bytes()[204:])
        assert self.fails([path], data_dir, capsys).startswith(f"{path} could not be read: ")

    def test_no_such_file(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "none.csv"
        assert self.fails([path], data_dir, capsys) == f"No file or folder is called {path}."
        assert self.fails([tmp_path / "*.csv"], data_dir, capsys) == f"No file matches {tmp_path}/*.csv."

    def test_other_kinds_of_files(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("x.json", "x.csv.zip"):
            (tmp_path / name).write_bytes(b"x")
        assert "is neither CSV (.csv, .csv.gz, .csv.zst) nor Parquet" in self.fails(
            [tmp_path / "x.json"], data_dir, capsys
        )
        assert "is a zip archive: unzip it" in self.fails([tmp_path / "x.csv.zip"], data_dir, capsys)
        assert "landing reads local files only" in self.fails(["s3://bucket/x.csv"], data_dir, capsys)

    def test_not_text(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "x.csv"
        path.write_bytes(f"{HEADER}\n{ROW}\n".encode("utf-16"))
        assert self.fails([path], data_dir, capsys) == (
            f"{path} is not a CSV file in UTF-8: its first line cannot be read; save it again as UTF-8."
        )
        path.write_bytes(f"{HEADER}\r{ROW}\r".encode())
        assert "its first line cannot be read" in self.fails([path], data_dir, capsys)

    @pytest.mark.parametrize("ending", ["gz", "zst"])
    def test_cut_off_archives(
        self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], ending: str
    ) -> None:
        plain = "\n".join([HEADER, *(f"{ROW}{number * 7919}" for number in range(5000))]).encode()
        packed = gzip.compress(plain) if ending == "gz" else pa.compress(plain, "zstd", asbytes=True)
        path = tmp_path / f"x.csv.{ending}"
        for content in (packed[:-100], b"no archive"):
            path.write_bytes(content)
            assert f"{path} cannot be decompressed: it is cut off or no" in self.fails([path], data_dir, capsys)

    def test_no_readable_time_at_all(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = csv_file(tmp_path, ROW.replace("2019-10-01 00:00:00 UTC", "01/10/2019"))
        assert self.fails([path], data_dir, capsys) == (
            f"{path} has no row with a readable event_time; the first one is '01/10/2019', and times are dates from "
            "1990 on, such as 2019-10-01 00:00:00 UTC, or numbers since 1970."
        )

    def test_no_line_that_is_a_row(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = csv_file(tmp_path, ROW + ",x")
        assert self.fails([path], data_dir, capsys) == (
            f"{path} has no line that can be read as an event; line 2: 10 values where the header has 9."
        )

    def test_the_sample_is_not_mixed_with(
        self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (data_dir / "raw/events").mkdir(parents=True)
        (data_dir / "raw/events/_SAMPLE").touch()
        message = self.fails([csv_file(tmp_path, ROW)], data_dir, capsys)
        assert message.startswith(f"{data_dir} holds the shipped sample (raw/events/_SAMPLE)")
        assert "--data-dir DIR or ECOMMERCE_DATA_DIR=DIR" in message

    def test_landed_data_is_no_source(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        land_one(csv_file(tmp_path, ROW), data_dir)
        path = data_dir / "raw/events"
        assert self.fails([path], data_dir, capsys) == f"{path} is landed data of {data_dir} itself."

    def test_one_landing_at_a_time(self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (data_dir / "raw").mkdir(parents=True)
        with FileLock(data_dir / "raw/.landing.lock"):
            message = self.fails([csv_file(tmp_path, ROW)], data_dir, capsys)
        assert message == f"Another landing into {data_dir} is running; wait until it has ended."

    def test_a_file_where_the_data_dir_should_be(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        blocked = csv_file(tmp_path, ROW)
        assert main([str(blocked), "--data-dir", str(blocked)]) == 2
        assert capsys.readouterr().err.strip().endswith(": Not a directory.")

    def test_no_data_dir(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("ECOMMERCE_DATA_DIR", "")
        assert main([str(csv_file(tmp_path, ROW))]) == 2
        assert capsys.readouterr().err == (
            "No data dir: say where to land with --data-dir DIR or the variable ECOMMERCE_DATA_DIR.\n"
        )
        assert main([str(csv_file(tmp_path, ROW)), "--data-dir", "s3://bucket/shop"]) == 2
        assert capsys.readouterr().err == "s3://bucket/shop is a URL; landing writes to local folders only.\n"


class TestSummary:
    def test_the_printed_text(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("ECOMMERCE_DATA_DIR", str(data_dir))
        path = csv_file(tmp_path, *[ROW] * 1234, NEXT_DAY)
        assert main([str(path)]) == 0
        assert capsys.readouterr().out == (
            f"{path}\n"
            "  rows read             1,235\n"
            "  rows landed           1,235\n"
            "  days                      2   2019-10-01 to 2019-10-02\n"
            "  no event_time             0\n"
            "  short lines               0\n"
            "  unreadable                0\n"
            "\n"
            "Rows per day\n"
            "  2019-10-01          1,234\n"
            "  2019-10-02              1\n"
            "  total               1,235\n"
            "\n"
            "Next:\n"
            f'  DAGSTER_HOME="$PWD/.dagster" ECOMMERCE_DATA_DIR={data_dir} '
            "uv run dagster asset materialize -m ecommerce_assets.definitions "
            "--select '*' --partition-range 2019-10-01...2019-10-02\n"
        )

    def test_days_before_the_first_partition(self, tmp_path: Path) -> None:
        summary = land_one(csv_file(tmp_path, ROW, ROW.replace("2019-10-01", "2019-09-24")), tmp_path / "my shop")
        assert (summary.next_command or "").startswith(
            'DAGSTER_HOME="$PWD/.dagster" ECOMMERCE_FIRST_DAY=2019-09-24 '
            f"ECOMMERCE_DATA_DIR='{tmp_path}/my shop' uv run dagster"
        )
        assert (
            "2019-09-24 (1 row) lies before the first partition, 2019-10-01: set ECOMMERCE_FIRST_DAY=2019-09-24"
        ) in str(summary)

    def test_more_than_forty_days(self, tmp_path: Path, data_dir: Path) -> None:
        lines = [ROW.replace("2019-10-01", f"2019-{month}-{day:02}") for month in (10, 11) for day in range(1, 29)]
        text = str(land_one(csv_file(tmp_path, *lines), data_dir))
        assert "  2019-10-05              1\n  … 46 days more\n  2019-11-24              1\n" in text

    def test_neither_spark_nor_dagster_is_loaded(self) -> None:
        code = (
            "import sys, ecommerce_assets.events.landing.__main__ as _;"
            "sys.exit(bool({'pyspark', 'dagster'} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

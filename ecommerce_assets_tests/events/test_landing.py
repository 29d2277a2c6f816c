"""Landing, seen from outside: files of every kind in, partitions out, and what the summary says."""

import gzip
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.events.cleaning import classify, count_by_day
from ecommerce_assets.events.landing import land
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
    land_one,
    landed,
)


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
        assert (counts["accepted"], counts["rejected: unreadable event_time"]) == (1, 2)

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

    @pytest.mark.parametrize("pattern", ["**", "**/*.parquet", "**/*"])
    def test_a_folder_and_what_is_in_it_land_once(self, tmp_path: Path, data_dir: Path, pattern: str) -> None:
        folder = tmp_path / "in" / "drop.parquet" / "brand=x"
        folder.mkdir(parents=True)
        for part in range(2):
            pq.write_table(events_table(part + 1), folder / f"part-{part}.parquet")
        summary = land([f"{tmp_path}/in/{pattern}", str(folder / "part-0.parquet")], data_dir)
        assert [source.rows_landed for source in summary.sources] == [3]

    def test_a_folder_may_grow(self, tmp_path: Path, data_dir: Path) -> None:
        folder = tmp_path / "months"
        folder.mkdir()
        pq.write_table(events_table(2), folder / "2019-Oct.parquet")
        land_one(folder, data_dir)
        pq.write_table(events_table(3), folder / "2019-Nov.parquet")
        grown = land_one(folder, data_dir)
        assert [(source.rows_landed, source.rows_already_landed) for source in grown.sources] == [(3, 0), (0, 2)]
        assert len(landed(data_dir, "user_id")) == 5

    @pytest.mark.parametrize("names", [("part-0.parquet", "part-1.parquet"), ("data_0.parquet", "data_1.parquet")])
    def test_what_one_job_wrote_is_one_source(self, tmp_path: Path, data_dir: Path, names: tuple[str, str]) -> None:
        folder = tmp_path / "export"
        folder.mkdir()
        for rows, name in enumerate(names, 1):
            pq.write_table(events_table(rows), folder / name)
        assert [source.rows_landed for source in land_one(folder, data_dir).sources] == [3]

    def test_parts_of_different_types_keep_their_digits(self, tmp_path: Path, data_dir: Path) -> None:
        drop = tmp_path / "drop.parquet"
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

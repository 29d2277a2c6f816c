"""Landing from files to partitions: every kind of file, each event once."""

import gzip
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.events import parsing
from ecommerce_assets.events.landing import LandingSummary, land
from ecommerce_assets.events.landing.summary import Window
from ecommerce_assets.events.parsing import parsed_schema
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets_tests.command import land as main
from ecommerce_assets_tests.events.landing_files import (
    HEADER,
    NEXT_DAY,
    ROW,
    csv_file,
    events_table,
    files,
    land_one,
    landed,
    parquet_file,
)

FIRST = (datetime(2019, 10, 1), "view", 1, 2, "a.b", "acme", 1.5, 3, "s1", None)
SECOND = (datetime(2019, 10, 2, 10), "purchase", 1, 2, "a.b", "acme", 1.5, 3, "s1", None)
BOTH_DAYS = ((date(2019, 10, 1), 1), (date(2019, 10, 2), 1))

PLAIN = f"{HEADER}\n{ROW}\n{NEXT_DAY}\n".encode()
CSV_FILES: dict[str, bytes] = {
    "plain.csv": PLAIN,
    "UPPER.CSV.GZ": gzip.compress(PLAIN),
    "two members.csv.gz": gzip.compress(PLAIN[:100]) + gzip.compress(PLAIN[100:]),
    "zero padding.csv.gz": gzip.compress(PLAIN) + b"\0" * 512,
    "zstd.csv.zst": pa.compress(PLAIN, "zstd", asbytes=True),
    "tabs.tsv": PLAIN.replace(b",", b"\t"),
    "semicolons.csv": PLAIN.replace(b",", b";"),
    "bars.txt": PLAIN.replace(b",", b"|"),
    "byte order mark.csv": b"\xef\xbb\xbf" + PLAIN,
    "windows.csv": PLAIN.replace(b"\n", b"\r\n"),
    "mixed line ends.csv": PLAIN.replace(b"\n", b"\r\n", 1) + b"\n\r\n\n",
    "no last line end.csv": PLAIN[:-1],
    "quotes.csv": b"\n".join(
        b",".join(b'"' + value + b'"' for value in line.split(b",")) for line in PLAIN.splitlines()
    ),
    "spaces in header.csv": PLAIN.replace(b",", b" , ", 8),
    "it's [1] * ?.csv": PLAIN,
    "unnamed column.csv": b"\n".join(b"," + line for line in PLAIN.splitlines()),
    "repeated column.csv": b"\n".join(b"x,X,x," + line for line in PLAIN.splitlines()),
}


@pytest.mark.parametrize("name", CSV_FILES)
def test_csv_file_of_any_form_is_landed(tmp_path: Path, data_dir: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CSV_FILES[name])
    summary = land_one(tmp_path / name, data_dir)
    assert landed(data_dir) == [FIRST, SECOND]
    assert summary.rows_by_day == BOTH_DAYS
    assert summary.sources[0].unreadable == ()


def test_day_is_one_file_of_parsed_events_and_a_marker(tmp_path: Path, data_dir: Path) -> None:
    (source,) = land_one(csv_file(tmp_path, ROW, ROW.replace("acme", "NA")), data_dir).sources
    day = data_dir / "raw/events/event_date=2019-10-01"
    assert sorted(path.name for path in day.iterdir()) == ["_SUCCESS", f"land-{source.content}-0-2rows.parquet"]
    (file,) = day.glob("*.parquet")
    assert pq.read_schema(file).remove_metadata() == parsed_schema("bigint")
    assert landed(data_dir, "brand, original.brand, reject_reason") == [("acme", None, None), (None, "NA", None)]


def test_ids_are_strings_if_the_setting_says_so(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOMMERCE_ID_TYPE", "string")
    lines = ["2019-10-01,view,85123A,1,17.0", "2019-10-01,view,1,1,17", "2019-10-01,view,1,1,NA"]
    summary = land_one(csv_file(tmp_path, *lines, header="event_time,event_type,product_id,price,user_id"), data_dir)
    assert landed(data_dir, "product_id, user_id") == [("1", "17"), ("1", None), ("85123A", "17")]
    assert "ECOMMERCE_ID_TYPE=string" in (summary.next_command or "")


def test_columns_may_come_in_any_order_be_ignored_or_be_missing(tmp_path: Path, data_dir: Path) -> None:
    header = ",user_id,price,product_id,event_type,ip,event_time"
    (source,) = land_one(csv_file(tmp_path, "0,3,1.5,1,view,1.1.1.1,2019-10-01", header=header), data_dir).sources
    assert landed(data_dir) == [(datetime(2019, 10, 1), "view", 1, None, None, None, 1.5, 3, None, None)]
    assert source.ignored_columns == ("(no name)", "ip")
    assert source.absent_columns == ("user_session", "brand", "category_code", "category_id")


class TestParquet:
    @pytest.mark.parametrize("name", ["x.PARQUET", "data.pq", "000000_0", "events.csv"])
    def test_parquet_is_landed_whatever_its_name(self, tmp_path: Path, data_dir: Path, name: str) -> None:
        path = parquet_file(tmp_path / "in" / name, 2)
        land_one(path, data_dir)
        (source,) = land_one(path.parent, data_dir).sources
        assert source.rows_already_landed == len(landed(data_dir)) == 2

    def test_other_types_are_converted(self, tmp_path: Path, data_dir: Path) -> None:
        columns = {
            "event_time": pa.array([1569974399_999_999_999], pa.timestamp("ns")),
            "event_type": pa.array(["view"]).dictionary_encode(),
            "product_id": pa.array([7], pa.int32()),
            "price": pa.array([Decimal("1.10")], pa.decimal128(10, 2)),
            "brand": pa.array([None], pa.null()),
            "category_id": pa.array([5.0]),
        }
        land_one(parquet_file(tmp_path / "a.parquet", **columns), data_dir)
        (row,) = landed(data_dir)
        assert row == (
            datetime(2019, 10, 1, 23, 59, 59, 999_999), "view", 7, 5, None, None, 1.1, 9007199254740993123, None, None
        )  # fmt: skip

    def test_nan_is_not_a_number(self, tmp_path: Path, data_dir: Path) -> None:
        nan = float("nan")
        prices, users = pa.array([1.5, nan, -0.0]), pa.array([1.0, 2.0, nan])
        (source,) = land_one(parquet_file(tmp_path / "a.parquet", 3, price=prices, user_id=users), data_dir).sources
        reasons = landed(data_dir, "reject_reason")
        assert reasons == [("missing user_id",), ("price is not a number",), (None,)]
        assert source.rows_landed == 3

    def test_bytes_that_are_not_utf8_cost_only_the_value(self, tmp_path: Path, data_dir: Path) -> None:
        bad = tmp_path / "bad.parquet"
        brands = pa.Array.from_buffers(pa.string(), 2, pa.array([b"acme", b"caf\xe9"]).buffers())
        pq.write_table(events_table(2, brand=brands), bad)
        (source,) = land_one(bad, data_dir).sources
        assert landed(data_dir, "brand, original.brand") == [("acme", None), (None, r"caf\xE9")]
        assert [(unreadable.reason, unreadable.count) for unreadable in source.unreadable] == [
            ("brand is not UTF-8", 1)
        ]

    def test_files_of_different_types_keep_their_digits(self, tmp_path: Path, data_dir: Path) -> None:
        export = tmp_path / "export.parquet"
        parquet_file(export / "a.parquet")
        parquet_file(export / "b.parquet", user_id=pa.array([17.0]))
        parquet_file(export / "c.parquet", user_id=pa.array(["18"]), event_time=pa.array(["2019-10-01"]))
        parquet_file(export / "d.parquet", 0, user_id=pa.array([], pa.bool_()))
        assert len(land_one(export, data_dir).sources) == 1
        assert landed(data_dir, "user_id") == [(17,), (18,), (9007199254740993123,)]

    def test_folder_names_are_string_columns(self, tmp_path: Path, data_dir: Path) -> None:
        for kind in ("cart", "view"):
            file = tmp_path / kind / f"event_type={kind}" / "brand=007" / "a.parquet"
            file.parent.mkdir(parents=True)
            pq.write_table(events_table().drop_columns(["event_type"]), file)
        land([str(tmp_path / "cart"), str(tmp_path / "view")], str(data_dir))
        assert landed(data_dir, "event_type, brand") == [("cart", "007"), ("view", "007")]


class TestFolders:
    @pytest.mark.parametrize(
        ("folder", "names", "sources"),
        [
            ("cleaned_data_20241201_120000.parquet", ["a.snappy.parquet", "b.snappy.parquet"], 1),
            ("export", ["part-0.parquet", "part-1.parquet"], 1),
            ("export", ["data_0.parquet", "data_1.parquet"], 1),
            ("export", ["000000_0", "000001_0"], 1),
            ("export", ["dt=1/a.parquet", "dt=2/x=y/b.parquet"], 1),
            ("months", ["2019-Oct.parquet", "2019-Nov.parquet"], 2),
        ],
    )
    def test_files_that_one_job_wrote_are_one_source(
        self, tmp_path: Path, data_dir: Path, folder: str, names: list[str], sources: int
    ) -> None:
        for rows, name in enumerate(names, 1):
            parquet_file(tmp_path / folder / name, rows)
        (tmp_path / folder / ".a.crc").write_bytes(b"x")
        (tmp_path / folder / "_temporary").mkdir()
        parquet_file(tmp_path / folder / "_temporary" / "c.parquet")
        summary = land_one(tmp_path / folder, data_dir)
        assert len(summary.sources) == sources
        assert len(landed(data_dir)) == 3

    @pytest.mark.parametrize("pattern", ["**", "**/*.parquet", "*"])
    def test_folder_and_the_files_in_it_are_landed_once(self, tmp_path: Path, data_dir: Path, pattern: str) -> None:
        folder = tmp_path / "in" / "export.parquet" / "brand=x"
        for part in range(2):
            parquet_file(folder / f"part-{part}.parquet", part + 1)
        land([f"{tmp_path}/in/{pattern}", str(folder / "part-0.parquet")], str(data_dir))
        assert len(landed(data_dir)) == 3

    def test_folder_with_csv_parquet_and_other_files(self, tmp_path: Path, data_dir: Path) -> None:
        part = tmp_path / "export" / "brand=x"
        csv_file(part, NEXT_DAY)
        csv_file(tmp_path / "export", ROW)
        parquet_file(part / "a.parquet")
        for name in ("notes.json", "brand=x/b.csv.zip", "_SUCCESS", ".a.crc"):
            (tmp_path / "export" / name).touch()
        summary = land_one(tmp_path / "export", data_dir)
        assert landed(data_dir, "brand") == [("acme",), ("acme",), ("x",)]
        assert summary.other_files == (tmp_path / "export/brand=x/b.csv.zip", tmp_path / "export/notes.json")

    def test_links_are_followed_once(self, tmp_path: Path, data_dir: Path) -> None:
        parquet_file(tmp_path / "elsewhere" / "part-0.parquet", 2)
        file = csv_file(tmp_path / "other", ROW)
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "folder").symlink_to(tmp_path / "elsewhere")
        (folder / "again").symlink_to(tmp_path / "elsewhere")
        (folder / "file.csv").symlink_to(file)
        (folder / "loop").symlink_to(folder)
        summary = land_one(folder, data_dir)
        assert len(summary.sources) == 2
        assert len(landed(data_dir)) == 3


def test_data_dir_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    data_dir = tmp_path / "it's [1] *"
    csv_file(tmp_path / "it's 1 x", NEXT_DAY)
    source = parquet_file(tmp_path / "in [1]" / "event?.parquet")
    land_one(source, data_dir)
    land_one(csv_file(tmp_path, ROW, ROW.replace("2019-10-01", "soon"), f"{ROW},x"), data_dir)
    assert sum(path.suffix == ".parquet" for path in data_dir.rglob("*")) == 2


class TestRepeats:
    def test_landing_twice_changes_nothing(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW, NEXT_DAY, ROW + ",x")
        land_one(path, data_dir)
        previous = files(data_dir / "raw/events")
        marker = data_dir / "raw/events/event_date=2019-10-01/_SUCCESS"
        written = marker.stat().st_mtime_ns
        summary = land_one(path, data_dir)
        assert files(data_dir / "raw/events") == previous
        assert marker.stat().st_mtime_ns == written
        assert (summary.sources[0].rows_landed, summary.sources[0].rows_already_landed) == (0, 3)
        assert "Nothing new" in str(summary)
        assert "2019-10-01...2019-10-02" in (summary.next_command or "")

    @pytest.mark.parametrize("write", [bytes, gzip.compress])
    def test_same_content_is_landed_once_and_equal_rows_of_other_files_too(
        self, tmp_path: Path, data_dir: Path, write: Callable[[bytes], bytes]
    ) -> None:
        first = csv_file(tmp_path, ROW, ROW + ",x", name="a.csv")
        second = tmp_path / ("b.csv" if write is bytes else "b.csv.gz")
        second.write_bytes(write(first.read_bytes()))
        third = csv_file(tmp_path, ROW, ROW, ROW, name="c.csv")  # equal events, but another content
        summary = land([str(first), str(second), str(third)], str(data_dir))
        assert {source.source.name: source.rows_landed for source in summary.sources} == {
            first.name: 2,
            second.name: 0,
            third.name: 3,
        }
        assert summary.rows_by_day == ((date(2019, 10, 1), 5),)
        assert len(landed(data_dir)) == 5

    def test_day_whose_file_was_removed_is_landed_again(self, tmp_path: Path, data_dir: Path) -> None:
        path = csv_file(tmp_path, ROW, NEXT_DAY)
        land_one(path, data_dir)
        (file,) = data_dir.glob("raw/events/event_date=2019-10-02/land-*.parquet")
        file.unlink()
        marker = data_dir / "raw/events/event_date=2019-10-01/_SUCCESS"
        marker.unlink()  # as after an interrupt
        assert land_one(path, data_dir).sources[0].days_already_landed == {date(2019, 10, 1)}
        assert marker.exists()
        assert len(landed(data_dir)) == 2


def test_many_parts_of_a_day_become_one_file(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = "500MB'; SET partitioned_write_flush_threshold = 1; SET partitioned_write_max_open_files = '1"
    monkeypatch.setattr(parsing, "MEMORY_LIMIT", limits)
    lines = [ROW.replace("10-01", f"10-{number % 7 + 1:02}") for number in range(5_000)]
    land_one(csv_file(tmp_path, *lines), data_dir)
    assert len(list(data_dir.glob("raw/events/*/*.parquet"))) == 7
    assert len(landed(data_dir)) == 5_000


class TestBucket:
    @pytest.fixture
    def bucket(self) -> str:
        return f"memory://{uuid.uuid4().hex}/shop"

    def names(self, bucket: str) -> list[str]:
        names = fsspec.filesystem("memory").find(bucket.removeprefix("memory:/"))
        return sorted(name.rpartition("/shop/")[2] for name in names)

    def test_days_are_landed_once(self, tmp_path: Path, bucket: str) -> None:
        path = csv_file(tmp_path, ROW, NEXT_DAY, ROW + ",x")
        (source,) = land([str(path)], bucket).sources
        expected = [
            f"raw/events/event_date=2019-10-0{day}/{name}"
            for day, rows in ((1, 2), (2, 1))
            for name in ("_SUCCESS", f"land-{source.content}-0-{rows}rows.parquet")
        ]
        assert self.names(bucket) == [*expected, f"raw/unreadable/events.csv-{source.content}.csv"]
        (again,) = land([str(path)], bucket).sources
        assert (again.rows_read, again.rows_already_landed) == (3, 3)

    def test_interrupted_day_has_no_marker_until_it_is_landed_again(
        self, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = csv_file(tmp_path, ROW)
        with monkeypatch.context() as dying:
            dying.setattr(Folder, "write_whole", _die)
            assert main([str(path), "--data-dir", bucket]) == 130
        assert [name.rpartition("/")[2][:5] for name in self.names(bucket)] == ["land-"]
        assert main([str(path), "--data-dir", bucket]) == 0
        assert [name.rpartition("/")[2][:5] for name in self.names(bucket)] == ["_SUCC", "land-"]


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


class TestNextCommand:
    WINDOW = Window(date(2026, 3, 2), date(2026, 3, 5), today=date(2026, 3, 10))

    def test_days_that_are_not_partitions_are_reported(self) -> None:
        rows = [(date(2026, month, day), 1000) for month, day in ((2, 27), (2, 28), (3, 2), (3, 6), (3, 10), (3, 11))]
        early, late, today, future = self.WINDOW.remarks(rows)
        assert "2 days (2026-02-27 to 2026-02-28, 2,000 rows)" in early
        assert "ECOMMERCE_FIRST_DAY=2026-02-27" in early
        assert "ECOMMERCE_LAST_DAY=2026-03-06" in late
        assert "2026-03-10" in today
        assert "2026-03-11 (1,000 rows)" in future

    def test_it_sets_the_window_and_excludes_today(self, tmp_path: Path) -> None:
        path = csv_file(tmp_path, *(ROW.replace("2019-10-01", f"2026-03-{day}") for day in ("01", "09", "10")))
        (source,) = land_one(path, tmp_path / "my shop").sources
        command = LandingSummary(f"{tmp_path}/my shop", (source,), self.WINDOW).next_command or ""
        assert "ECOMMERCE_FIRST_DAY=2026-03-01 ECOMMERCE_LAST_DAY=2026-03-09 ECOMMERCE_DATA_DIR='" in command
        assert command.endswith("--partition-range 2026-03-01...2026-03-09")


def test_neither_spark_nor_dagster_is_imported() -> None:
    code = (
        "import sys; from ecommerce_assets.cli import main; main(['land', '--help'], standalone_mode=False);"
        "sys.exit(bool({'pyspark', 'dagster'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

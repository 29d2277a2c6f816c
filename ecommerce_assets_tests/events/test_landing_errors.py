"""Landing, seen from outside: what is refused, in which words, and that nothing landed then."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from ecommerce_assets.events.landing.__main__ import main
from ecommerce_assets_tests.events.landing_files import (
    HEADER,
    ROW,
    csv_file,
    events_table,
    files,
    land_one,
)


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

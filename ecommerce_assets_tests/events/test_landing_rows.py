"""Landing, seen from outside: no row is lost or doubled, by bad lines, repeats or interrupts."""

import csv
import io
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_assets.events.landing import LandingError, land, splitting, target
from ecommerce_assets.events.landing import run as landing_run
from ecommerce_assets.events.landing.__main__ import main
from ecommerce_assets_tests.events.landing_files import (
    NEXT_DAY,
    ROW,
    csv_file,
    days,
    files,
    land_one,
    landed,
)


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

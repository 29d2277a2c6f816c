"""Files, options and data dirs that landing refuses: an error on stderr, exit code 2, and nothing is landed."""

import errno
import gzip
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from ecommerce_assets_tests.command import PROGRAM
from ecommerce_assets_tests.command import land as main
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
    parquet_file,
)

Fails = Callable[..., str]


@pytest.fixture
def fails(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Lands sources that are refused, and returns the error."""

    def land_and_fail(*sources: Path | str) -> str:
        previous = files(data_dir)
        assert main([*map(str, sources), "--data-dir", str(data_dir)]) == 2
        assert files(data_dir) == previous
        out, err = capsys.readouterr()
        assert not out
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    return land_and_fail


GOOD = f"{HEADER}\n{ROW}\n"
BUFFER = pa.BufferOutputStream()
pq.write_table(events_table(1000), BUFFER)
PARQUET = BUFFER.getvalue().to_pybytes()

REFUSED: dict[str, tuple[bytes | str, str]] = {
    "no_header.csv": (f"{ROW}\n{ROW}\n", "--header event_time,event_type,"),
    "empty.csv": ("", "is empty"),
    "empty.csv.gz": (gzip.compress(b""), "is empty"),
    "empty.parquet": ("", "is empty"),
    "header_only.csv": (f"{HEADER}\n", "is empty"),
    "columns.csv": ("event_time,event_type,cost\na,b,c\n", "lacks the columns product_id, price, user_id"),
    "twice.csv": (f"{HEADER},price\n{ROW},1\n", "price and price"),
    "case.csv": (f"{HEADER},Price\n{ROW},1\n", "price and Price"),
    "time.csv": (GOOD.replace("2019-10-01", "01/10/2019"), "event_time"),
    "no_line.csv": (f"{HEADER}\n{ROW},x\n", "line 2"),
    "utf16.csv": (GOOD.encode("utf-16"), "--encoding latin-1"),
    "utf16_without_mark.csv": (GOOD.encode("utf-16-le"), "UTF-8"),
    "cut_off.csv.gz": (gzip.compress(GOOD.encode())[:-9], "cut off"),
    "cut_off.csv.zst": (pa.compress(os.urandom(9) + GOOD.encode(), "zstd", asbytes=True)[:-9], "cut off"),
    "plain.csv.gz": (GOOD, "not a gzip file"),
    "plain.csv.zst": (GOOD, "not a zstd file"),
    "old_mac.csv": (GOOD.replace("\n", "\r"), "not a CSV file"),
    "events.csv.zip": (b"PK", "unzip"),
    "events.json": ("{}", ".csv, .csv.gz, .csv.zst"),
    "text.parquet": ("hello", "not a Parquet file"),
    "cut_off.parquet": (PARQUET[:-20], "not a Parquet file"),
    "damaged.parquet": (PARQUET[:4] + b"\xff" * 200 + PARQUET[204:], "damaged"),
    os.fsdecode(b"caf\xe9.csv"): (GOOD, "not valid UTF-8"),
}


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name))
def test_file_that_cannot_be_landed_is_named_with_the_reason(tmp_path: Path, fails: Fails, name: str) -> None:
    path = tmp_path / name
    content, reason = REFUSED[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = fails(csv_file(tmp_path / "good", NEXT_DAY), path)
    assert error.startswith(str(path).encode(errors="backslashreplace").decode())
    assert reason in error


def test_sources_without_rows_or_files_are_refused(tmp_path: Path, fails: Fails) -> None:
    assert "no rows" in fails(parquet_file(tmp_path / "x.parquet", 0))
    (tmp_path / "folder").mkdir()
    assert f"{tmp_path}/folder has no CSV or Parquet files" in fails(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not a regular file" in fails(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone.csv")
    assert f"link to {tmp_path}/gone.csv" in fails(tmp_path / "link.csv")


def test_names_that_match_nothing_are_refused(tmp_path: Path, fails: Fails) -> None:
    for name in (f"{tmp_path}/none.csv", f"{tmp_path}/*.csv", "s3://bucket/x.csv", "~nobody.csv"):
        assert name in fails(name)
    assert "empty" in fails("")


@pytest.mark.parametrize(
    ("column", "id_"), [("user_id", "85123A"), ("product_id", "17.5"), ("user_id", "99999999999999999999")]
)
def test_ids_that_are_not_integers_stop_the_landing(tmp_path: Path, fails: Fails, column: str, id_: str) -> None:
    other = ({"user_id", "product_id"} - {column}).pop()
    lines = [f"2019-10-{n:02},view,1,1,{n}" for n in range(1, 10)]
    header = f"event_time,event_type,{other},price,{column}"
    path = csv_file(tmp_path, *lines, f"2019-10-01,view,1,1,{id_}", header=header)
    error = fails(csv_file(tmp_path / "good", ROW), path)
    for part in (str(path), column, "1 of 10 events", repr(id_), "ECOMMERCE_ID_TYPE=string"):
        assert part in error


def test_the_data_dir_of_the_sample_is_refused(tmp_path: Path, data_dir: Path, fails: Fails) -> None:
    (data_dir / "raw/events").mkdir(parents=True)
    (data_dir / "raw/events/_SAMPLE").touch()
    error = fails(csv_file(tmp_path, ROW))
    assert "sample" in error
    assert "--data-dir DIR" in error


def test_landed_data_is_not_a_source(tmp_path: Path, data_dir: Path, fails: Fails) -> None:
    land_one(csv_file(tmp_path, ROW), data_dir)
    assert "already landed" in fails(data_dir / "raw/events")


def test_only_one_landing_runs_at_a_time(tmp_path: Path, data_dir: Path, fails: Fails) -> None:
    (data_dir / "raw").mkdir(parents=True)
    with FileLock(data_dir / "raw/.landing.lock"):
        assert f"Another landing into {data_dir} is running" in fails(csv_file(tmp_path, ROW))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("bogus://shop", "cannot be used"),
        ("back\\slash", "choose another"),
        ("events.csv", "Not a directory"),
        ("", "--data-dir DIR or set the variable ECOMMERCE_DATA_DIR"),
    ],
)
def test_data_dir_that_cannot_be_used_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str, reason: str
) -> None:
    csv_file(tmp_path, ROW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECOMMERCE_DATA_DIR", "")
    assert main(["events.csv", "--data-dir", target]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Reading")]
    assert reason in error


class TestFullDisk:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a tmpfs needs root")
        yield disk
        subprocess.run(["umount", str(disk)], check=True)

    @pytest.mark.parametrize("flaw", [[], [f"{ROW},x", "soon"]])
    def test_disk_that_fills_up_while_staging_lands_nothing(
        self, tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], flaw: list[str]
    ) -> None:
        lines = [ROW.replace("s1", os.urandom(40).hex()) for _ in range(20_000)]
        assert main([str(csv_file(tmp_path, *lines, *flaw)), "--data-dir", str(small_disk / "shop")]) == 2
        assert f"The disk of {small_disk}/shop is full" in capsys.readouterr().err.strip().splitlines()[-1]
        assert not days(small_disk / "shop")
        assert not list((small_disk / "shop/raw").glob(".landing-*"))
        assert main([str(csv_file(tmp_path, ROW)), "--data-dir", str(small_disk / "shop")]) == 0

    def test_disk_that_is_full_while_publishing_is_named(
        self, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        path = csv_file(tmp_path, ROW)
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", full)
            assert main([str(path), "--data-dir", str(data_dir)]) == 2
        assert f"The disk of {data_dir} is full" in capsys.readouterr().err
        land_one(path, data_dir)
        assert len(landed(data_dir)) == 1


def test_control_characters_of_a_file_are_escaped(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red = "\x1b[31mred\x07"
    path = csv_file(tmp_path, ROW.replace("1.50", red) + ",x", header=f'{HEADER},"a{red}"', name="red\x1b[31m.csv")
    assert main([str(path), "--data-dir", str(data_dir)]) == 0
    bad = csv_file(tmp_path, ROW, header=HEADER.replace("price", red), name="bad\x1b.csv")
    assert main([str(bad), "--data-dir", str(data_dir)]) == 2
    out, err = capsys.readouterr()
    assert r"\x1b[31mred" in out
    assert r"\x1b[31mred" in err
    assert "\x1b" not in out + err


def test_summary_is_printed_in_any_encoding_of_the_terminal(tmp_path: Path, data_dir: Path) -> None:
    path = csv_file(tmp_path, ROW, ROW.replace("1.50", "日本€"), name="événements.csv")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [PROGRAM, "land", str(path), "--data-dir", str(data_dir)]
    landing = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert rb"\u65e5\u672c\u20ac" in landing.stdout
    assert b"Traceback" not in landing.stderr
    assert b"\x1b" not in landing.stdout + landing.stderr

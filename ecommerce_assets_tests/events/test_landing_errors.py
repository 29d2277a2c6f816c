"""What landing refuses: one sentence on stderr, exit code 2, and nothing lands."""

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

from ecommerce_assets.events.landing import LandingError
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
    """Lands what cannot land, and gives the one sentence that is printed."""

    def land_and_fail(*sources: Path | str) -> str:
        before = files(data_dir)
        assert main([*map(str, sources), "--data-dir", str(data_dir)]) == 2
        assert files(data_dir) == before
        out, err = capsys.readouterr()
        assert not out
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    return land_and_fail


GOOD = f"{HEADER}\n{ROW}\n"
BUFFER = pa.BufferOutputStream()
pq.write_table(events_table(1000), BUFFER)
PARQUET = BUFFER.getvalue().to_pybytes()

REFUSED: list[tuple[str, bytes | str, str]] = [
    ("no_header.csv", f"{ROW}\n{ROW}\n", "FILE has no header: its first line is data; name its 9 columns with --"),
    ("empty.csv", "", "FILE is empty."),
    ("empty.csv.gz", gzip.compress(b""), "FILE is empty."),
    ("empty.parquet", "", "FILE is empty."),
    ("header_only.csv", f"{HEADER}\n", "FILE is empty but for its header."),
    (
        "columns.csv",
        "event_time,event_type,cost\na,b,c\n",
        "FILE lacks the columns product_id, price, user_id; it has ",
    ),
    ("twice.csv", f"{HEADER},price\n{ROW},1\n", "FILE has the columns price and price: rename or remove one of them."),
    ("case.csv", f"{HEADER},Price\n{ROW},1\n", "FILE has the columns price and Price: rename or remove one of them."),
    ("time.csv", GOOD.replace("2019-10-01", "01/10/2019"), "FILE has no row with a readable event_time, "),
    ("no_line.csv", f"{HEADER}\n{ROW},x\n", "FILE has no line that can be read as an event; line 2: "),
    ("utf16.csv", GOOD.encode("utf-16"), "FILE is not in UTF-8: add --encoding latin-1"),
    ("utf16_without_mark.csv", GOOD.encode("utf-16-le"), "FILE is not a CSV file in UTF-8: its first line "),
    ("cut_off.csv.gz", gzip.compress(GOOD.encode())[:-9], "FILE cannot be decompressed: it is cut off"),
    (
        "cut_off.csv.zst",
        pa.compress(os.urandom(9) + GOOD.encode(), "zstd", asbytes=True)[:-9],
        "FILE cannot be decompressed",
    ),
    ("plain.csv.gz", GOOD, "FILE cannot be decompressed: "),
    ("plain.csv.zst", GOOD, "FILE cannot be decompressed: "),
    ("events.csv.zip", b"PK", "FILE is a zip archive: unzip it and land what is in it."),
    ("events.json", "{}", "FILE is neither Parquet nor CSV by its name (.csv, .csv.gz, .csv.zst)."),
    ("text.parquet", "hello", "FILE is not a Parquet file, or it is cut off."),
    ("cut_off.parquet", PARQUET[:-20], "FILE is not a Parquet file, or it is cut off."),
    ("damaged.parquet", PARQUET[:4] + b"\xff" * 200 + PARQUET[204:], "FILE is damaged: "),
]


@pytest.mark.parametrize(("name", "content", "sentence"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_files_that_do_not_land(tmp_path: Path, fails: Fails, name: str, content: bytes | str, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    good = csv_file(tmp_path / "good", NEXT_DAY)
    assert fails(good, path).startswith(sentence.replace("FILE", str(path)))


def test_line_ends_of_old_macs(tmp_path: Path, fails: Fails) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(GOOD.replace("\n", "\r").encode())
    assert fails(path).startswith(f"{path} is not a CSV file")


def test_parquet_without_rows_and_folders_without_files(tmp_path: Path, fails: Fails) -> None:
    path = parquet_file(tmp_path / "x.parquet", 0)
    assert fails(path) == f"{path} is empty: it has columns but no rows."
    (tmp_path / "folder").mkdir()
    assert fails(tmp_path / "folder") == f"The folder {tmp_path}/folder holds no CSV and no Parquet files."


def test_a_name_that_is_not_utf8(tmp_path: Path, fails: Fails) -> None:
    path = csv_file(tmp_path, ROW, name=os.fsdecode(b"caf\xe9.csv"))
    assert fails(path) == f"{tmp_path}/caf\\udce9.csv: the name is not in UTF-8; rename it."


def test_names_that_stand_for_nothing(tmp_path: Path, fails: Fails) -> None:
    assert fails(tmp_path / "none.csv") == f"No file or folder is called {tmp_path}/none.csv."
    assert fails(tmp_path / "*.csv") == f"No file matches {tmp_path}/*.csv."
    assert fails("s3://bucket/x.csv") == "s3://bucket/x.csv is a URL; landing reads local files only."


@pytest.mark.parametrize("column", ["user_id", "product_id"])
@pytest.mark.parametrize("id_", ["85123A", "17.5", "99999999999999999999"])
def test_ids_that_are_not_integers_stop_everything(tmp_path: Path, fails: Fails, column: str, id_: str) -> None:
    other = ({"user_id", "product_id"} - {column}).pop()
    lines = [f"2019-10-{n:02},view,1,1,{n}" for n in range(1, 10)]
    path = csv_file(
        tmp_path, *lines, f"2019-10-01,view,1,1,{id_}", header=f"event_time,event_type,{other},price,{column}"
    )
    message = fails(csv_file(tmp_path / "good", ROW), path)
    assert message.startswith(
        f"{path}: 1 of 10 events have a {column} that is not an integer of 64 bits, such as '{id_}'"
    )
    assert "ECOMMERCE_ID_TYPE=string" in message


def test_the_sample_is_not_mixed_with(tmp_path: Path, data_dir: Path, fails: Fails) -> None:
    (data_dir / "raw/events").mkdir(parents=True)
    (data_dir / "raw/events/_SAMPLE").touch()
    message = fails(csv_file(tmp_path, ROW))
    assert message.startswith(f"{data_dir} holds the shipped sample")
    assert "--data-dir DIR" in message


def test_landed_data_is_not_a_source(tmp_path: Path, data_dir: Path, fails: Fails) -> None:
    land_one(csv_file(tmp_path, ROW), data_dir)
    assert fails(data_dir / "raw/events").endswith(f"is landed data of {data_dir} itself.")


def test_one_landing_at_a_time(tmp_path: Path, data_dir: Path, fails: Fails) -> None:
    (data_dir / "raw").mkdir(parents=True)
    with FileLock(data_dir / "raw/.landing.lock"):
        message = fails(csv_file(tmp_path, ROW))
    assert message == f"Another landing into {data_dir} is running; wait until it has ended."


def test_a_file_in_place_of_the_data_dir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = csv_file(tmp_path, ROW)
    assert main([str(path), "--data-dir", str(path)]) == 2
    assert capsys.readouterr().err.strip().endswith(": Not a directory.")


def test_no_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ECOMMERCE_DATA_DIR", "")
    assert main([str(csv_file(tmp_path, ROW))]) == 2
    assert "--data-dir DIR or the variable ECOMMERCE_DATA_DIR" in capsys.readouterr().err


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
    def test_a_disk_that_fills_up(
        self, tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str], flaw: list[str]
    ) -> None:
        lines = [ROW.replace("s1", os.urandom(40).hex()) for _ in range(20_000)]
        assert main([str(csv_file(tmp_path, *lines, *flaw)), "--data-dir", str(small_disk / "shop")]) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message == f"The disk of {small_disk}/shop is full: free some space and land again."
        assert not days(small_disk / "shop")
        assert not list((small_disk / "shop/raw").glob(".landing-*"))
        assert main([str(csv_file(tmp_path, ROW)), "--data-dir", str(small_disk / "shop")]) == 0

    def test_while_files_are_moved(
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


class TestOutput:
    COMMAND = (PROGRAM, "land")

    def test_control_characters_of_a_file_are_written_out(
        self, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        red = "\x1b[31mred\x07"
        path = csv_file(tmp_path, ROW.replace("1.50", red), header=HEADER)
        assert main([str(path), "--data-dir", str(data_dir)]) == 0
        bad = csv_file(tmp_path, ROW, header=HEADER.replace("price", red), name="bad\x1b.csv")
        assert main([str(bad), "--data-dir", str(data_dir)]) == 2
        out, err = capsys.readouterr()
        assert r"\x1b[31mred" in out
        assert r"\x1b[31mred" in err
        assert "\x1b" not in out + err

    @pytest.mark.parametrize(("variable", "value"), [("LC_ALL", "C"), ("PYTHONIOENCODING", "ascii")])
    def test_any_encoding_of_the_output_will_do(
        self, tmp_path: Path, data_dir: Path, variable: str, value: str
    ) -> None:
        path = csv_file(tmp_path, ROW, ROW.replace("1.50", "日本€"), name="événements.csv")
        environment = {"PATH": os.environ["PATH"], variable: value}
        command = [*self.COMMAND, str(path), "--data-dir", str(data_dir)]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        assert b"unreadable price: 1, such as" in done.stdout
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("", "shop", "A file name is empty"),
        ("~nobody.csv", "shop", "No file or folder is called"),
        ("events.csv", "bogus://shop", "cannot be used as a data dir"),
        ("events.csv", "back\\slash", "choose another data dir"),
    ],
)
def test_odd_names_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    target: str,
    sentence: str,
) -> None:
    csv_file(tmp_path, ROW)
    monkeypatch.chdir(tmp_path)
    assert main([source, "--data-dir", target]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Reading")]
    assert sentence in error


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, data_dir: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(LandingError, match="is not a regular file"):
        land_one(tmp_path / "pipe.csv", data_dir)


def test_names_of_a_file_cannot_control_the_terminal(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv_file(tmp_path, ROW + ",x", header=HEADER + ',"a\x1b[31m"', name="red\x1b[31m.csv")
    main([str(path), "--data-dir", str(data_dir)])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err

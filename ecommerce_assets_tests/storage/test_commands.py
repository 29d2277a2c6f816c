"""The storage commands, on an intact and a damaged shop."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from click.testing import CliRunner

from ecommerce_assets.cli import main
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import FileEntry, Input
from ecommerce_assets_tests.stored import put_folder, put_table, version_of

TABLES_AND_MODELS = 21


@pytest.fixture
def shop(ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path) -> Path:
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(data_dir: Path, *arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(main, [*arguments, "--data-dir", str(data_dir)])
    return found.exit_code, found.stdout, found.stderr


def run_json(data_dir: Path, *arguments: str) -> Any:
    return json.loads(run(data_dir, *arguments, "--json")[1])


@pytest.mark.spark_only
def test_lineage_shows_every_raw_file(shop: Path) -> None:
    code, shown, _ = run(shop, "lineage", "recommendations")
    assert code == 0
    lake = Lake(str(shop))
    for asset in ("als_model", "interaction_data", "cleaned_events", "user_index", "segmented_users"):
        assert f"{asset} {lake.latest(asset).version} (published " in shown
    for file in sorted((shop / "raw" / "events").glob("*/*.parquet")):
        assert f"{file.relative_to(shop / 'raw' / 'events')} ({file.stat().st_size:,} bytes)" in shown
    assert shown.count("raw_events 2019-10-01") == 1
    found = {
        entry["asset"]: entry for entry in run_json(shop, "lineage", "recommendations", "--version", "0")["versions"]
    }
    assert found["recommendations"]["version"] == "0"
    assert len(found["cleaned_events"]["inputs"]) == 8
    assert found["user_features"]["column_lineage"]["monetary"] == ["cleaned_events.event_type", "cleaned_events.price"]


def test_lineage_of_days_shows_the_versions_that_wrote_them(tmp_path: Path) -> None:
    lake, rows = Lake(str(tmp_path)), pa.table({"a": [1]})
    for day in ("2019-10-01", "2019-10-02"):
        raw = Input(
            asset="raw_events", partitions=(day,), fingerprint="f", files=(FileEntry(path=f"{day}.parquet", bytes=1),)
        )
        put_table(lake, "cleaned_events", days={day: rows}, inputs=(raw,))
    both = Input(asset="cleaned_events", version="1", partitions=("2019-10-01", "2019-10-02"), fingerprint="f")
    put_table(lake, "user_features", inputs=(both,))
    put_table(lake, "cleaned_events", days={"2019-10-01": rows})
    shown = run(tmp_path, "lineage", "user_features")[1]
    assert [line.split(" (")[0].strip("│├└─ ") for line in shown.splitlines()] == [
        "user_features 0",
        "cleaned_events 0",
        "raw_events 2019-10-01: 1 file, 1 bytes",
        "2019-10-01.parquet",
        "cleaned_events 1",
        "raw_events 2019-10-02: 1 file, 1 bytes",
        "2019-10-02.parquet",
    ]


def test_versions_have_states(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for _ in range(3):
        put_table(lake, "a")
    run(tmp_path, "prune", "--keep", "0", "--grace-hours", "0")
    newest = put_table(lake, "a")
    (Path(lake.asset("a").path) / lake.files(newest)[0].path).unlink()
    lake.block(version_of("a", "20260101_120000_00000000", checks=()))
    states = [(state["version"], state["state"]) for state in run_json(tmp_path, "versions", "a")]
    assert states == [
        (newest.version, "damaged: 1 files missing or of another size"),
        ("2", "current"),
        ("1", "removed"),
        ("0", "removed"),
        ("_blocked/20260101_120000_00000000", "blocked by "),
    ]
    put_folder(lake, "m")
    put_folder(lake, "m", committed_at=datetime.now(UTC) + timedelta(days=1))
    code, shown, _ = run(tmp_path, "versions", "m")
    assert (code, [line.rsplit("  ", 1)[1] for line in shown.splitlines()]) == (
        0,
        ["state", "from the future: ignored", "current"],
    )


def test_versions_lists_the_newest_twenty_without_all(tmp_path: Path) -> None:
    for _ in range(22):
        put_table(Lake(str(tmp_path)), "a")
    assert len(run_json(tmp_path, "versions", "a")) == 20
    assert len(run_json(tmp_path, "versions", "a", "--all")) == 22
    assert run(tmp_path, "versions", "a")[1].splitlines()[-1] == "2 older versions: add --all"


def test_verify_reads_every_file(shop: Path) -> None:
    code, shown, _ = run(shop, "verify")
    assert code == 0
    assert shown.startswith(f"{TABLES_AND_MODELS + 1} versions, ")
    assert shown.endswith("all intact\n")


@pytest.mark.parametrize(
    ("asset", "pattern", "damage", "problem"),
    [
        ("user_features", "*.parquet", "truncated", "is missing or of another size"),
        ("user_features", "*.parquet", "missing", "is missing or of another size"),
        ("user_features", "*.parquet", "flipped", "cannot be read"),
        ("user_features", "_delta_log/*.json", "garbage", "cannot be read"),
        ("als_model", "model/itemFactors/*.parquet", "flipped", "cannot be read"),
        ("als_model", "_commit.json", "garbage", "is damaged"),
        ("training_metadata", "training_metadata.json", "garbage", "is missing or of another size"),
    ],
)
def test_verify_finds_damage(shop: Path, asset: str, pattern: str, damage: str, problem: str) -> None:
    file = sorted((shop / "lake" / asset).rglob(pattern))[0]
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        content[len(content) // 3] ^= 0x10
        file.write_bytes(content)
    else:
        file.write_bytes(content[:-8] if damage == "truncated" else b"{]")
    code, shown, _ = run(shop, "verify", asset)
    assert code == 1
    assert shown.startswith(f"DAMAGED: {asset}")
    assert problem in shown
    assert shown.splitlines()[-1].endswith("1 problems")
    assert run_json(shop, "verify", asset)["damaged"]
    assert run(shop, "verify", "user_index")[0] == 0


def test_prune_prints_what_it_removes(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for _ in range(3):
        put_table(lake, "a")
    options = ("--keep", "1", "--grace-hours", "0")
    assert run(tmp_path, "prune", "a", *options, "--dry-run")[1].splitlines() == [
        "would remove a 0, superseded (1 file)",
        "would remove 1 versions",
    ]
    assert [removal["version"] for removal in run_json(tmp_path, "prune", *options)["removed"]] == ["0"]


@pytest.mark.parametrize("command", ["versions", "lineage", "verify", "prune"])
def test_an_unknown_asset_is_a_one_line_error(tmp_path: Path, command: str) -> None:
    put_table(Lake(str(tmp_path)), "a")
    for name, reason in (("b", "b is not stored in"), ("../../../x", "is not the name of an asset")):
        code, shown, error = run(tmp_path, command, name)
        assert (code, shown) == (2, "")
        assert reason in error
        assert len(error.splitlines()) == 1
    (tmp_path / "lake" / "old" / "20260101_120000_00000000").mkdir(parents=True)
    (tmp_path / "lake" / "old" / "20260101_120000_00000000" / "_manifest.json").write_text("{}")
    code, _, error = run(tmp_path, command, "old")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "did not use Delta tables" in error

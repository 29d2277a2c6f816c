"""The storage command, on a shop that was materialised and then damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from ecommerce_assets.storage.__main__ import main
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import Manifest
from ecommerce_assets.storage.writers import writing


@pytest.fixture
def shop(ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path: Path) -> Path:
    shutil.copytree(ran[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], shop: Path, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--data-dir", str(shop)])
    said = capsys.readouterr()
    return code, said.out, said.err


def version_folder(shop: Path, asset: str) -> Path:
    return Path(Lake(str(shop)).folder(asset, Lake(str(shop)).latest(asset).version).uri)


def test_lineage_leads_to_every_raw_file(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    code, told, _ = run(capsys, shop, "lineage", "recommendations")
    assert code == 0
    lake = Lake(str(shop))
    for asset in ("als_model", "interaction_data", "cleaned_events", "user_index", "segmented_users"):
        assert f"{asset} {lake.latest(asset).version} (committed " in told
    for file in sorted((shop / "raw" / "events").glob("*/*.parquet")):
        assert f"{file.relative_to(shop / 'raw' / 'events')} ({file.stat().st_size:,} bytes)" in told
    assert told.count("raw_events 2019-10-01") == 1, "what was shown is not unfolded again"


def test_lineage_as_json(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    version = Lake(str(shop)).latest("recommendations").version
    code, told, _ = run(capsys, shop, "lineage", "recommendations", "--version", version, "--json")
    found = {entry["asset"]: entry for entry in json.loads(told)["versions"]}
    assert code == 0
    assert found["recommendations"]["version"] == version
    assert len(found["cleaned_events"]["inputs"]) == 8
    assert "user_features" in found


def test_versions_and_their_states(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    lake = Lake(str(shop))
    now = lake.latest("user_index").version
    lake.folder("user_index", "20200101_000000_00000000").write_whole("part-0.parquet", b"half")
    lake.folder("user_index", "20990101_000000_00000000").write_whole(
        "_manifest.json", lake.latest("user_index").to_json().replace(b'"committed_at": "20', b'"committed_at": "30')
    )
    code, told, _ = run(capsys, shop, "versions", "user_index", "--json")
    assert code == 0
    assert {s["version"]: s["state"] for s in json.loads(told)} == {
        now: "current",
        "20200101_000000_00000000": "left by a writer that died",
        "20990101_000000_00000000": "in the future: ignored",
    }
    code, told, _ = run(capsys, shop, "versions", "cleaned_events")
    assert "current: serves 8 of its 8 days" in told
    assert told.splitlines()[0].split() == ["version", "committed", "(UTC)", "rows", "bytes", "run", "state"]


def test_verify_says_that_all_is_well(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    code, told, _ = run(capsys, shop, "verify")
    assert code == 0
    assert told.startswith("14 versions, ")
    assert told.endswith("all as written\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("truncated", "is missing or of another size"),
        ("missing", "is missing or of another size"),
        ("other content", "the content of its files is not what was written"),
        ("garbage manifest", "_manifest.json is damaged"),
    ],
)
def test_verify_finds_damage(capsys: pytest.CaptureFixture[str], shop: Path, damage: str, said: str) -> None:
    folder = version_folder(shop, "user_features")
    file = sorted(folder.glob("*.parquet"))[0]
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-8])
    elif damage == "missing":
        file.unlink()
    elif damage == "other content":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(bytes(content))
    else:
        (folder / "_manifest.json").write_text("{]")
    code, told, _ = run(capsys, shop, "verify", "user_features")
    assert code == 1
    assert f"DAMAGED: user_features {folder.name}: " in told
    assert said in told
    assert told.splitlines()[-1].endswith("1 damaged")


def test_verify_goes_on_where_a_file_cannot_be_read(
    capsys: pytest.CaptureFixture[str], shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("ecommerce_assets.storage.content.fingerprint", unreadable)
    code, told, _ = run(capsys, shop, "verify")
    assert code == 1
    assert told.count("a file cannot be read ([Errno 5] Input/output error)") == 14


def test_verify_calls_what_is_removed_meanwhile_no_damage(
    capsys: pytest.CaptureFixture[str], shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, damaged_files = version_folder(shop, "user_features"), Lake.damaged_files

    def removed(lake: Lake, manifest: Manifest) -> list[str]:
        shutil.rmtree(folder)
        return damaged_files(lake, manifest)

    monkeypatch.setattr(Lake, "damaged_files", removed)
    code, told, _ = run(capsys, shop, "verify", "user_features")
    assert code == 0
    assert f"user_features {folder.name}: removed while it was looked at" in told


def test_verify_tells_what_is_foreign_and_calls_it_no_damage(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    folder = version_folder(shop, "user_features")
    (folder / "extra.parquet").write_bytes(b"x")
    (folder.parent / "notes.txt").write_text("x")
    (folder.parent / "empty").mkdir()
    lake = Lake(str(shop))
    with writing(lake.root / "user_features", "20260101_000000_00000000"):
        lake.folder("user_features", "20260101_000000_00000000").write_whole("part-0.parquet", b"half")
        code, told, _ = run(capsys, shop, "verify", "user_features")
    assert code == 0
    for said in (
        "extra.parquet is not in the manifest: ignored",
        "notes.txt is not a version: ignored",
        "empty: not a version folder: ignored",
        "20260101_000000_00000000: being written",
    ):
        assert said in told


def test_verify_tells_an_input_that_is_gone(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    folder = version_folder(shop, "user_features")
    shutil.rmtree(folder)
    code, told, _ = run(capsys, shop, "verify", "segmented_users")
    assert code == 0
    assert f"its input user_features {folder.name} is gone" in told
    _, told, _ = run(capsys, shop, "lineage", "segmented_users")
    assert f"user_features {folder.name}: gone" in told


def test_prune_says_what_it_removes(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    Lake(str(shop)).folder("user_index", "20200101_000000_00000000").write_whole("part-0.parquet", b"half")
    code, told, _ = run(capsys, shop, "prune", "--dry-run")
    assert (code, told.splitlines()[-1]) == (0, "would remove 1 versions")
    code, told, _ = run(capsys, shop, "prune", "--json")
    assert [r["version"] for r in json.loads(told)["removed"]] == ["20200101_000000_00000000"]
    assert not (shop / "lake" / "user_index" / "20200101_000000_00000000").exists()


def test_an_unknown_asset_is_one_sentence(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    for command in ("versions", "lineage", "verify", "prune"):
        code, told, error = run(capsys, shop, command, "recomendations")
        assert (code, told) == (2, "")
        assert error.startswith("Nothing is stored of recomendations in ")
        assert "there is: als_evaluation, als_model" in error

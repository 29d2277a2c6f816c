"""Retention removes superseded versions, and never one that readers or kept versions need."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ecommerce_assets.storage import retention
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.retention import prune
from ecommerce_assets.storage.version import Input, Version
from ecommerce_assets_tests.stored import put_folder, put_table, version_of

NO_GRACE = timedelta(0)
HOUR = timedelta(hours=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def put_folders(lake: Lake, asset: str, hours_ago: Sequence[int], **fields: object) -> list[Version]:
    now = datetime.now(UTC)
    return [
        put_folder(lake, asset, folder=f"20260101_12{n:02d}00_00000000", committed_at=now - hours * HOUR, **fields)
        for n, hours in enumerate(hours_ago)
    ]


def whole(lake: Lake, asset: str) -> list[str]:
    """Returns the undamaged versions, oldest first."""
    return [version.version for version in reversed(lake.published(asset)) if not lake.damage(version)]


def is_input(version: Version) -> tuple[Input]:
    return (Input(asset=version.asset, version=version.version, fingerprint="f"),)


@pytest.mark.parametrize("kind", ["table", "folder"])
def test_superseded_versions_are_removed_except_the_newest(lake: Lake, kind: str) -> None:
    if kind == "table":
        versions = [put_table(lake, "a") for _ in range(5)]
    else:
        versions = put_folders(lake, "a", [50, 40, 30, 20, 10])
    names = [version.version for version in versions]
    dry = prune(lake, "a", keep=2, grace=NO_GRACE, dry_run=True)
    assert whole(lake, "a") == names
    assert prune(lake, "a", keep=2, grace=NO_GRACE) == dry
    assert sorted((removal.version, removal.reason) for removal in dry) == [(name, "superseded") for name in names[:2]]
    assert whole(lake, "a") == names[2:]
    assert prune(lake, "a", keep=2, grace=NO_GRACE) == []


def test_a_recently_superseded_version_stays(lake: Lake) -> None:
    put_folders(lake, "m", [100, 50, 23, 1])
    assert [removal.version[9:13] for removal in prune(lake, "m", keep=0)] == ["1200"], "superseded 50 hours ago"
    for _ in range(3):
        put_table(lake, "a")
    assert prune(lake, "a", keep=0) == []


def test_the_inputs_of_kept_versions_stay_and_others_are_removed(lake: Lake) -> None:
    for _ in range(3):
        made = put_table(lake, "a")
        through = put_table(lake, "b", inputs=is_input(made))
        put_table(lake, "c", inputs=is_input(through))
    put_table(lake, "a")
    put_table(lake, "b")
    prune(lake, keep=0, grace=NO_GRACE)
    assert whole(lake, "c") == ["2"]
    assert whole(lake, "b") == ["2", "3"], "c 2 was made from b 2"
    assert whole(lake, "a") == ["2", "3"], "b 2 was made from a 2"


def test_a_daily_snapshot_that_is_an_input_stays(lake: Lake) -> None:
    day = pa.table({"a": [1]})
    for name in ("2019-10-01", "2019-10-02", "2019-10-01", "2019-10-02"):
        put_table(lake, "e", days={name: day})
    put_table(lake, "a", inputs=(Input(asset="e", version="1", partitions=("2019-10-01",), fingerprint="f"),))
    prune(lake, keep=0, grace=NO_GRACE)
    assert [len(lake.days("e", at=at)) for at in ("1", "3")] == [2, 2]
    assert not lake.damage(lake.published("e")[2])
    assert not lake.damage(lake.published("e")[0])


def test_the_newest_undamaged_version_stays(lake: Lake) -> None:
    first, second = put_table(lake, "a"), put_table(lake, "a")
    (Path(lake.asset("a").path) / lake.files(second)[0].path).unlink()
    assert prune(lake, keep=0, grace=NO_GRACE) == []
    assert lake.latest("a").version == first.version


def test_a_version_that_another_tool_restored_stays(lake: Lake) -> None:
    from deltalake import DeltaTable

    for number in range(4):
        put_table(lake, "a", pa.table({"a": [number]}))
    DeltaTable(lake.asset("a").path).restore(1)
    assert {removal.version for removal in prune(lake, keep=0, grace=NO_GRACE)} == {"0", "2"}
    assert DeltaTable(lake.asset("a").path).to_pyarrow_table()["a"].to_pylist() == [1]
    assert lake.latest("a").version == "3"


def test_replaced_days_are_removed_and_other_days_of_their_version_stay(lake: Lake) -> None:
    day = pa.table({"a": [1]})
    put_table(lake, "e", days={"2019-10-01": day, "2019-10-02": day})
    put_table(lake, "e", days={"2019-10-02": day})
    [removal] = prune(lake, keep=0, grace=NO_GRACE)
    assert (removal.version, removal.files) == ("0", 1)
    assert [(found.day, found.version.version) for found in lake.days("e")] == [
        ("2019-10-01", "0"),
        ("2019-10-02", "1"),
    ]
    assert prune(lake, keep=0, grace=NO_GRACE) == []


def test_the_log_outlives_the_files(lake: Lake) -> None:
    for number in range(3):
        put_table(lake, "a", parameters={"k": number})
    prune(lake, keep=0, grace=NO_GRACE)
    assert [version.parameters["k"] for version in lake.published("a")] == [2, 1, 0]


@pytest.mark.parametrize("kind", ["table", "folder"])
def test_files_of_a_killed_writer_are_removed_after_a_day(lake: Lake, kind: str) -> None:
    put_table(lake, "a") if kind == "table" else put_folder(lake, "a")
    dead, alive = lake.asset("a") / "20260101_120000_00000000", lake.asset("a") / Lake.new_folder()
    for folder in (dead, alive):
        folder.write_whole("part-0.parquet", b"half")
    yesterday = time.time() - 25 * 3600
    os.utime(Path(dead.path) / "part-0.parquet", (yesterday, yesterday))
    found = prune(lake, "a", keep=0, grace=NO_GRACE)
    assert [(removal.version, removal.reason) for removal in found] == [
        ("20260101_120000_00000000", "left by a killed writer")
    ]
    assert len(alive.data_files()) == 1


def test_unknown_and_damaged_folders_are_never_removed(lake: Lake) -> None:
    put_folders(lake, "m", [50, 40])
    for name in ("backup-of-tuesday/important.txt", "20260101_115900_00000000/_commit.json"):
        folder, _, file = name.partition("/")
        (lake.asset("m") / folder).write_whole(file, b"x")
    prune(lake, keep=0, grace=NO_GRACE)
    assert (lake.asset("m") / "backup-of-tuesday").exists()
    assert (lake.asset("m") / "20260101_115900_00000000").exists()


def test_blocked_files_are_not_pruned(lake: Lake) -> None:
    put_table(lake, "a")
    (lake.asset("a") / "20260101_120000_00000000").write_whole("part-0.parquet", b"x")
    lake.block(version_of("a", "20260101_120000_00000000"))
    old = time.time() - 100 * 3600
    os.utime(Path(lake.asset("a").path) / "_blocked/20260101_120000_00000000/part-0.parquet", (old, old))
    assert prune(lake, keep=0, grace=NO_GRACE) == []


def test_a_version_that_is_published_during_prune_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    put_folders(lake, "m", [100, 90, 80, 70, 60])
    choose, published = retention.kept_versions, []

    def choose_and_publish(*arguments: object) -> dict[str, list[Version]] | None:
        kept = choose(*arguments)  # type: ignore[arg-type]
        published.append(put_folder(lake, "m"))
        return kept

    monkeypatch.setattr(retention, "kept_versions", choose_and_publish)
    assert len(prune(lake, "m", keep=1)) == 3
    assert lake.latest("m").version == published[0].version


def test_nothing_is_removed_while_a_commit_is_damaged(lake: Lake) -> None:
    for _ in range(3):
        put_table(lake, "a")
    dead = lake.asset("a") / "20260101_120000_00000000"
    dead.write_whole("part-0.parquet", b"half")
    os.utime(Path(dead.path) / "part-0.parquet", (0, 0))
    lake.folder(put_folder(lake, "m")).write_whole("_commit.json", b"{]")
    assert prune(Lake(lake.data.uri, lambda _: None), keep=0, grace=NO_GRACE) == []


def test_an_asset_without_an_undamaged_version_does_not_stop_prune(lake: Lake) -> None:
    lost = put_folder(lake, "m")
    (Path(lake.asset("m").path) / lake.files(lost)[0].path).unlink()
    for _ in range(3):
        put_table(lake, "a")
    assert {removal.asset for removal in prune(Lake(lake.data.uri, lambda _: None), keep=0, grace=NO_GRACE)} == {"a"}

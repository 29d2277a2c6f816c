"""The version that readers see: the newest undamaged one, each day from its newest version, never a blocked one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ecommerce_assets.storage.delta import DamagedLogError
from ecommerce_assets.storage.lake import BLOCKED, Lake, OldLayoutError, VersionNotFoundError
from ecommerce_assets.storage.version import CheckResult, Input, Stats, Version
from ecommerce_assets_tests.stored import put_folder, put_table, version_of

DAY = pa.table({"a": [1]})
FAILED = CheckResult(name="unique_key", blocking=True, passed=False, message="2 of 3 rows repeat a user_id")
HOUR = timedelta(hours=1)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def lake(tmp_path: Path, warnings: list[str]) -> Lake:
    return Lake(str(tmp_path), warnings.append)


def put_days(lake: Lake, *days: str, **fields: Any) -> Version:
    return put_table(lake, "e", days=dict.fromkeys(days, DAY), **fields)


def path_of(lake: Lake, version: Version, number: int = 0) -> Path:
    return Path(lake.asset(version.asset).path) / lake.files(version)[number].path


def serving(lake: Lake, **options: Any) -> dict[str, str]:
    """Returns the version that each day is read from."""
    return {day.day: day.version.version for day in lake.days("e", **options)}


def test_an_empty_lake_is_an_error_with_the_next_step(lake: Lake) -> None:
    with pytest.raises(VersionNotFoundError, match="materialise user_features first"):
        lake.latest("user_features")
    assert lake.assets() == []


def test_the_newest_folder_is_the_last_published_one(lake: Lake) -> None:
    now = datetime.now(UTC)
    put_folder(lake, "m", folder="20260101_120000_ffffffff", committed_at=now)
    put_folder(lake, "m", folder="20260101_130000_00000000", committed_at=now - HOUR)
    assert lake.latest("m").version == "20260101_120000_ffffffff"


def test_files_without_a_commit_are_not_a_version(lake: Lake) -> None:
    put_table(lake, "a")
    put_folder(lake, "m")
    for asset in ("a", "m"):
        (lake.asset(asset) / Lake.new_folder()).write_whole("part-0.parquet", b"x")
        assert len(lake.published(asset)) == 1


def test_a_run_reads_its_own_version_before_a_newer_one(lake: Lake) -> None:
    put_table(lake, "a", run_id="me")
    put_table(lake, "a", run_id="other")
    assert lake.latest("a", run_id="me").version == "0"
    assert lake.latest("a").version == "1"


def test_a_run_reads_its_own_days_before_newer_ones(lake: Lake) -> None:
    put_days(lake, "2019-10-01", "2019-10-02", run_id="before")
    put_days(lake, "2019-10-02", "2019-10-03", run_id="me")
    put_days(lake, "2019-10-03", "2019-10-04", run_id="other")
    assert serving(lake) == {"2019-10-01": "0", "2019-10-02": "1", "2019-10-03": "2", "2019-10-04": "2"}
    assert serving(lake, run_id="me") == {"2019-10-01": "0", "2019-10-02": "1", "2019-10-03": "1", "2019-10-04": "2"}
    assert serving(lake, run_id="me", own_days_only=True) == {"2019-10-02": "1", "2019-10-03": "1"}
    assert all(len(day.files) == 1 for day in lake.days("e", run_id="me"))
    assert serving(lake, at="1") == {"2019-10-01": "0", "2019-10-02": "1", "2019-10-03": "1"}


def test_a_day_without_rows_is_a_day(lake: Lake) -> None:
    put_days(lake, "2019-10-01")
    put_table(lake, "e", days={"2019-10-01": DAY.slice(0, 0), "2019-10-02": DAY.slice(0, 0)})
    assert [(day.day, len(day.files), day.stats.rows) for day in lake.days("e")] == [
        ("2019-10-01", 0, 0),
        ("2019-10-02", 0, 0),
    ]


def test_lookback_counts_from_the_newest_day(lake: Lake) -> None:
    put_days(lake, "2019-10-01", "2019-10-05", "2019-10-06")
    assert list(serving(lake, lookback_days=2)) == ["2019-10-05", "2019-10-06"]
    assert list(serving(lake, lookback_days=1)) == ["2019-10-06"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "garbage log", "empty log"])
def test_a_damaged_table_version_is_reported_and_the_previous_one_is_read(
    lake: Lake, warnings: list[str], damage: str
) -> None:
    put_table(lake, "a")
    newest = put_table(lake, "a")
    if damage == "truncated":
        path_of(lake, newest).write_bytes(b"x")
    elif damage == "missing":
        path_of(lake, newest).unlink()
    else:
        log = Path(lake.asset("a").path) / "_delta_log" / f"{1:020d}.json"
        log.write_text('{"comm' if damage == "garbage log" else "")
    assert lake.latest("a").version == "0"
    assert "damaged" in warnings[0] or "cannot be read" in warnings[0]
    if damage == "empty log":  # Delta can read the table, but its last version has no metadata
        assert put_table(lake, "a").version == "2"
    if damage == "garbage log":
        assert str(log) in warnings[0]
        with pytest.raises(DamagedLogError, match="remove that file"):
            put_table(lake, "a")
        log.unlink()
        assert put_table(lake, "a").version == "1"


def test_a_missing_log_file_hides_the_versions_from_it_on(lake: Lake, warnings: list[str]) -> None:
    for _ in range(3):
        put_table(lake, "a")
    log = Path(lake.asset("a").path) / "_delta_log" / f"{1:020d}.json"
    log.unlink()
    assert [version.version for version in lake.published("a")] == ["0"]
    assert str(log) in warnings[0]


def test_a_damaged_log_file_before_a_checkpoint_hides_one_version(lake: Lake, warnings: list[str]) -> None:
    from deltalake import DeltaTable

    for _ in range(3):
        put_table(lake, "a")
    DeltaTable(lake.asset("a").path).create_checkpoint()
    put_table(lake, "a")
    log = Path(lake.asset("a").path) / "_delta_log"
    (log / f"{1:020d}.json").write_text("{]")
    assert [version.version for version in lake.published("a")] == ["3", "2", "0"]
    assert len(warnings) == 1
    (log / f"{2:020d}.json").unlink()
    assert [version.version for version in lake.published("a")] == ["3", "0"]
    assert put_table(lake, "a").version == "4"


@pytest.mark.parametrize("damage", ["truncated", "missing", "garbage commit", "empty commit"])
def test_a_damaged_folder_is_reported_and_the_previous_one_is_read(
    lake: Lake, warnings: list[str], damage: str
) -> None:
    first = put_folder(lake, "m", committed_at=datetime.now(UTC) - HOUR)
    newest = put_folder(lake, "m")
    if damage == "truncated":
        path_of(lake, newest).write_bytes(b"")
    elif damage == "missing":
        path_of(lake, newest).unlink()
    else:
        lake.folder(newest).write_whole("_commit.json", b"{]" if damage.startswith("garbage") else b"")
    assert lake.latest("m").version == first.version
    assert len(warnings) == 1
    assert newest.version in warnings[0]


def test_only_the_damaged_day_is_read_from_its_previous_version(lake: Lake, warnings: list[str]) -> None:
    put_days(lake, "2019-10-01", "2019-10-02")
    newest = put_days(lake, "2019-10-01", "2019-10-02")
    path_of(lake, newest).unlink()
    assert serving(lake) == {"2019-10-01": "0", "2019-10-02": "1"}
    assert "Materialise that day again" in warnings[0]
    assert [file.path for day in lake.days("e") for file in day.files if not path_exists(lake, file.path)] == []


def path_exists(lake: Lake, path: str) -> bool:
    return (Path(lake.asset("e").path) / path).exists()


def test_a_day_without_an_undamaged_version_is_skipped_with_a_warning(lake: Lake, warnings: list[str]) -> None:
    put_days(lake, "2019-10-01")
    lost = put_days(lake, "2019-10-02")
    path_of(lake, lost, 1).unlink()
    assert serving(lake) == {"2019-10-01": "0"}
    assert "has no undamaged version of 2019-10-02, which is skipped" in warnings[-1]
    with pytest.raises(VersionNotFoundError, match=r"Version 1 of e .* is removed or damaged \(day 2019-10-02\)"):
        lake.days("e", at="1")


def test_ignored_versions_and_other_tools_do_not_change_a_day(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version from the future and another tool replaced the day; then the next version was published."""
    from deltalake import DeltaTable

    put_days(lake, "2019-10-01", "2019-10-02")
    with monkeypatch.context() as ahead:
        ahead.setattr("ecommerce_assets.storage.delta.datetime", Ahead)
        put_table(lake, "e", days={"2019-10-01": pa.table({"a": [7, 8]})})
    DeltaTable(lake.asset("e").path).delete("event_date = '2019-10-02'")
    put_days(lake, "2019-10-03")
    assert serving(lake) == {"2019-10-01": "0", "2019-10-02": "0", "2019-10-03": "3"}
    assert [sum(file.rows or 0 for file in day.files) for day in lake.days("e")] == [1, 1, 1]


class Ahead(datetime):
    """A clock that is two days ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=2)


def test_versions_from_the_future_are_ignored_with_a_warning(
    lake: Lake, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(lake, "m", folder="20260101_120000_00000000", committed_at=datetime.now(UTC) - HOUR)
    put_folder(lake, "m", committed_at=datetime.now(UTC) + HOUR)
    assert lake.latest("m").version == "20260101_120000_00000000"
    assert "from the future" in warnings[0]
    put_table(lake, "a")
    monkeypatch.setattr("ecommerce_assets.storage.lake.CLOCK_SKEW", timedelta(days=-1))  # as if the clock were behind
    with pytest.raises(VersionNotFoundError, match=r"from the future .* set the clock of this machine"):
        lake.latest("a")


def test_a_blocked_version_is_never_read(lake: Lake) -> None:
    blocked = version_of("a", Lake.new_folder(), checks=(FAILED,))
    lake.folder(blocked).write_whole("part-0.parquet", b"x")
    place = lake.block(blocked)
    assert place.uri.endswith(f"/lake/a/{BLOCKED}/{blocked.folder}")
    assert place.read_bytes("part-0.parquet") == b"x"
    assert not lake.folder(blocked).exists()
    with pytest.raises(VersionNotFoundError, match=r"blocked by unique_key \(2 of 3 rows repeat a user_id\)"):
        lake.latest("a")
    put_table(lake, "a")
    assert lake.latest("a").version == "0"
    assert lake.blocked("a") == []
    assert not place.exists()


def test_blocked_days_stay_until_each_is_published(lake: Lake) -> None:
    days = {"2019-10-01": Stats(rows=1), "2019-10-02": Stats(rows=1)}
    blocked = version_of("e", Lake.new_folder(), days=days, checks=(FAILED,))
    for day in days:
        (lake.folder(blocked) / f"event_date={day}").write_whole("part-0.parquet", b"x")
    place = lake.block(blocked)
    put_days(lake, "2019-10-02", "2019-10-03")
    assert [list(version.days) for version in lake.blocked("e")] == [["2019-10-01"]]
    assert [file.path for file in place.data_files()] == ["event_date=2019-10-01/part-0.parquet"]
    put_days(lake, "2019-10-01")
    assert lake.blocked("e") == []
    assert not place.exists()


def test_an_index_is_read_through_the_inputs_of_the_model(lake: Lake) -> None:
    put_table(lake, "user_index")
    data = put_table(lake, "interaction_data", inputs=(Input(asset="user_index", version="0", fingerprint="f"),))
    read = (Input(asset="interaction_data", version=data.version, fingerprint="f"),)
    model = put_folder(lake, "als_model", inputs=read)
    put_table(lake, "user_index")
    assert lake.latest("user_index").version == "1"
    assert lake.ancestor(model, "user_index").version == "0"
    with pytest.raises(
        VersionNotFoundError, match=r"version of product_index that als_model .* was computed from is removed"
    ):
        lake.ancestor(model, "product_index")


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "", "a b", "/etc"])
def test_a_name_cannot_leave_the_lake(lake: Lake, name: str) -> None:
    for look in (lake.latest, lake.published, lake.blocked):
        with pytest.raises(VersionNotFoundError, match="is not the name of an asset"):
            look(name)


def test_unknown_files_and_folders_are_ignored(lake: Lake) -> None:
    put_table(lake, "a")
    put_folder(lake, "m")
    for path in ("notes/readme.txt", "a/20269999_999999_00000000/x", "a/backup/x", "m/backup of tuesday/x", "m/x.txt"):
        folder, _, name = path.rpartition("/")
        (lake.root / folder).write_whole(name, b"x")
    assert lake.assets() == ["a", "m"]
    assert [len(lake.published(asset)) for asset in ("a", "m")] == [1, 1]


def test_an_index_with_other_rows_under_the_same_version_is_an_error(lake: Lake) -> None:
    index = put_table(lake, "user_index", stats=Stats(rows=1, content="new rows"))
    read = (Input(asset="user_index", version=index.version, fingerprint="old rows"),)
    with pytest.raises(VersionNotFoundError, match="has other rows than those that als_model"):
        lake.ancestor(put_folder(lake, "als_model", inputs=read), "user_index")


def test_an_old_layout_is_an_error(lake: Lake) -> None:
    (lake.asset("a") / "20260101_120000_00000000").write_whole("_manifest.json", b"{}")
    with pytest.raises(OldLayoutError, match=r"did not use Delta tables: remove .*/lake and materialise"):
        lake.latest("a")


def test_commits_of_other_tools_are_not_versions(lake: Lake) -> None:
    from deltalake import DeltaTable, write_deltalake

    put_table(lake, "a")
    write_deltalake(lake.asset("a").path, pa.table({"a": [2]}), mode="append")
    assert DeltaTable(lake.asset("a").path).version() == 1
    assert [version.version for version in lake.published("a")] == ["0"]
    assert [file.rows for file in lake.files(lake.latest("a"))] == [1]


def test_the_commit_has_the_metadata_as_json(lake: Lake) -> None:
    from deltalake import DeltaTable

    version = put_table(lake, "a", parameters={"k": 10}, checks=(FAILED.model_copy(update={"passed": True}),))
    [commit] = DeltaTable(lake.asset("a").path).history()
    recorded = json.loads(commit["ecommerce_assets"])
    assert recorded["parameters"] == {"k": 10}
    assert recorded["stats"]["rows"] == 1
    assert lake.published("a") == [version]

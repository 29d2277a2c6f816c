"""Which version readers see: committed ones only, the newest whole one, and exactly the one a model was made with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import AuditResult, FileEntry, Input, Manifest, Partition
from ecommerce_assets_tests.helpers import commit

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Warnings(list[str]):
    def __call__(self, message: str) -> None:
        self.append(message)


@pytest.fixture
def warnings() -> Warnings:
    return Warnings()


@pytest.fixture
def lake(tmp_path: Path, warnings: Warnings) -> Lake:
    return Lake(str(tmp_path), warnings)


def put(lake: Lake, asset: str, version: str, minutes: int = 0, files: int = 1, **changes: Any) -> Manifest:
    """Publish a version of a few small files, committed so many minutes after noon."""
    folder = lake.folder(asset, version)
    days = changes.pop("days", None)
    prefix = [f"event_date={day}/" for day in days] if days else [""] * files
    entries = []
    for number, path in enumerate(prefix):
        name = f"{path}part-{number}.parquet"
        (folder / path.rstrip("/") if path else folder).write_whole(f"part-{number}.parquet", b"x" * 10)
        entries.append(FileEntry(path=name, bytes=10))
    fields: dict[str, Any] = {
        "committed_at": NOON + timedelta(minutes=minutes),
        "bytes": 10 * len(entries),
        "files": tuple(entries),
        "partitions": {day: Partition(rows=1, bytes=10) for day in days} if days else {},
    }
    return commit(lake, asset, version, **{**fields, **changes})


FAILED = AuditResult(name="unique_key", blocking=True, passed=False, message="2 of 3 rows repeat a user_id")


def test_nothing_there_says_what_to_do(lake: Lake) -> None:
    with pytest.raises(VersionNotFoundError, match="materialise user_features first"):
        lake.latest("user_features")


def test_the_last_committed_is_the_latest_whatever_its_name(lake: Lake) -> None:
    put(lake, "a", "20260101_120000_ffffffff", minutes=5)
    put(lake, "a", "20260101_130000_00000000", minutes=1)
    assert lake.latest("a").version == "20260101_120000_ffffffff"


def test_files_without_a_manifest_are_no_version(lake: Lake) -> None:
    put(lake, "a", "v1")
    lake.folder("a", "v2").write_whole("part-0.parquet", b"x")
    assert lake.latest("a").version == "v1"


def test_a_run_reads_its_own_version_although_another_came_later(lake: Lake) -> None:
    put(lake, "a", "mine", minutes=1, run_id="me")
    put(lake, "a", "theirs", minutes=2, run_id="other")
    assert lake.latest("a", run_id="me").version == "mine"
    assert lake.latest("a").version == "theirs"


def test_versions_from_the_future_are_ignored_with_a_warning(lake: Lake, warnings: Warnings) -> None:
    put(lake, "a", "v1")
    put(lake, "a", "v2", committed_at=datetime.now(UTC) + timedelta(days=1))
    assert lake.latest("a").version == "v1"
    assert "v2 was committed in the future" in warnings[0]


@pytest.mark.parametrize("damage", ["truncated", "missing", "garbage manifest", "empty manifest"])
def test_a_damaged_latest_is_skipped_with_a_warning(lake: Lake, warnings: Warnings, damage: str) -> None:
    put(lake, "a", "v1")
    put(lake, "a", "v2", minutes=1, files=2)
    folder = Path(lake.folder("a", "v2").uri)
    if damage == "truncated":
        (folder / "part-1.parquet").write_bytes(b"x")
    elif damage == "missing":
        (folder / "part-1.parquet").unlink()
    else:
        (folder / "_manifest.json").write_text("{]" if damage.startswith("garbage") else "")
    assert lake.latest("a").version == "v1"
    assert len(warnings) == 1
    assert "a v2" in warnings[0]
    assert "the version before it serves" in warnings[0]


def test_a_version_with_a_failed_blocking_audit_is_never_read(lake: Lake) -> None:
    put(lake, "a", "v1", audits=(FAILED,))
    with pytest.raises(VersionNotFoundError, match=r"held back by unique_key \(2 of 3 rows repeat a user_id\)"):
        lake.latest("a")
    put(lake, "a", "v2", minutes=1)
    put(lake, "a", "v3", minutes=2, audits=(FAILED,))
    assert lake.latest("a").version == "v2"
    assert lake.attempt("a", "run").version == "v3"  # type: ignore[union-attr]


def test_days_come_each_from_the_version_that_serves_it(lake: Lake) -> None:
    put(lake, "e", "v1", days=["2019-10-01", "2019-10-02", "2019-10-03"])
    put(lake, "e", "v2", minutes=1, days=["2019-10-02"])
    held_back = {"2019-10-03": Partition(rows=1, bytes=10, published=False)}
    put(lake, "e", "v3", minutes=2, days=["2019-10-04", "2019-10-03"]).partitions.update(held_back)
    served = {day.day: day.manifest.version for day in lake.days("e")}
    assert served == {"2019-10-01": "v1", "2019-10-02": "v2", "2019-10-03": "v3", "2019-10-04": "v3"}


def test_a_poisoned_day_leaves_the_one_before_it_in_place(lake: Lake) -> None:
    put(lake, "e", "v1", days=["2019-10-01", "2019-10-02"])
    poisoned = {
        "2019-10-01": Partition(rows=1, bytes=10),
        "2019-10-02": Partition(rows=1, bytes=10, published=False),
    }
    put(lake, "e", "v2", minutes=1, days=["2019-10-01", "2019-10-02"], partitions=poisoned, audits=(FAILED,))
    assert {day.day: day.manifest.version for day in lake.days("e")} == {"2019-10-01": "v2", "2019-10-02": "v1"}


def test_lookback_counts_from_the_newest_committed_day(lake: Lake) -> None:
    put(lake, "e", "v1", days=["2019-10-01", "2019-10-05", "2019-10-06"])
    assert [day.day for day in lake.days("e", lookback_days=2)] == ["2019-10-05", "2019-10-06"]
    assert [day.day for day in lake.days("e", lookback_days=1)] == ["2019-10-06"]


def test_an_index_is_found_through_the_model_and_not_by_its_age(lake: Lake) -> None:
    put(lake, "user_index", "i1")
    link = Input(asset="user_index", version="i1", fingerprint="f")
    put(lake, "interaction_data", "d1", minutes=1, inputs=(link,))
    model = put(
        lake, "als_model", "m1", minutes=2, inputs=(Input(asset="interaction_data", version="d1", fingerprint="f"),)
    )
    put(lake, "user_index", "i2", minutes=3)
    assert lake.latest("user_index").version == "i2"
    assert lake.ancestor(model, "user_index").version == "i1"
    with pytest.raises(VersionNotFoundError, match="names no version of product_index"):
        lake.ancestor(model, "product_index")

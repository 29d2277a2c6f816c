"""What goes and what stays: superseded versions, what others were made from, what an audit held back, leftovers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import AuditResult, Input, Manifest, Partition
from ecommerce_assets.storage.retention import GRACE, prune, removable, replaced_times
from ecommerce_assets.storage.writers import writing
from ecommerce_assets_tests.storage.test_lake import put

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def name(number: int) -> str:
    return f"20260101_0000{number:02d}_{number:08x}"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def put_at(lake: Lake, number: int, hours_ago: float, asset: str = "a", **changes: Any) -> Manifest:
    return put(lake, asset, name(number), committed_at=NOW - hours_ago * HOUR, **changes)


def going(lake: Lake, asset: str = "a", keep: int = 1) -> list[str]:
    return [removal.version for removal in removable(lake, asset, keep, GRACE, NOW)]


def test_three_superseded_versions_stay_and_older_ones_go(lake: Lake) -> None:
    for number in range(6):
        put_at(lake, number, hours_ago=1000 - number)
    assert going(lake, keep=3) == [name(1), name(0)]


def test_nothing_goes_within_a_day_of_being_superseded(lake: Lake) -> None:
    put_at(lake, 1, hours_ago=500)
    put_at(lake, 2, hours_ago=23)
    put_at(lake, 3, hours_ago=1)
    assert going(lake, keep=0) == []
    put_at(lake, 0, hours_ago=501)
    assert going(lake, keep=0) == [name(0)], "superseded 500 hours ago, though the one after it was only just"


def test_a_version_that_another_was_made_from_stays(lake: Lake) -> None:
    for number in range(4):
        put_at(lake, number, hours_ago=1000 - number)
    made_from = Input(asset="a", version=name(0), fingerprint="f")
    put_at(lake, 9, hours_ago=900, asset="b", inputs=(made_from,))
    assert going(lake, keep=0) == [name(2), name(1)]


def test_pruning_all_takes_what_a_removed_version_was_made_from(lake: Lake) -> None:
    old = datetime.now(UTC) - timedelta(days=30)
    for number in range(3):
        put(lake, "a", name(number), committed_at=old + number * HOUR)
        inputs = (Input(asset="a", version=name(number), fingerprint="f"),)
        put(lake, "b", name(number), committed_at=old + number * HOUR, inputs=inputs)
    told = prune(lake, keep=0, dry_run=True)
    assert len(lake.versions("a")) == len(lake.versions("b")) == 3
    removed = prune(lake, keep=0)
    assert told == removed
    assert {(r.asset, r.version) for r in removed} == {(asset, name(n)) for asset in "ab" for n in (0, 1)}
    assert lake.versions("a") == lake.versions("b") == [name(2)]


def test_a_daily_version_stays_as_long_as_it_serves_a_day(lake: Lake) -> None:
    put_at(lake, 1, hours_ago=900, days=["2019-10-01", "2019-10-02"])
    put_at(lake, 2, hours_ago=800, days=["2019-10-01"])
    assert going(lake, keep=0) == []
    put_at(lake, 3, hours_ago=20, days=["2019-10-02"])
    assert going(lake, keep=0) == [], "superseded 20 hours ago, when its last day was"
    put_at(lake, 4, hours_ago=700, days=["2019-10-02"])
    assert going(lake, keep=0) == [name(1)]


def committed(number: int, days: dict[str, bool]) -> Manifest:
    """A version of these days, each published or held back; undivided where there is none."""
    at = NOW + number * timedelta(seconds=1)
    return Manifest(
        asset="a",
        version=str(number),
        run_id="run",
        code_version="1",
        created_at=at,
        committed_at=at,
        seconds=1.0,
        spark_application_id=None,
        parameters={},
        inputs=(),
        columns=None,
        rows=1,
        bytes=1,
        files=(),
        fingerprint="f",
        partitions={d: Partition(rows=1, bytes=1, published=good) for d, good in days.items()},
    )


def replaced_at(manifest: Manifest, later: Sequence[Manifest]) -> datetime | None:
    """What `replaced_times` finds for one version, as it is defined."""
    if not manifest.partitions:
        return later[0].committed_at if later else None
    first = [[m.committed_at for m in later if day in m.published_days][:1] for day in manifest.published_days]
    return max((at for found in first for at in found), default=None) if all(first) else None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("1234"), st.booleans(), max_size=3), max_size=8))
def test_superseded_is_what_a_later_version_serves_whole(history: list[dict[str, bool]]) -> None:
    versions = [committed(number, days) for number, days in enumerate(history)]
    expected = {m.version: replaced_at(m, versions[place + 1 :]) for place, m in enumerate(versions)}
    assert replaced_times(versions) == {version: at for version, at in expected.items() if at is not None}


def test_what_serves_because_the_latest_is_damaged_stays(lake: Lake) -> None:
    put_at(lake, 1, hours_ago=900)
    put_at(lake, 2, hours_ago=800)
    (Path(lake.folder("a", name(2)).uri) / "part-0.parquet").unlink()
    assert going(lake, keep=0) == []
    assert lake.latest("a").version == name(1)


def test_versions_held_back_go_like_superseded_ones(lake: Lake) -> None:
    failed = (AuditResult(name="unique_key", blocking=True, passed=False),)
    for number in range(3):
        put_at(lake, number, hours_ago=1000 - number, audits=failed)
    put_at(lake, 3, hours_ago=1, audits=failed)
    assert going(lake) == [name(2), name(1), name(0)]


def leave(lake: Lake, version: str) -> Path:
    lake.folder("a", version).write_whole("part-0.parquet", b"half")
    return Path(lake.folder("a", version).uri)


def test_what_a_dead_writer_left_goes_and_what_a_living_one_makes_stays(lake: Lake) -> None:
    leave(lake, name(1))
    with writing(lake.root / "a", name(2)):
        leave(lake, name(2))
        assert going(lake) == [name(1)]
    assert going(lake) == [name(1), name(2)]
    prune(lake, "a")
    assert lake.versions("a") == []


def test_the_mark_of_a_dead_writer_goes_with_what_it_left(lake: Lake) -> None:
    folder = leave(lake, name(1))
    mark = folder.parent / ".writers" / f"{name(1)}.lock"
    mark.parent.mkdir()
    FileLock(mark).acquire().lock.release()
    prune(lake, "a")
    assert not folder.exists()
    assert not mark.exists()


def test_foreign_folders_are_never_removed(lake: Lake) -> None:
    folder = lake.root / "a" / "backup-of-tuesday"
    folder.write_whole("important.txt", b"x")
    assert prune(lake) == []
    assert folder.exists()


def test_on_a_remote_file_system_silence_for_a_day_is_death(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake("memory://shop/retention")
    fresh, old = Lake.new_version(), name(1)
    for version in (fresh, old):
        lake.folder("a", version).write_whole("part-0.parquet", b"half")
    now = datetime.now(UTC)
    assert [r.version for r in removable(lake, "a", now=now)] == [], "something was written a moment ago"
    assert {r.version for r in removable(lake, "a", now=now + timedelta(hours=25))} == {fresh, old}
    lake.root.remove()

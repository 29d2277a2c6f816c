"""What is removed, and when: superseded versions that nothing needs any more, and what dead writers left.

Which version readers see is lake.py's decision.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ecommerce_assets.storage import writers
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import COMMITTED, REJECTED, Manifest

KEEP = 3
GRACE = timedelta(hours=24)
"""A reader that started before a version was superseded has this long to finish."""

VERSION_NAME = re.compile(r"\d{8}_\d{6}_[0-9a-f]{8}")
"""Folders of other names are not ours, and are never removed."""


@dataclass(frozen=True)
class Removal:
    """A version that may go, and why."""

    asset: str
    version: str
    reason: str


def prune(
    lake: Lake, asset: str | None = None, keep: int = KEEP, grace: timedelta = GRACE, *, dry_run: bool = False
) -> list[Removal]:
    """Remove what `removable` finds, of one asset or of all, and say what it was.

    Of all assets, until nothing more is found: what a removed version was made from may go after it. With `dry_run` the
    same is said and nothing is removed.
    """
    removed: list[Removal] = []
    while True:
        assets = [asset] if asset else lake.assets()
        gone = {(removal.asset, removal.version) for removal in removed}
        found = [r for name in assets for r in removable(lake, name, keep, grace, gone=gone)]
        if not dry_run:
            for removal in found:
                lake.remove(removal.asset, removal.version)
            for name in assets:
                writers.clear_abandoned(lake.root / name)
        removed += found
        if asset or not found:
            return removed


def removable(
    lake: Lake,
    asset: str,
    keep: int = KEEP,
    grace: timedelta = GRACE,
    now: datetime | None = None,
    gone: Collection[tuple[str, str]] = (),
) -> list[Removal]:
    """What may be removed of one asset.

    - A superseded version: another serves readers in its place, `keep` younger ones were superseded after it, that was
      longer ago than `grace`, and no committed version of another asset names it as its input.
    - A version that an audit held back, under the same two limits.
    - What a writer left that died before it committed.

    Versions that are `gone` (asset, version) are taken as not there.
    """
    now = now or datetime.now(UTC)
    names = [name for name in lake.versions(asset) if VERSION_NAME.fullmatch(name)]
    superseded = superseded_since(lake, asset)
    old = sorted(superseded.items(), key=lambda item: item[1], reverse=True)[keep:]
    due = [(version, since) for version, since in old if now - since > grace]
    needed = _needed_by_others(lake, asset, gone) if due else set()
    found = [
        Removal(asset, version, f"superseded since {since:%Y-%m-%d %H:%M:%S} UTC")
        for version, since in due
        if version not in needed
    ]
    for manifest in lake.rejected(asset)[::-1][keep:]:
        if now - manifest.committed_at > grace:
            found.append(Removal(asset, manifest.version, "held back by an audit"))
    found += [
        Removal(asset, name, "left by a writer that died") for name in names if is_leftover(lake, asset, name, now)
    ]
    ours = {name for name in names if (asset, name) not in gone}
    return [removal for removal in found if removal.version in ours]


def superseded_since(lake: Lake, asset: str) -> dict[str, datetime]:
    """For each whole version that serves no reader any more: when the last of its days (or itself) was replaced."""
    whole = [m for m in lake.committed(asset) if not lake.damaged_files(m)]
    return replaced_times(whole)


def replaced_times(versions: Sequence[Manifest]) -> dict[str, datetime]:
    """Of versions, oldest first: when the last thing that each served was first served by a later one.

    Those that still serve something are left out.
    """
    found: dict[str, datetime] = {}
    # From newest to oldest, so that what is known of the later ones is one time per day: a daily table may have
    # thousands of versions that all still serve.
    next_commit: datetime | None = None
    next_of_day: dict[str, datetime] = {}
    for manifest in reversed(versions):
        days = manifest.published_days
        times = [next_of_day.get(day) for day in days] if manifest.partitions else [next_commit]
        known = [time for time in times if time is not None]
        if known and len(known) == len(times):
            found[manifest.version] = max(known)
        next_commit = manifest.committed_at
        next_of_day.update(dict.fromkeys(days, manifest.committed_at))
    return dict(reversed(found.items()))


def begun(version: str) -> datetime:
    """When the writer of a version chose its name, which must be one of ours (`VERSION_NAME`)."""
    return datetime.strptime(version[:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)


def is_leftover(lake: Lake, asset: str, version: str, now: datetime) -> bool:
    """Whether a writer began this version and died before it committed."""
    folder = lake.folder(asset, version)
    if _is_decided(folder.file_names()):
        return False
    # Looked at once more afterwards: the writer may have committed, and let go of its mark, in between.
    return writers.is_abandoned(lake.root / asset, version, begun(version), now) and not _is_decided(
        folder.file_names()
    )


def _is_decided(file_names: Iterable[str]) -> bool:
    return not {COMMITTED, REJECTED}.isdisjoint(file_names)


def _needed_by_others(lake: Lake, asset: str, gone: Collection[tuple[str, str]]) -> set[str]:
    return {
        step.version
        for other in lake.assets()
        if other != asset
        for manifest in lake.committed(other)
        if (other, manifest.version) not in gone
        for step in manifest.inputs
        if step.asset == asset and step.version
    }

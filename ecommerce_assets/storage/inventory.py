"""Every version of an asset and what state it is in: what `versions` lists.

Which of them readers see is lake.py's decision, which of them may go retention.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ecommerce_assets.storage.lake import CLOCK_SKEW, Lake
from ecommerce_assets.storage.manifest import COMMITTED, REJECTED, Manifest
from ecommerce_assets.storage.retention import VERSION_NAME, begun, is_leftover, superseded_since


@dataclass(frozen=True)
class VersionState:
    """One version. What is not known of a damaged or unfinished one is None."""

    version: str
    state: str
    committed_at: datetime | None = None
    rows: int | None = None
    bytes: int | None = None
    run_id: str | None = None


def version_states(lake: Lake, asset: str) -> list[VersionState]:
    """All versions, newest first.

    States: current (daily assets: serving n of m days), superseded, held back: …, damaged: …, in the future, being
    written, left by a writer that died.
    """
    superseded = superseded_since(lake, asset)
    found = [_state(lake, asset, name, superseded) for name in lake.versions(asset)]
    return sorted(found, key=lambda s: (s.committed_at or _begun_or_never(s.version), s.version), reverse=True)


def _state(lake: Lake, asset: str, name: str, superseded: dict[str, datetime]) -> VersionState:
    committed, rejected = lake.manifest(asset, name), lake.manifest(asset, name, REJECTED)
    manifest = committed or rejected
    if manifest is None:
        if lake.folder(asset, name).file_names().count(COMMITTED):
            return VersionState(name, "damaged: its manifest cannot be read")
        if not VERSION_NAME.fullmatch(name):
            return VersionState(name, "not a version: ignored")
        dead = is_leftover(lake, asset, name, datetime.now(UTC))
        return VersionState(name, "left by a writer that died" if dead else "being written")
    if committed is None:
        state = "held back: " + ", ".join(sorted({a.name for a in manifest.failed_blocking}))
    elif manifest.committed_at > datetime.now(UTC) + CLOCK_SKEW:
        state = "in the future: ignored"
    elif damaged := lake.damaged_files(manifest):
        state = f"damaged: {len(damaged)} of {len(manifest.files)} files missing or of another size"
    elif name in superseded:
        state = "superseded"
    else:
        state = _serving(lake, manifest)
    return VersionState(name, state, manifest.committed_at, manifest.rows, manifest.bytes, manifest.run_id)


def _serving(lake: Lake, manifest: Manifest) -> str:
    if not manifest.partitions:
        return "current"
    serving = sum(day.manifest.version == manifest.version for day in lake.days(manifest.asset))
    return f"current: serves {serving} of its {len(manifest.partitions)} days"


def _begun_or_never(version: str) -> datetime:
    return begun(version) if VERSION_NAME.fullmatch(version) else datetime.min.replace(tzinfo=UTC)

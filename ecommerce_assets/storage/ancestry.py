"""From a version down to the raw files it was made from: by manifests alone, with no Dagster instance.

What is told of a single version is inventory.py's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import Input, Manifest


@dataclass(frozen=True)
class Ancestor:
    """One version in the tree; `manifest` is None where it is gone."""

    asset: str
    version: str
    manifest: Manifest | None


def ancestors(lake: Lake, start: Manifest) -> dict[tuple[str, str], Ancestor]:
    """All versions that went into this one, itself first, by asset and version."""
    found: dict[tuple[str, str], Ancestor] = {}
    waiting = [(start.asset, start.version)]
    while waiting:
        key = waiting.pop(0)
        if key not in found:
            manifest = lake.manifest(*key)
            found[key] = Ancestor(*key, manifest)
            waiting += [(i.asset, i.version) for i in (manifest.inputs if manifest else ()) if i.version]
    return found


def tree(lake: Lake, start: Manifest) -> Iterator[str]:
    """The ancestry as lines of a tree; what was shown once is not unfolded again."""
    known, shown = ancestors(lake, start), set()

    def lines(asset: str, version: str, days: tuple[str, ...], first: str, rest: str) -> Iterator[str]:
        manifest = known[asset, version].manifest
        again = (asset, version) in shown
        shown.add((asset, version))
        yield first + _label(asset, version, manifest, days) + (" (see above)" if again and manifest else "")
        inputs = manifest.inputs if manifest and not again else ()
        for place, step in enumerate(inputs):
            last = place == len(inputs) - 1
            branch, below = rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")
            if step.version:
                yield from lines(step.asset, step.version, step.partitions, branch, below)
            else:
                yield from _files(step, branch, below)

    yield from lines(start.asset, start.version, (), "", "")


def _label(asset: str, version: str, manifest: Manifest | None, days: tuple[str, ...]) -> str:
    if manifest is None:
        return f"{asset} {version}: gone"
    rows = "" if manifest.rows is None else f", {manifest.rows:,} rows"
    covers = f", {len(days)} days {days[0]} to {days[-1]}" if days else ""
    at = f"{manifest.committed_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{asset} {version} (committed {at}{rows}{covers}, run {manifest.run_id[:8]})"


def _files(step: Input, first: str, rest: str) -> Iterator[str]:
    size = sum(file.bytes for file in step.files)
    name = " ".join([step.asset, *step.partitions])
    yield f"{first}{name}: {len(step.files)} file{'s' * (len(step.files) != 1)}, {size:,} bytes"
    for file in step.files:
        yield f"{rest}{file.path} ({file.bytes:,} bytes)"

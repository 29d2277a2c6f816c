"""Is everything still as it was written? Every file, its size and its content, against the manifest.

It reads and tells; nothing is mended or removed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from ecommerce_assets.storage import content
from ecommerce_assets.storage.lake import CLOCK_SKEW, Lake
from ecommerce_assets.storage.manifest import COMMITTED, REJECTED, Manifest
from ecommerce_assets.storage.retention import VERSION_NAME, is_leftover

GONE = "removed while it was looked at: a later run needs it no more"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. `damage`: a reader cannot have the version; else only worth knowing."""

    asset: str
    version: str
    damage: bool
    message: str


@dataclass(frozen=True)
class Verification:
    """What was looked at and what was found."""

    versions: int
    files: int
    bytes: int
    findings: list[Finding]

    @property
    def damaged(self) -> bool:
        """Whether anything is not as it was written."""
        return any(finding.damage for finding in self.findings)


def verify(lake: Lake, assets: list[str] | None = None) -> Verification:
    """Check every version of the assets (by default all): manifest, presence, size, content and rows of each file.

    Foreign files and folders, leftovers, versions from the future and inputs that are gone are told and are no damage.
    """
    findings: list[Finding] = []
    versions = files = size = 0
    for asset in assets or lake.assets():
        for stray in (lake.root / asset).file_names():
            findings.append(Finding(asset, "", False, f"{stray} is not a version: ignored"))
        for name in lake.versions(asset):
            manifest, found = _verify_version(lake, asset, name)
            findings += found
            if manifest:
                versions, files, size = versions + 1, files + len(manifest.files), size + manifest.bytes
    return Verification(versions, files, size, findings)


def _verify_version(lake: Lake, asset: str, name: str) -> tuple[Manifest | None, list[Finding]]:
    folder = lake.folder(asset, name)

    def finding(damage: bool, message: str) -> Finding:
        return Finding(asset, name, damage, message)

    there = {COMMITTED, REJECTED} & set(folder.file_names())
    if not there:
        if not VERSION_NAME.fullmatch(name):
            return None, [finding(False, "not a version folder: ignored")]
        abandoned = is_leftover(lake, asset, name, datetime.now(UTC))
        state = "left by a writer that died; the next run removes it" if abandoned else "being written"
        return None, [finding(False, state)]
    [kind] = sorted(there)[:1]
    try:
        manifest = Manifest.from_json(folder.read_bytes(kind))
    except FileNotFoundError:
        return None, [finding(False, GONE)]
    except (ValueError, OSError) as error:
        return None, [finding(True, f"{kind} is damaged ({str(error).splitlines()[0]})")]
    found = [finding(True, f"{path} is missing or of another size") for path in lake.damaged_files(manifest)]
    listed = {file.path for file in manifest.files}
    found += [
        finding(False, f"{file.path} is not in the manifest: ignored")
        for file in folder.data_files()
        if file.path not in listed
    ]
    if manifest.committed_at > datetime.now(UTC) + CLOCK_SKEW:
        found.append(finding(False, f"committed in the future ({manifest.committed_at}): ignored by readers"))
    found += [
        finding(False, f"its input {step.asset} {step.version} is gone")
        for step in manifest.inputs
        if step.version and lake.manifest(step.asset, step.version) is None
    ]
    if not any(f.damage for f in found):
        found += [finding(True, message) for message in _content(lake, manifest)]
    if any(f.damage for f in found) and kind not in folder.file_names():
        return None, [finding(False, GONE)]
    return manifest, found


def _content(lake: Lake, manifest: Manifest) -> list[str]:
    folder = lake.folder(manifest.asset, manifest.version)
    try:
        if content.fingerprint(folder, manifest.files) != manifest.fingerprint:
            return ["the content of its files is not what was written (other fingerprint)"]
        if manifest.rows is None:
            return []
        rows = sum(content.parquet_rows(folder, manifest.files).values())
    except (pa.ArrowInvalid, OSError) as error:
        return [f"a file cannot be read ({str(error).splitlines()[0]})"]
    return [] if rows == manifest.rows else [f"it holds {rows:,} rows, its manifest says {manifest.rows:,}"]

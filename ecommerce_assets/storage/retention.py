"""Removes superseded versions that nothing needs, and leftovers of killed writers. The entry point is `prune`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ecommerce_assets.storage import delta
from ecommerce_assets.storage.filesystem import FileInfo, Folder, is_hidden
from ecommerce_assets.storage.lake import BLOCKED, COMMIT_FILE, VERSION_FOLDER, Lake, VersionNotFoundError
from ecommerce_assets.storage.version import Version

KEEP = 3
GRACE = timedelta(hours=24)
"""Time for readers of a superseded version to finish, and for a writer to write a file."""


@dataclass(frozen=True)
class Removal:
    """Removed files of a version, or of a folder that was never published."""

    asset: str
    version: str
    files: int
    reason: str

    def __str__(self) -> str:
        return f"{self.asset} {self.version}, {self.reason} ({self.files:,} file{'s' * (self.files != 1)})"


def prune(
    lake: Lake, asset: str | None = None, keep: int = KEEP, grace: timedelta = GRACE, *, dry_run: bool = False
) -> list[Removal]:
    """Removes files that nothing needs, of one asset or of all, and returns what was removed.

    - Superseded versions, except the newest `keep` ones, those that were superseded less than `grace` ago, and those
      that are inputs of a kept version. The log of a table stays complete.
    - Leftovers of killed writers that are more than 24 hours old: only the age of the files tells a killed writer from
      a running one.

    Nothing is removed while a log or commit file is damaged, because the inputs of its versions are unknown.

    Parameters
    ----------
    dry_run
        Returns the same, and removes nothing.
    """
    removed: list[Removal] = []
    kept: dict[str, list[Version]] | None = None
    for name in [asset] if asset else lake.assets():
        # Versions that are published from now on are never removed.
        published = lake.published(name)
        retained = list(_retained(lake, published, keep, grace))
        # The inputs of other assets are read only if there is something to remove.
        if any(_remove_files(lake, name, published, retained, dry_run=True)):
            kept = kept_versions(lake, keep, grace) if kept is None else kept
            if kept is None:
                break
            removed += _remove_files(lake, name, published, kept.get(name, published), dry_run=dry_run)
    return removed


def kept_versions(lake: Lake, keep: int = KEEP, grace: timedelta = GRACE) -> dict[str, list[Version]] | None:
    """Returns the versions that are kept, by asset; None (all of them) while a log or commit file is damaged."""
    warnings: list[str] = []
    lake = Lake(lake.data.uri, warnings.append)
    published = {asset: lake.published(asset) for asset in lake.assets()}
    if warnings:
        return None
    known = {(v.asset, v.version): v for versions in published.values() for v in versions}
    waiting = [(v.asset, v.version) for versions in published.values() for v in _retained(lake, versions, keep, grace)]
    kept: set[tuple[str, str]] = set()
    while waiting:
        name = waiting.pop()
        if name in known and name not in kept:
            kept.add(name)
            waiting += [(read.asset, read.version or "") for read in known[name].inputs]
    return {asset: [v for v in versions if (asset, v.version) in kept] for asset, versions in published.items()}


def _retained(lake: Lake, versions: Sequence[Version], keep: int, grace: timedelta) -> Iterator[Version]:
    """Yields the newest undamaged version and newer ones, `keep` more, and those that were superseded recently."""
    whole, recent = 0, datetime.now(UTC) - grace
    superseded_at: datetime | None = None
    for version in versions:
        if superseded_at is not None and superseded_at < recent and whole > keep:
            break
        if not lake.damage(version):
            whole += 1
            superseded_at = version.committed_at
            yield version
        elif not whole:
            yield version


def _remove_files(
    lake: Lake, asset: str, published: Sequence[Version], kept: Sequence[Version], *, dry_run: bool
) -> Iterator[Removal]:
    """Removes files in the folders of versions that neither kept versions nor current readers need."""
    if not published:
        return
    folder = lake.asset(asset)
    needed = {file.path for version in kept for file in lake.files(version)}
    if published[0].kind == "table":
        needed |= {file.path for file in delta.files_of(delta.open_table(folder))}
    if published[0].days:
        with suppress(VersionNotFoundError):
            needed |= {file.path for day in lake.days(asset) for file in day.files}
    kept_folders = {version.folder for version in kept}
    versions = {version.folder: version.version for version in published}
    for name, files in _version_folders(folder).items():
        paths = {file.path for file in files}
        is_left_over = f"{name}/{COMMIT_FILE}" not in paths and _age(name, files) >= GRACE
        if name in kept_folders or (name not in versions and not is_left_over):
            continue
        removed = [path for path in paths - needed if not is_hidden(path.removeprefix(f"{name}/"))]
        if not dry_run and needed.isdisjoint(paths):
            # The commit file first: a version that is half removed after a kill must not look published.
            (folder / name).remove_file(COMMIT_FILE)
            (folder / name).remove()
        elif not dry_run:
            for path in removed:
                folder.remove_file(path)
        if removed or needed.isdisjoint(paths):
            reason = "superseded" if name in versions else "left by a killed writer"
            yield Removal(asset, versions.get(name, name), len(removed), reason)


def _version_folders(asset: Folder) -> dict[str, list[FileInfo]]:
    """Returns the files in each version's folder, including blocked and unpublished versions."""
    names = [*asset.folders(), *(f"{BLOCKED}/{name}" for name in (asset / BLOCKED).folders())]
    folders: dict[str, list[FileInfo]] = {
        name: [] for name in names if VERSION_FOLDER.fullmatch(name.rpartition("/")[2])
    }
    for file in asset.all_files():
        first, second, *_ = [*file.path.split("/"), ""]
        folders.get(f"{first}/{second}" if first == BLOCKED else first, []).append(file)
    return folders


def _age(name: str, files: Sequence[FileInfo]) -> timedelta:
    """Returns the time since the newest file was written, or since the folder was named; 0 if it is unknown."""
    now = datetime.now(UTC)
    if files:
        return timedelta(seconds=now.timestamp() - max(file.modified or now.timestamp() for file in files))
    with suppress(ValueError):
        return now - datetime.strptime(name.rpartition("/")[2][:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    return timedelta(0)

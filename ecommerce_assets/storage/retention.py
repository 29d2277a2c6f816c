"""What is removed, and when: superseded versions that nothing needs any more, and what dead writers left."""

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
"""A reader that started before a version was superseded has this long to finish, and a writer to write a file."""


@dataclass(frozen=True)
class Removal:
    """Files that may go: of a version, or of a folder that was never published."""

    asset: str
    version: str
    files: int
    reason: str

    def __str__(self) -> str:
        return f"{self.asset} {self.version}, {self.reason} ({self.files:,} file{'s' * (self.files != 1)})"


def prune(
    lake: Lake, asset: str | None = None, keep: int = KEEP, grace: timedelta = GRACE, *, dry_run: bool = False
) -> list[Removal]:
    """Remove what nothing needs, of one asset or of all, and return what it was.

    - Superseded versions: `keep` younger superseded ones stay, those that were superseded less than `grace` ago, and
      those that a version that stays names as its input. What a table's log says of a version stays.
    - What a dead writer left, once it is 24 hours old. On any file system the age of its files is all that tells a dead
      writer from a living one.

    Nothing goes while a log or commit file is damaged, because nobody knows what its versions need. With `dry_run` the
    same is returned and nothing is removed.
    """
    removed: list[Removal] = []
    kept: dict[str, list[Version]] | None = None
    for name in [asset] if asset else lake.assets():
        # What is published from now on is none of the versions that may go.
        published = lake.published(name)
        own = list(_own(lake, published, keep, grace))
        # What other assets need is looked up only where something could go.
        if any(_remove_files(lake, name, published, own, dry_run=True)):
            kept = kept_versions(lake, keep, grace) if kept is None else kept
            if kept is None:
                break
            removed += _remove_files(lake, name, published, kept.get(name, published), dry_run=dry_run)
    return removed


def kept_versions(lake: Lake, keep: int = KEEP, grace: timedelta = GRACE) -> dict[str, list[Version]] | None:
    """By asset the versions that stay; None, all of them, while a log or commit file is damaged."""
    warnings: list[str] = []
    lake = Lake(lake.data.uri, warnings.append)
    published = {asset: lake.published(asset) for asset in lake.assets()}
    if warnings:
        return None
    known = {(v.asset, v.version): v for versions in published.values() for v in versions}
    waiting = [(v.asset, v.version) for versions in published.values() for v in _own(lake, versions, keep, grace)]
    kept: set[tuple[str, str]] = set()
    while waiting:
        name = waiting.pop()
        if name in known and name not in kept:
            kept.add(name)
            waiting += [(read.asset, read.version or "") for read in known[name].inputs]
    return {asset: [v for v in versions if (asset, v.version) in kept] for asset, versions in published.items()}


def _own(lake: Lake, versions: Sequence[Version], keep: int, grace: timedelta) -> Iterator[Version]:
    """The newest whole version and what is newer, `keep` more, and what was superseded a short while ago."""
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
    """Remove what is in the folders of versions and is needed neither by a kept version nor by readers now."""
    if not published:
        return
    folder = lake.asset(asset)
    needed = {file.path for version in kept for file in lake.files(version)}
    if published[0].kind == "table":
        needed |= {file.path for file in delta.files_of(delta.open_table(folder))}
    if published[0].days:
        with suppress(VersionNotFoundError):
            needed |= {file.path for day in lake.days(asset) for file in day.files}
    stays, versions = {version.folder for version in kept}, {version.folder: version.version for version in published}
    for name, files in _version_folders(folder).items():
        paths = {file.path for file in files}
        is_left_over = f"{name}/{COMMIT_FILE}" not in paths and _age(name, files) >= GRACE
        if name in stays or (name not in versions and not is_left_over):
            continue
        gone = [path for path in paths - needed if not is_hidden(path.removeprefix(f"{name}/"))]
        if not dry_run and needed.isdisjoint(paths):
            # The commit file first: what a kill leaves half removed is not a version any more.
            (folder / name).remove_file(COMMIT_FILE)
            (folder / name).remove()
        elif not dry_run:
            for path in gone:
                folder.remove_file(path)
        if gone or needed.isdisjoint(paths):
            reason = "superseded" if name in versions else "left by a writer that died"
            yield Removal(asset, versions.get(name, name), len(gone), reason)


def _version_folders(asset: Folder) -> dict[str, list[FileInfo]]:
    """The files below each folder that is named as a version's, those of blocked versions included."""
    names = [*asset.folders(), *(f"{BLOCKED}/{name}" for name in (asset / BLOCKED).folders())]
    folders: dict[str, list[FileInfo]] = {
        name: [] for name in names if VERSION_FOLDER.fullmatch(name.rpartition("/")[2])
    }
    for file in asset.all_files():
        first, second, *_ = [*file.path.split("/"), ""]
        folders.get(f"{first}/{second}" if first == BLOCKED else first, []).append(file)
    return folders


def _age(name: str, files: Sequence[FileInfo]) -> timedelta:
    """How long ago the newest file was written, or the writer chose the folder's name; 0 where that is not known."""
    now = datetime.now(UTC)
    if files:
        return timedelta(seconds=now.timestamp() - max(file.modified or now.timestamp() for file in files))
    with suppress(ValueError):
        return now - datetime.strptime(name.rpartition("/")[2][:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    return timedelta(0)

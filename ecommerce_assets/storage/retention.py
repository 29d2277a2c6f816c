"""What is removed, and when: superseded versions that nothing needs any more, and what dead writers left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ecommerce_assets.storage import delta
from ecommerce_assets.storage.filesystem import Folder
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
      those that a version that stays names as its input. What a table's log says of a version stays. None go while a
      log or commit file is damaged, because nobody knows what its versions need.
    - What a dead writer left, once it is 24 hours old. On any file system the age of its files is all that tells a dead
      writer from a living one.

    With `dry_run` the same is returned and nothing is removed.
    """
    removed: list[Removal] = []
    kept: dict[str, set[str]] | None = None
    for name in [asset] if asset else lake.assets():
        # What is published from now on is none of the versions that may go.
        published = lake.published(name)
        find = _find_in_table if lake.is_table(name) else _find_folders
        own = {version.version for version in _own(lake, published, keep, grace)}
        # What other assets need is looked up only where something could go.
        if list(find(lake, published, own, grace, dry_run=True)):
            kept = kept_versions(lake, keep, grace) if kept is None else kept
            removed += find(lake, published, kept.get(name) or _all(published), grace, dry_run=dry_run)
    return removed


def kept_versions(lake: Lake, keep: int = KEEP, grace: timedelta = GRACE) -> dict[str, set[str]]:
    """By asset the versions that stay."""
    warnings: list[str] = []
    lake = Lake(lake.data.uri, warnings.append)
    published = {asset: lake.published(asset) for asset in lake.assets()}
    if warnings:
        return {asset: _all(versions) for asset, versions in published.items()}
    known = {(v.asset, v.version): v for versions in published.values() for v in versions}
    waiting = [v for versions in published.values() for v in _own(lake, versions, keep, grace)]
    kept: dict[str, set[str]] = {}
    while waiting:
        version = waiting.pop()
        if version.version not in kept.setdefault(version.asset, set()):
            kept[version.asset].add(version.version)
            named = ((read.asset, read.version or "") for read in version.inputs)
            waiting += [known[one] for one in named if one in known]
    return kept


def _all(versions: Sequence[Version]) -> set[str]:
    return {version.version for version in versions}


def _own(lake: Lake, versions: Sequence[Version], keep: int, grace: timedelta) -> Iterator[Version]:
    """The newest whole version and what is newer, `keep` more, what was superseded a short while ago, and the versions
    that days are read from."""
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
    if versions and versions[0].days:
        with suppress(VersionNotFoundError):
            numbers = {day.at for day in lake.days(versions[0].asset)}
            yield from (version for version in versions if version.version in numbers)


def _find_in_table(
    lake: Lake, versions: Sequence[Version], kept: set[str], grace: timedelta, *, dry_run: bool
) -> Iterator[Removal]:
    if not versions:
        return
    table, folders = lake.asset(versions[0].asset), {version.folder: version.version for version in versions}
    numbers = sorted(map(int, kept))
    files = delta.vacuum(table, numbers, max(grace, GRACE), dry_run=dry_run, leftovers=True)
    if grace < GRACE:
        files += delta.vacuum(table, numbers, grace, dry_run=dry_run, leftovers=False)
    for folder, count in sorted(Counter(path.partition("/")[0] for path in dict.fromkeys(files)).items()):
        if not dry_run and not (table / folder).all_files():
            (table / folder).remove()  # on a local disk an empty folder stays behind
        reason = "superseded" if folder in folders else "left by a writer that died"
        yield Removal(versions[0].asset, folders.get(folder, folder), count, reason)


def _find_folders(
    lake: Lake, versions: Sequence[Version], kept: set[str], _: timedelta, *, dry_run: bool
) -> Iterator[Removal]:
    if not versions:
        return
    asset = lake.asset(versions[0].asset)
    superseded = _all(versions) - kept
    names = [*asset.folders(), *(f"{BLOCKED}/{name}" for name in (asset / BLOCKED).folders())]
    for name in (name for name in names if VERSION_FOLDER.fullmatch(name.rpartition("/")[2])):
        folder, files = asset / name, (asset / name).all_files()
        now = datetime.now(UTC).timestamp()
        age = timedelta(seconds=now - max((file.modified or now for file in files), default=_begun(folder)))
        is_unpublished = all(file.path != COMMIT_FILE for file in files)
        if name in superseded or (is_unpublished and age >= GRACE):
            if not dry_run:
                # The commit file first: what a kill leaves half removed is not a version any more.
                folder.remove_file(COMMIT_FILE)
                folder.remove()
            reason = "superseded" if name in superseded else "left by a writer that died"
            yield Removal(versions[0].asset, name, len(files), reason)


def _begun(folder: Folder) -> float:
    """When the writer of a version chose its folder, in seconds since 1970; far ahead where the name tells no time."""
    with suppress(ValueError):
        return datetime.strptime(folder.uri.rpartition("/")[2][:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC).timestamp()
    return datetime.max.replace(tzinfo=UTC).timestamp()

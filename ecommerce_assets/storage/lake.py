"""`Lake`: the versions of all assets in `<data dir>/lake/<asset>/`, and which of them readers see.

Tables are Delta tables (delta.py). Models and documents are folders `<version>/`, published by one commit file. Blocked
versions are in `_blocked/`.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ecommerce_assets.storage import delta
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.version import PARTITION_COLUMN, Input, Stats, StoredFile, Version

COMMIT_FILE = "_commit.json"
"""A version folder with this file is published. A blocked version has one too, in `_blocked/`."""

BLOCKED = "_blocked"
"""Folder in an asset's folder for the last blocked version; of a daily asset, for the last one of each day."""

CLOCK_SKEW = timedelta(minutes=5)
"""Versions that are further ahead of this machine's clock are ignored."""

VERSION_FOLDER = re.compile(r"\d{8}_\d{6}_[0-9a-f]{8}")
_ASSET_NAME = re.compile(r"[A-Za-z0-9_]+")
_OLD_COMMIT_FILES = {"_manifest.json", "_rejected.json"}
_VERSIONS_NAMED = 5


class VersionNotFoundError(LookupError):
    """There is no published version to read; the message says what to do."""


class OldLayoutError(RuntimeError):
    """An earlier release, without Delta tables, wrote the lake."""


@dataclass(frozen=True)
class Day:
    """One day of a daily table as readers see it.

    Attributes
    ----------
    version
        The version that wrote it.
    at
        The table version through which it is read.
    files
        Its Parquet files; empty if the day has no rows.
    """

    day: str
    version: Version
    at: str
    files: Sequence[StoredFile]

    @property
    def stats(self) -> Stats:
        """Stats of the day."""
        return self.version.days[self.day]


class Lake:
    """All versions of all assets of one data dir.

    Parameters
    ----------
    data_dir
        Folder or bucket, as a URI or a path.
    warn
        Receives one sentence for each version that is skipped.
    cache
        Contents of logs and commit files, which never change. Pass it to share it between several lakes.
    """

    def __init__(
        self, data_dir: str, warn: Callable[[str], object] | None = None, cache: dict[Any, Any] | None = None
    ) -> None:
        self.data = Folder(data_dir)
        self.root = self.data / "lake"
        self.warn = logging.getLogger(__name__).warning if warn is None else warn
        self._cache = {} if cache is None else cache

    @staticmethod
    def new_folder() -> str:
        """Returns a unique name that sorts by time: `YYYYMMDD_HHMMSS_` and 8 hex digits."""
        return f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"

    def asset(self, asset: str) -> Folder:
        """Returns an asset's folder, existing or not. Raises VersionNotFoundError for an invalid name."""
        if not _ASSET_NAME.fullmatch(asset):
            raise VersionNotFoundError(
                f"{asset!r} is not the name of an asset: names have only letters, digits and underscores."
            )
        return self.root / asset

    def folder(self, version: Version) -> Folder:
        """Returns the folder of a version's files."""
        return self.asset(version.asset) / version.folder

    def assets(self) -> list[str]:
        """Returns the names of the assets that have any files; other folders are ignored."""

        def is_ours(name: str) -> bool:
            inside = self.asset(name).folders()
            return any(each in (BLOCKED, "_delta_log") or VERSION_FOLDER.fullmatch(each) for each in inside)

        return [name for name in self.root.folders() if _ASSET_NAME.fullmatch(name) and is_ours(name)]

    def asset_of(self, path: str) -> tuple[str, str] | None:
        """Returns the asset of a file, and a prefix for its columns' names (`itemFactors.` in a model's folder).

        Raw files belong to raw_events. None for files outside the data dir.
        """
        below = _bare(path).partition(f"{_bare(self.data.uri)}/")[2]
        parts = [*below.split("/"), "", ""]
        if below.startswith("raw/events/"):
            return "raw_events", ""
        if below.startswith("processed/parquet/"):
            return parts[2].partition(".")[0], ""
        return (parts[1], f"{parts[4]}." if parts[3] == "model" else "") if below.startswith("lake/") else None

    def _check_layout(self, folder: Folder) -> None:
        for name in folder.folders():
            if VERSION_FOLDER.fullmatch(name) and not _OLD_COMMIT_FILES.isdisjoint((folder / name).file_names()):
                raise OldLayoutError(
                    f"{folder.uri} was written by an earlier release that did not use Delta tables: remove "
                    f"{self.root.uri} and materialise the assets again."
                )

    def publish_table(self, spec: TableSpec, version: Version, extended: int | None = None) -> Version:
        """Publishes a table's version, or its days, in one transaction; returns it with its number.

        See `delta.write_version`.
        """
        published = delta.write_version(self.asset(version.asset), spec, version, extended)
        self._clear_blocked(version)
        return published

    def publish_folder(self, version: Version) -> Version:
        """Publishes the version of a model or document by writing its commit file; returns it with the time."""
        version = version.model_copy(update={"committed_at": datetime.now(UTC)})
        _write_commit(self.folder(version), version)
        self._clear_blocked(version)
        return version

    def block(self, version: Version) -> Folder:
        """Moves the files of a version, or of its days, to `_blocked/`, and returns that folder.

        They stay there until the next version of the asset, or of the day, is published or blocked.
        """
        version = version.model_copy(update={"committed_at": datetime.now(UTC)})
        self._clear_blocked(version)
        target = self.asset(version.asset) / BLOCKED / version.folder
        _write_commit(target, version)
        for part in [f"/{PARTITION_COLUMN}={day}" for day in version.days] or [""]:
            Folder(self.folder(version).uri + part).move_to(Folder(target.uri + part))
        return target

    def blocked(self, asset: str) -> list[Version]:
        """Returns the blocked versions that no later version has replaced, oldest first."""
        return self._read_commits(self.asset(asset) / BLOCKED)

    def _clear_blocked(self, newer: Version) -> None:
        for old in self.blocked(newer.asset):
            folder = self.asset(newer.asset) / BLOCKED / old.folder
            left = {day: stats for day, stats in old.days.items() if day not in newer.days}
            if not left:
                folder.remove()
            elif len(left) < len(old.days):
                _write_commit(folder, old.model_copy(update={"days": left}))
                for day in old.days.keys() - left.keys():
                    (folder / f"{PARTITION_COLUMN}={day}").remove()

    def published(self, asset: str) -> list[Version]:
        """Returns the published versions, newest first, also those whose files are removed or damaged.

        Raises OldLayoutError if an earlier release wrote the asset's folder.
        """
        folder = self.asset(asset)
        if delta.exists(folder):
            log = delta.read_log(folder, self._cache)
            for problem in log.problems:
                self.warn(problem)
            return log.versions
        versions = self._read_commits(folder)[::-1]
        if not versions:
            self._check_layout(folder)
        return versions

    def _read_commits(self, folder: Folder) -> list[Version]:
        """Returns the versions that have a commit file, oldest first."""
        versions: list[Version] = []
        for name in filter(VERSION_FOLDER.fullmatch, folder.folders()):
            key = f"{folder.uri}/{name}"
            try:
                if key not in self._cache or BLOCKED in key:
                    self._cache[key] = Version.model_validate_json((folder / name).read_bytes(COMMIT_FILE))
                versions.append(self._cache[key])
            except FileNotFoundError:
                continue  # not published: still being written, or left by a killed writer
            except (ValidationError, UnicodeDecodeError, OSError) as error:
                self.warn(
                    f"{folder.uri}/{name}/{COMMIT_FILE} is damaged ({str(error).splitlines()[0]}): the previous "
                    "version is read."
                )
        return sorted(versions, key=lambda version: (version.committed_at, version.run_id))

    def recorded(self, asset: str, version: str) -> Version | None:
        """Returns the metadata of a version, even if its files are removed; None if it was never published."""
        return next((v for v in self.published(asset) if v.version == version), None)

    def version(self, asset: str, version: str) -> Version:
        """Returns exactly this version. Raises VersionNotFoundError if it is removed, damaged or unknown."""
        recorded = self.recorded(asset, version)
        if recorded is not None and not self.damage(recorded):
            return recorded
        newest = ", ".join(v.version for v in self.published(asset)[:_VERSIONS_NAMED])
        raise VersionNotFoundError(
            f"Version {version} of {asset} in {self.root.uri} "
            f"{'is removed or damaged' if recorded else 'does not exist'}; the newest are {newest or 'none'}."
        )

    def latest(self, asset: str, run_id: str | None = None, as_of: datetime | None = None) -> Version:
        """Returns the version that readers see: that of this run if there is one, else the newest undamaged one.

        A daily table is undamaged as long as each of its days can be read, in any version.

        Parameters
        ----------
        as_of
            Returns the version that readers saw at that time.

        Raises
        ------
        VersionNotFoundError
            If there is none; if a version was blocked, the message has the check.
        """
        for version in self._readable(asset, run_id, as_of):
            damaged = [] if version.days else self.damage(version)
            if not damaged:
                return version
            self.warn(
                f"{asset} {version.version} is damaged ({len(damaged)} files missing or of another size, first "
                f"{damaged[0]}): the previous version is read."
            )
        raise VersionNotFoundError(self._why_unreadable(asset, as_of))

    def undamaged(self, asset: str, run_id: str | None = None) -> Iterator[Version]:
        """Returns the undamaged versions: those of this run first, then the newest first."""
        return (version for version in self._readable(asset, run_id) if not self.damage(version))

    def latest_or_none(self, asset: str) -> Version | None:
        """Returns the same as `latest`; None if there is no version."""
        try:
            return self.latest(asset)
        except VersionNotFoundError:
            return None

    def days(
        self,
        asset: str,
        run_id: str | None = None,
        lookback_days: int | None = None,
        own_days_only: bool = False,
        at: str | None = None,
    ) -> list[Day]:
        """Returns the published days of a daily table, in order.

        Parameters
        ----------
        run_id
            Days that this run wrote win over newer ones of other runs.
        lookback_days
            Number of days, counted back from the newest one; None: all.
        own_days_only
            Only the days that the run wrote.
        at
            Table version whose days are returned; None: the newest.

        Raises
        ------
        VersionNotFoundError
            If no day is published.
        """
        versions = [v for v in self._readable(asset) if at is None or int(v.version) <= int(at)]
        written = [version for version in versions if version.run_id == run_id]
        newest = _writers(self.published(asset))
        sizes, days = self._sizes(asset), []
        for day, writers in sorted(_writers(written if own_days_only else [*written, *versions]).items()):
            # An exact version has its own days, not older ones in their place.
            for version in writers[:1] if at else writers:
                files = self._files_of(version, day)
                if all(sizes.get(file.path) == file.bytes for file in files):
                    # A later version that did not rewrite the day has the same files.
                    is_current = version.folder == newest[day][0].folder
                    days.append(
                        Day(day, version, at or (versions[0].version if is_current else version.version), files)
                    )
                    break
                self.warn(
                    f"{asset} {version.version} is damaged on {day} (a file is missing or of another size): the "
                    "previous version of that day is read. Materialise that day again."
                )
            else:
                if at:
                    raise VersionNotFoundError(
                        f"Version {at} of {asset} in {self.root.uri} is removed or damaged (day {day})."
                    )
                self.warn(f"{asset} has no undamaged version of {day}, which is skipped: materialise that day again.")
        if not days:
            raise VersionNotFoundError(self._why_unreadable(asset))
        first = datetime.fromisoformat(days[-1].day) - timedelta(days=(lookback_days or 0) - 1)
        return [day for day in days if lookback_days is None or day.day >= f"{first:%Y-%m-%d}"]

    def files(self, version: Version) -> list[StoredFile]:
        """Returns the data files of a version (all days of a daily table); paths are relative to the asset's folder."""
        if not version.days:
            return self._files_of(version)
        until = [v for v in self.published(version.asset) if int(v.version) <= int(version.version)]
        return [file for day, writers in sorted(_writers(until).items()) for file in self._files_of(writers[0], day)]

    def _files_of(self, version: Version, day: str | None = None) -> list[StoredFile]:
        """Returns the files that a version wrote (for one day), with paths relative to the asset's folder."""
        key = (version.asset, version.folder, "files by day")
        if key not in self._cache:
            by_day: dict[str | None, list[StoredFile]] = {}
            for file in version.files:
                below = file.model_copy(update={"path": f"{version.folder}/{file.path}"})
                by_day.setdefault(file.day, []).append(below)
            self._cache[key] = by_day
        files: list[StoredFile] = self._cache[key].get(day, [])
        return files

    def _sizes(self, asset: str) -> dict[str, int]:
        return {file.path: file.bytes for file in self.asset(asset).all_files()}

    def damage(self, version: Version) -> list[str]:
        """Returns the files of the version that are missing or of another size."""
        sizes = self._sizes(version.asset)
        return [file.path for file in self.files(version) if sizes.get(file.path) != file.bytes]

    def ancestry(self, version: Version) -> Iterator[tuple[Version, Input]]:
        """Yields the inputs of a version, and theirs, nearest first; each with the version that read it."""
        readers, seen = [version], set()
        for reader in readers:  # the list grows in the loop
            for read in reader.inputs:
                yield reader, read
                if read.version and (read.asset, read.version) not in seen:
                    seen.add((read.asset, read.version))
                    parent = self.recorded(read.asset, read.version)
                    readers.extend([parent] if parent else [])

    def ancestor(self, version: Version, asset: str) -> Version:
        """Returns the version of `asset` that `version` was computed from, directly or through its inputs.

        The indices of a model are read so, because the latest ones may number the products differently.

        Raises
        ------
        VersionNotFoundError
            If that version is removed, or has other rows than the ones that were read.
        """
        for reader, read in self.ancestry(version):
            if read.asset == asset and reader.input_version(asset):
                source = self.version(asset, read.version or "")
                if source.stats.content in (None, read.fingerprint):
                    return source
                raise VersionNotFoundError(
                    f"{asset} {source.version} has other rows than those that {reader.asset} {reader.version} was "
                    f"computed from: materialise {version.asset} again."
                )
        raise VersionNotFoundError(
            f"The version of {asset} that {version.asset} {version.version} was computed from is removed: "
            f"materialise {version.asset} again."
        )

    def not_stored_message(self, asset: str) -> str:
        """Returns the message for an asset that has no files, with the names of those that have."""
        stored = ", ".join(self.assets())
        if not stored:
            return f"Nothing is stored in {self.root.uri}: materialise {asset} first, or choose another data dir."
        return (
            f"{asset} is not stored in {self.root.uri}, which has {stored}. "
            f"Check the name, or materialise {asset} first."
        )

    def _readable(self, asset: str, run_id: str | None = None, as_of: datetime | None = None) -> list[Version]:
        """Returns the versions that may be read: those of this run first, then the newest first."""
        now, readable = datetime.now(UTC), []
        for version in self.published(asset):
            if version.committed_at > now + CLOCK_SKEW:
                self.warn(
                    f"{asset} {version.version} is ignored because it is from the future "
                    f"({version.committed_at:%Y-%m-%d %H:%M:%S} UTC, and now is {now:%Y-%m-%d %H:%M:%S}): check the "
                    "clock of this machine and of the one that wrote it."
                )
            elif as_of is None or version.committed_at <= as_of:
                readable.append(version)
        return sorted(readable, key=lambda v: v.run_id != run_id)

    def _why_unreadable(self, asset: str, as_of: datetime | None = None) -> str:
        published, blocked = self.published(asset), self.blocked(asset)
        message = f"There is no version of {asset} in {self.root.uri}"
        if as_of is not None and published:
            oldest = published[-1].committed_at
            return (
                f"{message} from {as_of:%Y-%m-%d %H:%M:%S} UTC or before; the oldest is from "
                f"{oldest:%Y-%m-%d %H:%M:%S} UTC."
            )
        now = datetime.now(UTC)
        if published and published[-1].committed_at > now + CLOCK_SKEW:
            return (
                f"{message} that is not from the future (the newest is from "
                f"{published[0].committed_at:%Y-%m-%d %H:%M:%S} UTC, and now is {now:%Y-%m-%d %H:%M:%S}): set the "
                "clock of this machine."
            )
        if blocked:
            failed = "; ".join(f"{check.name} ({check.message})" for check in blocked[-1].failed_blocking)
            return f"{message} that is published; the last one was blocked by {failed}."
        return f"{message}: materialise {asset} first."


def _writers(versions: Iterable[Version]) -> dict[str, list[Version]]:
    """Returns for each day the versions that wrote it, in the given order."""
    writers: dict[str, list[Version]] = {}
    for version in versions:
        for day in version.days:
            writers.setdefault(day, []).append(version)
    return writers


def _write_commit(folder: Folder, version: Version) -> None:
    folder.write_whole(COMMIT_FILE, version.model_dump_json(indent=1).encode())


def _bare(uri: str) -> str:
    """Returns a URI without scheme and leading slashes: Hadoop writes file:/tmp, file:///tmp and /tmp for one path."""
    return re.sub(r"^[a-z0-9+.-]+:", "", uri).lstrip("/")

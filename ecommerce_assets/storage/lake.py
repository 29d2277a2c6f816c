"""The lake: versions of assets below `<data dir>/lake/<asset>/<version>/`, and which of them readers see.

A version becomes visible by one small file written last. What is inside the data files is the IO managers' business.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from ecommerce_assets.storage.filesystem import Folder, is_hidden
from ecommerce_assets.storage.manifest import COMMITTED, REJECTED, Manifest

CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of this machine's clock a commit may lie before it is taken for a wrong clock and ignored."""


class VersionNotFoundError(LookupError):
    """There is no committed version to read; the message says what to do."""


@dataclass(frozen=True)
class Day:
    """One daily partition as readers see it: the version that serves it."""

    day: str
    manifest: Manifest


class Lake:
    """All versions of all assets of one data dir.

    Parameters
    ----------
    data_dir
        Folder or bucket, as a URI or a path.
    warn
        Called with one sentence for each version that is skipped.
    parsed
        Manifests parsed so far; handed in where several lakes of one run share them.
    """

    def __init__(
        self,
        data_dir: str,
        warn: Callable[[str], object] | None = None,
        parsed: dict[str, Manifest] | None = None,
    ) -> None:
        self.data = Folder(data_dir)
        self.root = self.data / "lake"
        self.warn = logging.getLogger(__name__).warning if warn is None else warn
        # A committed manifest never changes, so what was parsed once needs no second look.
        self._parsed = {} if parsed is None else parsed

    @staticmethod
    def new_version() -> str:
        """A name that sorts by time and is unique: `YYYYMMDD_HHMMSS_` and 8 hex digits."""
        return f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"

    def folder(self, asset: str, version: str) -> Folder:
        """A version's folder, there or not."""
        return self.root / asset / version

    def assets(self) -> list[str]:
        """Names of the assets of which anything is stored."""
        return [name for name in self.root.folders() if not is_hidden(name)]

    def versions(self, asset: str) -> list[str]:
        """Names of all version folders, committed or not, by name (which begins with the time)."""
        return [name for name in (self.root / asset).folders() if not is_hidden(name)]

    def asset_of(self, path: str) -> tuple[str, str] | None:
        """Whose file this is: the asset, and a prefix for its columns' names (`itemFactors.` in a model's folder).

        Raw files belong to raw_events; None for what lies elsewhere.
        """
        below = _bare(path).partition(f"{_bare(self.data.uri)}/")[2]
        if below.startswith("raw/events/"):
            return "raw_events", ""
        if below.startswith("processed/parquet/"):
            return below.split("/")[2].partition(".")[0], ""
        place, *inside = below.split("/")
        if place != "lake" or not inside:
            return None
        asset, _, *rest = [*inside, ""]
        return asset, f"{rest[1]}." if len(rest) > 1 and rest[0] == "model" else ""

    def publish(self, manifest: Manifest) -> None:
        """Write the one file that makes the version visible, or, where its audits failed, the one that says why not."""
        name = COMMITTED if manifest.publishable else REJECTED
        self.folder(manifest.asset, manifest.version).write_whole(name, manifest.to_json())

    def remove(self, asset: str, version: str) -> None:
        """Remove a version, its manifest first: what a kill leaves half removed is no version any more."""
        folder = self.folder(asset, version)
        folder.remove_file(COMMITTED)
        folder.remove_file(REJECTED)
        folder.remove()
        for name in (COMMITTED, REJECTED):
            self._parsed.pop(f"{asset}/{version}/{name}", None)

    def committed(self, asset: str, as_of: datetime | None = None) -> list[Manifest]:
        """Committed versions, oldest first; damaged ones and those from the future are left out with a warning.

        With `as_of`, those that were committed by then.
        """
        found = [m for v in self.versions(asset) if (m := self.manifest(asset, v)) is not None]
        latest_sane = datetime.now(UTC) + CLOCK_SKEW
        for manifest in found:
            if manifest.committed_at > latest_sane:
                self.warn(f"{asset} {manifest.version} was committed in the future ({manifest.committed_at}): ignored.")
        sane = (m for m in found if m.committed_at <= (as_of or latest_sane))
        return sorted(sane, key=lambda m: (m.committed_at, m.run_id))

    def rejected(self, asset: str) -> list[Manifest]:
        """Versions that a blocking audit held back, oldest first."""
        found = [
            m
            for v in self.versions(asset)
            # Nothing is both; and of what is committed the manifest has been parsed already.
            if self.manifest(asset, v) is None and (m := self.manifest(asset, v, REJECTED)) is not None
        ]
        return sorted(found, key=lambda m: (m.committed_at, m.run_id))

    def version(self, asset: str, version: str) -> Manifest:
        """The manifest of exactly this version; VersionNotFoundError where it is gone, damaged or uncommitted."""
        manifest = self.manifest(asset, version)
        if manifest is None or not self.is_whole(manifest):
            raise VersionNotFoundError(f"{asset} {version} is not in {self.root.uri}: materialise {asset} again.")
        return manifest

    def latest(self, asset: str, run_id: str | None = None, as_of: datetime | None = None) -> Manifest:
        """The version that serves readers: this run's own where it wrote one, else the last committed whole one.

        With `as_of`, the one that served readers then.

        Raises VersionNotFoundError where there is none, naming the audit where one held a version back.
        """
        for manifest in self._newest_first(asset, run_id, as_of):
            if self.is_whole(manifest):
                return manifest
        raise VersionNotFoundError(self._nothing_to_read(asset, as_of))

    def latest_or_none(self, asset: str) -> Manifest | None:
        """As `latest`; None where nothing was published."""
        try:
            return self.latest(asset)
        except VersionNotFoundError:
            return None

    def days(
        self,
        asset: str,
        run_id: str | None = None,
        lookback_days: int | None = None,
        as_of: datetime | None = None,
        own_days_only: bool = False,
    ) -> list[Day]:
        """The committed daily partitions, by day, each from the version that serves it.

        `lookback_days` keeps the days that lie less than that many days before the newest one; `own_days_only` those
        that the run itself wrote.
        Raises VersionNotFoundError where no day is committed.
        """
        serving: dict[str, Day] = {}
        for manifest in self._newest_first(asset, run_id, as_of):
            if own_days_only and manifest.run_id != run_id:
                continue
            wanted = [day for day in manifest.published_days if day not in serving]
            if wanted and self.is_whole(manifest):
                serving |= {day: Day(day, manifest) for day in wanted}
        if not serving:
            raise VersionNotFoundError(self._nothing_to_read(asset, as_of))
        days = sorted(serving)
        if lookback_days is not None:
            first = datetime.fromisoformat(days[-1]) - timedelta(days=lookback_days - 1)
            days = [day for day in days if day >= f"{first:%Y-%m-%d}"]
        return [serving[day] for day in days]

    def attempt(self, asset: str, run_id: str) -> Manifest | None:
        """What this run last wrote of the asset, published or held back; else what was written last at all."""
        attempts = sorted(self.committed(asset) + self.rejected(asset), key=lambda m: (m.committed_at, m.run_id))
        own = [m for m in attempts if m.run_id == run_id]
        found = own or attempts
        return found[-1] if found else None

    def ancestor(self, manifest: Manifest, asset: str) -> Manifest:
        """The version of `asset` that `manifest` was made from, directly or through its inputs.

        This is how an index is found for a model: never "the latest", which may number other products.
        Raises VersionNotFoundError where the trail ends before it.
        """
        waiting, seen = [manifest], set()
        while waiting:
            current = waiting.pop(0)
            version = current.input_version(asset)
            if version is not None:
                return self.version(asset, version)
            for step in current.inputs:
                if step.version and (step.asset, step.version) not in seen:
                    seen.add((step.asset, step.version))
                    parent = self.manifest(step.asset, step.version)
                    waiting.extend([parent] if parent else [])
        raise VersionNotFoundError(
            f"{manifest.asset} {manifest.version} names no version of {asset} that is still there: "
            f"materialise {manifest.asset} again."
        )

    def nothing_stored_of(self, asset: str) -> str:
        """The sentence for whoever asks for an asset of which nothing is stored; it names those that are."""
        there = ", ".join(self.assets())
        if not there:
            return f"Nothing is stored in {self.root.uri}: materialise {asset} first, or name another data dir."
        return (
            f"Nothing is stored of {asset} in {self.root.uri}; there is: {there}. "
            f"Check the name, or materialise {asset} first."
        )

    def _newest_first(self, asset: str, run_id: str | None, as_of: datetime | None) -> list[Manifest]:
        newest = self.committed(asset, as_of)[::-1]
        return sorted(newest, key=lambda m: m.run_id != run_id)  # stable: this run's own first, then by commit

    def manifest(self, asset: str, version: str, name: str = COMMITTED) -> Manifest | None:
        """The manifest of a version, whether its files are whole or not; None where it is none (or damaged)."""
        key = f"{asset}/{version}/{name}"
        if key in self._parsed:
            return self._parsed[key]
        folder = self.folder(asset, version)
        try:
            manifest = Manifest.from_json(folder.read_bytes(name))
        except FileNotFoundError:
            return None  # still being written, or left by a writer that died: not a version
        except (ValidationError, UnicodeDecodeError) as error:
            first_line = str(error).splitlines()[0]
            self.warn(f"{asset} {version} has a damaged manifest ({first_line}): the version before it serves.")
            return None
        self._parsed[key] = manifest
        return manifest

    def damaged_files(self, manifest: Manifest) -> list[str]:
        """Files of the version that are missing or of another size."""
        there = {f.path: f.bytes for f in self.folder(manifest.asset, manifest.version).data_files()}
        return [f.path for f in manifest.files if there.get(f.path) != f.bytes]

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether all files are there in their size; where not, a warning says so."""
        damaged = self.damaged_files(manifest)
        if damaged:
            self.warn(
                f"{manifest.asset} {manifest.version} is damaged ({len(damaged)} of {len(manifest.files)} files "
                f"missing or of another size, first {damaged[0]}): the version before it serves."
            )
        return not damaged

    def _nothing_to_read(self, asset: str, as_of: datetime | None) -> str:
        if as_of is not None and (there := self.committed(asset)):
            return (
                f"There is no version of {asset} in {self.root.uri} from {as_of:%Y-%m-%d %H:%M:%S} UTC or before; "
                f"the oldest that is kept is of {there[0].committed_at:%Y-%m-%d %H:%M:%S}."
            )
        held_back = self.rejected(asset)
        if held_back:
            failed = held_back[-1].failed_blocking
            return (
                f"There is no published version of {asset} in {self.root.uri}; the last one was held back by "
                f"{'; '.join(f'{a.name} ({a.message})' for a in failed)}."
            )
        return f"There is no version of {asset} in {self.root.uri}: materialise {asset} first."


def _bare(uri: str) -> str:
    """Without scheme and leading slashes: Hadoop writes file:/tmp, file:///tmp and /tmp for one path."""
    return re.sub(r"^[a-z0-9+.-]+:", "", uri).lstrip("/")

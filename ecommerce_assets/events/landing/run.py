"""Lands files: finds the sources, stages all of them, and then publishes the days. Entry point: `land`."""

from __future__ import annotations

import errno
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Layout
from ecommerce_assets.events.landing.lines import scan
from ecommerce_assets.events.landing.sources import CsvSource, ParquetSource, Source, find_sources
from ecommerce_assets.events.landing.staging import Staged, Staging, one_line
from ecommerce_assets.events.landing.summary import LandingSummary, SourceSummary, Window
from ecommerce_assets.events.landing.target import Target
from ecommerce_assets.settings import Settings, SettingsError, load_settings

_MAX_NAME_BYTES = 150
"""Bytes of the source's name in the name of its list of unreadable values; file systems allow names of 255 bytes."""

log = logging.getLogger(__name__)


def land(sources: Sequence[str], data_dir: str | Path, layout: Layout | None = None) -> LandingSummary:
    """Lands files in the daily partitions of `<data_dir>/raw/events` and returns a summary.

    All sources are staged before the first is published, so that an error means that nothing was landed; only if the
    disk fails while files are published, some days are landed, and landing again completes the others.

    Parameters
    ----------
    sources
        Local CSV (`.csv`, `.csv.gz`, `.csv.zst`) and Parquet files, folders of them, and globs.
    data_dir
        Local folder or a URL that fsspec knows, such as `s3://bucket/shop`; not that of the shipped sample.
    layout
        How the files map to event columns; by default as the REES46 logs.

    Raises
    ------
    LandingError
        A file, an option or the data dir cannot be used.
    """
    layout, target = layout or Layout(), Target(str(data_dir))
    try:
        target.refuse_sample()
        settings = load_settings(data_dir=str(data_dir))
        matched, other_files = find_sources(sources, layout)
        for source in matched:
            target.refuse_source(source.path)
        with target.staging() as folder:
            staged = _stage_all(matched, target, layout, settings, folder)
            summaries = tuple(_publish(staged, target))
            window = Window(settings.first_day, settings.end_day, datetime.now(UTC).date())
            return LandingSummary(str(data_dir), summaries, window, tuple(other_files), settings.id_type)
    except SettingsError as error:
        raise LandingError(f"{error}.") from error
    except (OSError, duckdb.IOException) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
            raise LandingError(f"The disk of {data_dir} is full: free some space and land again.") from error
        if isinstance(error, OSError):
            raise LandingError(f"{error.filename or data_dir}: {error.strerror or error}.") from error
        raise
    except Exception as error:  # of the client of a bucket, such as missing credentials
        if isinstance(error, LandingError) or target.raw.is_local:
            raise
        raise LandingError(f"{data_dir} cannot be used: {error}.") from error


def _stage_all(
    sources: Sequence[Source], target: Target, layout: Layout, settings: Settings, folder: Path
) -> list[Staged]:
    staged: dict[str, Staged] = {}
    copies: list[Staged] = []
    for source in sources:
        log.info("Reading %s", source.path)
        states = [_state(file) for file in source.files]
        sha256, lines = scan(source.path) if isinstance(source, CsvSource) else (_sha256(source), 0)
        content = layout.content(sha256, settings.id_type)
        target.refuse_other_layout(source.path, content)
        if content in staged:
            summary = staged[content].summary.as_copy(source.path)
            copies.append(Staged({}, summary, staged[content].unreadable_file))
            continue
        staging = Staging(source, content, layout, settings.id_type, folder / content)
        try:
            staged[content] = staging.run(lines)
        except duckdb.IOException:
            raise
        except RuntimeError as error:
            if "Query interrupted" in str(error):  # DuckDB's error for Ctrl-C
                raise KeyboardInterrupt from None
            raise
        except duckdb.Error as error:
            raise LandingError(f"{source.path} cannot be read: {one_line(error)}.") from error
        if states != [_state(file) for file in source.files]:
            raise LandingError(f"{source.path} changed while it was read: land it when it is complete.")
    return [*staged.values(), *copies]


def _publish(staged: Sequence[Staged], target: Target) -> Iterator[SourceSummary]:
    by_day: defaultdict[date, list[Path]] = defaultdict(list)
    for item in staged:
        for day, file in item.files.items():
            by_day[day].append(file)
    # The lists of unreadable values first, so that landed events always have one.
    lists = [_put_unreadable(item, target) if item.summary.unreadable and item.files else "" for item in staged]
    new: set[Path] = set()
    for day, files in sorted(by_day.items()):
        new |= target.publish_day(files, day)
    for item, unreadable_file in zip(staged, lists, strict=True):
        already_landed = {day for day, file in item.files.items() if file not in new}
        yield item.summary.published(already_landed, unreadable_file)


def _put_unreadable(item: Staged, target: Target) -> str:
    source = item.summary.source.name.encode(errors="replace")[:_MAX_NAME_BYTES].decode(errors="ignore")
    return target.put_unreadable(item.unreadable_file, f"{source}-{item.summary.content}.csv")


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _sha256(source: ParquetSource) -> str:
    """The hash of a file, or for a folder the hash of the sorted hashes of its files.

    So it does not depend on the names of part files, which change in a copy. Folder names such as `brand=x` are values
    and belong to the hash.
    """
    hashes = []
    for file in source.files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        hashes.append(f"{digest} {file.parent.relative_to(source.path)}" if source.hive else digest)
    if len(hashes) == 1 and not source.hive:
        return hashes[0]
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()

"""The commands `ecommerce-assets versions | lineage | verify | prune`, which read only the lake."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import click
from deltalake.exceptions import DeltaError

from ecommerce_assets.settings import DATA_DIR_HELP, SettingsError, load_settings
from ecommerce_assets.storage.delta import DamagedLogError
from ecommerce_assets.storage.inspection import ancestors, lineage_tree, version_states
from ecommerce_assets.storage.inspection import verify as verify_files
from ecommerce_assets.storage.lake import Lake, OldLayoutError, VersionNotFoundError
from ecommerce_assets.storage.retention import GRACE, KEEP
from ecommerce_assets.storage.retention import prune as prune_versions

SHOWN_VERSIONS = 20
_TRACED = {"run_id", "code_version", "committed_at", "parameters", "inputs", "column_lineage", "stats"}

Answer = tuple[Any, list[str], int]
"""The answer as JSON, the same as lines of text, and the exit code."""


def command(run: Callable[..., Answer]) -> click.Command:
    """Returns a command with the name of a function of a lake; its expected errors end with exit code 2."""

    @click.command(run.__name__)
    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
    @click.option("--data-dir", metavar="DIR", help=DATA_DIR_HELP)
    @wraps(run)
    def answer(data_dir: str | None, as_json: bool, **options: Any) -> None:
        try:
            lake = Lake(data_dir or load_settings().data_dir, lambda message: click.echo(message, err=True))
            for asset in filter(None, [options.get("asset"), *options.get("assets", ())]):
                lake.asset(asset)  # raises for an invalid name
                if asset not in lake.assets():
                    raise VersionNotFoundError(lake.not_stored_message(asset))
            document, lines, code = run(lake, **options)
        except (VersionNotFoundError, OldLayoutError, DamagedLogError, SettingsError) as error:
            click.echo(error, err=True)
            sys.exit(2)
        except (OSError, ValueError, ImportError, DeltaError) as error:
            click.echo(f"The data dir cannot be used ({str(error).splitlines()[0]}).", err=True)
            sys.exit(2)
        click.echo(json.dumps(document, indent=2, default=_as_text) if as_json else "\n".join(lines))
        sys.exit(code)

    return answer


@command
@click.argument("asset")
@click.option("--all", "every", is_flag=True, help=f"Show all versions, not only the newest {SHOWN_VERSIONS}.")
def versions(lake: Lake, asset: str, every: bool) -> Answer:
    """List the versions of an asset, newest first.

    Example: ecommerce-assets versions recommendations
    """
    states = version_states(lake, asset, None if every else SHOWN_VERSIONS)
    rows: list[tuple[str, ...]] = [("version", "published (UTC)", "rows", "bytes", "run", "state")]
    for s in states:
        numbers = ["" if n is None else f"{n:,}" for n in (s.rows, s.bytes)]
        rows.append((s.version, f"{s.committed_at:%Y-%m-%d %H:%M:%S}", *numbers, s.run_id[:8], s.state))
    older = 0 if every else max(len(lake.published(asset)) - SHOWN_VERSIONS, 0)
    more = [f"{older:,} older versions: add --all"] if older else []
    return [asdict(state) for state in states], [*aligned(rows, numbers=(2, 3)), *more], 0


@command
@click.argument("asset")
@click.option("--version", help="Version, by default the newest.")
def lineage(lake: Lake, asset: str, version: str | None) -> Answer:
    """Show the inputs of a version, and their inputs, down to the raw files.

    Example: ecommerce-assets lineage recommendations --version 0
    """
    start = lake.version(asset, version) if version else lake.latest(asset)
    traced_versions = ancestors(lake, start)
    traced = {
        (one.asset, one.version): {
            "asset": one.asset,
            "version": one.version,
            "recorded": one.metadata is not None,
            **(one.metadata.model_dump(mode="json", include=_TRACED) if one.metadata else {}),
        }
        for one in traced_versions.values()
    }
    document = {"asset": start.asset, "version": start.version, "versions": list(traced.values())}
    return document, list(lineage_tree(traced_versions)), 0


@command
@click.argument("assets", nargs=-1)
def verify(lake: Lake, assets: tuple[str, ...]) -> Answer:
    """Verify every file of every kept version, by default of all assets: presence, size, checksums and rows.

    The exit code is 1 if a file is damaged.

    Example: ecommerce-assets verify
    """
    result = verify_files(lake, assets)
    lines = [f"DAMAGED: {' '.join(filter(None, (p.asset, p.version)))}: {p.message}" for p in result.problems]
    outcome = f"{len(lines):,} problems" if lines else "all intact"
    lines.append(f"{result.versions:,} versions, {result.files:,} files, {result.bytes:,} bytes checked: {outcome}")
    return {**asdict(result), "damaged": bool(result.problems)}, lines, 1 if result.problems else 0


@command
@click.argument("asset", required=False)
@click.option("--keep", type=int, metavar="N", help=f"Superseded versions to keep (setting, else {KEEP}).")
@click.option(
    "--grace-hours",
    type=click.IntRange(0, 1_000_000),
    default=GRACE // timedelta(hours=1),
    metavar="H",
    show_default=True,
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
def prune(lake: Lake, asset: str | None, keep: int | None, grace_hours: int, dry_run: bool) -> Answer:
    """Remove superseded versions that nothing needs, and leftovers of killed writers.

    Example: ecommerce-assets prune --dry-run
    """
    keep = load_settings().keep_versions if keep is None else keep
    removed = prune_versions(lake, asset, keep, timedelta(hours=grace_hours), dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {removal}" for removal in removed]
    document = {"dry_run": dry_run, "removed": [asdict(removal) for removal in removed]}
    return document, [*lines, f"{verb} {len(removed):,} versions"], 0


def aligned(rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> list[str]:
    """Returns rows as lines with aligned columns; `numbers` are the indices of right-aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            v.rjust(w) if i in numbers else v.ljust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _as_text(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)

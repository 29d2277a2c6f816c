"""The command line of storage: versions, lineage, verify, prune. Arguments in, text or JSON out; no logic."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from ecommerce_assets.settings import SettingsError, load_settings
from ecommerce_assets.storage import ancestry
from ecommerce_assets.storage.inventory import version_states
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import Manifest
from ecommerce_assets.storage.retention import GRACE, KEEP, prune
from ecommerce_assets.storage.verification import verify


def main(argv: Sequence[str] | None = None) -> int:
    """0: all well; 1: `verify` found damage; 2: the question cannot be answered."""
    arguments = _parser().parse_args(argv)
    try:
        data_dir = arguments.data_dir or load_settings().data_dir
        lake = Lake(data_dir, warn=lambda message: print(message, file=sys.stderr))
        return int(arguments.command(lake, arguments))
    except (VersionNotFoundError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="machine-readable output")
    common.add_argument("--data-dir", metavar="DIR", help="by default ECOMMERCE_DATA_DIR, else the shipped sample's")
    parser = argparse.ArgumentParser(
        prog="python -m ecommerce_assets.storage", description="Look at, trace, check and tidy what is stored."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Lake, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=text, description=text)
        made.set_defaults(command=run)
        return made

    command("versions", _versions, "List the versions of an asset, newest first.").add_argument("asset")
    lineage = command("lineage", _lineage, "Show what a version was made from, down to the raw files.")
    lineage.add_argument("asset")
    lineage.add_argument("--version", help="by default the newest")
    command("verify", _verify, "Check every file of every version against its manifest.").add_argument(
        "assets", nargs="*", metavar="asset", help="by default all"
    )
    pruning = command("prune", _prune, "Remove superseded versions that nothing needs, and what dead writers left.")
    pruning.add_argument("asset", nargs="?", help="by default all")
    pruning.add_argument("--keep", type=int, metavar="N", help=f"superseded versions to keep (setting, else {KEEP})")
    pruning.add_argument(
        "--grace-hours", type=float, default=GRACE / timedelta(hours=1), metavar="H", help="%(default)s"
    )
    pruning.add_argument("--dry-run", action="store_true", help="only say what would go")
    return parser


def _versions(lake: Lake, arguments: argparse.Namespace) -> int:
    states = version_states(lake, arguments.asset)
    if not states:
        raise VersionNotFoundError(lake.nothing_stored_of(arguments.asset))
    if arguments.json:
        return _print_json([asdict(state) for state in states])
    table: list[tuple[str, ...]] = [("version", "committed (UTC)", "rows", "bytes", "run", "state")]
    for s in states:
        committed = f"{s.committed_at:%Y-%m-%d %H:%M:%S}" if s.committed_at else ""
        numbers = ["" if n is None else f"{n:,}" for n in (s.rows, s.bytes)]
        table.append((s.version, committed, *numbers, (s.run_id or "")[:8], s.state))
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        cells = [v.rjust(w) if i in (2, 3) else v.ljust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())
    return 0


def _lineage(lake: Lake, arguments: argparse.Namespace) -> int:
    start = lake.version(arguments.asset, arguments.version) if arguments.version else _newest(lake, arguments.asset)
    if not arguments.json:
        for line in ancestry.tree(lake, start):
            print(line)
        return 0
    found = ancestry.ancestors(lake, start).values()
    return _print_json(
        {
            "asset": start.asset,
            "version": start.version,
            "versions": [
                {
                    "asset": a.asset,
                    "version": a.version,
                    "there": a.manifest is not None,
                    **(a.manifest.model_dump(mode="json", include=_TRACED) if a.manifest else {}),
                }
                for a in found
            ],
        }
    )


_TRACED = {"run_id", "code_version", "committed_at", "parameters", "rows", "fingerprint", "inputs", "column_lineage"}


def _verify(lake: Lake, arguments: argparse.Namespace) -> int:
    for asset in arguments.assets:
        if asset not in lake.assets():
            raise VersionNotFoundError(lake.nothing_stored_of(asset))
    found = verify(lake, arguments.assets)
    if arguments.json:
        _print_json({**asdict(found), "damaged": found.damaged})
    else:
        for finding in found.findings:
            where = f"{finding.asset} {finding.version}".rstrip()
            print(f"{'DAMAGED' if finding.damage else 'note'}: {where}: {finding.message}")
        damaged = len({(f.asset, f.version) for f in found.findings if f.damage})
        verdict = f"{damaged:,} damaged" if damaged else "all as written"
        print(f"{found.versions:,} versions, {found.files:,} files, {found.bytes:,} bytes checked: {verdict}")
    return 1 if found.damaged else 0


def _prune(lake: Lake, arguments: argparse.Namespace) -> int:
    if arguments.asset and arguments.asset not in lake.assets():
        raise VersionNotFoundError(lake.nothing_stored_of(arguments.asset))
    keep = load_settings().keep_versions if arguments.keep is None else arguments.keep
    grace = timedelta(hours=arguments.grace_hours)
    removed = prune(lake, arguments.asset, keep, grace, dry_run=arguments.dry_run)
    if arguments.json:
        return _print_json({"dry_run": arguments.dry_run, "removed": [asdict(removal) for removal in removed]})
    verb = "would remove" if arguments.dry_run else "removed"
    for removal in removed:
        print(f"{verb} {removal.asset} {removal.version}: {removal.reason}")
    print(f"{verb} {len(removed):,} versions")
    return 0


def _newest(lake: Lake, asset: str) -> Manifest:
    if asset not in lake.assets():
        raise VersionNotFoundError(lake.nothing_stored_of(asset))
    return lake.latest(asset)


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=2, default=_as_text))
    return 0


def _as_text(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


if __name__ == "__main__":
    sys.exit(main())

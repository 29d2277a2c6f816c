"""The command line of lookup: a user's or a product's id in, text or JSON out; no logic."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import duckdb

from ecommerce_assets.lookup import printing
from ecommerce_assets.lookup.advice import nothing_stored
from ecommerce_assets.lookup.products import example_products, find_product
from ecommerce_assets.lookup.tables import UnknownIdError
from ecommerce_assets.lookup.users import example_users, find_user
from ecommerce_assets.settings import SettingsError, load_settings
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError


def main(argv: Sequence[str] | None = None) -> int:
    """0: found; 2: the id is unknown, or nothing is stored."""
    arguments = _parser().parse_args(argv)
    try:
        lake = Lake(
            arguments.data_dir or load_settings().data_dir, warn=lambda message: print(message, file=sys.stderr)
        )
        if not lake.assets():
            raise VersionNotFoundError(nothing_stored(lake))
        find, show = arguments.one if arguments.id is not None else arguments.some
        found = find(lake, arguments.id) if arguments.id is not None else find(lake)
    except (UnknownIdError, VersionNotFoundError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 2
    except duckdb.Error as error:
        why = str(error).splitlines()[0]
        print(f"A file cannot be read ({why}): python -m ecommerce_assets.storage verify finds it.", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(found if isinstance(found, list) else asdict(found), indent=2, default=_as_text))
    else:
        show(found, sys.stdout)
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="machine-readable output")
    common.add_argument("--data-dir", metavar="DIR", help="by default ECOMMERCE_DATA_DIR, else the shipped sample's")
    parser = argparse.ArgumentParser(
        prog="python -m ecommerce_assets.lookup", description="Look one user or one product up, without Spark."
    )
    commands = parser.add_subparsers(required=True, metavar="user|product")
    for name, text, one, some in (
        (
            "user",
            "Segment, recommendations and the newest events of a user.",
            (find_user, printing.print_user),
            (example_users, printing.print_example_users),
        ),
        (
            "product",
            "What a product is, how it sells, and its neighbours.",
            (find_product, printing.print_product),
            (example_products, printing.print_example_products),
        ),
    ):
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.add_argument("id", nargs="?", metavar="ID", help="without one: the five with the most purchases")
        command.set_defaults(one=one, some=some)
    return parser


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


if __name__ == "__main__":
    sys.exit(main())

"""The commands `ecommerce-assets lookup user` and `ecommerce-assets lookup product`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
import duckdb

from ecommerce_assets.env_file import RUN
from ecommerce_assets.lookup import printing
from ecommerce_assets.lookup.products import example_products, find_product
from ecommerce_assets.lookup.tables import UnknownIdError
from ecommerce_assets.lookup.users import example_users, find_user
from ecommerce_assets.settings import DATA_DIR_HELP, DEFAULT_DATA_DIR, SettingsError, load_settings
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError


@click.group()
def lookup() -> None:
    """Look up one user or one product, without Spark.

    The exit code is 2 if the id is unknown, or if nothing is stored.

    Example: ecommerce-assets lookup user 522702121
    """


def _command(function: Callable[..., None]) -> None:
    """Adds a command with an optional id to the group."""
    function = click.argument("id", required=False)(function)
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
    function = click.option("--data-dir", metavar="DIR", help=DATA_DIR_HELP)(function)
    lookup.command()(function)


@_command
def user(id: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show segment, recommendations and newest events of user ID.

    Without ID: show the five users with the most purchases.

    Example: ecommerce-assets lookup user 522702121
    """
    if id is None:
        _print(data_dir, as_json, example_users, printing.print_example_users)
    else:
        _print(data_dir, as_json, lambda lake: find_user(lake, id), printing.print_user)


@_command
def product(id: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show features, similar products and product pairs of product ID.

    Without ID: show the five products with the most purchases.

    Example: ecommerce-assets lookup product 10002895
    """
    if id is None:
        _print(data_dir, as_json, example_products, printing.print_example_products)
    else:
        _print(data_dir, as_json, lambda lake: find_product(lake, id), printing.print_product)


def _print(data_dir: str | None, as_json: bool, find: Callable[[Lake], Any], print_text: Callable[..., None]) -> None:
    """Prints the result of `find` as JSON or with `print_text`. An error is one line, and the exit code is 2."""
    try:
        lake = Lake(data_dir or load_settings().data_dir, warn=lambda message: print(message, file=sys.stderr))
        if not lake.assets():
            raise VersionNotFoundError(_nothing_stored(lake))
        answer = find(lake)
    except (UnknownIdError, VersionNotFoundError, SettingsError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        print(f"A file cannot be read ({reason}). Find it with: {RUN}ecommerce-assets verify", file=sys.stderr)
        sys.exit(2)
    if as_json:
        print(json.dumps(answer if isinstance(answer, list) else asdict(answer), indent=2, default=_json_value))
    else:
        print_text(answer, sys.stdout)


def _nothing_stored(lake: Lake) -> str:
    """Returns the error for an empty data dir, with the command that fills it."""
    folder = lake.data.uri
    if not any(name.startswith("event_date=") for name in (lake.data / "raw" / "events").folders()):
        return (
            f"{folder} has no events and no tables. Choose another folder with --data-dir, or land events with: "
            f"{RUN}ecommerce-assets land FILE"
        )
    variable = "" if folder == DEFAULT_DATA_DIR else f"ECOMMERCE_DATA_DIR={shlex.quote(folder)} "
    return f"{folder} has events, but no tables. Make them with: {variable}{RUN}ecommerce-assets run"


def _json_value(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)

"""The commands `ecommerce-assets lookup user | product`: an id in, text or JSON out; no logic."""

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


def _command(run: Callable[..., None]) -> None:
    """Add a function of an optional id to the group."""
    run = click.argument("id", required=False)(run)
    run = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")(run)
    run = click.option("--data-dir", metavar="DIR", help=DATA_DIR_HELP)(run)
    lookup.command()(run)


@_command
def user(id: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show the segment, recommendations and newest events of user ID; without ID, the five with the most purchases.

    Example: ecommerce-assets lookup user 522702121
    """
    _answer(id, data_dir, as_json, (find_user, printing.print_user), (example_users, printing.print_example_users))


@_command
def product(id: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show what product ID is, how it sells, and its neighbours; without ID, the five with the most purchases.

    Example: ecommerce-assets lookup product 10002895
    """
    one, some = (find_product, printing.print_product), (example_products, printing.print_example_products)
    _answer(id, data_dir, as_json, one, some)


def _answer(id: str | None, data_dir: str | None, as_json: bool, one: Any, some: Any) -> None:
    """Print what is found of the id, or some examples; each is a function that finds and one that prints."""
    try:
        lake = Lake(data_dir or load_settings().data_dir, warn=lambda message: print(message, file=sys.stderr))
        if not lake.assets():
            raise VersionNotFoundError(_nothing_stored(lake))
        find, show = one if id is not None else some
        found = find(lake, id) if id is not None else find(lake)
    except (UnknownIdError, VersionNotFoundError, SettingsError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except duckdb.Error as error:
        why = str(error).splitlines()[0]
        print(f"A file cannot be read ({why}): {RUN}ecommerce-assets verify finds it.", file=sys.stderr)
        sys.exit(2)
    if as_json:
        print(json.dumps(found if isinstance(found, list) else asdict(found), indent=2, default=_as_text))
    else:
        show(found, sys.stdout)


def _nothing_stored(lake: Lake) -> str:
    """Returns the sentence with the command that makes everything, or the one that lands events if there are none."""
    where = lake.data.uri
    if not any(name.startswith("event_date=") for name in (lake.data / "raw" / "events").folders()):
        return (
            f"Nothing is stored in {where}, and no events have been landed there: start with "
            f"{RUN}ecommerce-assets land FILE, or name another folder with --data-dir."
        )
    variable = "" if where == DEFAULT_DATA_DIR else f"ECOMMERCE_DATA_DIR={shlex.quote(where)} "
    return f"Nothing is stored in {where} yet; this makes it: {variable}{RUN}ecommerce-assets run"


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)

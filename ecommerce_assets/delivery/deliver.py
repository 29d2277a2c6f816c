"""Delivers the newest published tables to a database or a folder. `deliver` is the entry point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecommerce_assets.delivery.databases import Postgres, Sqlite
from ecommerce_assets.delivery.files import OPTIONS, Files
from ecommerce_assets.delivery.rows import KEYS, Delivery, DeliveryError, PublishedRows
from ecommerce_assets.secret import has_password
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Version

SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
DEFAULT_FILE = "delivered.sqlite"
"""Default target: a file in the data dir."""

FORMS = "shop.sqlite, sqlite:///PATH, postgresql://HOST/DATABASE, parquet:FOLDER, csv:FOLDER or jsonl:FOLDER"

Target = Sqlite | Postgres | Files


def deliver(lake: Lake, target: str) -> Delivery:
    """Delivers the newest published version of each table of `KEYS` to a target, all at once.

    Parameters
    ----------
    lake
        The lake with the published tables; unpublished tables are left out.
    target
        Address of the target, see `target_of`.

    Returns
    -------
    Delivery
        What the target has now; `changed` is False if it had these versions already.

    Raises
    ------
    DeliveryError
        If the target cannot be used, or if another delivery has delivered newer versions meanwhile; it does not change.
    VersionNotFoundError
        If no table is published.

    Examples
    --------
    >>> deliver(Lake("/srv/shop"), "/srv/www/shop.sqlite").tables["recommendations"].rows  # doctest: +SKIP
    39300
    """
    resolved = target_of(target)
    newest = [version for asset in KEYS if (version := lake.latest_or_none(asset))]
    return deliver_versions(lake, resolved, newest or [lake.latest(next(iter(KEYS)))], may_replace_newer=False)


def deliver_versions(
    lake: Lake, target: Target, versions: Sequence[Version], *, may_replace_newer: bool = True
) -> Delivery:
    """Delivers the given versions to a target; see `deliver`.

    Without `may_replace_newer`, it is an error if the target has a newer version: another delivery was faster.
    """
    return target.deliver([PublishedRows(lake, version, may_replace_newer) for version in versions])


def target_of(address: str) -> Target:
    """Returns the target with this address.

    Parameters
    ----------
    address
        A file that ends in `.sqlite`, `.sqlite3` or `.db`; `sqlite:///PATH`; `postgresql://HOST/DATABASE`; or
        `parquet:FOLDER`, `csv:FOLDER` or `jsonl:FOLDER`, where FOLDER is a path or a URL that fsspec knows.

    Raises
    ------
    DeliveryError
        If the address has another form or contains a password, or if the folder of the file does not exist.
    """
    if has_password(address):
        raise DeliveryError(
            "The address of the target contains a password: remove it, and set it in PGPASSWORD or ~/.pgpass "
            "(PostgreSQL) or in the environment variables of the storage."
        )
    kind, _, rest = address.partition(":")
    if kind in ("postgresql", "postgres") and rest.startswith("//"):
        return Postgres(address)
    if kind in OPTIONS and rest:
        try:
            return Files(address, kind, Folder(rest))
        except (ImportError, ValueError) as error:
            raise DeliveryError(f"Cannot deliver to {address}: {error}") from error
    path = rest.removeprefix("///") if kind == "sqlite" and rest.startswith("///") else address
    if path not in ("", ":memory:") and (path != address or (path.endswith(SQLITE_SUFFIXES) and "://" not in path)):
        return Sqlite(address, str(_in_existing_folder(address, Path(path).expanduser())))
    raise DeliveryError(f"{address!r} is not the address of a target: use {FORMS}.")


def default_target(lake: Lake) -> str:
    """Returns the path of an SQLite file in the data dir. Raises DeliveryError if the data dir is not local."""
    if not lake.data.is_local:
        raise DeliveryError(f"An SQLite file cannot be in {lake.data.uri}: name a target, {FORMS}.")
    return f"{lake.data.path}/{DEFAULT_FILE}"


def _in_existing_folder(address: str, path: Path) -> Path:
    if not path.parent.is_dir():
        raise DeliveryError(f"Cannot deliver to {address}: the folder {path.parent} does not exist; create it first.")
    return path

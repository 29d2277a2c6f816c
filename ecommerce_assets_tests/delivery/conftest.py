"""Targets of each kind, and a small shop to deliver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ecommerce_assets.delivery.databases import Database
from ecommerce_assets.delivery.deliver import target_of
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.delivery.postgres import postgres_server
from ecommerce_assets_tests.lookup.shop import small_shop

_SCHEMAS = count()


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture
def postgres(postgres_database: str) -> str:
    """The address of an empty schema."""
    schema = f"shop{next(_SCHEMAS)}"
    query(postgres_database, f"CREATE SCHEMA {schema}")
    return f"{postgres_database}&options=-csearch_path%3D{schema}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "shop.sqlite")
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three users with two recommendations each, and one similar product."""
    lake = Lake(str(tmp_path / "data"))
    small_shop(lake)
    return lake


@contextmanager
def cursor_of(address: str) -> Iterator[Any]:
    """Yields a cursor of a new connection to a database."""
    target = target_of(address)
    assert isinstance(target, Database)
    with closing(target._connect()) as connection, closing(connection.cursor()) as cursor:
        yield cursor


def query(address: str, statement: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a SELECT; an empty list for other statements."""
    with cursor_of(address) as cursor:
        if statement.startswith("SELECT"):
            return list(cursor.execute(statement).fetchall())
        cursor.executescript(statement)
        return []


def before_first_call(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, action: Callable[[], object]) -> None:
    """Runs an action before the first call of a method."""
    method = getattr(owner, name)

    def first_call(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, name, method)
        action()
        return method(*arguments)

    monkeypatch.setattr(owner, name, first_call)


def tables_of(address: str) -> set[str]:
    """Returns the names of the tables of a database, without views."""
    with cursor_of(address) as cursor:
        relations: dict[str, str] = target_of(address)._relations(cursor)  # type: ignore[union-attr]
    return {name for name, kind in relations.items() if kind == "table"}

"""Deliveries killed with SIGKILL at any moment: each read is of one set of versions, and the next delivery succeeds."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.delivery.deliver import deliver
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.delivery.child import PROCESSES, deliver_in_a_loop
from ecommerce_assets_tests.delivery.conftest import cursor_of, tables_of
from ecommerce_assets_tests.stored import put_table

SETS = 5
"""Number of sets of versions that are delivered in turn; more than a target keeps, so that each is written anew."""

Read = dict[str, tuple[str, int]]
"""The versions of the rows of each table, and their number."""

QUERIES = {
    name: f"SELECT min(version), max(version), count(*) FROM {name}" for name in ("recommendations", "segmented_users")
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Version v of both tables has 400 (v + 1) users, of whom each has ten recommendations."""
    lake = Lake(str(tmp_path / "data"))
    for version in range(SETS):
        users = range(400 * (version + 1))
        ranks = [(user, rank) for user in users for rank in range(1, 11)]
        put_table(
            lake, "recommendations", pa.table(dict(zip(("user_id", "rank"), zip(*ranks, strict=True), strict=True)))
        )
        put_table(lake, "segmented_users", pa.table({"user_id": users}))
    return lake


def check(seen: Read) -> None:
    """Asserts that both tables are complete, and of one set."""
    version = int(seen["recommendations"][0])
    rows = 400 * (version + 1)
    assert seen == {"recommendations": (str(version), 10 * rows), "segmented_users": (str(version), rows)}


def of_rows(lowest: str, highest: str, rows: int) -> tuple[str, int]:
    assert lowest == highest
    return lowest, rows


def read_sqlite(address: str) -> Read:
    with closing(sqlite3.connect(address, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        return {name: of_rows(*connection.execute(query).fetchone()) for name, query in QUERIES.items()}


def read_postgres(address: str) -> Read:
    with cursor_of(address) as cursor:
        cursor.executescript("BEGIN")
        return {name: of_rows(*cursor.execute(query).fetchone()) for name, query in QUERIES.items()}  # type: ignore[misc]


def read_parquet(address: str) -> Read:
    folder = Path(address.removeprefix("parquet:"))
    while True:
        tables: dict[str, Any] = json.loads((folder / "current.json").read_bytes())["tables"]
        try:
            columns = {name: pq.read_table(folder / entry["file"])["version"] for name, entry in tables.items()}
        except FileNotFoundError:
            continue  # two deliveries have ended since
        return {name: (str(*column.unique().to_pylist()), len(column)) for name, column in columns.items()}


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.trial)])
@pytest.mark.parametrize(
    ("kind", "read"), [("sqlite", read_sqlite), ("postgres", read_postgres), ("parquet", read_parquet)]
)
def test_every_read_is_of_one_delivery_and_the_next_delivery_succeeds(
    kind: str, read: Callable[[str], Read], kills: int, lake: Lake, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = {"sqlite": f"{tmp_path}/shop.db", "parquet": f"parquet:{tmp_path}/out"}.get(kind)
    address = address or request.getfixturevalue("postgres")
    deliver(lake, address)
    random_numbers, reads, versions = random.Random(kills), 0, set()
    for _ in range(kills):
        receiver, sender = PROCESSES.Pipe(duplex=False)
        child = PROCESSES.Process(
            target=deliver_in_a_loop, args=(lake.data.path, address, dict(os.environ), sender), daemon=True
        )
        child.start()
        assert receiver.poll(60)
        deadline = time.monotonic() + random_numbers.uniform(0, 0.4)
        while time.monotonic() < deadline:
            seen = read(address)
            check(seen)
            reads += 1
            versions.add(seen["recommendations"][0])
        assert child.is_alive()
        child.kill()
        child.join()
        check(read(address))
    print(f"{kind}: {kills} kills, {reads} reads of the versions {sorted(versions)}")
    assert len(versions) > 1
    deliver(lake, address)
    seen = read(address)
    check(seen)
    assert seen["recommendations"][0] == str(SETS - 1)
    assert len(leftovers(address)) <= (4 if kind != "parquet" else 2 + kills)


def leftovers(address: str) -> list[str]:
    """Returns the tables or folders with rows: of the newest delivery, of the previous one, and any others."""
    if address.startswith("parquet:"):
        return Folder(address.removeprefix("parquet:")).folders()
    return [name for name in tables_of(address) if "_2" in name]

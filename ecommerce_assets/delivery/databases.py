"""Delivers to a database by ADBC: one transaction loads new tables and points the views at them. See `Database`.

Readers use the views, which have the names of the assets. Each version has its own table, which never changes, so a
query reads one version to its end.
"""

from __future__ import annotations

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import parse_qs, urlsplit

from adbc_driver_manager import Error

from ecommerce_assets.delivery.rows import KEYS, DeliveredTable, Delivery, DeliveryError, PublishedRows
from ecommerce_assets.storage.lake import VERSION_FOLDER

if TYPE_CHECKING:  # it imports pandas
    from adbc_driver_manager.dbapi import Connection, Cursor

DELIVERED_VERSIONS = "delivered_versions"
"""Table of the target with the version of each view."""

LOCK_SECONDS = 120
"""Time in seconds that a delivery waits for another delivery, or for transactions that read the views."""

DROP_LOCK_SECONDS = 2.0
"""Time in seconds that a delivery waits for queries on old tables; then the next delivery drops them."""

_VERSION_TABLE = re.compile(rf"({'|'.join(KEYS)})_{VERSION_FOLDER.pattern}")
_CONNECT_SECONDS = 10

# PostgreSQL's error codes
_LOCK_NOT_AVAILABLE = "55P03"
_INVALID_TABLE_DEFINITION = "42P16"

log = logging.getLogger(__name__)


class _DeliveredVersion(NamedTuple):
    """A row of `delivered_versions`."""

    version: str
    rows: int
    delivered_at: datetime
    table: str


class Database(ABC):
    """A database that views and tables are delivered to.

    Parameters
    ----------
    address
        Address of the target, as the user wrote it, without a password.
    """

    kind: ClassVar[str]

    def __init__(self, address: str) -> None:
        self.address = address
        self.path = address

    def deliver(self, tables: Sequence[PublishedRows]) -> Delivery:
        """Delivers exactly these versions, in one transaction, and returns what the target has now.

        Writes nothing if the target has them already.

        Raises
        ------
        DeliveryError
            If that fails; readers then see the previous delivery.
        """
        try:
            # Closing a connection rolls back what was not committed.
            with ExitStack() as stack:
                connection = stack.enter_context(closing(self._connect()))
                cursor = stack.enter_context(closing(connection.cursor()))
                return self._deliver(cursor, tables)
        except Error as error:
            raise DeliveryError.at(self.address, _first_line(error)) from error

    def _deliver(self, cursor: Cursor, tables: Sequence[PublishedRows]) -> Delivery:
        self._begin(cursor)
        relations = self._relations(cursor)
        delivered = self._delivered(cursor, relations)
        self._check_foreign(relations, delivered, tables)
        for table in tables:
            if table.asset in delivered:
                table.check_not_older(delivered[table.asset].table, self.address)
        loaded = [self._load(cursor, table, relations) for table in tables]
        changed = [
            table
            for table, is_new in zip(tables, loaded, strict=True)
            if is_new or table.asset not in relations or delivered[table.asset].table != table.name
        ]
        if not changed:
            _run(cursor, "COMMIT")
            return self._delivery(delivered, tables, changed=False)
        previous = {row.table for row in delivered.values()}
        now = datetime.now(UTC)
        delivered |= {t.asset: _DeliveredVersion(t.version.version, t.rows, now, t.name) for t in changed}
        for table in changed:
            self._record(cursor, table.asset, delivered[table.asset])
        self._replace_views(cursor, changed)
        _run(cursor, "COMMIT")
        # Queries may still read the previous version, so its tables stay until the next delivery.
        old = (
            {n for n in relations if _VERSION_TABLE.fullmatch(n)} - previous - {row.table for row in delivered.values()}
        )
        try:
            self._drop(cursor, old)
        except Error as error:  # the delivery itself is committed
            log.warning("%s: the next delivery removes the old tables (%s).", self.address, _first_line(error))
        return self._delivery(delivered, tables, changed=True)

    def _load(self, cursor: Cursor, table: PublishedRows, relations: dict[str, str]) -> bool:
        """Loads the rows into the table of their version; returns False if it has them already."""
        if table.name in relations:
            if self._count(cursor, table) == table.rows:
                return False
            _run(cursor, f"DELETE FROM {table.name}")
        with table.reader() as reader:
            cursor.adbc_ingest(table.name, reader, mode="create_append")
        key = ", ".join(KEYS[table.asset])
        _run(cursor, f"CREATE INDEX IF NOT EXISTS {table.name}_key ON {table.name} ({key})")
        table.check_count(self._count(cursor, table), self.address)
        return True

    def _count(self, cursor: Cursor, table: PublishedRows) -> int:
        return int(_select(cursor, f"SELECT count(*) FROM {table.name}")[0][0])

    def _delivered(self, cursor: Cursor, relations: dict[str, str]) -> dict[str, _DeliveredVersion]:
        if DELIVERED_VERSIONS not in relations:
            _run(
                cursor,
                f"CREATE TABLE {DELIVERED_VERSIONS} (asset text PRIMARY KEY, version text NOT NULL, "
                '"rows" bigint NOT NULL, delivered_at timestamptz NOT NULL, table_name text NOT NULL)',
            )
            return {}
        rows = _select(
            cursor,
            f'SELECT asset, version, "rows", CAST(delivered_at AS text), table_name FROM {DELIVERED_VERSIONS}',
        )
        return {
            asset: _DeliveredVersion(version, n, datetime.fromisoformat(at), table)
            for asset, version, n, at, table in rows
        }

    def _record(self, cursor: Cursor, asset: str, row: _DeliveredVersion) -> None:
        at = row.delivered_at.isoformat()
        _run(cursor, f"DELETE FROM {DELIVERED_VERSIONS} WHERE asset = '{asset}'")
        values = f"'{asset}', '{row.version}', {row.rows}, '{at}', '{row.table}'"
        _run(cursor, f"INSERT INTO {DELIVERED_VERSIONS} VALUES ({values})")

    def _check_foreign(
        self, relations: dict[str, str], delivered: dict[str, _DeliveredVersion], tables: Sequence[PublishedRows]
    ) -> None:
        for asset in (table.asset for table in tables):
            if asset in relations and (asset not in delivered or relations[asset] != "view"):
                raise DeliveryError(
                    f"{self.address} has a {relations[asset]} {asset} that no delivery made: rename it, or deliver to "
                    f"another {self.namespace}."
                )

    def _delivery(
        self, delivered: dict[str, _DeliveredVersion], tables: Sequence[PublishedRows], *, changed: bool
    ) -> Delivery:
        rows = {table.asset: delivered[table.asset] for table in tables}
        return Delivery(
            self.address,
            {asset: DeliveredTable(row.version, row.rows) for asset, row in rows.items()},
            changed,
            max(row.delivered_at for row in rows.values()),
        )

    def _drop(self, cursor: Cursor, names: set[str]) -> None:
        for name in sorted(names):
            _run(cursor, f"DROP TABLE IF EXISTS {name}")

    namespace: ClassVar[str]
    """Name of the unit in which tables have unique names."""

    @abstractmethod
    def _connect(self) -> Connection:
        """Returns a connection that commits only on the statement COMMIT."""

    @abstractmethod
    def _begin(self, cursor: Cursor) -> None:
        """Begins the transaction; waits until no other delivery runs."""

    @abstractmethod
    def _relations(self, cursor: Cursor) -> dict[str, str]:
        """Returns `table` or `view` by the name of each table and view."""

    @abstractmethod
    def _replace_views(self, cursor: Cursor, tables: Sequence[PublishedRows]) -> None:
        """Points the views at the tables."""


class Sqlite(Database):
    """An SQLite file, in write-ahead mode: deliveries and readers never wait for each other."""

    kind = "sqlite"
    namespace = "file"

    def __init__(self, address: str, path: str) -> None:
        super().__init__(address)
        self.path = path

    def _connect(self) -> Connection:
        from adbc_driver_sqlite import dbapi

        return dbapi.connect(self.path, autocommit=True)

    def _begin(self, cursor: Cursor) -> None:
        _run(cursor, f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000}")
        # busy_timeout does not apply to the change of the journal mode.
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                _run(cursor, "PRAGMA journal_mode = WAL")
                break
            except Error as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        _run(cursor, "BEGIN IMMEDIATE")

    def _relations(self, cursor: Cursor) -> dict[str, str]:
        # Names in SQLite are case-insensitive.
        return dict(_select(cursor, "SELECT lower(name), type FROM sqlite_master WHERE type IN ('table', 'view')"))

    def _replace_views(self, cursor: Cursor, tables: Sequence[PublishedRows]) -> None:
        for table in tables:
            _run(cursor, f"DROP VIEW IF EXISTS {table.asset}")
            _run(cursor, f"CREATE VIEW {table.asset} AS SELECT * FROM {table.name}")

    def _drop(self, cursor: Cursor, names: set[str]) -> None:
        super()._drop(cursor, names)
        # Without a checkpoint, the log of a large transaction stays on disk while readers are connected.
        _run(cursor, "PRAGMA busy_timeout = 1000")
        _run(cursor, "PRAGMA wal_checkpoint(TRUNCATE)")


class Postgres(Database):
    """A PostgreSQL database: the first schema of the search path."""

    kind = "postgres"
    namespace = "schema"

    def _connect(self) -> Connection:
        from adbc_driver_postgresql import dbapi

        uri, query = self.address, urlsplit(self.address).query
        if "connect_timeout" not in parse_qs(query):
            uri += f"{'&' if query else '?'}connect_timeout={_CONNECT_SECONDS}"
        connection: Connection = dbapi.connect(uri, autocommit=True)
        return connection

    def _begin(self, cursor: Cursor) -> None:
        _run(cursor, "BEGIN")
        _run(cursor, "SET LOCAL statement_timeout = 0")  # loading can take longer than the limit for queries
        _run(cursor, f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        try:
            _select(cursor, "SELECT pg_advisory_xact_lock(hashtext('ecommerce_assets ' || current_schema()))::text")
        except Error as error:
            if error.sqlstate != _LOCK_NOT_AVAILABLE:
                raise
            raise DeliveryError(
                f"Another delivery to {self.address} has been running for more than {LOCK_SECONDS} s: deliver again "
                "when it has ended."
            ) from error

    def _relations(self, cursor: Cursor) -> dict[str, str]:
        kind = "CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END"
        return dict(
            _select(
                cursor,
                f"SELECT relname::text, {kind} FROM pg_class "
                "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')",
            )
        )

    def _replace_views(self, cursor: Cursor, tables: Sequence[PublishedRows]) -> None:
        # New queries wait behind a lock that waits for a long query. So each attempt is shorter than PostgreSQL's
        # deadlock_timeout (1 s), after which a reader could be cancelled.
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            _run(cursor, "SAVEPOINT unlocked")
            _run(cursor, "SET LOCAL lock_timeout = '100ms'")
            try:
                for table in tables:
                    self._replace_view(cursor, table)
                return
            except Error as error:
                if error.sqlstate != _LOCK_NOT_AVAILABLE:
                    raise
                if time.monotonic() > deadline:
                    views = " or ".join(table.asset for table in tables)
                    raise DeliveryError(
                        f"A transaction has been reading {views} in {self.address} for {LOCK_SECONDS} s: end it (see "
                        "pg_stat_activity), and deliver again."
                    ) from error
                _run(cursor, "ROLLBACK TO SAVEPOINT unlocked")
                time.sleep(1)

    def _replace_view(self, cursor: Cursor, table: PublishedRows) -> None:
        create = f"VIEW {table.asset} AS SELECT * FROM {table.name}"
        _run(cursor, "SAVEPOINT same_columns")
        try:
            _run(cursor, f"CREATE OR REPLACE {create}")  # keeps the rights granted on the view
        except Error as error:
            if error.sqlstate != _INVALID_TABLE_DEFINITION:
                raise
            _run(cursor, "ROLLBACK TO SAVEPOINT same_columns")
            _run(cursor, f"DROP VIEW {table.asset}")
            _run(cursor, f"CREATE {create}")

    def _drop(self, cursor: Cursor, names: set[str]) -> None:
        _run(cursor, f"SET lock_timeout = '{DROP_LOCK_SECONDS * 1000:.0f}ms'")
        super()._drop(cursor, names)


def _run(cursor: Cursor, statement: str) -> None:
    cursor.executescript(statement)


def _select(cursor: Cursor, query: str) -> list[tuple[Any, ...]]:
    return cursor.execute(query).fetchall()


def _first_line(error: Exception) -> str:
    """Returns the first line of a driver's error, without its prefix."""
    return re.sub(r"^.*(ERROR: +|query: |\[libpq\] )", "", str(error).splitlines()[0]).rstrip(". ")

"""Delivery to SQLite and to a PostgreSQL server."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.delivery import databases
from ecommerce_assets.delivery.deliver import deliver, target_of
from ecommerce_assets.delivery.rows import KEYS, DeliveryError
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.delivery.child import PROCESSES, deliver_once
from ecommerce_assets_tests.delivery.conftest import before_first_call, cursor_of, query, tables_of
from ecommerce_assets_tests.lookup.shop import listed, publish, small_shop, user

LIST_OF_7 = "SELECT product_id, score, source, version FROM recommendations WHERE user_id = 7 ORDER BY rank"


def test_tables_have_the_published_rows_with_their_version(database: str, lake: Lake) -> None:
    delivery = deliver(lake, database)
    assert delivery.changed
    assert delivery.tables == {"recommendations": ("0", 6), "similar_products": ("0", 1), "segmented_users": ("0", 3)}
    assert query(database, LIST_OF_7) == [(100, 1.0, "als", "0"), (200, 0.5, "als", "0")]
    assert query(database, "SELECT similar_product_id, brand, version FROM similar_products") == [(200, None, "0")]
    assert query(database, 'SELECT asset, version, "rows" FROM delivered_versions ORDER BY asset') == [
        ("recommendations", "0", 6),
        ("segmented_users", "0", 3),
        ("similar_products", "0", 1),
    ]


def test_index_columns_are_the_keys_of_the_tables() -> None:
    specs = {asset: CATALOG[asset].table for asset in KEYS if asset in CATALOG}
    assert {asset: list(KEYS[asset]) for asset in specs} == {asset: spec.keys for asset, spec in specs.items() if spec}


def test_values_are_exact(database: str, lake: Lake, tmp_path: Path) -> None:
    publish(lake, "segmented_users", [user(2**62 + 1, "2019-10-01", "2019-10-03")])
    publish(lake, "similar_products", [])
    assert deliver(lake, database).tables["similar_products"] == ("1", 0)
    assert query(database, "SELECT count(*) FROM similar_products") == [(0,)]
    [(user_id, time)] = query(database, "SELECT user_id, first_event_time FROM segmented_users")
    time = time if isinstance(time, datetime) else datetime.fromisoformat(time).replace(tzinfo=UTC)
    assert (user_id, time) == (2**62 + 1, datetime(2019, 10, 1, 10, tzinfo=UTC))
    with_text_ids = Lake(str(tmp_path / "text"))
    publish(with_text_ids, "recommendations", listed("o'hara", "a;b"), "string")
    deliver(with_text_ids, database)  # columns have other types than before
    assert query(database, "SELECT user_id, product_id FROM recommendations") == [("o'hara", "a;b")]


def test_the_same_versions_are_delivered_again_only_if_the_target_or_the_data_dir_changed(
    database: str, lake: Lake, tmp_path: Path
) -> None:
    first = deliver(lake, database)
    again = deliver(lake, database)
    assert not again.changed
    assert (again.tables, again.delivered_at) == (first.tables, first.delivered_at)
    query(database, f"DELETE FROM recommendations_{lake.latest('recommendations').folder} WHERE user_id = 7")
    assert deliver(lake, database).changed
    query(database, "DROP VIEW recommendations")
    assert deliver(lake, database).changed
    assert query(database, "SELECT count(*) FROM recommendations") == [(6,)]
    other = Lake(str(tmp_path / "other"))
    small_shop(other)  # versions with the same numbers
    assert deliver(other, database).changed


def test_a_new_version_replaces_only_its_table_and_removes_the_last_but_one(database: str, lake: Lake) -> None:
    deliver(lake, database)
    unchanged = {name for name in tables_of(database) if not name.startswith("recommendations_")}
    names = [f"recommendations_{lake.latest('recommendations').folder}"]
    for product in (300, 400):
        names.append(f"recommendations_{publish(lake, 'recommendations', listed(7, product)).folder}")
        assert deliver(lake, database).changed
        assert query(database, LIST_OF_7) == [(product, 1.0, "als", str(len(names) - 1))]
    assert tables_of(database) == unchanged | set(names[1:])


def test_readers_keep_the_old_rows_if_the_target_has_another_number(database: str, lake: Lake) -> None:
    deliver(lake, database)
    publish(lake, "recommendations", listed(7, 300), stats=Stats(rows=2))
    with pytest.raises(DeliveryError, match="has 1 rows of recommendations 1, which has 2"):
        deliver(lake, database)
    assert len(query(database, LIST_OF_7)) == 2
    assert query(database, "SELECT version FROM delivered_versions WHERE asset = 'recommendations'") == [("0",)]


@pytest.mark.parametrize("kind", ["TABLE recommendations (a int)", "VIEW recommendations AS SELECT 1 AS a"])
def test_a_table_or_view_that_no_delivery_made_is_an_error_and_stays(database: str, lake: Lake, kind: str) -> None:
    query(database, f"CREATE {kind}")
    with pytest.raises(DeliveryError, match=r"recommendations that no delivery made"):
        deliver(lake, database)
    assert "delivered_versions" not in tables_of(database)
    query(database, "SELECT a FROM recommendations")


def test_lookups_use_the_index(tmp_path: Path, lake: Lake) -> None:
    address = str(tmp_path / "shop.db")
    deliver(lake, address)
    with closing(sqlite3.connect(address)) as connection:
        [plan] = connection.execute(f"EXPLAIN QUERY PLAN {LIST_OF_7}").fetchall()
    assert "USING INDEX" in plan[-1]


def test_privileges_on_views_stay(postgres: str, lake: Lake) -> None:
    deliver(lake, postgres)
    query(postgres, "GRANT SELECT ON recommendations TO public")
    publish(lake, "recommendations", listed(7, 300))
    deliver(lake, postgres)
    assert query(postgres, "SELECT has_table_privilege('pg_monitor', 'recommendations', 'select')") == [(True,)]


def test_a_delivery_waits_for_a_reading_transaction_without_blocking_others(
    postgres: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = time.sleep
    monkeypatch.setattr(time, "sleep", lambda _: pause(0.2))
    deliver(lake, postgres)
    publish(lake, "recommendations", listed(7, 300))
    with cursor_of(postgres) as reader:
        reader.executescript("BEGIN")
        assert len(reader.execute(LIST_OF_7).fetchall()) == 2
        delivery = threading.Thread(target=deliver, args=(lake, postgres))
        delivery.start()
        waits = []
        deadline = time.monotonic() + 0.6  # more than one attempt of the delivery
        while time.monotonic() < deadline:
            started = time.monotonic()
            assert len(query(postgres, LIST_OF_7)) == 2  # another reader
            waits.append(time.monotonic() - started)
        assert delivery.is_alive()
        assert max(waits) < 0.9  # less than PostgreSQL's deadlock_timeout
        assert len(reader.execute("SELECT user_id FROM segmented_users").fetchall()) == 3
        reader.executescript("COMMIT")
        delivery.join(30)
    assert query(postgres, LIST_OF_7) == [(300, 1.0, "als", "1")]


def test_a_transaction_that_reads_for_too_long_is_an_error(
    postgres: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(lake, postgres)
    publish(lake, "recommendations", listed(7, 300))
    monkeypatch.setattr(databases, "LOCK_SECONDS", 0)
    with cursor_of(postgres) as reader:
        reader.executescript("BEGIN")
        reader.execute(LIST_OF_7).fetchall()
        with pytest.raises(DeliveryError, match="has been reading recommendations in"):
            deliver(lake, postgres)
    assert len(tables_of(postgres)) == 4


def test_an_old_table_that_is_being_read_is_dropped_by_the_next_delivery(
    postgres: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "DROP_LOCK_SECONDS", 0.1)
    deliver(lake, postgres)
    oldest = f"recommendations_{lake.latest('recommendations').folder}"
    publish(lake, "recommendations", listed(7, 300))
    deliver(lake, postgres)
    with cursor_of(postgres) as reader:
        reader.executescript("BEGIN")
        reader.execute(f"SELECT * FROM {oldest}").fetchall()
        publish(lake, "recommendations", listed(7, 400))
        assert deliver(lake, postgres).tables["recommendations"] == ("2", 1)
        assert oldest in tables_of(postgres)
    publish(lake, "recommendations", listed(7, 500))
    deliver(lake, postgres)
    assert oldest not in tables_of(postgres)


def test_of_two_deliveries_one_waits(database: str, lake: Lake) -> None:
    """In processes, because threads of one process share SQLite's locks."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    arguments = (lake.data.path, database, dict(os.environ), sender)
    both = [PROCESSES.Process(target=deliver_once, args=arguments, daemon=True) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert sorted(receiver.recv() for _ in both) == [False, True]


def test_a_delivery_that_waited_does_not_replace_a_newer_one(
    database: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake() -> None:
        publish(lake, "recommendations", listed(7, 300))
        deliver(lake, database)

    before_first_call(monkeypatch, type(target_of(database)), "_begin", overtake)
    with pytest.raises(DeliveryError, match="has recommendations 1 of another delivery, which is newer than 0:"):
        deliver(lake, database)
    assert query(database, LIST_OF_7) == [(300, 1.0, "als", "1")]
    lake.folder(lake.latest("recommendations")).remove()
    deliver(lake, database)  # the version before a removed one
    assert len(query(database, LIST_OF_7)) == 2


def test_a_server_that_is_down_is_a_one_line_error(lake: Lake) -> None:
    with pytest.raises(DeliveryError, match="Connection refused") as error:
        deliver(lake, "postgresql://shop@127.0.0.1:1/shop")
    assert "\n" not in error.value.message


def test_a_full_disk_keeps_the_previous_delivery(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "shop.db")
    deliver(lake, address)
    publish(lake, "recommendations", [row for who in range(9_000) for row in listed(who, 1, 2)])
    begin = databases.Sqlite._begin

    def begin_with_few_pages(self: databases.Sqlite, cursor: databases.Cursor) -> None:
        cursor.execute("PRAGMA max_page_count = 40").fetchall()
        begin(self, cursor)

    monkeypatch.setattr(databases.Sqlite, "_begin", begin_with_few_pages)
    with pytest.raises(DeliveryError, match="full"):
        deliver(lake, address)
    assert len(query(address, LIST_OF_7)) == 2

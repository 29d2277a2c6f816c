"""Delivery to SQLite and to a real PostgreSQL server."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.delivery import databases
from ecommerce_assets.delivery.databases import Database
from ecommerce_assets.delivery.deliver import deliver, target_of
from ecommerce_assets.delivery.rows import KEYS, DeliveryError
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.delivery.conftest import query
from ecommerce_assets_tests.lookup.shop import listed, publish, small_shop, user

LIST_OF_7 = "SELECT product_id, score, source, version FROM recommendations WHERE user_id = 7 ORDER BY rank"


def tables(address: str) -> set[str]:
    target = target_of(address)
    assert isinstance(target, Database)
    with closing(target._connect()) as connection, closing(connection.cursor()) as cursor:
        return {name for name, kind in target._relations(cursor).items() if kind == "table"}


def test_rows_are_those_of_the_published_tables_with_their_version(database: str, lake: Lake) -> None:
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


def test_keys_are_those_of_the_tables() -> None:
    specs = {asset: CATALOG[asset].table for asset in KEYS if asset in CATALOG}
    assert {asset: list(KEYS[asset]) for asset in specs} == {asset: spec.keys for asset, spec in specs.items() if spec}


def test_times_are_utc_and_whole_numbers_exact(database: str, lake: Lake) -> None:
    publish(lake, "segmented_users", [user(2**62 + 1, "2019-10-01", "2019-10-03")])
    deliver(lake, database)
    [(user_id, first)] = query(database, "SELECT user_id, first_event_time FROM segmented_users")
    moment = first if isinstance(first, datetime) else datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert (user_id, moment) == (2**62 + 1, datetime(2019, 10, 1, 10, tzinfo=UTC))


def test_ids_may_be_text(database: str, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "text"))
    publish(lake, "recommendations", listed("o'hara", "a;b"), "string")
    deliver(lake, database)
    assert query(database, "SELECT user_id, product_id FROM recommendations") == [("o'hara", "a;b")]


def test_the_same_versions_are_not_delivered_again(database: str, lake: Lake) -> None:
    first = deliver(lake, database)
    again = deliver(lake, database)
    assert not again.changed
    assert (again.tables, again.delivered_at) == (first.tables, first.delivered_at)


def test_a_new_version_replaces_its_table_only_and_the_one_before_the_last_is_removed(
    database: str, lake: Lake
) -> None:
    deliver(lake, database)
    unchanged = {name for name in tables(database) if not name.startswith("recommendations_")}
    names = [f"recommendations_{lake.latest('recommendations').folder}"]
    for product in (300, 400):
        names.append(f"recommendations_{publish(lake, 'recommendations', listed(7, product)).folder}")
        assert deliver(lake, database).changed
        assert query(database, LIST_OF_7) == [(product, 1.0, "als", str(len(names) - 1))]
    assert tables(database) == unchanged | set(names[1:])


def test_a_table_without_rows_is_delivered(database: str, lake: Lake) -> None:
    publish(lake, "similar_products", [])
    assert deliver(lake, database).tables["similar_products"] == ("1", 0)
    assert query(database, "SELECT count(*) FROM similar_products") == [(0,)]


def test_rows_that_were_lost_in_the_target_are_delivered_again(database: str, lake: Lake) -> None:
    deliver(lake, database)
    table = f"recommendations_{lake.latest('recommendations').folder}"
    query(database, f"DELETE FROM {table} WHERE user_id = 7")
    assert deliver(lake, database).changed
    assert query(database, "SELECT count(*) FROM recommendations") == [(6,)]


def test_a_view_that_was_dropped_is_made_again(database: str, lake: Lake) -> None:
    deliver(lake, database)
    query(database, "DROP VIEW recommendations")
    assert deliver(lake, database).changed
    assert len(query(database, LIST_OF_7)) == 2


def test_readers_keep_the_old_rows_where_the_target_counts_others(database: str, lake: Lake) -> None:
    deliver(lake, database)
    publish(lake, "recommendations", listed(7, 300), stats=Stats(rows=2))
    with pytest.raises(DeliveryError, match="has 1 rows of recommendations 1, which has 2"):
        deliver(lake, database)
    assert len(query(database, LIST_OF_7)) == 2
    assert query(database, "SELECT version FROM delivered_versions WHERE asset = 'recommendations'") == [("0",)]


@pytest.mark.parametrize("kind", ["TABLE recommendations (a int)", "VIEW recommendations AS SELECT 1 AS a"])
def test_what_the_shop_has_under_the_same_name_is_refused_and_stays(database: str, lake: Lake, kind: str) -> None:
    query(database, f"CREATE {kind}")
    with pytest.raises(DeliveryError, match=r"recommendations that no delivery made"):
        deliver(lake, database)
    assert "delivered_versions" not in tables(database)
    query(database, "SELECT a FROM recommendations")


def test_other_columns_than_before(database: str, lake: Lake, tmp_path: Path) -> None:
    deliver(lake, database)
    other = Lake(str(tmp_path / "text"))
    publish(other, "recommendations", listed("7", "a"), "string")
    deliver(other, database)
    assert query(database, "SELECT user_id, product_id FROM recommendations") == [("7", "a")]


def test_rows_of_another_data_dir_are_other_rows_though_the_version_has_the_same_number(
    database: str, lake: Lake, tmp_path: Path
) -> None:
    deliver(lake, database)
    other = Lake(str(tmp_path / "other"))
    small_shop(other)
    assert deliver(other, database).changed


def test_lookups_use_the_index(tmp_path: Path, lake: Lake) -> None:
    address = str(tmp_path / "shop.db")
    deliver(lake, address)
    with closing(sqlite3.connect(address)) as connection:
        [plan] = connection.execute(f"EXPLAIN QUERY PLAN {LIST_OF_7}").fetchall()
    assert "USING INDEX" in plan[-1]


def test_rights_on_the_views_stay(postgres: str, lake: Lake) -> None:
    deliver(lake, postgres)
    query(postgres, "GRANT SELECT ON recommendations TO public")
    publish(lake, "recommendations", listed(7, 300))
    deliver(lake, postgres)
    assert query(postgres, "SELECT has_table_privilege('pg_monitor', 'recommendations', 'select')") == [(True,)]


def test_a_delivery_waits_for_a_transaction_that_reads_and_holds_up_nobody(postgres: str, lake: Lake) -> None:
    deliver(lake, postgres)
    publish(lake, "recommendations", listed(7, 300))
    target = target_of(postgres)
    assert isinstance(target, Database)
    with closing(target._connect()) as connection, closing(connection.cursor()) as reader:
        reader.executescript("BEGIN")
        assert len(reader.execute(LIST_OF_7).fetchall()) == 2
        delivery = threading.Thread(target=deliver, args=(lake, postgres))
        delivery.start()
        waits = []
        for _ in range(20):
            began = time.monotonic()
            assert len(query(postgres, LIST_OF_7)) == 2, "another reader"
            waits.append(time.monotonic() - began)
            time.sleep(0.1)
        assert delivery.is_alive()
        assert max(waits) < 0.9, "less than PostgreSQL's deadlock_timeout"
        assert len(reader.execute("SELECT user_id FROM segmented_users").fetchall()) == 3
        reader.executescript("COMMIT")
        delivery.join(30)
    assert query(postgres, LIST_OF_7) == [(300, 1.0, "als", "1")]


def test_a_transaction_that_reads_for_too_long_is_named(
    postgres: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(lake, postgres)
    publish(lake, "recommendations", listed(7, 300))
    monkeypatch.setattr(databases, "LOCK_SECONDS", 1)
    target = target_of(postgres)
    assert isinstance(target, Database)
    with closing(target._connect()) as connection, closing(connection.cursor()) as reader:
        reader.executescript("BEGIN")
        reader.execute(LIST_OF_7).fetchall()
        with pytest.raises(DeliveryError, match="has been reading recommendations in"):
            deliver(lake, postgres)
    assert len(tables(postgres)) == 4, "nothing is left over"


def test_an_old_table_that_is_being_read_is_left_to_the_next_delivery(postgres: str, lake: Lake) -> None:
    deliver(lake, postgres)
    oldest = f"recommendations_{lake.latest('recommendations').folder}"
    publish(lake, "recommendations", listed(7, 300))
    deliver(lake, postgres)
    target = target_of(postgres)
    assert isinstance(target, Database)
    with closing(target._connect()) as connection, closing(connection.cursor()) as reader:
        reader.executescript("BEGIN")
        reader.execute(f"SELECT * FROM {oldest}").fetchall()
        publish(lake, "recommendations", listed(7, 400))
        assert deliver(lake, postgres).tables["recommendations"] == ("2", 1)
        assert oldest in tables(postgres)
    publish(lake, "recommendations", listed(7, 500))
    deliver(lake, postgres)
    assert oldest not in tables(postgres)


def test_of_two_deliveries_one_waits(database: str, lake: Lake) -> None:
    """Processes: within one, SQLite's locks are shared."""
    code = (
        "import sys; from ecommerce_assets.delivery.deliver import deliver; "
        "from ecommerce_assets.storage.lake import Lake; print(deliver(Lake(sys.argv[1]), sys.argv[2]).changed)"
    )
    command = [sys.executable, "-c", code, lake.data.path, database]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate()[0] for process in both) == ["False\n", "True\n"]


def test_a_server_that_is_down_is_one_sentence(lake: Lake) -> None:
    with pytest.raises(DeliveryError, match="Connection refused") as error:
        deliver(lake, "postgresql://shop@127.0.0.1:1/shop")
    assert "\n" not in error.value.message


def test_a_full_disk_leaves_what_was_delivered(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "shop.db")
    deliver(lake, address)
    publish(lake, "recommendations", [row for who in range(9_000) for row in listed(who, 1, 2)])
    begin = databases.Sqlite._begin

    def with_little_room(self: databases.Sqlite, cursor: databases.Cursor) -> None:
        cursor.execute("PRAGMA max_page_count = 40").fetchall()
        begin(self, cursor)

    monkeypatch.setattr(databases.Sqlite, "_begin", with_little_room)
    with pytest.raises(DeliveryError, match="full"):
        deliver(lake, address)
    assert len(query(address, LIST_OF_7)) == 2

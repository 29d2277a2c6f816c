"""One user: what the tables hold of it, in versions that belong together, and no day more than is needed."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ecommerce_assets.lookup.printing import print_user
from ecommerce_assets.lookup.tables import Tables, UnknownIdError
from ecommerce_assets.lookup.users import EVENTS_SHOWN, example_users, find_user
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.version import CheckResult, Version
from ecommerce_assets_tests.buckets import s3_bucket
from ecommerce_assets_tests.helpers import version_of
from ecommerce_assets_tests.lookup.shop import listed, made_from, publish, seen, small_shop, user

Ran = tuple[Path, dg.ExecuteInProcessResult]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """The small shop, in a folder whose name looks like a pattern."""
    lake = Lake(str(tmp_path / "my shop [1]'s"), warn=lambda _: None)
    small_shop(lake)
    return lake


def table(ran: Ran, asset: str) -> pl.DataFrame:
    return pl.read_delta(f"{ran[0]}/lake/{asset}")


def test_list_and_history_are_what_the_tables_hold(ran: Ran) -> None:
    lake = Lake(str(ran[0]))
    lists, events, products = (table(ran, a) for a in ("recommendations", "cleaned_events", "product_features"))
    counts = events["user_id"].value_counts().sort("count", "user_id")["user_id"].to_list()
    for user_id in {*counts[:3], *counts[:: len(counts) // 10], *counts[-3:]}:
        found = find_user(lake, str(user_id))
        own = (
            lists.filter(pl.col("user_id") == user_id).sort("rank").join(products, "product_id", maintain_order="left")
        )
        assert [tuple(row.values()) for row in found.recommendations] == own.select(
            *("rank", "product_id", pl.lit(None).alias("name"), "category", "brand", "avg_price", "score", "source"),
            *("because_product_id", pl.lit(None).alias("because_name")),
        ).rows()
        mine = events.filter(pl.col("user_id") == user_id).sort("event_time", descending=True)
        assert [row["event_time"] for row in found.history] == mine["event_time"].head(EVENTS_SHOWN).to_list()
        shown = {(e["event_time"], e["product_id"], e["event_type"], e["price"]) for e in found.history}
        assert shown <= set(mine.select("event_time", "product_id", "event_type", "price").rows())
        assert found.features is not None
        assert found.features["description"].split(" users")[0]
        assert (found.days, found.newest_day) == (("2019-10-01", "2019-10-08"), "2019-10-08")
        assert found.versions["recommendations"]["version"] == lake.latest("recommendations").version


def test_the_customer_group_is_shown(lake: Lake) -> None:
    scores = {"r_score": 2, "f_score": 3, "m_score": 5}
    features = lake.latest("user_features")
    row = {"user_id": 7, "customer_group": "At Risk", **scores}
    publish(lake, "customer_groups", [row], inputs=made_from(features))
    found = find_user(lake, "7")
    assert found.features is not None
    assert {name: found.features[name] for name in scores} == scores
    out = io.StringIO()
    print_user(found, out)
    assert "At Risk (r 2, f 3, m 5)" in out.getvalue()


def test_only_days_on_which_the_user_may_have_come_are_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    rows_of = Tables.rows_of

    def watched(self: Tables, version: Version, paths: Sequence[str], sql: str, *values: Any) -> Any:
        read.extend(path.split("=")[1][:10] for path in paths if version.asset == "cleaned_events")
        return rows_of(self, version, paths, sql, *values)

    monkeypatch.setattr(Tables, "rows_of", watched)
    for text, days in (("8", ["2019-10-02"]), ("7", ["2019-10-03", "2019-10-02", "2019-10-01"])):
        read.clear()
        find_user(lake, text)
        assert read == days
    # A day that was cleaned again since the features were made may hold anything.
    publish(lake, "cleaned_events", {"2019-10-01": [seen("2019-10-01 09:00", 8, 100)]})
    assert [e["event_time"].day for e in find_user(lake, "8").history] == [2, 1]
    read.clear()
    with pytest.raises(UnknownIdError):
        find_user(lake, "99")
    assert read == ["2019-10-01"]


def test_newest_first_and_no_more_than_are_shown(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    days = {f"2019-10-{d:02d}": [seen(f"2019-10-{d:02d} {h:02d}:00", 1, h) for h in range(3)] for d in range(1, 31)}
    publish(lake, "cleaned_events", {**days, "2019-10-29": []})
    times = [f"{e['event_time']:%d %H}" for e in find_user(lake, "1").history]
    assert times == ["30 02", "30 01", "30 00", "28 02", "28 01", "28 00", "27 02", "27 01", "27 00", "26 02"]


def test_what_an_event_lacks_is_the_products(lake: Lake) -> None:
    newest, oldest = find_user(lake, "7").history
    assert (newest["category"], newest["brand"], newest["event_time"]) == (
        "tools",
        None,
        datetime(2019, 10, 3, 10, tzinfo=UTC),
    )
    assert (oldest["category"], oldest["brand"], oldest["event_type"]) == ("toys.bricks", "own", "cart")


def test_only_a_list_of_popular_products_alone_has_a_note(lake: Lake) -> None:
    assert [len(find_user(lake, user_id).notes) for user_id in ("7", "8", "9")] == [0, 0, 1]


def test_versions_belong_together(lake: Lake) -> None:
    publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-03", "New")])
    found = find_user(lake, "7")
    assert found.features is not None
    assert (found.features["segment"], found.versions["segmented_users"]["version"]) == ("Active_Buyers", "0")
    lake.folder(lake.published("segmented_users")[1]).remove()
    found = find_user(lake, "7")
    assert found.features is not None
    assert found.features["segment"] == "New"
    [note] = found.notes
    assert note.startswith("segmented_users 1 is not the version that recommendations was made from")


def test_who_came_since_has_a_history(lake: Lake) -> None:
    publish(lake, "cleaned_events", {"2019-10-04": [seen("2019-10-04 10:00", 11, 100)]})
    found = find_user(lake, "11")
    assert (found.features, found.recommendations, len(found.history)) == (None, [], 1)
    [note] = found.notes
    assert note.startswith("Came after the recommendations were made")


@pytest.mark.parametrize("text", ["7", "007", "a b", "[red]", "-5", "x'; drop"])
def test_ids_that_are_texts(tmp_path: Path, text: str) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "cleaned_events", {"2019-10-01": [seen("2019-10-01 10:00", text, "7")]}, "string")
    publish(lake, "recommendations", listed(text, "7", "07"), "string")
    found = find_user(lake, f" {text} ")
    assert (found.user_id, len(found.history)) == (text, 1)
    assert [row["product_id"] for row in found.recommendations] == ["7", "07"]
    with pytest.raises(UnknownIdError, match="There is no user 00007 "):
        find_user(lake, "00007")


@pytest.mark.parametrize("text", ["seven", "7.0", "1_0", "", "9" * 19, "\N{ARABIC-INDIC DIGIT SEVEN}"])
def test_ids_that_must_be_numbers(lake: Lake, text: str) -> None:
    with pytest.raises(UnknownIdError, match="in this shop it is a whole number of at most 64 bits"):
        find_user(lake, text)


def test_an_unknown_id_is_one_sentence(lake: Lake) -> None:
    assert find_user(lake, "0007").user_id == 7
    with pytest.raises(
        UnknownIdError,
        match=r"^There is no user 99 among the 3 users of segmented_users 0 nor in cleaned_events from 2019-10-01 to "
        r"2019-10-03: `uv run ecommerce-assets lookup user` without an id lists some\.$",
    ):
        find_user(lake, "99")


def test_a_missing_table_is_named_and_the_others_are_shown(lake: Lake) -> None:
    for asset in ("recommendations", "product_features"):
        shutil.rmtree(f"{lake.root.uri}/{asset}")
    failed = CheckResult(name="full_lists", blocking=True, passed=False, message="2 users without a list")
    lake.block(version_of("recommendations", Lake.new_folder(), checks=(failed,)))
    found = find_user(lake, "7")
    assert (found.recommendations, len(found.history)) == ([], 2)
    assert found.features is not None
    assert "recommendations in" in found.notes[0]
    assert "blocked by full_lists (2 users without a list)" in found.notes[0]
    assert "There is no version of product_features" in found.notes[1]
    for asset in ("recommendations", "segmented_users", "cleaned_events"):
        shutil.rmtree(f"{lake.root.uri}/{asset}")
    with pytest.raises(UnknownIdError, match="There is no version of cleaned_events"):
        find_user(lake, "7")


def test_features_computed_elsewhere_may_lack_anything(lake: Lake) -> None:
    bare = {"user_id": 8, "segment_id": 0, "segment": "Casual_Browsers", "frequency": 1.0}
    users = publish(lake, "segmented_users", [bare])
    publish(lake, "recommendations", listed(8, 100), inputs=made_from(users))
    found = find_user(lake, "8")
    assert found.features is not None
    assert (found.features["views"], found.features["description"], len(found.history)) == (None, None, 1)


def test_a_lake_in_a_bucket() -> None:
    with s3_bucket() as bucket:
        lake = Lake(f"{bucket}/data")
        small_shop(lake)
        found = find_user(lake, "7")
    assert (len(found.recommendations), len(found.history)) == (2, 2)


def test_examples_are_those_with_the_most_purchases(ran: Ran) -> None:
    users = table(ran, "segmented_users").sort("purchases", "monetary", descending=True)
    found = example_users(Lake(str(ran[0])))
    assert [row["purchases"] for row in found] == users["purchases"].head(5).to_list()
    assert {row["user_id"] for row in found} <= set(users["user_id"])


def test_examples_need_a_table(tmp_path: Path) -> None:
    with pytest.raises(VersionNotFoundError, match="There is no version of segmented_users"):
        example_users(Lake(str(tmp_path)))

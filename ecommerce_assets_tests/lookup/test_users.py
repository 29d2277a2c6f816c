"""`find_user`: values of the tables, in versions that belong together, from as few days as possible."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ecommerce_assets.lookup.printing import print_user
from ecommerce_assets.lookup.tables import Tables, UnknownIdError
from ecommerce_assets.lookup.users import example_users, find_user
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.version import CheckResult, Version
from ecommerce_assets_tests.buckets import s3_bucket
from ecommerce_assets_tests.helpers import version_of
from ecommerce_assets_tests.lookup.shop import listed, made_from, publish, seen, small_shop, user


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """The small shop, in a folder whose name has special characters."""
    lake = Lake(str(tmp_path / "my shop [1]'s"), warn=lambda _: None)
    small_shop(lake)
    return lake


def test_the_customer_group_is_shown(lake: Lake) -> None:
    scores = {"r_score": 2, "f_score": 3, "m_score": 5}
    features = lake.latest("user_features")
    row = {"user_id": 7, "customer_group": "At Risk", **scores}
    publish(lake, "customer_groups", [row], inputs=made_from(features))
    answer = find_user(lake, "7")
    assert answer.features is not None
    assert {name: answer.features[name] for name in scores} == scores
    out = io.StringIO()
    print_user(answer, out)
    assert "At Risk (r 2, f 3, m 5)" in out.getvalue()


def test_only_days_with_possible_events_of_the_user_are_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    rows_of_files = Tables.rows_of_files

    def watched(self: Tables, version: Version, paths: Sequence[str], sql: str, *values: Any) -> Any:
        read.extend(path.split("=")[1][:10] for path in paths if version.asset == "cleaned_events")
        return rows_of_files(self, version, paths, sql, *values)

    monkeypatch.setattr(Tables, "rows_of_files", watched)
    for text, days in (("8", ["2019-10-02"]), ("7", ["2019-10-03", "2019-10-02", "2019-10-01"])):
        read.clear()
        find_user(lake, text)
        assert read == days
    # A day that changed after the features were made may have events of any user.
    publish(lake, "cleaned_events", {"2019-10-01": [seen("2019-10-01 09:00", 8, 100)]})
    assert [e["event_time"].day for e in find_user(lake, "8").history] == [2, 1]
    read.clear()
    with pytest.raises(UnknownIdError):
        find_user(lake, "99")
    assert read == ["2019-10-01"]


def test_history_has_the_newest_events(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    days = {f"2019-10-{d:02d}": [seen(f"2019-10-{d:02d} {h:02d}:00", 1, h) for h in range(3)] for d in range(1, 31)}
    publish(lake, "cleaned_events", {**days, "2019-10-29": []})
    times = [f"{e['event_time']:%d %H}" for e in find_user(lake, "1").history]
    assert times == ["30 02", "30 01", "30 00", "28 02", "28 01", "28 00", "27 02", "27 01", "27 00", "26 02"]


def test_a_missing_category_or_brand_of_an_event_is_that_of_the_product(lake: Lake) -> None:
    newest, oldest = find_user(lake, "7").history
    assert (newest["category"], newest["brand"], newest["event_time"]) == (
        "tools",
        None,
        datetime(2019, 10, 3, 10, tzinfo=UTC),
    )
    assert (oldest["category"], oldest["brand"], oldest["event_type"]) == ("toys.bricks", "own", "cart")


def test_a_list_with_only_popular_products_has_a_note(lake: Lake) -> None:
    assert [len(find_user(lake, user_id).notes) for user_id in ("7", "8", "9")] == [0, 0, 1]


def test_the_segment_is_of_the_version_that_the_recommendations_were_made_from(lake: Lake) -> None:
    publish(lake, "segmented_users", [user(7, "2019-10-01", "2019-10-03", "New")])
    answer = find_user(lake, "7")
    assert answer.features is not None
    assert (answer.features["segment"], answer.versions["segmented_users"]["version"]) == ("Active_Buyers", "0")
    lake.folder(lake.published("segmented_users")[1]).remove()
    answer = find_user(lake, "7")
    assert answer.features is not None
    assert answer.features["segment"] == "New"
    [note] = answer.notes
    assert note.startswith(
        "recommendations was made from a version of segmented_users that was removed: the newest, 1,"
    )


def test_a_user_who_is_newer_than_the_recommendations_has_a_history(lake: Lake) -> None:
    publish(lake, "cleaned_events", {"2019-10-04": [seen("2019-10-04 10:00", 11, 100)]})
    answer = find_user(lake, "11")
    assert (answer.features, answer.recommendations, len(answer.history)) == (None, [], 1)
    [note] = answer.notes
    assert note.startswith("The user has no events before the recommendations were made (20")


def test_ids_may_be_texts(tmp_path: Path) -> None:
    lake, ids = Lake(str(tmp_path)), ["7", "007", "a b", "[red]", "-5", "x'; drop"]
    events = [seen("2019-10-01 10:00", user_id, "7") for user_id in ids]
    publish(lake, "cleaned_events", {"2019-10-01": events}, "string")
    publish(lake, "recommendations", [row for user_id in ids for row in listed(user_id, "7", "07")], "string")
    for user_id in ids:
        answer = find_user(lake, f" {user_id} ")
        assert (answer.user_id, len(answer.history)) == (user_id, 1)
        assert [row["product_id"] for row in answer.recommendations] == ["7", "07"]
    with pytest.raises(UnknownIdError, match="Unknown user 00007:"):
        find_user(lake, "00007")


def test_ids_of_other_shops_must_be_whole_numbers(lake: Lake) -> None:
    assert find_user(lake, "0007").user_id == 7
    for text in ("seven", "7.0", "1_0", "", "9" * 19, "\N{ARABIC-INDIC DIGIT SEVEN}"):
        with pytest.raises(UnknownIdError, match="user_id must be a whole number of at most 64 bits, got '"):
            find_user(lake, text)


def test_an_unknown_id_is_an_error_with_the_searched_tables(lake: Lake) -> None:
    with pytest.raises(UnknownIdError) as raised:
        find_user(lake, "99")
    assert str(raised.value) == (
        "Unknown user 99: not in the 3 users of segmented_users 0 or cleaned_events from 2019-10-01 to 2019-10-03. "
        "List known users with: uv run ecommerce-assets lookup user"
    )


def test_a_missing_table_has_a_note_and_the_others_are_shown(lake: Lake) -> None:
    for asset in ("recommendations", "product_features"):
        shutil.rmtree(f"{lake.root.uri}/{asset}")
    failed = CheckResult(name="full_lists", blocking=True, passed=False, message="2 users without a list")
    lake.block(version_of("recommendations", Lake.new_folder(), checks=(failed,)))
    answer = find_user(lake, "7")
    assert (answer.recommendations, len(answer.history)) == ([], 2)
    assert answer.features is not None
    assert "recommendations in" in answer.notes[0]
    assert "blocked by full_lists (2 users without a list)" in answer.notes[0]
    assert "There is no version of product_features" in answer.notes[1]
    for asset in ("recommendations", "segmented_users", "cleaned_events"):
        shutil.rmtree(f"{lake.root.uri}/{asset}")
    with pytest.raises(UnknownIdError, match="There is no version of cleaned_events"):
        find_user(lake, "7")


def test_features_computed_elsewhere_may_lack_columns(lake: Lake) -> None:
    bare = {"user_id": 8, "segment_id": 0, "segment": "Casual_Browsers", "frequency": 1.0}
    users = publish(lake, "segmented_users", [bare])
    publish(lake, "recommendations", listed(8, 100), inputs=made_from(users))
    answer = find_user(lake, "8")
    assert answer.features is not None
    assert (answer.features["views"], answer.features["description"], len(answer.history)) == (None, None, 1)


@pytest.mark.trial
def test_a_lake_may_be_in_a_bucket() -> None:
    with s3_bucket() as bucket:
        lake = Lake(f"{bucket}/data")
        small_shop(lake)
        answer = find_user(lake, "7")
    assert (len(answer.recommendations), len(answer.history)) == (2, 2)


def test_examples_need_a_table(tmp_path: Path) -> None:
    with pytest.raises(VersionNotFoundError, match="There is no version of segmented_users"):
        example_users(Lake(str(tmp_path)))

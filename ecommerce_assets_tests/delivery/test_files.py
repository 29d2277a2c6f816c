"""Delivery to folders on this machine, in memory, and on an S3 server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.delivery.deliver import deliver
from ecommerce_assets.delivery.files import Files
from ecommerce_assets.delivery.rows import DeliveryError
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.buckets import s3_bucket
from ecommerce_assets_tests.delivery.conftest import before_first_call
from ecommerce_assets_tests.lookup.shop import listed, publish

FORMATS = ("parquet", "csv", "jsonl")


def current(folder: str | Path) -> dict[str, Any]:
    """Returns the index of the newest delivery."""
    document: dict[str, Any] = json.loads(Folder(str(folder)).read_bytes("current.json"))
    return document


def list_of_7(folder: Path) -> list[tuple[Any, ...]]:
    """Returns product, score, source and version of the delivered recommendations of user 7."""
    file = folder / current(folder)["tables"]["recommendations"]["file"]
    columns = "product_id, score, source, CAST(version AS text)"
    return duckdb.sql(f"SELECT {columns} FROM '{file}' WHERE user_id = 7 ORDER BY rank").fetchall()


@pytest.mark.parametrize("kind", FORMATS)
def test_files_have_the_published_rows_and_the_same_bytes_each_time(kind: str, lake: Lake, tmp_path: Path) -> None:
    folder, second = tmp_path / "out", tmp_path / "second"
    delivery = deliver(lake, f"{kind}:{folder}")
    assert delivery.changed
    assert delivery.tables == {"recommendations": ("0", 6), "similar_products": ("0", 1), "segmented_users": ("0", 3)}
    assert list_of_7(folder) == [(100, 1.0, "als", "0"), (200, 0.5, "als", "0")]
    entries = current(folder)["tables"]
    assert {asset: (entry["version"], entry["rows"]) for asset, entry in entries.items()} == delivery.tables
    users = folder / entries["segmented_users"]["file"]
    [(first,)] = duckdb.sql(f"SELECT epoch(min(first_event_time)) FROM '{users}'").fetchall()
    assert datetime.fromtimestamp(first, UTC) == datetime(2019, 10, 1, 10, tzinfo=UTC)
    deliver(lake, f"{kind}:{second}")
    again = current(second)["tables"]
    assert all((folder / entries[t]["file"]).read_bytes() == (second / again[t]["file"]).read_bytes() for t in entries)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_with_line_ends_quotes_and_commas_is_one_row(kind: str, lake: Lake, tmp_path: Path) -> None:
    publish(lake, "recommendations", listed('a\n"b",', "c\r\nd"), "string")
    assert deliver(lake, f"{kind}:{tmp_path}/out").tables["recommendations"] == ("1", 1)


def test_csv_escapes_formulas_except_in_ids(lake: Lake, tmp_path: Path) -> None:
    row = {"product_id": "-a", "rank": 1, "similar_product_id": "=b", "similarity": -0.5, "name": "=1+1", "brand": "a"}
    publish(lake, "similar_products", [row], "string")
    for kind, name in {"csv": "'=1+1", "jsonl": "=1+1"}.items():
        deliver(lake, f"{kind}:{tmp_path}")
        file = tmp_path / current(tmp_path)["tables"]["similar_products"]["file"]
        columns = "product_id, similar_product_id, similarity, name, brand, category"
        assert duckdb.sql(f"SELECT {columns} FROM '{file}'").fetchall() == [("-a", "=b", -0.5, name, "a", None)]


def test_the_same_versions_are_delivered_again_only_if_a_file_was_lost_or_the_format_differs(
    lake: Lake, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    first = deliver(lake, f"csv:{folder}")
    again = deliver(lake, f"csv:{folder}")
    assert not again.changed
    assert (again.tables, again.delivered_at) == (first.tables, first.delivered_at)
    (folder / current(folder)["tables"]["recommendations"]["file"]).unlink()
    assert deliver(lake, f"csv:{folder}").changed
    assert deliver(lake, f"jsonl:{folder}").changed
    assert len(list_of_7(folder)) == 2


def test_a_delivery_keeps_the_previous_one_and_removes_older_ones(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    deliver(lake, f"parquet:{folder}")
    names = [current(folder)["delivery"]]
    for product in (300, 400):
        publish(lake, "recommendations", listed(7, product))
        deliver(lake, f"parquet:{folder}")
        names.append(current(folder)["delivery"])
    assert Folder(str(folder)).folders() == sorted(names[1:])
    assert list_of_7(folder) == [(400, 1.0, "als", "2")]


def test_a_slow_delivery_does_not_replace_a_newer_one(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"

    def overtake() -> None:
        publish(lake, "recommendations", listed(7, 300))
        deliver(lake, f"parquet:{folder}")

    before_first_call(monkeypatch, Files, "_write", overtake)
    with pytest.raises(DeliveryError, match="has recommendations 1 of another delivery, which is newer than 0:"):
        deliver(lake, f"parquet:{folder}")
    assert list_of_7(folder) == [(300, 1.0, "als", "1")]


def test_a_delivery_removes_the_folders_of_killed_ones_after_a_day(lake: Lake, tmp_path: Path) -> None:
    old, new, other = "20200101_000000_0123abcd", Lake.new_folder(), "pictures"
    for name in (old, new, other):
        (tmp_path / "out" / name).mkdir(parents=True)
    deliver(lake, f"parquet:{tmp_path}/out")
    assert {old, new, other} & set(Folder(f"{tmp_path}/out").folders()) == {new, other}


def test_readers_keep_the_old_files_if_the_new_ones_have_another_number_of_rows(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    deliver(lake, f"jsonl:{folder}")
    publish(lake, "recommendations", listed(7, 300), stats=Stats(rows=2))
    with pytest.raises(DeliveryError, match="has 1 rows of recommendations 1, which has 2"):
        deliver(lake, f"jsonl:{folder}")
    assert len(list_of_7(folder)) == 2


def test_a_current_json_of_another_program_is_an_error_and_stays(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "current.json").write_text('{"weather": "fine"}')
    with pytest.raises(DeliveryError, match="was not written by a delivery"):
        deliver(lake, f"csv:{tmp_path}")
    assert current(tmp_path) == {"weather": "fine"}


def test_a_folder_that_cannot_be_written_is_a_one_line_error(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match="Cannot deliver to csv:") as error:
        deliver(lake, f"csv:{tmp_path}/file/folder")
    assert "\n" not in error.value.message


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_in_memory(kind: str, lake: Lake, tmp_path: Path) -> None:
    folder = f"memory://{tmp_path.name}/{kind}"
    assert deliver(lake, f"{kind}:{folder}").tables["recommendations"] == ("0", 6)
    assert Folder(folder).read_bytes(current(folder)["tables"]["recommendations"]["file"])


@pytest.mark.trial
def test_in_a_bucket(lake: Lake) -> None:
    with s3_bucket("lists") as bucket:
        folder = Folder(f"{bucket}/shop")
        assert deliver(lake, f"parquet:{folder.uri}").changed
        assert not deliver(lake, f"parquet:{folder.uri}").changed
        with folder.open(current(folder.uri)["tables"]["recommendations"]["file"]) as file:
            assert pq.read_table(file).num_rows == 6
        for product in (300, 400):
            publish(lake, "recommendations", listed(7, product))
            deliver(lake, f"parquet:{folder.uri}")
        assert len(folder.folders()) == 2

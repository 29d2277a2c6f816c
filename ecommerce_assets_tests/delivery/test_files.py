"""Delivery to folders: on this machine, in memory, and on an S3 server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.delivery.deliver import deliver
from ecommerce_assets.delivery.rows import DeliveryError
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.buckets import s3_bucket
from ecommerce_assets_tests.lookup.shop import listed, publish

FORMATS = ("parquet", "csv", "jsonl")


def current(folder: str | Path) -> dict[str, Any]:
    """What readers find first."""
    document: dict[str, Any] = json.loads(Folder(str(folder)).read_bytes("current.json"))
    return document


def list_of_7(folder: Path) -> list[tuple[Any, ...]]:
    """Product, score, source and version of the delivered recommendations of user 7."""
    file = folder / current(folder)["tables"]["recommendations"]["file"]
    columns = "product_id, score, source, CAST(version AS text)"
    return duckdb.sql(f"SELECT {columns} FROM '{file}' WHERE user_id = 7 ORDER BY rank").fetchall()


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_are_those_of_the_published_tables_with_their_version(kind: str, lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    delivery = deliver(lake, f"{kind}:{folder}")
    assert delivery.changed
    assert delivery.tables == {"recommendations": ("0", 6), "similar_products": ("0", 1), "segmented_users": ("0", 3)}
    assert list_of_7(folder) == [(100, 1.0, "als", "0"), (200, 0.5, "als", "0")]
    told = current(folder)["tables"]
    assert {asset: (entry["version"], entry["rows"]) for asset, entry in told.items()} == delivery.tables
    users = folder / told["segmented_users"]["file"]
    [(first,)] = duckdb.sql(f"SELECT epoch(min(first_event_time)) FROM '{users}'").fetchall()
    assert datetime.fromtimestamp(first, UTC) == datetime(2019, 10, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_files_of_a_version_are_the_same_each_time(kind: str, lake: Lake, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        deliver(lake, f"{kind}:{folder}")
    one, other = ([(f / e["file"]).read_bytes() for e in current(f)["tables"].values()] for f in folders)
    assert one == other


@pytest.mark.parametrize("kind", FORMATS)
def test_text_with_line_ends_quotes_and_commas_counts_as_one_row(kind: str, lake: Lake, tmp_path: Path) -> None:
    publish(lake, "recommendations", listed('a\n"b",', "c\r\nd"), "string")
    assert deliver(lake, f"{kind}:{tmp_path}/out").tables["recommendations"] == ("1", 1)


def test_texts_in_csv_are_no_formulas_and_ids_are_exact(lake: Lake, tmp_path: Path) -> None:
    row = {"product_id": "-a", "rank": 1, "similar_product_id": "=b", "similarity": -0.5, "name": "=1+1", "brand": "a"}
    publish(lake, "similar_products", [row], "string")
    for kind, name in {"csv": "'=1+1", "jsonl": "=1+1"}.items():
        deliver(lake, f"{kind}:{tmp_path}")
        file = tmp_path / current(tmp_path)["tables"]["similar_products"]["file"]
        columns = "product_id, similar_product_id, similarity, name, brand, category"
        assert duckdb.sql(f"SELECT {columns} FROM '{file}'").fetchall() == [("-a", "=b", -0.5, name, "a", None)]


def test_the_same_versions_are_not_delivered_again(lake: Lake, tmp_path: Path) -> None:
    first = deliver(lake, f"csv:{tmp_path}/out")
    again = deliver(lake, f"csv:{tmp_path}/out")
    assert not again.changed
    assert (again.tables, again.delivered_at) == (first.tables, first.delivered_at)


def test_a_file_that_was_lost_or_another_format_is_delivered_again(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    deliver(lake, f"csv:{folder}")
    (folder / current(folder)["tables"]["recommendations"]["file"]).unlink()
    assert deliver(lake, f"csv:{folder}").changed
    assert deliver(lake, f"jsonl:{folder}").changed
    assert len(list_of_7(folder)) == 2


def test_the_delivery_before_stays_and_older_ones_go(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    deliver(lake, f"parquet:{folder}")
    names = [current(folder)["delivery"]]
    for product in (300, 400):
        publish(lake, "recommendations", listed(7, product))
        deliver(lake, f"parquet:{folder}")
        names.append(current(folder)["delivery"])
    assert Folder(str(folder)).folders() == sorted(names[1:])
    assert list_of_7(folder) == [(400, 1.0, "als", "2")]


def test_what_a_dead_delivery_left_goes_after_a_day(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    dead, living, foreign = "20200101_000000_0123abcd", Lake.new_folder(), "pictures"
    for name in (dead, living, foreign):
        (folder / name).mkdir(parents=True)
    deliver(lake, f"parquet:{folder}")
    assert {dead, living, foreign} & set(Folder(str(folder)).folders()) == {living, foreign}


def test_readers_keep_the_old_files_where_others_rows_are_counted(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    deliver(lake, f"jsonl:{folder}")
    publish(lake, "recommendations", listed(7, 300), stats=Stats(rows=2))
    with pytest.raises(DeliveryError, match="has 1 rows of recommendations 1, which has 2"):
        deliver(lake, f"jsonl:{folder}")
    assert len(list_of_7(folder)) == 2


def test_a_current_json_of_another_program_is_refused_and_stays(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "current.json").write_text('{"weather": "fine"}')
    with pytest.raises(DeliveryError, match="was not written by a delivery"):
        deliver(lake, f"csv:{tmp_path}")
    assert current(tmp_path) == {"weather": "fine"}


def test_a_folder_that_cannot_be_written_is_one_sentence(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match="Cannot deliver to csv:") as error:
        deliver(lake, f"csv:{tmp_path}/file/folder")
    assert "\n" not in error.value.message


@pytest.mark.parametrize("kind", FORMATS)
def test_in_memory(kind: str, lake: Lake, tmp_path: Path) -> None:
    folder = f"memory://{tmp_path.name}/{kind}"
    deliver(lake, f"{kind}:{folder}")
    publish(lake, "recommendations", listed(7, 300))
    assert deliver(lake, f"{kind}:{folder}").tables["recommendations"] == ("1", 1)
    assert Folder(folder).read_bytes(current(folder)["tables"]["recommendations"]["file"])


def test_in_a_bucket(lake: Lake) -> None:
    with s3_bucket("lists") as bucket:
        assert deliver(lake, f"parquet:{bucket}/shop").changed
        assert not deliver(lake, f"parquet:{bucket}/shop").changed
        folder = Folder(f"{bucket}/shop")
        with folder.open(current(folder.uri)["tables"]["recommendations"]["file"]) as file:
            assert pq.read_table(file).num_rows == 6
        for product in (300, 400):
            publish(lake, "recommendations", listed(7, product))
            deliver(lake, f"parquet:{bucket}/shop")
        assert len(folder.folders()) == 2

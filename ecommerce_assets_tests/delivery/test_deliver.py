"""Delivered versions, addresses of targets, and the command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from ecommerce_assets.cli import main
from ecommerce_assets.delivery.databases import Postgres, Sqlite
from ecommerce_assets.delivery.deliver import default_target, deliver, deliver_versions, target_of
from ecommerce_assets.delivery.files import Files
from ecommerce_assets.delivery.rows import DeliveryError
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets_tests.delivery.conftest import query
from ecommerce_assets_tests.helpers import put_table
from ecommerce_assets_tests.lookup.shop import listed, publish


@pytest.mark.parametrize(
    ("address", "kind", "place"),
    [
        ("shop.sqlite", Sqlite, "shop.sqlite"),
        ("./shop.db", Sqlite, "shop.db"),
        ("sqlite:///shop.data", Sqlite, "shop.data"),
        ("sqlite:////tmp/shop", Sqlite, "/tmp/shop"),
        ("postgresql://shop@db.example.com:5433/shop", Postgres, "postgresql://shop@db.example.com:5433/shop"),
        ("postgres:///shop", Postgres, "postgres:///shop"),
        ("csv:/srv/lists", Files, "/srv/lists"),
        ("jsonl:memory://lists", Files, "memory://lists"),
    ],
)
def test_an_address_is_a_target(address: str, kind: type, place: str) -> None:
    target = target_of(address)
    assert type(target) is kind
    assert (target.folder.uri if isinstance(target, Files) else target.path) == place
    assert target.address == address


@pytest.mark.parametrize(
    "address",
    [
        *("", "shop.txt", "csv:", "xlsx:/srv", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "s3://b/shop.db"),
        "parquet:nothing://x",
    ],
)
def test_other_addresses_are_errors(address: str) -> None:
    with pytest.raises(DeliveryError):
        target_of(address)


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:hunter2@host/shop", "postgresql://host/shop?user=me&password=hunter2", "csv:s3://me:hunter2@b/x"],
)
def test_a_password_in_an_address_is_an_error_that_hides_it(address: str) -> None:
    with pytest.raises(DeliveryError, match="contains a password") as error:
        target_of(address)
    assert "hunter2" not in str(error.value)


def test_tables_that_are_not_published_are_left_out(tmp_path: Path) -> None:
    lake, address = Lake(str(tmp_path)), str(tmp_path / "shop.db")
    with pytest.raises(VersionNotFoundError, match="materialise recommendations first"):
        deliver(lake, address)
    put_table(lake, "product_pairs", pa.table({"product_id": [1], "kind": ["bought"], "rank": [1]}))
    assert deliver(lake, address).tables == {"product_pairs": ("0", 1)}


def test_deliver_versions_delivers_the_given_versions(lake: Lake, tmp_path: Path) -> None:
    first = lake.latest("recommendations")
    publish(lake, "recommendations", listed(7, 300))
    address = str(tmp_path / "shop.db")
    deliver(lake, address)
    deliver_versions(lake, target_of(address), [first])  # although the target has a newer one
    assert query(address, "SELECT DISTINCT version FROM recommendations") == [("0",)]


def test_the_command_delivers_to_the_data_dir_once(lake: Lake) -> None:
    options = ["deliver", "--data-dir", lake.data.path, "--json"]
    first, again = (CliRunner().invoke(main, options) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0)
    document = json.loads(first.stdout)
    assert document["changed"]
    assert document["tables"]["recommendations"] == {"version": "0", "rows": 6}
    assert document["target"] == default_target(lake) == f"{lake.data.path}/delivered.sqlite"
    assert json.loads(again.stdout) == {**document, "changed": False}


def test_the_setting_is_the_default_target_of_the_command(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOMMERCE_DELIVER_TO", f"csv:{tmp_path}/lists")
    done = CliRunner().invoke(main, ["deliver", "--data-dir", lake.data.path])
    assert done.exit_code == 0
    assert os.path.exists(tmp_path / "lists" / "current.json")


@pytest.mark.parametrize("target", ["shop.txt", "/no/such/folder/shop.db"])
def test_an_invalid_target_ends_the_command_with_a_one_line_error(lake: Lake, target: str) -> None:
    done = CliRunner().invoke(main, ["deliver", target, "--data-dir", lake.data.path])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert target in done.stderr


def test_a_bucket_has_no_default_target() -> None:
    with pytest.raises(DeliveryError, match="name a target"):
        default_target(Lake("memory://shop"))

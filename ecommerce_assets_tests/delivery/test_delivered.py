"""The asset delivered: it exists only with the setting, and is then part of every run."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.delivery.assets import DELIVERED_CHECKS, delivered_asset
from ecommerce_assets.delivery.databases import Sqlite
from ecommerce_assets.delivery.deliver import deliver
from ecommerce_assets.delivery.rows import DeliveryError
from ecommerce_assets.settings import SettingsError, load_settings
from ecommerce_assets.storage.checks import CheckContext, run_checks
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import read
from ecommerce_assets.storage.version import Stats
from ecommerce_assets_tests.delivery.conftest import before_first_call, query
from ecommerce_assets_tests.lookup.shop import listed, paired, publish
from ecommerce_assets_tests.stored import version_of

TABLES = ("recommendations", "similar_products", "segmented_users")
KEY = dg.AssetKey("delivered")


def materialize(lake: Lake, address: str) -> dg.ExecuteInProcessResult:
    """Runs the asset alone."""
    defs = build_defs(load_settings(data_dir=lake.data.path, deliver_to=address))
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(asset_selection=[KEY], raise_on_error=False)


def publish_others(lake: Lake) -> None:
    """Publishes the inputs that the small shop lacks."""
    publish(lake, "product_pairs", paired(100, "bought", 200))
    publish(lake, "customer_groups", [{"user_id": 7, "monetary": 0.0, "customer_group": "Prospects"}])


def test_without_the_setting_the_asset_does_not_exist() -> None:
    assert not build_defs(load_settings()).resolve_asset_graph().has(KEY)


@pytest.mark.parametrize(
    ("address", "kind"),
    [("/srv/shop.db", "sqlite"), ("postgresql://shop@db/shop", "postgres"), ("jsonl:s3://lists/shop", "json")],
)
def test_with_the_setting_the_asset_depends_on_the_tables(address: str, kind: str) -> None:
    graph = build_defs(load_settings(deliver_to=address)).resolve_asset_graph()
    node = graph.get(KEY)
    assert {key.to_user_string() for key in node.parent_keys} >= set(TABLES)
    assert (node.group_name, node.kinds, bool(node.description), bool(node.owners)) == ("delivery", {kind}, True, True)
    assert node.automation_condition == graph.get(dg.AssetKey("training_metadata")).automation_condition
    [check] = graph.get_check_keys_for_assets({KEY})
    assert (check.name, graph.get_check_spec(check).blocking) == ("all_rows_delivered", True)


def test_a_run_delivers_and_records_exactly_its_inputs(lake: Lake, tmp_path: Path) -> None:
    publish(lake, "recommendations", listed(7, 300))
    publish_others(lake)
    address = str(tmp_path / "shop.db")
    run = materialize(lake, address)
    assert run.success
    assert [evaluation.passed for evaluation in run.get_asset_check_evaluations()] == [True]
    document = read("delivered", data_dir=lake.data.path)
    assert (document["target"], document["tables"]["recommendations"]) == (address, {"version": "1", "rows": 1})
    version = lake.latest("delivered")
    assert {read.asset: read.version for read in version.inputs} == {
        asset: table["version"] for asset, table in document["tables"].items()
    }
    assert query(address, "SELECT product_id, version FROM recommendations") == [(300, "1")]


def test_a_target_that_cannot_be_used_fails_the_step(lake: Lake, tmp_path: Path) -> None:
    address = tmp_path / "shop.db"
    address.write_text("no database" * 100)
    run = materialize(lake, str(address))
    assert not run.success
    assert lake.published("delivered") == []


def test_a_run_does_not_replace_newer_versions(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "shop.db")

    def overtake() -> None:
        publish(lake, "recommendations", listed(7, 300))
        deliver(lake, address)

    publish_others(lake)
    before_first_call(monkeypatch, Sqlite, "_begin", overtake)
    assert not materialize(lake, address).success
    assert query(address, "SELECT product_id, version FROM recommendations") == [(300, "1")]
    assert materialize(lake, address).success


def test_the_check_fails_if_rows_are_missing_in_the_target() -> None:
    [check] = DELIVERED_CHECKS
    versions = {
        asset: version_of(asset, "f", version="3", stats=Stats(rows=10))
        for asset in ("recommendations", "similar_products")
    }
    document = {"tables": {asset: {"version": "3", "rows": 10} for asset in versions}}
    context = CheckContext(Stats(), versions=versions, document=document)
    assert run_checks([check], context)[0].passed
    document["tables"]["recommendations"]["rows"] = 9
    assert run_checks([check], context)[0].message == "the target has 9 rows of recommendations 3, which has 10"
    del document["tables"]["similar_products"]
    assert "0 rows of similar_products 3" in run_checks([check], context)[0].message


def test_a_relative_path_is_an_error() -> None:
    with pytest.raises(DeliveryError, match="relative path"):
        delivered_asset("shop.db", "/srv/shop", TABLES)


def test_a_password_in_the_setting_is_an_error_that_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOMMERCE_DELIVER_TO", "postgresql://me:hunter2@host/shop")
    with pytest.raises(SettingsError, match="PGPASSWORD") as error:
        load_settings()
    assert "hunter2" not in str(error.value)

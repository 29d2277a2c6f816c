"""The catalogue in the graph: lists follow its changes without training, and an invalid one blocks them."""

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ecommerce_assets.recommendation.catalog_assets import product_catalog_changes
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, run_graph

LISTS = ("product_eligibility", "recommendations", "similar_products", "product_pairs")


@pytest.fixture(scope="module")
def shop(ran: tuple[Path, dg.ExecuteInProcessResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shop whose best-selling products are sold out, with limits, and the lists made again."""
    folder = tmp_path_factory.mktemp("catalogue") / "shop"
    shutil.copytree(ran[0], folder)
    (folder / "catalog").mkdir()
    best = table(folder, "product_features").sort("unique_users", "product_id", descending=True)["product_id"].to_list()
    about = table(folder, "product_features").select("product_id", "category", "brand")
    new = pl.DataFrame({"product_id": [9_000_001], "category": [about["category"][0]], "brand": [None]})
    catalog = pl.concat([about, new], how="vertical_relaxed").with_columns(
        name=pl.format("Product {}", "product_id"), in_stock=~pl.col("product_id").is_in(best[:40])
    )
    catalog.write_csv(folder / "catalog" / "products.csv")
    rules = {"max_per_category": 3, "pinned": {"*": [best[50]]}, "new_products_share": 0.1}
    (folder / "catalog" / "rules.json").write_text(json.dumps(rules))
    assert run_graph(folder, FIRST_DAY, LAST_DAY, LISTS).success
    return folder


def table(folder: Path, asset: str) -> pl.DataFrame:
    return pl.read_delta(f"{folder}/lake/{asset}")


def sold_out(folder: Path) -> set[int]:
    return set(table(folder, "product_eligibility").filter(~pl.col("eligible"))["product_id"].to_list())


@pytest.mark.trial
def test_no_list_has_a_product_that_is_sold_out(shop: Path, ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    not_eligible = sold_out(shop)
    assert len(not_eligible) == 40
    for asset, column in (
        ("recommendations", "product_id"),
        ("similar_products", "similar_product_id"),
        ("product_pairs", "pair_product_id"),
    ):
        assert not_eligible & set(table(ran[0], asset)[column]), "without a catalogue it has some"
        assert not not_eligible & set(table(shop, asset)[column])
    assert not_eligible & set(table(shop, "similar_products")["product_id"]), "their own pages show what is similar"


@pytest.mark.trial
def test_lists_stay_full_and_within_the_rules(shop: Path) -> None:
    lists = table(shop, "recommendations").join(table(shop, "product_eligibility"), "product_id")
    assert lists.height == 10 * table(shop, "segmented_users").height
    known = lists.filter(pl.col("category") != "unknown")
    assert known.group_by("user_id", "category").len()["len"].max() == 3
    [pinned] = lists.filter(pl.col("source") == "pinned")["product_id"].unique().to_list()
    assert lists.filter((pl.col("product_id") == pinned) & (pl.col("rank") > 1)).height == 0
    assert lists.filter(pl.col("source") == "new")["product_id"].unique().to_list() == [9_000_001]
    assert table(shop, "similar_products").group_by("product_id").len()["len"].max() == 10


@pytest.mark.trial
def test_the_files_are_an_input_of_the_lists(shop: Path) -> None:
    lake = Lake(str(shop))
    inputs = {read.asset: read for _, read in lake.ancestry(lake.latest("recommendations"))}
    assert [file.path for file in inputs["product_catalog"].files] == ["products.csv", "rules.json"]
    assert lake.latest("recommendations").parameters["rules"]["max_per_category"] == 3


@pytest.mark.trial
def test_no_model_is_trained_again(shop: Path, ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    for asset in ("als_model", "als_evaluation", "segmentation_model", "item_neighbours"):
        assert Lake(str(shop)).latest(asset).version == Lake(str(ran[0])).latest(asset).version


@pytest.mark.trial
def test_an_invalid_catalogue_fails_the_step_and_the_published_lists_stay(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(shop, folder)
    (folder / "catalog" / "rules.json").write_text('{"max_per_brand": "many"}')
    before = Lake(str(folder)).latest("recommendations").version
    run = run_graph(folder, FIRST_DAY, LAST_DAY, ("product_eligibility", "recommendations"), raise_on_error=False)
    assert not run.success
    failure = run.failure_data_for_node("product_eligibility")
    assert failure is not None
    assert failure.error is not None
    assert "max_per_brand is 'many'" in failure.error.to_string()
    assert Lake(str(folder)).latest("recommendations").version == before


def tick(folder: Path, instance: dg.DagsterInstance, cursor: str | None) -> tuple[str | None, list[dict[str, Any]]]:
    """Returns the cursor of the sensor after one tick, and the metadata that it reports."""
    sensor = product_catalog_changes(load_settings(data_dir=str(folder)))
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        result = sensor.evaluate_tick(context)
    return result.cursor, [dict(event.metadata) for event in result.asset_events]


def test_the_sensor_reports_a_change_after_two_ticks_with_the_same_files(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        cursor, events = tick(tmp_path, instance, None)
        assert events == []
        (tmp_path / "catalog").mkdir()
        file = tmp_path / "catalog" / "products.csv"
        file.write_text("product_id\n1\n")
        cursor, events = tick(tmp_path, instance, cursor)
        assert events == [], "it may still be written"
        file.write_text("product_id\n1\n2\n")
        cursor, events = tick(tmp_path, instance, cursor)
        assert events == []
        cursor, [event] = tick(tmp_path, instance, cursor)
        assert event["files"].value == "products.csv"
        cursor, events = tick(tmp_path, instance, cursor)
        assert events == []
        file.unlink()
        cursor, events = tick(tmp_path, instance, cursor)
        cursor, [event] = tick(tmp_path, instance, cursor)
        assert event["files"].value == "no files"

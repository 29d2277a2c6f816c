"""One product: what the tables hold of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from ecommerce_assets.lookup.products import example_products, find_product
from ecommerce_assets.lookup.tables import UnknownIdError
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.lookup.shop import NEAR, made_from, paired, product, publish, small_shop

Ran = tuple[Path, dg.ExecuteInProcessResult]


def table(ran: Ran, asset: str) -> pl.DataFrame:
    return pl.read_delta(f"{ran[0]}/lake/{asset}")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path), warn=lambda _: None)
    small_shop(lake)
    return lake


def test_a_product_and_its_neighbours_are_what_the_tables_hold(ran: Ran) -> None:
    lake = Lake(str(ran[0]))
    similar, features = table(ran, "similar_products"), table(ran, "product_features")
    ids = features["product_id"].sort().to_list()
    for product_id in ids[:: len(ids) // 12]:
        found = find_product(lake, str(product_id))
        assert found.features == features.filter(pl.col("product_id") == product_id).row(0, named=True)
        near = similar.filter(pl.col("product_id") == product_id).sort("rank")
        prices = dict(features.select("product_id", "avg_price").iter_rows())
        assert [tuple(row.values()) for row in found.neighbours] == [
            (rank, near_id, None, category, brand, prices[near_id], similarity)
            for rank, near_id, category, brand, similarity in near.select(
                "rank", "similar_product_id", "similar_category", "similar_brand", "similarity"
            ).iter_rows()
        ]
        assert bool(found.notes) == near.is_empty()


def test_only_a_product_without_neighbours_has_a_note(lake: Lake) -> None:
    assert [len(find_product(lake, product_id).notes) for product_id in ("100", "200")] == [0, 1]


def test_versions_belong_together(lake: Lake) -> None:
    publish(lake, "product_features", [product(100, brand="new")])
    found = find_product(lake, "100")
    assert found.features is not None
    assert (found.features["brand"], found.versions["product_features"]["version"]) == ("acme", "0")


def test_with_a_catalogue_products_have_its_names_and_prices(lake: Lake) -> None:
    about = {"category": "toys", "brand": "acme", "in_catalog": True, "eligible": True}
    rows = [{"product_id": n, "name": f"Toy {n}", "price": 5.0, **about} for n in (100, 200)]
    decided = publish(lake, "product_eligibility", rows)
    publish(lake, "similar_products", [NEAR], inputs=made_from(decided))
    found = find_product(lake, "100")
    assert found.name == "Toy 100"
    assert [(row["name"], row["price"]) for row in found.neighbours] == [("Toy 200", 5.0)]


def test_without_similar_products_the_product_is_shown(lake: Lake) -> None:
    shutil.rmtree(f"{lake.root.uri}/similar_products")
    found = find_product(lake, "100")
    assert found.features is not None
    assert (found.neighbours, len(found.notes)) == ([], 1)
    assert "There is no version of similar_products" in found.notes[0]


def test_what_it_is_bought_and_viewed_with(lake: Lake) -> None:
    publish(
        lake,
        "product_pairs",
        [*paired(100, "viewed", 300, 200), *paired(100, "bought", 200), *paired(200, "bought", 100)],
    )
    found = find_product(lake, "100")
    numbers = {"baskets": 3, "confidence": 0.25, "lift": 2.0}
    two = {"product_id": 200, "name": None, "category": "tools", "brand": None, "price": 7.25, **numbers}
    unknown = {"product_id": 300, "name": None, "category": None, "brand": None, "price": None, **numbers}
    assert found.bought_together == [{"rank": 1, **two}]
    assert found.viewed_together == [{"rank": 1, **unknown}, {"rank": 2, **two}]
    assert "product_pairs" in found.versions


def test_a_data_dir_without_pairs_has_none_and_no_note(lake: Lake) -> None:
    found = find_product(lake, "100")
    assert (found.bought_together, found.viewed_together, found.notes) == ([], [], [])


def test_an_unknown_id_is_one_sentence(lake: Lake) -> None:
    with pytest.raises(UnknownIdError, match=r"^There is no product 1 among the 2 of product_features 0 \(made 20"):
        find_product(lake, "1")
    with pytest.raises(UnknownIdError, match=r"^product_id 'x' cannot be"):
        find_product(lake, "x")


def test_ids_that_are_texts(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    small_shop(lake, str)
    assert [row["product_id"] for row in find_product(lake, "100").neighbours] == ["200"]
    with pytest.raises(UnknownIdError, match="There is no product 0100 "):
        find_product(lake, "0100")


def test_examples_are_those_with_the_most_purchases(ran: Ran) -> None:
    products = table(ran, "product_features").sort("total_purchases", descending=True)
    found = example_products(Lake(str(ran[0])))
    assert [row["total_purchases"] for row in found] == products["total_purchases"].head(5).to_list()

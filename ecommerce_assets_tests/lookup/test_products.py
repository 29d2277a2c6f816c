"""`find_product`: values of the tables, in versions that belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ecommerce_assets.lookup.products import find_product
from ecommerce_assets.lookup.tables import UnknownIdError
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.lookup.shop import NEAR, made_from, paired, product, publish, small_shop


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path), warn=lambda _: None)
    small_shop(lake)
    return lake


def test_features_are_of_the_version_that_similar_products_was_made_from(lake: Lake) -> None:
    publish(lake, "product_features", [product(100, brand="new")])
    answer = find_product(lake, "100")
    assert answer.features is not None
    assert (answer.features["brand"], answer.versions["product_features"]["version"]) == ("acme", "0")


def test_names_and_prices_are_those_of_the_catalogue(lake: Lake) -> None:
    values = {"category": "toys", "brand": "acme", "in_catalog": True, "eligible": True}
    rows = [{"product_id": n, "name": f"Toy {n}", "price": 5.0, **values} for n in (100, 200)]
    eligibility = publish(lake, "product_eligibility", rows)
    publish(lake, "similar_products", [NEAR], inputs=made_from(eligibility))
    answer = find_product(lake, "100")
    assert answer.name == "Toy 100"
    assert [(row["name"], row["price"]) for row in answer.neighbours] == [("Toy 200", 5.0)]


def test_a_removed_version_has_one_note(lake: Lake) -> None:
    products = lake.latest("product_features")
    publish(lake, "product_features", [product(100)])
    lake.folder(products).remove()
    [note] = find_product(lake, "100").notes
    assert note.startswith("similar_products was made from a version of product_features that was removed")
    products, rows = lake.latest("product_features"), [{"product_id": 100, "in_catalog": True, "eligible": True}]
    eligibility = publish(lake, "product_eligibility", rows)
    publish(lake, "similar_products", [NEAR], inputs=made_from(products, eligibility))
    publish(lake, "product_eligibility", rows)
    lake.folder(eligibility).remove()
    [note] = find_product(lake, "100").notes
    assert note.startswith(
        "similar_products was made from a version of product_eligibility that was removed: the newest, 1,"
    )


def test_missing_tables_are_left_out(lake: Lake) -> None:
    answer = find_product(lake, "100")  # without product_pairs, which needs no note
    assert (answer.bought_together, answer.viewed_together, answer.notes) == ([], [], [])
    shutil.rmtree(f"{lake.root.uri}/similar_products")
    answer = find_product(lake, "100")
    assert answer.features is not None
    assert answer.neighbours == []
    [note] = answer.notes
    assert "There is no version of similar_products" in note


def test_pairs_are_split_by_kind_and_unknown_products_have_no_values(lake: Lake) -> None:
    pairs = [*paired(100, "viewed", 300, 200), *paired(100, "bought", 200), *paired(200, "bought", 100)]
    publish(lake, "product_pairs", pairs)
    answer = find_product(lake, "100")
    numbers = {"baskets": 3, "confidence": 0.25, "lift": 2.0}
    two = {"product_id": 200, "name": None, "category": "tools", "brand": None, "price": 7.25, **numbers}
    unknown = {"product_id": 300, "name": None, "category": None, "brand": None, "price": None, **numbers}
    assert answer.bought_together == [{"rank": 1, **two}]
    assert answer.viewed_together == [{"rank": 1, **unknown}, {"rank": 2, **two}]
    assert "product_pairs" in answer.versions


def test_unknown_ids_are_errors(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UnknownIdError, match=r"^Unknown product 1: not in the 2 products of product_features 0\."):
        find_product(lake, "1")
    with pytest.raises(UnknownIdError, match=r"^product_id must be a whole number of at most 64 bits, got 'x'"):
        find_product(lake, "x")
    text_ids = Lake(str(tmp_path / "texts"))
    small_shop(text_ids, str)
    assert [row["product_id"] for row in find_product(text_ids, "100").neighbours] == ["200"]
    with pytest.raises(UnknownIdError, match="Unknown product 0100:"):
        find_product(text_ids, "0100")

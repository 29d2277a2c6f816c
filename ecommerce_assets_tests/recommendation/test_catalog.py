"""The catalogue and the rules as people write them: what is read, what is counted, what is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.recommendation.catalog import CatalogError, ProductCatalog, ProductRules, read_catalog


def catalog_of(folder: Path, products: str | None = None, rules: Any = None, id_type: Any = "bigint") -> ProductCatalog:
    """Read after writing the two files."""
    (folder / "catalog").mkdir(exist_ok=True)
    if products is not None:
        (folder / "catalog" / "products.csv").write_text(products)
    if rules is not None:
        text = rules if isinstance(rules, str) else json.dumps(rules)
        (folder / "catalog" / "rules.json").write_text(text)
    return read_catalog(str(folder), id_type)


def test_without_files_there_are_no_products_and_the_default_rules(tmp_path: Path) -> None:
    assert read_catalog(str(tmp_path), "bigint") == ProductCatalog()
    assert read_catalog(str(tmp_path), "bigint").inputs() == []


def test_values_as_shops_write_them(tmp_path: Path) -> None:
    text = (
        "Product_ID;name; brand;price;in_stock;available_from;blocked;colour\n"
        "17.0;Äpfel;NULL;1.50;12;2024-01-01;;red\n"
        '18;"B; c";zeta;NA;0;2024-01-01T10:00:00+02:00;Yes;\n'
    )
    catalog = catalog_of(tmp_path, text)
    assert catalog.products is not None
    first, second = catalog.products.to_pylist()
    assert (first["product_id"], first["name"], first["brand"], first["price"]) == (17, "Äpfel", None, 1.5)
    assert (first["in_stock"], first["blocked"], first["category"]) == (True, None, None)
    assert second["available_from"] == datetime(2024, 1, 1, 8, tzinfo=UTC)
    assert (second["name"], second["price"], second["in_stock"], second["blocked"]) == ("B; c", None, False, True)
    assert catalog.warnings == ()
    assert [file.path for file in catalog.files] == ["products.csv"]


def test_parquet_with_ids_as_text(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    table = pa.table({"product_id": ["a-1", "b"], "in_stock": [True, None], "price": [2.0, float("nan")]})
    pq.write_table(table, tmp_path / "catalog" / "products.parquet")
    products = read_catalog(str(tmp_path), "string").products
    assert products is not None
    assert products.column("product_id").to_pylist() == ["a-1", "b"]
    assert products.column("in_stock").to_pylist() == [True, None]


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, "product_id,price\n1,cheap\nx,3\n,4\n2,5\n")
    assert catalog.products is not None
    assert catalog.products.column("product_id").to_pylist() == [1, 2]
    assert catalog.products.column("price").to_pylist() == [None, 5.0]
    prices, ids = catalog.warnings
    assert "1 unreadable values of price" in prices
    assert "'cheap' in row 1" in prices
    assert "2 of 4 rows have no readable product_id" in ids


@pytest.mark.parametrize(
    ("products", "reason"),
    [
        ("id,name\n1,a\n", "no column product_id; it has id, name"),
        ("product_id,in_stock\n1,yes\n2,maybe\n", "in_stock 'maybe' in row 2"),
        ("product_id,available_until\n1,31.12.2024\n", "available_until '31.12.2024' in row 1"),
        ("product_id,name\n1,a\n1,b\n2,c\n", "1 products are in several rows, such as product_id 1"),
    ],
)
def test_a_catalogue_that_could_mislead_is_refused(tmp_path: Path, products: str, reason: str) -> None:
    with pytest.raises(CatalogError, match=r"products\.csv") as refused:
        catalog_of(tmp_path, products)
    assert reason in str(refused.value)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "products.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(CatalogError, match=r"products.parquet cannot be read .* write it again"):
        read_catalog(str(tmp_path), "bigint")


def test_two_catalogues_are_refused(tmp_path: Path) -> None:
    catalog_of(tmp_path, "product_id\n1\n")
    (tmp_path / "catalog" / "products.parquet").write_bytes(b"")
    with pytest.raises(CatalogError, match=r"both products\.parquet and products\.csv"):
        read_catalog(str(tmp_path), "bigint")


def test_rules_and_pinned_ids_in_the_type_of_the_shop(tmp_path: Path) -> None:
    rules = {"pinned": {"*": ["17", 18]}, "max_per_brand": 2, "excluded_brands": ["acme"]}
    assert catalog_of(tmp_path, rules=rules).rules == ProductRules(
        pinned={"*": (17, 18)}, max_per_brand=2, excluded_brands=("acme",)
    )
    assert catalog_of(tmp_path, rules=rules, id_type="string").rules.pinned == {"*": ("17", "18")}


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"max_per_brands": 2}, "max_per_brands is not a rule; the rules are in_stock_only"),
        ({"max_per_brand": 0}, "max_per_brand is 0"),
        ({"min_price": 5, "max_price": 1}, "min_price 5 is above max_price 1"),
        ({"pinned": {"*": ["x"]}}, "not a product_id of type bigint"),
        ("{", "must be a JSON object of rules"),
        ("[]", "rules.json"),
    ],
)
def test_wrong_rules_are_refused(tmp_path: Path, rules: Any, reason: str) -> None:
    with pytest.raises(CatalogError) as refused:
        catalog_of(tmp_path, rules=rules)
    assert reason in str(refused.value)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = catalog_of(tmp_path, "product_id\n1\n", {}).inputs()
    assert catalog_of(tmp_path, "product_id\n1\n", {}).inputs() == first
    assert catalog_of(tmp_path, "product_id\n2\n").inputs() != first

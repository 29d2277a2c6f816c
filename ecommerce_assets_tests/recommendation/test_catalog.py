"""Files of the catalogue and the rules as people write them: values that are read, ignored and refused."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_assets.recommendation.catalog import CatalogError, ProductCatalog, read_catalog
from ecommerce_assets.recommendation.product_rules import ProductRules


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_quotes_apostrophes_and_line_breaks_in_names(tmp_path: Path, delimiter: str) -> None:
    names = ["Mug", "'t Huis", 'TV 55" black', "Hose, blue; long\t|", "two\nlines"] * 5_000
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    rows = [f'"{n}"{delimiter}{name}{delimiter}"1"' for n, name in enumerate(quoted)]
    catalog = catalog_of(tmp_path, "\n".join([f'"product_id"{delimiter}"name"{delimiter}"blocked"', *rows]))
    assert catalog.products is not None
    assert catalog.products.column("name").to_pylist() == names
    assert catalog.products.column("blocked").to_pylist() == [True] * len(names)


def test_an_apostrophe_is_not_a_quote(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, "product_id,name,blocked\n0,Mug,1\n1,'t Huis,1\n2,Mug,1\n3,'t Huis,1\n")
    assert catalog.products is not None
    assert catalog.products.column("product_id").to_pylist() == [0, 1, 2, 3]


def test_a_folder_of_part_files_as_spark_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "catalog" / "products.parquet"
    folder.mkdir(parents=True)
    for part, ids in enumerate(([1, 2], [3])):
        pq.write_table(pa.table({"product_id": ids}), folder / f"part-{part}.parquet")
    (folder / "_SUCCESS").touch()
    products = read_catalog(str(tmp_path), "bigint").products
    assert products is not None
    assert sorted(products.column("product_id").to_pylist()) == [1, 2, 3]


def test_unreadable_prices_are_left_out(tmp_path: Path) -> None:
    products = catalog_of(tmp_path, "product_id;price\n1;NaN\n2;inf\n3;-1\n4;12,99\n").products
    assert products is not None
    assert products.column("price").to_pylist() == [None] * 4


def test_very_early_dates_are_read(tmp_path: Path) -> None:
    products = catalog_of(tmp_path, "product_id,available_from\n1,1900-01-01\n2,0001-01-01\n").products
    assert products is not None
    assert [time.year for time in products.column("available_from").to_pylist()] == [1900, 1]


def test_parquet_with_ids_as_text(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    table = pa.table({"product_id": ["a-1", "b"], "in_stock": [True, None], "price": [2.0, float("nan")]})
    pq.write_table(table, tmp_path / "catalog" / "products.parquet")
    products = read_catalog(str(tmp_path), "string").products
    assert products is not None
    assert products.column("product_id").to_pylist() == ["a-1", "b"]
    assert products.column("in_stock").to_pylist() == [True, None]


def test_unreadable_prices_and_ids_are_counted(tmp_path: Path) -> None:
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
        ("product_id,name\n", "no product with a product_id"),
        ("product_id,name\nA-1,a\n", "no product with a product_id of type bigint"),
        ("product_id,blocked,Blocked\n1,0,1\n", "has the column blocked twice"),
        ("product_id,name\n1,a,b\n", "Expected 2 columns, got 3"),
        ("", "is empty"),
        ("product_id,name\n1,a\n1,b\n2,c\n", "1 products are in several rows, such as product_id 1"),
    ],
)
def test_an_invalid_catalogue_is_refused(tmp_path: Path, products: str, reason: str) -> None:
    with pytest.raises(CatalogError, match=r"products\.csv") as refused:
        catalog_of(tmp_path, products)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("products.parquet", b"PAR1 and nothing else", "write it again"),
        ("products.csv", "product_id,name\n1,Äpfel\n".encode("cp1252"), "save it in UTF-8"),
        ("Products.csv", b"product_id\n1\n", "unknown file"),
        ("products.csv.gz", b"", "unknown file"),
        ("products.xlsx", b"", "unknown file"),
        ("catalog/products.csv", b"product_id\n1\n", "unknown file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    file = tmp_path / "catalog" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(CatalogError, match=reason):
        read_catalog(str(tmp_path), "bigint")


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "products.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_catalog(str(tmp_path), "bigint")


def test_a_repeated_column_of_a_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    table = pa.table({"product_id": [1], "blocked": [False], "Blocked": [True]})
    pq.write_table(table, tmp_path / "catalog" / "products.parquet")
    with pytest.raises(CatalogError, match="the column blocked twice"):
        read_catalog(str(tmp_path), "bigint")


def test_two_catalogues_are_refused(tmp_path: Path) -> None:
    catalog_of(tmp_path, "product_id\n1\n")
    (tmp_path / "catalog" / "products.parquet").write_bytes(b"")
    with pytest.raises(CatalogError, match=r"both products\.csv and products\.parquet"):
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
        ({"pinned": {"*": [10**20]}}, "not a product_id of type bigint"),
        ({"pinned": {"*": [True]}}, "pinned.*"),
        ({"pinned": {"VIP Customers": [1]}}, "'VIP Customers', which is not a segment; use VIP_Customers"),
        ('{"min_price": Infinity}', "min_price"),
        ("{", "must be a JSON object of rules"),
        ("[]", "rules.json"),
    ],
)
def test_invalid_rules_are_refused(tmp_path: Path, rules: Any, reason: str) -> None:
    with pytest.raises(CatalogError) as refused:
        catalog_of(tmp_path, rules=rules)
    assert reason in str(refused.value)


def test_the_fingerprint_depends_on_the_content(tmp_path: Path) -> None:
    first = catalog_of(tmp_path, "product_id\n1\n", {}).inputs()
    assert catalog_of(tmp_path, "product_id\n1\n", {}).inputs() == first
    assert catalog_of(tmp_path, "product_id\n2\n").inputs() != first

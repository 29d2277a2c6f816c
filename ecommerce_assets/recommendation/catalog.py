"""The shop's product catalogue and its rules for lists: what is sold, and what may be recommended.

Both are optional files in `<data dir>/catalog/`: `products.parquet` or `products.csv`, and `rules.json`.
`read_catalog` is the entry point; which products are eligible by them is decided in product_eligibility.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecommerce_assets.events.parquet import check_pages, read_parquet_sql
from ecommerce_assets.events.parsing import IdType, connect, literal, parse_values
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.version import FileEntry, Input

FOLDER = "catalog"
"""Folder of the data dir that holds the files."""

PRODUCT_FILES = ("products.parquet", "products.csv")
RULES_FILE = "rules.json"

KINDS = {
    "product_id": "id",
    "name": "string",
    "category": "string",
    "brand": "string",
    "price": "double",
    "in_stock": "boolean",
    "available_from": "timestamp",
    "available_until": "timestamp",
    "blocked": "boolean",
}
"""Columns of a catalogue and what their values are; all but the first are optional."""

DECIDING = ("in_stock", "available_from", "available_until", "blocked")
"""Columns of which no value may be unreadable: it could be the one that keeps a product from customers."""

ALL_USERS = "*"
"""Key of the pinned products of all segments."""


class CatalogError(ValueError):
    """A file of the catalogue cannot be used; one sentence says which, why, and what to do."""


class ProductRules(BaseModel):
    """Which products may be recommended, and how lists are composed: the content of `catalog/rules.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_stock_only: bool = Field(default=True, description="Leave out products whose `in_stock` is false.")
    listed_only: bool = Field(default=False, description="Leave out products that the catalogue does not list.")
    excluded_categories: tuple[str, ...] = Field(
        default=(),
        description="Leave out these categories and all below them: `electronics` includes `electronics.audio`.",
    )
    excluded_brands: tuple[str, ...] = Field(default=(), description="Leave out these brands.")
    min_price: float | None = Field(
        default=None, ge=0, description="Leave out cheaper products, and those without a price."
    )
    max_price: float | None = Field(
        default=None, ge=0, description="Leave out dearer products, and those without a price."
    )
    pinned: dict[str, tuple[int | str, ...]] = Field(
        default_factory=dict,
        description="By segment, or `*` for all users: product ids that come first in the lists.",
    )
    max_per_category: int | None = Field(
        default=None, ge=1, description="At most so many products of one category per list."
    )
    max_per_brand: int | None = Field(default=None, ge=1, description="At most so many products of one brand per list.")
    new_products_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the places of a list, rounded down, for products of the catalogue that nobody has "
        "interacted with yet.",
    )

    @model_validator(mode="after")
    def _prices_in_order(self) -> ProductRules:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"min_price {self.min_price:g} is above max_price {self.max_price:g}")
        return self


@dataclass(frozen=True)
class ProductCatalog:
    """What the files say.

    Attributes
    ----------
    products
        The columns of `KINDS`, one row per product, null where the file has no value; None: there is no file.
    rules
        Of the rules file, else the defaults.
    files
        The files that were read.
    fingerprint
        Equal where the same was read.
    warnings
        What was left out, a sentence each.
    """

    products: pa.Table | None = None
    rules: ProductRules = field(default_factory=ProductRules)
    files: tuple[FileEntry, ...] = ()
    fingerprint: str = ""
    warnings: tuple[str, ...] = ()

    def inputs(self) -> list[Input]:
        """The files as inputs of a version."""
        if not self.files:
            return []
        return [Input(asset="product_catalog", fingerprint=self.fingerprint, files=self.files)]


def catalog_files(data_dir: str) -> list[FileEntry]:
    """The files of the catalogue that are there; none where a shop has no catalogue."""
    known = (*PRODUCT_FILES, RULES_FILE)
    return [FileEntry(path=f.path, bytes=f.bytes) for f in (Folder(data_dir) / FOLDER).data_files() if f.path in known]


def read_catalog(data_dir: str, id_type: IdType) -> ProductCatalog:
    """The catalogue and the rules of a data dir.

    Raises
    ------
    CatalogError
        For a file that cannot be read, a column that decides about products with an unreadable value, two rows of one
        product, an unknown rule.
    """
    folder, files = Folder(data_dir) / FOLDER, catalog_files(data_dir)
    names = [file.path for file in files]
    tables = [name for name in PRODUCT_FILES if name in names]
    if len(tables) > 1:
        raise CatalogError(f"{folder.uri} has both {' and '.join(tables)}: remove one of them.")
    rules = _read_rules(folder, id_type) if RULES_FILE in names else ProductRules()
    if not tables:
        return ProductCatalog(None, rules, tuple(files), _fingerprint(folder, names))
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / tables[0]
        with folder.open(tables[0]) as source, local.open("wb") as target:
            shutil.copyfileobj(source, target)
        products, warnings = _read_products(local, f"{folder.uri}/{tables[0]}", id_type)
    return ProductCatalog(products, rules, tuple(files), _fingerprint(folder, names), tuple(warnings))


def _fingerprint(folder: Folder, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(hashlib.sha256(folder.read_bytes(name)).digest())
    return digest.hexdigest() if names else ""


def _read_rules(folder: Folder, id_type: IdType) -> ProductRules:
    where = f"{folder.uri}/{RULES_FILE}"
    try:
        rules = ProductRules.model_validate(json.loads(folder.read_bytes(RULES_FILE)))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"][:2]))
        if problem["type"] == "extra_forbidden":
            raise CatalogError(
                f"{where}: {name} is not a rule; the rules are {', '.join(ProductRules.model_fields)}."
            ) from None
        value = f"{name} is {problem['input']!r}, " if name else ""
        raise CatalogError(f"{where}: {value}{problem['msg'].removeprefix('Value error, ')}.") from None
    except ValueError as error:
        raise CatalogError(f"{where} must be a JSON object of rules: {error}.") from None
    as_id = int if id_type == "bigint" else str
    try:
        pinned = {segment: tuple(as_id(each) for each in ids) for segment, ids in rules.pinned.items()}
    except ValueError as error:
        raise CatalogError(f"{where}: a pinned product is not a product_id of type {id_type}: {error}.") from None
    return rules.model_copy(update={"pinned": pinned})


def _read_products(file: Path, where: str, id_type: IdType) -> tuple[pa.Table, list[str]]:
    with connect(file.parent / "spill") as connection:
        try:
            raw, kinds = _source(connection, file, where)
            parsed = parse_values(connection, raw, kinds, id_type, others=["place"])
            rows = connection.sql(f"SELECT * FROM ({parsed}) ORDER BY place").to_arrow_table()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise CatalogError(f"{where} cannot be read ({reason}): write it again as Parquet or CSV.") from None
    warnings = []
    for name in kinds:
        unreadable = rows.column(f"unreadable_{name}")
        count = len(unreadable) - unreadable.null_count
        if not count or name == "product_id":
            continue
        first = unreadable.is_valid().index(True).as_py()
        example = f"{name} {unreadable[first].as_py()!r} in row {rows.column('place')[first].as_py() + 1:,}"
        if name in DECIDING:
            raise CatalogError(f"{where}: {example} cannot be read as a {kinds[name]}: correct it or leave it empty.")
        warnings.append(f"{where}: {count:,} unreadable values of {name} are left out, such as {example}.")
    without_id = rows.column("product_id").null_count
    if without_id:
        warnings.append(
            f"{where}: {without_id:,} of {rows.num_rows:,} rows have no readable product_id and are ignored."
        )
    rows = rows.filter(rows.column("product_id").is_valid())
    counts = rows.group_by("product_id").aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts.column("count_all"), 1))
    if repeated.num_rows:
        example = repeated.column("product_id")[0].as_py()
        raise CatalogError(
            f"{where}: {repeated.num_rows:,} products are in several rows, such as product_id {example}: write one row "
            "for each product."
        )
    missing = {name: pa.nulls(rows.num_rows, _ARROW_TYPES[kind]) for name, kind in KINDS.items() if name not in kinds}
    columns = {name: missing[name] if name in missing else rows.column(name) for name in KINDS}
    return pa.table(columns), warnings


_ARROW_TYPES = {
    "string": pa.string(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def _source(connection: duckdb.DuckDBPyConnection, file: Path, where: str) -> tuple[str, dict[str, str]]:
    """The SELECT of the file's rows with their `place`, and the columns of `KINDS` that it has."""
    if file.suffix == ".parquet":
        check_pages(file)
        reader = read_parquet_sql([file])
    else:
        reader = f"read_csv({literal(file)}, header = true, all_varchar = true, strict_mode = false)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()
    columns: dict[str, Any] = {name.strip().lower(): name for name, *_ in described}
    if "product_id" not in columns:
        raise CatalogError(f"{where} has no column product_id; it has {', '.join(columns)}.")
    kinds = {name: kind for name, kind in KINDS.items() if name in columns}
    quoted = ", ".join('"' + columns[name].replace('"', '""') + f'" AS {name}' for name in kinds)
    connection.execute("SET preserve_insertion_order = true")
    return f"SELECT {quoted}, row_number() OVER () - 1 AS place FROM {reader}", kinds

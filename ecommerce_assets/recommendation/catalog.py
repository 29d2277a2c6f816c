"""Reads the shop's product catalogue and its rules for lists.

Both are optional files in `<data dir>/catalog/`: `products.parquet` or `products.csv`, and `rules.json`.
`read_catalog` is the entry point; product_eligibility.py decides which products are eligible.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import ValidationError

from ecommerce_assets.events.parquet import check_pages, read_parquet_sql
from ecommerce_assets.events.parsing import IdType, connect, identifier, parse_id, parse_values, split_header
from ecommerce_assets.recommendation.product_rules import ProductRules
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.version import FileEntry, Input

FOLDER = "catalog"
"""Folder of the data dir that holds the files of the catalogue."""

PRODUCT_FILES = ("products.parquet", "products.csv")
RULES_FILE = "rules.json"

PRODUCT_CATALOG = TableSpec.of(
    ColumnSpec("product_id", "id", "The product.", key=True),
    ColumnSpec("name", "string", "Its name."),
    ColumnSpec("category", "string", "Its category; dots separate levels: `electronics.audio`."),
    ColumnSpec("brand", "string", "Its brand."),
    ColumnSpec("price", "double", "Its price."),
    ColumnSpec("in_stock", "boolean", "Whether it is in stock; a number of pieces above 0 counts as true."),
    ColumnSpec("available_from", "timestamp", "Start of its availability, UTC."),
    ColumnSpec("available_until", "timestamp", "End of its availability, UTC; a date without a time includes the day."),
    ColumnSpec("blocked", "boolean", "Whether it must not be recommended."),
)

KINDS = {column.name: column.type for column in PRODUCT_CATALOG.columns}
"""Columns of a catalogue and the kinds of their values; all but the first are optional."""

DECIDING = ("in_stock", "available_from", "available_until", "blocked")
"""Columns in which an unreadable value is an error: it could be the value that keeps a product out of lists."""


class CatalogError(ValueError):
    """A file of the catalogue cannot be used. The message says which file, why, and what to do."""


@dataclass(frozen=True)
class ProductCatalog:
    """The content of the files.

    Attributes
    ----------
    products
        The columns of `KINDS`, one row per product, null where the file has no value. None if there is no file.
    rules
        The rules of the rules file; the defaults if there is no file.
    files
        The files that were read.
    fingerprint
        Hash of the names and contents of the files; empty without files.
    warnings
        One sentence for each kind of value or row that was left out.
    """

    products: pa.Table | None = None
    rules: ProductRules = field(default_factory=ProductRules)
    files: tuple[FileEntry, ...] = ()
    fingerprint: str = ""
    warnings: tuple[str, ...] = ()

    def inputs(self) -> list[Input]:
        """Returns the files as inputs of a version; an empty list without files."""
        if not self.files:
            return []
        return [Input(asset="product_catalog", fingerprint=self.fingerprint, files=self.files)]


def catalog_files(data_dir: str) -> list[FileInfo]:
    """Returns the files in the folder of the catalogue, without hidden ones; an empty list if there is no folder."""
    return (Folder(data_dir) / FOLDER).data_files()


def read_catalog(data_dir: str, id_type: IdType) -> ProductCatalog:
    """Returns the catalogue and the rules of a data dir; the defaults if there are no files.

    Parameters
    ----------
    data_dir
        Path or URL of the data dir.
    id_type
        Type of the shop's ids; product ids are converted to it.

    Raises
    ------
    CatalogError
        If a file cannot be read or has an unknown name, if there are no products, if a column of `DECIDING` has an
        unreadable value, if a product has two rows, or if a rule is unknown or has a wrong value.
    """
    folder, files = Folder(data_dir) / FOLDER, catalog_files(data_dir)
    names = [file.path for file in files]
    # products.parquet may also be a folder of part files, as Spark writes it.
    tables = sorted({path.partition("/")[0] for path in names} - {RULES_FILE})
    for name in tables:
        if name not in PRODUCT_FILES:
            raise CatalogError(
                f"{folder.uri} has an unknown file, {name}: name the catalogue {' or '.join(PRODUCT_FILES)} and the "
                f"rules {RULES_FILE}, and move other files elsewhere."
            )
    if len(tables) > 1:
        raise CatalogError(f"{folder.uri} has both {' and '.join(tables)}: remove one of them.")
    try:
        rules = _read_rules(folder, id_type) if RULES_FILE in names else ProductRules()
        products: pa.Table | None = None
        warnings: list[str] = []
        if tables:
            with tempfile.TemporaryDirectory() as scratch:
                copies = {path: Path(scratch) / path.replace("/", "-") for path in names if path != RULES_FILE}
                for path, copy in copies.items():
                    with folder.open(path) as source, copy.open("wb") as target:
                        shutil.copyfileobj(source, target)
                products, warnings = _read_products([*copies.values()], f"{folder.uri}/{tables[0]}", id_type)
        fingerprint = _fingerprint(folder, names)
    except OSError as error:
        raise CatalogError(f"{folder.uri} cannot be read ({error}): check that its files can be opened.") from None
    entries = tuple(FileEntry(path=file.path, bytes=file.bytes) for file in files)
    return ProductCatalog(products, rules, entries, fingerprint, tuple(warnings))


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
        if problem["type"] == "model_type":
            raise CatalogError(f"{where} must be a JSON object of rules.") from None
        value = f"{name} is {problem['input']!r}; " if name else ""
        reason = problem["msg"].removeprefix("Value error, ").replace("Input should", "it must", 1)
        reason = reason.replace("a valid tuple", "a list").replace("a valid integer", "a whole number")
        raise CatalogError(f"{where}: {value}{reason}.") from None
    except ValueError as error:
        raise CatalogError(f"{where} must be a JSON object of rules: {error}.") from None
    pinned = {segment: tuple(_as_id(each, id_type, where) for each in ids) for segment, ids in rules.pinned.items()}
    return rules.model_copy(update={"pinned": pinned})


def _as_id(value: int | str, id_type: IdType, where: str) -> int | str:
    if (product_id := parse_id(value, id_type)) is None:
        raise CatalogError(f"{where}: pinned {value!r} is not a product_id of type {id_type}; correct or remove it.")
    return product_id


def _read_products(files: Sequence[Path], where: str, id_type: IdType) -> tuple[pa.Table, list[str]]:
    with connect(files[0].parent / "spill") as connection:
        try:
            raw, kinds = _source(connection, files, where)
            parsed = parse_values(connection, raw, kinds, id_type, others=["place"])
            rows = connection.sql(f"SELECT * FROM ({parsed}) ORDER BY place").to_arrow_table()
        except (duckdb.Error, pa.ArrowException) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            advice = "save it in UTF-8" if "utf" in reason.lower() else "write it again as Parquet or CSV"
            raise CatalogError(f"{where} cannot be read ({reason}): {advice}.") from None
    warnings = []
    for name in kinds:
        unreadable = rows.column(f"unreadable_{name}")
        count = len(unreadable) - unreadable.null_count
        if not count or name == "product_id":
            continue
        first = unreadable.is_valid().index(True).as_py()
        example = f"{name} {unreadable[first].as_py()!r} in row {rows.column('place')[first].as_py() + 1:,}"
        if name in DECIDING:
            raise CatalogError(f"{where}: {example} cannot be read as a {kinds[name]}; correct it or leave it empty.")
        warnings.append(f"{where}: {count:,} unreadable values of {name} are left out, such as {example}.")
    without_id = rows.column("product_id").null_count
    if without_id:
        warnings.append(
            f"{where}: {without_id:,} of {rows.num_rows:,} rows have no readable product_id and are ignored."
        )
    if without_id == rows.num_rows:
        raise CatalogError(f"{where} has no product with a product_id of type {id_type}: write the products into it.")
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


def _source(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], where: str) -> tuple[str, dict[str, str]]:
    """Returns the SELECT of the rows with their `place` (from 0), and the kinds of the columns that the file has."""
    is_parquet = where.endswith(".parquet")
    delimiter, names = ("", pq.read_schema(files[0]).names) if is_parquet else _header(files[0])
    plain = [name.strip().lower() for name in names]
    repeated = [name for name in KINDS if plain.count(name) > 1]
    if not names:
        raise CatalogError(f"{where} is empty: write the products into it.")
    if repeated:
        raise CatalogError(f"{where} has the column {repeated[0]} twice: remove one of them.")
    if "product_id" not in plain:
        raise CatalogError(
            f"{where} has no column product_id; it has {', '.join(names)}. Rename the column with the product ids."
        )
    if is_parquet:
        for file in files:
            check_pages(file)
        reader, columns = read_parquet_sql(files), names
    else:
        columns = list(map(str, range(len(names))))
        connection.register("listed", _read_csv(files[0], columns, delimiter))
        reader = "listed"
    kinds = {name: kind for name, kind in KINDS.items() if name in plain}
    chosen = ", ".join(f"{identifier(columns[plain.index(name)])} AS {name}" for name in kinds)
    connection.execute("SET preserve_insertion_order = true")
    return f"SELECT {chosen}, row_number() OVER () - 1 AS place FROM {reader}", kinds


def _header(file: Path) -> tuple[str, list[str]]:
    with file.open("rb") as source:
        return split_header(source.readline().decode("utf-8-sig", "replace"))


def _read_csv(file: Path, columns: Sequence[str], delimiter: str) -> pa.Table:
    """Returns all values of a CSV file as strings; quotes follow RFC 4180."""
    return pa_csv.read_csv(
        file,
        pa_csv.ReadOptions(column_names=columns, skip_rows=1),
        pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pa_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False),
    )

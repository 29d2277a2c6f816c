"""Looks up one product: features, similar products and product pairs. `find_product` is the entry point."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecommerce_assets.env_file import RUN
from ecommerce_assets.lookup.tables import Row, Tables, UnknownIdError, parse_stored_id, source_days, version_times
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.version import Version

PAIR_COLUMNS = ("baskets", "confidence", "lift")
"""Columns of product_pairs in an answer."""


@dataclass(frozen=True)
class ProductAnswer:
    """One product.

    Attributes
    ----------
    features
        The product's row of product_features; None if there is none.
    name
        The product's name; None if the catalogue has none.
    neighbours
        rank, product_id, name, category, brand, price, similarity; by rank.
    bought_together, viewed_together
        rank, product_id, name, category, brand, price, baskets, confidence, lift; by rank.
    days
        First and last day of the events that similar_products (or, without it, product_features) was made from.
    versions
        version and committed_at of each table, by asset.
    notes
        One sentence for each table that is missing or in another version, and for a product without neighbours.
    """

    product_id: int | str
    features: Row | None
    name: str | None
    neighbours: list[Row]
    bought_together: list[Row]
    viewed_together: list[Row]
    days: tuple[str, str] | None
    versions: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_product(lake: Lake, text: str) -> ProductAnswer:
    """Returns the newest similar products and pairs of a product, and the features that these were made with.

    Raises UnknownIdError if none of these tables has the id.
    """
    tables = Tables(lake)
    similar = tables.newest("similar_products")
    products = tables.ancestor(similar, "product_features")
    product_id = parse_stored_id(text, "product_id", [products, similar])
    features = tables.row(products, "select * from {table} where product_id = ?", product_id)
    neighbours = tables.rows(
        similar,
        "select rank, similar_product_id as product_id, similarity from {table} where product_id = ? order by rank",
        product_id,
    )
    # A data dir of an earlier release has no pairs, and needs no note.
    paired = tables.newest("product_pairs") if "product_pairs" in lake.assets() else None
    pairs = tables.rows(
        paired,
        "select kind, rank, pair_product_id as product_id, baskets, confidence, lift from {table} "
        "where product_id = ? order by kind, rank",
        product_id,
    )
    if features is None and not neighbours and not pairs:
        raise UnknownIdError(_unknown(product_id, products, tables.notes))
    descriptions = tables.describe_products(
        tables.product_table(similar), [product_id, *(row["product_id"] for row in (*neighbours, *pairs))]
    )
    notes = list(dict.fromkeys(tables.notes))  # product_features may be the table of the descriptions too
    if similar is not None and not neighbours:
        notes.append("No similar products: no eligible product has users in common with this one.")
    source = similar or products
    return ProductAnswer(
        product_id=product_id,
        features=features,
        name=descriptions.get(product_id, {}).get("name"),
        neighbours=[_with_product(row, descriptions, "similarity") for row in neighbours],
        bought_together=[_with_product(row, descriptions, *PAIR_COLUMNS) for row in pairs if row["kind"] == "bought"],
        viewed_together=[_with_product(row, descriptions, *PAIR_COLUMNS) for row in pairs if row["kind"] == "viewed"],
        days=source_days(lake, source) if source is not None else None,
        versions=version_times(tables.used.values()),
        notes=notes,
    )


def example_products(lake: Lake) -> list[Row]:
    """Returns the five products with the most purchases.

    Columns: product_id, category, brand, total_purchases, total_views, avg_price.
    """
    tables = Tables(lake)
    products = tables.newest("product_features")
    if products is None:
        raise VersionNotFoundError(tables.notes[-1])
    columns = "product_id, category, brand, total_purchases, total_views, avg_price"
    return tables.rows(
        products, f"select {columns} from {{table}} order by total_purchases desc nulls last, product_id limit 5"
    )


def _with_product(row: Row, descriptions: dict[int | str, Row], *columns: str) -> Row:
    product = descriptions.get(row["product_id"], {})
    about = {name: product.get(name) for name in ("name", "category", "brand", "price")}
    return {"rank": row["rank"], "product_id": row["product_id"], **about, **{name: row[name] for name in columns}}


def _unknown(product_id: int | str, products: Version | None, notes: list[str]) -> str:
    if products is None:
        return " ".join(notes)
    return (
        f"Unknown product {product_id}: not in the {products.stats.rows:,} products of product_features "
        f"{products.version}. List known products with: {RUN}ecommerce-assets lookup product"
    )

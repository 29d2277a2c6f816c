"""Looks up one product: its features, its neighbours, and what is bought and viewed with it. See `find_product`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecommerce_assets.env_file import RUN
from ecommerce_assets.lookup.tables import Row, Tables, UnknownIdError, parse_stored_id, source_days, version_times
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.version import Version

PAIRED = ("baskets", "confidence", "lift")
"""Columns of product_pairs that are shown."""


@dataclass(frozen=True)
class ProductAnswer:
    """One product.

    Attributes
    ----------
    features
        The product's row of product_features; None where there is none.
    name
        The product's name; None if the catalogue has none.
    neighbours
        rank, product_id, name, category, brand, price, similarity; by rank.
    bought_together, viewed_together
        rank, product_id, name, category, brand, price, baskets, confidence, lift; by rank.
    days
        First and last day of the events that the neighbours (or, without them, the features) were made from.
    versions
        version and committed_at of each table, by asset.
    notes
        What is missing and what is special, a sentence each.
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
    """Returns the newest neighbours and pairs of a product, and the features that its neighbours were made with.

    Raises UnknownIdError if none of these tables has the id.
    """
    tables = Tables(lake)
    similar = tables.newest("similar_products")
    products = tables.ancestor(similar, "product_features")
    product_id = parse_stored_id(text, "product_id", [products, similar])
    features = next(iter(tables.rows(products, "select * from {table} where product_id = ?", product_id)), None)
    near = tables.rows(
        similar,
        "select rank, similar_product_id as product_id, similarity from {table} where product_id = ? order by rank",
        product_id,
    )
    # A data dir of an earlier release has no pairs: that needs no note.
    paired = tables.newest("product_pairs") if "product_pairs" in lake.assets() else None
    pairs = tables.rows(
        paired,
        "select kind, rank, pair_product_id as product_id, baskets, confidence, lift from {table} "
        "where product_id = ? order by kind, rank",
        product_id,
    )
    if features is None and not near and not pairs:
        raise UnknownIdError(_unknown(product_id, products, tables.notes))
    notes = list(tables.notes)
    if similar is not None and not near:
        notes.append("The product has no neighbours: item_neighbours has no eligible product with common users.")
    about = tables.product_table(similar)
    known = tables.describe_products(about, [product_id, *(row["product_id"] for row in (*near, *pairs))])
    made = similar or products
    return ProductAnswer(
        product_id=product_id,
        features=features,
        name=known.get(product_id, {}).get("name"),
        neighbours=[_with_product(row, known, "similarity") for row in near],
        bought_together=[_with_product(row, known, *PAIRED) for row in pairs if row["kind"] == "bought"],
        viewed_together=[_with_product(row, known, *PAIRED) for row in pairs if row["kind"] == "viewed"],
        days=source_days(lake, made) if made is not None else None,
        versions=version_times(tables.used.values()),
        notes=notes,
    )


def example_products(lake: Lake) -> list[Row]:
    """The five products with the most purchases: id, category, brand, total_purchases, total_views, avg_price."""
    tables = Tables(lake)
    products = tables.newest("product_features")
    if products is None:
        raise VersionNotFoundError(tables.notes[-1])
    columns = "product_id, category, brand, total_purchases, total_views, avg_price"
    return tables.rows(
        products, f"select {columns} from {{table}} order by total_purchases desc nulls last, product_id limit 5"
    )


def _with_product(row: Row, known: dict[int | str, Row], *columns: str) -> Row:
    product = known.get(row["product_id"], {})
    about = {name: product.get(name) for name in ("name", "category", "brand", "price")}
    return {"rank": row["rank"], "product_id": row["product_id"], **about, **{name: row[name] for name in columns}}


def _unknown(product_id: int | str, products: Version | None, notes: list[str]) -> str:
    if products is None:
        return " ".join(notes)
    return (
        f"There is no product {product_id} among the {products.stats.rows:,} of product_features {products.version} "
        f"(made {products.committed_at:%Y-%m-%d %H:%M} UTC): "
        f"`{RUN}ecommerce-assets lookup product` without an id lists some."
    )

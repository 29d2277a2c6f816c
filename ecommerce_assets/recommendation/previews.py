"""Previews of tables of lists: the first ranks of several users or products, with what is known of the products.

`list_preview` is the entry point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecommerce_assets.storage.display import Preview, ReadColumns

if TYPE_CHECKING:
    import pyarrow as pa

LISTS = 4
"""Maximum number of lists in a preview."""

RANKS = 3
"""Number of ranks of each list."""

ABOUT = ("name", "category", "brand")
"""Columns of product_eligibility that describe a product."""


def list_preview(owner: str, *products: str, names: str = "{}") -> Preview:
    """Returns the preview of a table with the columns `rank` and `owner`.

    Parameters
    ----------
    owner
        Column of the user or product whose list it is.
    products
        Columns of product ids that are described: after each there are its name, category and brand in the version of
        product_eligibility that the table was made from.
    names
        Names of the descriptions' columns, such as `pair_{}`.
    """

    def preview(rows: pa.Table, read: ReadColumns) -> pa.Table:
        shown = _first_ranks(rows, owner)
        for column in products:
            shown = _described(shown, column, names, read)
        return _without_empty_names(shown)

    return preview


def _first_ranks(rows: pa.Table, owner: str) -> pa.Table:
    import pyarrow.compute as pc

    order = [(owner, "ascending"), *((name, "ascending") for name in ("kind", "rank") if name in rows.column_names)]
    best = rows.filter(pc.field("rank") <= RANKS)
    owners = best.filter(pc.field("rank") == 1).column(owner).unique()[:LISTS]
    return best.filter(pc.field(owner).isin(owners)).sort_by(order)


def _described(rows: pa.Table, column: str, names: str, read: ReadColumns) -> pa.Table:
    import pyarrow.compute as pc

    ids = rows.column(column).combine_chunks()
    known = read("product_eligibility", ("product_id", *ABOUT), pc.field("product_id").isin(ids.unique()))
    place = pc.index_in(ids, value_set=known.column("product_id").combine_chunks())
    for offset, name in enumerate(ABOUT, rows.column_names.index(column) + 1):
        rows = rows.add_column(offset, names.format(name), known.column(name).take(place))
    return rows


def _without_empty_names(rows: pa.Table) -> pa.Table:
    """Without the names of products where there is no catalogue."""
    empty = [n for n in rows.column_names if n.endswith("name") and rows.column(n).null_count == rows.num_rows]
    return rows.drop_columns(empty)

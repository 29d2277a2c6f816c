"""Keeps the published lists, segments and products in memory, by id. `Published.load` is the entry point.

To save memory, ids are sorted Arrow arrays, products in lists are positions in such an array, and texts are codes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ecommerce_assets.lookup.tables import Tables
from ecommerce_assets.recommendation.fold_in import Entry, Event, FoldIn
from ecommerce_assets.recommendation.interactions import WEIGHTS
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import arrow_dataset
from ecommerce_assets.storage.version import Version

MAX_LENGTH = 100
"""Maximum number of entries in an answer."""

PAIR_KINDS = ("bought", "viewed")
DISPLAYED = ("name", "category", "brand")
"""Columns that describe a product; product_features, which an older data dir has, lacks `name`."""

_WATCHED = ("recommendations", "similar_products", "product_pairs")
"""Assets whose new versions are loaded. Of other tables, the inputs of the recommendations are loaded."""

_ENTRY = ("product_id", "score", "source", "because_product_id")
_SEGMENT = ("segment_id", "segment")
_PAIR_NUMBERS = ("baskets", "support", "confidence", "lift")
_RANKS = 1 << 16

Record = dict[str, Any]
"""The values of a row by column."""


@dataclass(frozen=True)
class Ids:
    """Distinct ids in ascending order."""

    values: pa.Array

    @classmethod
    def of(cls, columns: Iterable[pa.ChunkedArray]) -> Ids:
        """Returns the distinct ids of these columns, which must have the same type."""
        distinct = pc.unique(pa.chunked_array([pc.unique(column) for column in columns])).drop_null()
        return cls(distinct.take(pc.array_sort_indices(distinct)))

    def __len__(self) -> int:
        return len(self.values)

    def find(self, item_id: int | str) -> int | None:
        """Returns the position of an id; None if it is unknown."""
        at = bisect_left(self.values, item_id, key=lambda value: value.as_py())
        return at if at < len(self.values) and self.values[at].as_py() == item_id else None

    def at(self, positions: Sequence[int]) -> list[Any]:
        """Returns the ids at these positions; None for the position -1."""
        ids: list[Any] = self.values.take(pa.array(positions, pa.int32(), mask=np.less(positions, 0))).to_pylist()
        return ids

    def positions(self, column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
        """Returns the position of each value of a column (int32); -1 for null and unknown ids."""
        return np.asarray(pc.fill_null(pc.index_in(column, value_set=self.values), -1))


@dataclass(frozen=True)
class ColumnValues:
    """The values of a column by row.

    Attributes
    ----------
    values
        The values; for a column of texts, their positions in `texts`.
    texts
        The distinct texts, followed by None; None for other columns.
    """

    values: np.ndarray[Any, Any]
    texts: Sequence[str | None] | None = None

    @classmethod
    def of(cls, values: pa.ChunkedArray) -> ColumnValues:
        """Returns a column of a table; texts become codes of the smallest possible type."""
        if not pa.types.is_string(values.type):
            return cls(np.asarray(values))
        encoded = values.dictionary_encode().combine_chunks()
        texts = [*encoded.dictionary.to_pylist(), None]
        return cls(np.asarray(pc.fill_null(encoded.indices, -1)).astype(np.min_scalar_type(-len(texts))), texts)

    def at(self, rows: slice | Sequence[int]) -> list[Any]:
        """Returns the values of some rows."""
        values: list[Any] = self.values[rows].tolist()
        return values if self.texts is None else [self.texts[code] for code in values]


@dataclass(frozen=True)
class Lists:
    """The rows of a table, grouped by an id and sorted by rank.

    Attributes
    ----------
    ids
        The n ids that have rows.
    starts
        (n + 1,) number of the first row of each id; the last value is the number of rows.
    columns
        The other columns; products are positions in the ids of all products.
    """

    ids: Ids
    starts: np.ndarray[Any, Any]
    columns: Mapping[str, ColumnValues]

    @classmethod
    def read(
        cls,
        table: ds.Dataset,
        key: str,
        columns: Sequence[str],
        products: Ids | None = None,
        kind: str | None = None,
    ) -> Lists:
        """Returns the rows of a table. Reads one column at a time, which takes a fraction of the memory.

        Parameters
        ----------
        table
            The files of the table.
        key
            Column of the ids.
        columns
            Columns to keep.
        products
            Ids of all products: columns that end with `product_id` become positions in them. None: they stay ids.
        kind
            Keep only the rows of this `kind`; None: all rows.
        """

        def column(name: str) -> pa.ChunkedArray:
            return _column(table, name, None if kind is None else ds.field("kind") == kind)

        keys = column(key)
        ids = Ids.of([keys])
        id_of_row = ids.positions(keys)
        del keys
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(np.bincount(id_of_row, minlength=len(ids)), out=starts[1:])
        order = id_of_row.astype(np.int64) * _RANKS
        if "rank" in table.schema.names:
            order += np.asarray(column("rank"))
        order = np.argsort(order)
        kept = {}
        for name in columns:
            if products is not None and name.endswith("product_id"):
                values = ColumnValues(products.positions(column(name)))
            else:
                values = ColumnValues.of(column(name))
            kept[name] = ColumnValues(values.values[order], values.texts)
        return cls(ids, starts, kept)

    def rows(self, item_id: int | str, k: int | None = None) -> dict[str, list[Any]] | None:
        """Returns the first k rows of an id (None: all), by column; None if the id has no rows."""
        at = self.ids.find(item_id)
        if at is None:
            return None
        start, end = int(self.starts[at]), int(self.starts[at + 1])
        rows = slice(start, end if k is None else min(start + k, end))
        return {name: column.at(rows) for name, column in self.columns.items()}

    @property
    def bytes(self) -> int:
        """Memory in bytes, without the distinct texts."""
        return int(self.ids.values.nbytes + self.starts.nbytes + sum(c.values.nbytes for c in self.columns.values()))


@dataclass(frozen=True)
class Answer:
    """The entries of a list; `is_fallback` is True if they are popular products only."""

    entries: Sequence[Record]
    is_fallback: bool = False


@dataclass(frozen=True)
class Published:
    """The published results, in versions that belong together.

    Attributes
    ----------
    versions
        The loaded versions, by asset.
    notes
        One sentence for each table that is missing, or is not the version that the recommendations were made from.
    products, descriptions
        The ids of all products, and the columns `DISPLAYED` in the same order.
    recommendations, segments
        The rows by user.
    similar
        The rows by product.
    pairs
        The rows by kind, then by product.
    fold_in
        Recommends products to visitors.
    popular
        The fallback: the list of a visitor without events, best first; at most `MAX_LENGTH` entries.
    loaded_at
        Time at which they were loaded, UTC.
    """

    versions: Mapping[str, Version]
    notes: Sequence[str]
    products: Ids
    descriptions: Mapping[str, ColumnValues]
    recommendations: Lists
    segments: Lists | None
    similar: Lists | None
    pairs: Mapping[str, Lists]
    fold_in: FoldIn
    popular: Sequence[Entry]
    loaded_at: datetime

    @classmethod
    def load(cls, lake: Lake, load_fold_in: Callable[[Lake], FoldIn] = FoldIn.load) -> Published:
        """Loads the newest lists, and the segments and products that the recommendations were made from.

        Raises
        ------
        VersionNotFoundError
            If no recommendations are published, or one of their input versions was removed.
        """
        lists, tables = lake.latest("recommendations"), Tables(lake)
        descriptions = tables.about_products(lists)
        candidates = (
            *(lists, descriptions, tables.behind(lists, "segmented_users")),
            *(tables.newest("similar_products"), lake.latest_or_none("product_pairs")),
        )
        versions = {version.asset: version for version in candidates if version is not None}
        stored = {asset: arrow_dataset(lake, version) for asset, version in versions.items()}
        products = Ids.of(
            _column(table, name)
            for asset, table in stored.items()
            for name in table.schema.names
            if name.endswith("product_id") and name != "because_product_id" and asset != "segmented_users"
        )

        def by_product(asset: str, *columns: str, kind: str | None = None) -> Lists | None:
            return Lists.read(stored[asset], "product_id", columns, products, kind) if asset in stored else None

        entry_columns = [name for name in _ENTRY if name in stored["recommendations"].schema.names]
        pairs = {kind: by_product("product_pairs", "pair_product_id", *_PAIR_NUMBERS, kind=kind) for kind in PAIR_KINDS}
        fold_in = load_fold_in(lake)
        return cls(
            versions,
            tables.notes,
            products,
            _descriptions(stored[descriptions.asset] if descriptions else None, products),
            Lists.read(stored["recommendations"], "user_id", entry_columns, products),
            Lists.read(stored["segmented_users"], "user_id", _SEGMENT) if "segmented_users" in stored else None,
            by_product("similar_products", "similar_product_id", "similarity"),
            {kind: lists for kind, lists in pairs.items() if lists is not None},
            fold_in,
            fold_in.recommend_for([], k=MAX_LENGTH),
            datetime.now(UTC),
        )

    @property
    def watched(self) -> dict[str, str]:
        """The loaded version of each watched asset, to compare with `newest_versions`."""
        return {asset: self.versions[asset].version for asset in _WATCHED if asset in self.versions}

    def version(self, asset: str) -> str | None:
        """Returns the version of an asset; None if it is not published."""
        return self.versions[asset].version if asset in self.versions else None

    @property
    def length(self) -> int:
        """Number of products in a stored list of recommendations."""
        return int(self.versions["recommendations"].parameters.get("k", 10))

    @property
    def bytes(self) -> int:
        """Memory of the tables in bytes, without the distinct texts and fold-in."""
        lists = [self.recommendations, self.segments, self.similar, *self.pairs.values()]
        size = sum(each.bytes for each in lists if each is not None) + int(self.products.values.nbytes)
        return size + sum(column.values.nbytes for column in self.descriptions.values())

    def recommend(self, user_id: int | str, k: int | None) -> Answer:
        """Returns the stored list of a user; the fallback if the user is unknown."""
        rows = self.recommendations.rows(user_id, k)
        if rows is None and self.segment(user_id) is None:
            return self.fallback(k)
        return Answer(self._entries(rows, "product_id"))

    def recommend_for(self, events: Sequence[Event], segment: str | None, k: int | None) -> Answer:
        """Returns the list for a visitor; the fallback if no view, cart or purchase is of a known product.

        Raises
        ------
        ValueError
            See `FoldIn.recommend_for`.
        """
        known = any(e.event_type in WEIGHTS and self.products.find(e.product_id) is not None for e in events)
        return Answer(self._described(self.fold_in.recommend_for(events, segment, k)), not known)

    def segment(self, user_id: int | str) -> Record | None:
        """Returns `segment_id` and `segment` of a user; None if the user is unknown."""
        rows = self.segments.rows(user_id) if self.segments is not None else None
        return {name: values[0] for name, values in rows.items()} if rows else None

    def similar_to(self, product_id: int | str, k: int | None) -> Answer:
        """Returns similar products, most similar first; the fallback if the product is unknown."""
        return self._neighbours(self.similar, product_id, "similar_product_id", k)

    def pairs_with(self, product_id: int | str, kind: str, k: int | None) -> Answer:
        """Returns products bought or viewed together with this one; the fallback if the product is unknown."""
        return self._neighbours(self.pairs.get(kind), product_id, "pair_product_id", k)

    def fallback(self, k: int | None) -> Answer:
        """Returns the k most popular products of the shop; None: as many as a stored list has."""
        return Answer(self._described(self.popular[: k or self.length]), True)

    def _neighbours(self, lists: Lists | None, product_id: int | str, column: str, k: int | None) -> Answer:
        if self.products.find(product_id) is None:
            return self.fallback(k)
        rows = lists.rows(product_id, k) if lists is not None else None
        return Answer(self._entries(rows, column))

    def _entries(self, rows: Mapping[str, list[Any]] | None, listed: str) -> list[Record]:
        """Returns the rows of a list with rank, ids and descriptions; `listed` is the column of the listed products."""
        if rows is None:
            return []
        positions = rows[listed]
        columns = {**rows, "rank": range(1, len(positions) + 1), "product_id": self.products.at(positions)}
        if "because_product_id" in rows:
            columns["because_product_id"] = self.products.at(rows["because_product_id"])
        columns |= {name: column.at(positions) for name, column in self.descriptions.items()}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _described(self, entries: Sequence[Entry]) -> list[Record]:
        rows = [(vars(entry), self.products.find(entry.product_id)) for entry in entries]
        return [
            {**row, **{name: column.at([at])[0] for name, column in self.descriptions.items() if at is not None}}
            for row, at in rows
        ]


def newest_versions(lake: Lake) -> dict[str, str]:
    """Returns the newest published version of each watched asset; reads no rows."""
    newest = {asset: lake.latest_or_none(asset) for asset in _WATCHED}
    return {asset: version.version for asset, version in newest.items() if version is not None}


def _column(table: ds.Dataset, name: str, where: ds.Expression | None = None) -> pa.ChunkedArray:
    # One thread, so that the others can answer requests.
    return table.to_table(columns=[name], filter=where, use_threads=False).column(name)


def _descriptions(table: ds.Dataset | None, products: Ids) -> dict[str, ColumnValues]:
    """Returns the columns `DISPLAYED` of a table, in the order of `products`; null for products without a row."""
    if table is None:
        return {}
    rows = pc.index_in(products.values, value_set=_column(table, "product_id").combine_chunks())
    names = [name for name in DISPLAYED if name in table.schema.names]
    return {name: ColumnValues.of(_column(table, name).take(rows)) for name in names}

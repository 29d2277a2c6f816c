"""The kernel of the recommendations: the lists of a batch of users, from the model and then from what is popular.

NumPy and Arrow only, no Spark job. The exact search is top_k.py, popularity fallback.py; who is asked is recommend.py's
business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecommerce_assets.recommendation.fallback import Fallback, Order
from ecommerce_assets.recommendation.top_k import Excluded, Items, top_k

SOURCES = ("als", "segment_popular", "popular")
"""Where an entry comes from, by its code."""

BY_MODEL, FROM_SEGMENT, FROM_SHOP = range(len(SOURCES))

CELLS = 1 << 22
"""Users times offers that are looked at in one piece while lists are completed: 21 MB."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Products:
    """The products in the order of their ids, which is the order in which ties are broken.

    Attributes
    ----------
    ids
        Product ids, ascending: a product's place here is its position.
    position_of
        Position of each product_idx.
    """

    ids: npt.NDArray[Any]
    position_of: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ids: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> Products:
        """From ids and their product_idx, in any order."""
        order = np.argsort(ids, kind="stable")
        position_of = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int64)
        position_of[numbers[order]] = np.arange(len(ids))
        return cls(ids[order], position_of)

    def excluded(self, numbers: pa.ListArray) -> Excluded:
        """Lists of product_idx as positions; null is an empty list."""
        begins, idx = ragged(numbers)
        return Excluded(begins, self.position_of[idx])


@dataclass(frozen=True)
class ItemFactors:
    """The factors of the products that the model knows, in the order of their positions.

    Attributes
    ----------
    positions
        Position of each product that the model knows, ascending.
    vectors
        Their factors.
    place_of
        By position, the product's row in `vectors`; -1 where the model does not know it.
    """

    positions: Integers
    vectors: npt.NDArray[np.float32]
    place_of: Integers

    @classmethod
    def of(cls, positions: Integers, vectors: npt.NDArray[np.float32], products: int) -> ItemFactors:
        """Of products at these ascending positions, among so many products."""
        place_of = np.full(products, -1, np.int64)
        place_of[positions] = np.arange(len(positions))
        return cls(positions, vectors, place_of)

    @classmethod
    def none(cls, products: int) -> ItemFactors:
        """A model that knows no product."""
        return cls.of(np.empty(0, np.int64), np.empty((0, 1), np.float32), products)


@dataclass(frozen=True)
class Lists:
    """Lists of n users, best first, each of k places of which the last may be empty.

    Attributes
    ----------
    positions
        (n, k) positions of the products; -1 where a place is empty.
    scores
        (n, k), not rising along a list; -inf where a place is empty.
    sources
        (n, k) codes of `SOURCES`.
    """

    positions: Integers
    scores: npt.NDArray[np.float64]
    sources: npt.NDArray[np.int8]

    @classmethod
    def empty(cls, users: int, k: int) -> Lists:
        """(users, k) places with nothing in them."""
        shape = (users, k)
        return cls(np.full(shape, -1, np.int64), np.full(shape, -np.inf), np.full(shape, BY_MODEL, np.int8))

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """(users, k) which places hold a product."""
        return self.positions >= 0

    def as_rows(self, user_ids: pa.Array, product_ids: npt.NDArray[Any]) -> pa.RecordBatch:
        """`user_id`, `rank`, `product_id`, `score`, `source`: a row for each filled place, user by user, by rank."""
        users, ranks = np.nonzero(self.filled)
        sources = pa.DictionaryArray.from_arrays(pa.array(self.sources[users, ranks]), pa.array(SOURCES))
        return pa.RecordBatch.from_pydict(
            {
                "user_id": user_ids.take(pa.array(users)),
                "rank": pa.array((ranks + 1).astype(np.int32)),
                "product_id": pa.array(product_ids[self.positions[users, ranks]], batch_type(product_ids)),
                "score": pa.array(self.scores[users, ranks]),
                "source": sources.cast(pa.string()),
            }
        )


@dataclass(frozen=True)
class Recommender:
    """Makes lists of `k` products. Products go by position, the order of their ids, in which ties are broken."""

    factors: ItemFactors
    fallback: Fallback
    k: int

    def lists(self, features: pa.ListArray | None, segments: pa.StringArray, excluded: Excluded) -> Lists:
        """The lists of a batch of users.

        Parameters
        ----------
        features
            Factors of each user; null where the model does not know the user. None: the model is not asked.
        segments
            Segment of each user, or null.
        excluded
            Positions of the products that each user must not get.
        """
        made = Lists.empty(len(segments), self.k)
        if features is not None and len(self.factors.positions):
            self._ask_model(made, features, excluded)
        self._complete(made, segments, excluded)
        return made

    @cached_property
    def _items(self) -> Items:
        return Items.of(self.factors.vectors)

    @cached_property
    def _orders(self) -> dict[str | None, Order]:
        return {}

    def _order(self, segment: str | None) -> Order:
        if segment not in self._orders:
            self._orders[segment] = self.fallback.order(segment)
        return self._orders[segment]

    def _ask_model(self, made: Lists, features: pa.ListArray, excluded: Excluded) -> None:
        """Fill the lists of users that have factors; all-zero factors say nothing and count as none."""
        rows = np.flatnonzero(features.is_valid().to_numpy(zero_copy_only=False))
        if not len(rows):
            return
        queries = vectors_of(features.drop_null())
        telling = queries.any(axis=1)
        rows, queries = rows[telling], queries[telling]
        owners, positions = excluded.of(rows)
        # From positions among all products to places among those that the model knows.
        places = self.factors.place_of[positions]
        owners, places = owners[places >= 0], places[places >= 0]
        barred = Excluded(np.searchsorted(owners, np.arange(len(rows) + 1)), places)
        found, scores = top_k(queries, self._items, barred, self.k)
        made.positions[rows] = np.where(found >= 0, self.factors.positions[found], -1)
        made.scores[rows] = scores

    def _complete(self, made: Lists, segments: pa.StringArray, excluded: Excluded) -> None:
        """Fill what is short with what is popular."""
        short = np.flatnonzero(~made.filled[:, -1])
        if not len(short):
            return
        named = segments.take(pa.array(short)).dictionary_encode()
        codes = named.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for code in np.unique(codes):
            order = self._order(named.dictionary[code].as_py() if code >= 0 else None)
            complete(made, short[codes == code], order, excluded)
        # A share of users is no preference: it is capped so that the score does not rise with the rank.
        made.scores[short] = np.minimum.accumulate(made.scores[short], axis=1)


def complete(made: Lists, rows: Integers, order: Order, excluded: Excluded) -> None:
    """Fill the free places of these lists in the given order, without what is barred and what is there already.

    Of the first k + b products of the order at most b can be barred or there, so no more need to be looked at.
    """
    k = made.positions.shape[1]
    there = made.filled[rows].sum(axis=1, dtype=np.int32)
    widths = np.minimum(k + there + excluded.begins[rows + 1] - excluded.begins[rows], len(order.positions))
    widest_first = np.argsort(-widths, kind="stable")
    start = 0
    while start < len(rows):
        width = max(int(widths[widest_first[start]]), 1)
        chunk = widest_first[start : start + max(1, CELLS // width)]
        start += len(chunk)
        own = rows[chunk]
        free = np.ones((len(own), width), dtype=bool)
        listed = np.nonzero(made.filled[own])
        for owners, positions in (excluded.of(own), (listed[0], made.positions[own][listed])):
            places = order.place_of[positions]
            seen = places < width
            free[owners[seen], places[seen]] = False
        free = free[:, : len(order.positions)]
        slots = there[chunk, None] + np.cumsum(free, axis=1, dtype=np.int32) - 1
        user, place = np.nonzero(free & (slots < k))
        slot = slots[user, place]
        made.positions[own[user], slot] = order.positions[place]
        made.scores[own[user], slot] = order.shares[place]
        made.sources[own[user], slot] = np.where(place < order.own, FROM_SEGMENT, FROM_SHOP)


def vectors_of(features: pa.ListArray | pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """An Arrow column of lists of equal length, without nulls, as a matrix: no Python object per number."""
    flat = pc.list_flatten(features).to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(features), -1)


def ragged(lists: pa.ListArray) -> tuple[Integers, npt.NDArray[Any]]:
    """Where each list begins (and, one more, where the last ends), and all their values; null is an empty list."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return begins, pc.list_flatten(lists).to_numpy(zero_copy_only=False)


def batch_type(ids: npt.NDArray[Any]) -> pa.DataType:
    """Arrow's type for ids."""
    return pa.int64() if np.issubdtype(ids.dtype, np.integer) else pa.string()

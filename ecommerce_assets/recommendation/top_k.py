"""The kernel: for a batch of vectors, the k items with the highest dot product. NumPy only, no Spark.

What the vectors are, and who must not get what, is for the callers to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ROWS_AT_ONCE = 4096
FIRST_BLOCK, LARGEST_BLOCK = 128, 1024
"""Bound the score matrix to 17 MB. The first blocks are small: soon there is a k-th best score to prune with."""

CELLS = 1 << 17
"""Scores in a block, where there are few queries: these take larger blocks, one query a dozen of them."""

PENDING_PER_RESULT = 6
"""Candidates per row and place of its list, in the mean, above which they are weighed before going on: matters where
very many items tie."""


@dataclass(frozen=True)
class Excluded:
    """What each query must not get: query i the items[begins[i] : begins[i + 1]]."""

    begins: Integers
    items: Integers

    @classmethod
    def nothing(cls, queries: int) -> Excluded:
        """For queries that may get every item."""
        return cls(np.zeros(queries + 1, np.int64), np.empty(0, np.int64))

    def of(self, queries: Integers) -> tuple[Integers, Integers]:
        """The items of these queries, in their order, and to the place of which query each belongs."""
        begins = self.begins[queries]
        counts = self.begins[queries + 1] - begins
        owners = np.repeat(np.arange(len(queries)), counts)
        offsets = np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners]
        return owners, self.items[begins[owners] + offsets]


@dataclass(frozen=True)
class Items:
    """Items in the order of their lengths, longest first: made once, searched by many batches.

    Attributes
    ----------
    positions
        Where each stood before.
    vectors
        (m, rank), in the new order.
    lengths
        Their Euclidean lengths, in doubles.
    """

    positions: Integers
    vectors: Floats
    lengths: npt.NDArray[np.float64]

    @classmethod
    def of(cls, vectors: Floats) -> Items:
        """Sort (m, rank) vectors; an item's position is its row here."""
        vectors = np.asarray(vectors, np.float32)
        lengths = _lengths(vectors)
        order = np.argsort(-lengths, kind="stable")
        return cls(order, np.ascontiguousarray(vectors[order]), lengths[order])

    @cached_property
    def place_of(self) -> Integers:
        """Where each stands now, by the position before."""
        place = np.empty(len(self.positions), np.int64)
        place[self.positions] = np.arange(len(self.positions))
        return place


def top_k(queries: Floats, items: Items, excluded: Excluded, k: int) -> tuple[Integers, Floats]:
    """The exact k best items of each query by dot product, best first, ties by position.

    Items come in blocks, longest first, and a query leaves as soon as its length times that of the next item is less
    than its k-th best score: by the Cauchy-Schwarz inequality nothing better follows (Teflioudi, Gemulla and Mykytiuk,
    "LEMP: Fast Retrieval of Large Entries in a Matrix Product", SIGMOD 2015). Scores are first taken from a float32
    product, whose last digits depend on where an item stands and on who else is in the batch. Whatever its error bound
    allows to be among the best is therefore summed again in doubles, in a fixed order, and rounded to float32: equal
    items tie, and a query gets the same answer in any batch.

    In a large shop a tenth of the products is looked at. The BLAS should have one thread, as in Spark's Python workers:
    on a busy machine its threads wait for each other at every block.

    Parameters
    ----------
    queries
        (n, rank) vectors.
    items
        What to choose from.
    excluded
        For each query, positions of items that it must not get.
    k
        How many at the most; a query with fewer items left gets fewer.

    Returns
    -------
    positions, scores
        (n, k) int64 positions and float32 dot products; -1 and -inf where a query has fewer than k.

    Examples
    --------
    >>> items = Items.of(np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32))
    >>> positions, scores = top_k(np.array([[1, 2]], dtype=np.float32), items, Excluded.nothing(1), 2)
    >>> positions.tolist(), scores.tolist()
    ([[2, 1]], [[3.0, 2.0]])
    """
    queries = np.ascontiguousarray(queries, np.float32)
    positions, scores = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(queries), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(queries))
        begins = excluded.begins[start : stop + 1]
        barred_rows = np.repeat(np.arange(stop - start), np.diff(begins))
        barred_places = items.place_of[excluded.items[begins[0] : begins[-1]]]
        search = _Search(queries[start:stop], items, k, barred_rows, barred_places)
        search.run(positions[start:stop], scores[start:stop])
    return positions, scores


class _Search:
    """One batch of queries on its way through the items.

    Candidates are pairs of a query's row and an item's place, with a score that is within `error` of the true one.
    """

    def __init__(self, queries: Floats, items: Items, k: int, barred_rows: Integers, barred_places: Integers) -> None:
        self.queries, self.items, self.k = queries, items, k
        order = np.argsort(barred_places, kind="stable")
        self.barred_rows, self.barred_places = barred_rows[order], barred_places[order]
        self.lengths = _lengths(queries)
        longest = items.lengths[0] if len(items.lengths) else 0.0
        # Of a float32 sum of `rank` products in any order, of the result's rounding, and of numbers that underflow.
        rounding = (queries.shape[1] + 4) * float(np.finfo(np.float32).eps)
        self.error = rounding * self.lengths * longest + queries.shape[1] * float(np.finfo(np.float32).tiny)
        self.best = np.full((len(queries), k), -np.inf, np.float32)  # approximate scores, the lowest first
        self.rows, self.places = np.empty(0, np.int64), np.empty(0, np.int64)
        self.found: Floats = np.empty(0, np.float32)

    def run(self, positions: Integers, scores: Floats) -> None:
        """Fill in the positions and scores of these queries, (n, k) each."""
        active, width, first = np.arange(len(self.queries)), FIRST_BLOCK, 0
        own = self.queries
        while first < len(self.items.positions) and len(active):
            last = min(first + width, len(self.items.positions))
            self._block(active, own, first, last)
            if len(self.rows) > PENDING_PER_RESULT * self.k * len(self.queries):
                self._weigh()
            first, width = last, min(2 * width, max(LARGEST_BLOCK, CELLS // len(active)))
            if first < len(self.items.positions):
                reachable = self.lengths[active] * self.items.lengths[first]
                going_on = reachable >= self.best[active, 0] - self.error[active]
                if not going_on.all():
                    active, own = active[going_on], own[going_on]
        self._weigh()
        begins = np.searchsorted(self.rows, np.arange(len(self.queries)))
        rank = np.arange(len(self.rows)) - begins[self.rows]
        positions[self.rows, rank] = self.items.positions[self.places]
        scores[self.rows, rank] = self.found

    def _block(self, active: Integers, own: Floats, first: int, last: int) -> None:
        """Find candidates among the items from `first` to `last`."""
        products = own @ self.items.vectors[first:last].T
        here = slice(*np.searchsorted(self.barred_places, [first, last]))
        if here.start < here.stop:
            rows = np.searchsorted(active, self.barred_rows[here])
            rows[rows == len(active)] = 0
            there = active[rows] == self.barred_rows[here]
            products[rows[there], self.barred_places[here][there] - first] = -np.inf
        floor = self._floor(active)
        if first == 0 and last > self.k:
            # Nothing is known yet: instead of all items, only those at least as good as the k-th best of the block.
            kth = np.partition(products, last - self.k, axis=1)[:, last - self.k]
            floor = np.maximum(floor, kth - 2 * self.error[active])
        # A bound of float32 must not lie above that of doubles.
        floor32 = np.nextafter(floor.astype(np.float32), np.float32(-np.inf))
        np.maximum(floor32, np.finfo(np.float32).min, out=floor32)  # -inf is what is barred
        found = np.flatnonzero(products >= floor32[:, None])
        if not len(found):
            return
        slots, columns = np.divmod(found, last - first)
        values = products.ravel()[found]
        self.rows = np.concatenate([self.rows, active[slots]])
        self.places = np.concatenate([self.places, columns + first])
        self.found = np.concatenate([self.found, values])
        self._raise(active, slots, values)

    def _floor(self, rows: Integers) -> npt.NDArray[np.float64]:
        """The approximate score from which on an item may be among the best or tie with them."""
        floor: npt.NDArray[np.float64] = self.best[rows, 0] - 2 * self.error[rows]
        return floor

    def _raise(self, active: Integers, slots: Integers, values: Floats) -> None:
        """Take new approximate scores, in the order of their slots, into the k best."""
        touched, begins, counts = np.unique(slots, return_index=True, return_counts=True)
        wide = np.full((len(touched), self.k + int(counts.max())), -np.inf, np.float32)
        rows = active[touched]
        wide[:, : self.k] = self.best[rows]
        wide[np.repeat(np.arange(len(touched)), counts), self.k + np.arange(len(slots)) - np.repeat(begins, counts)] = (
            values
        )
        best = np.partition(wide, wide.shape[1] - self.k, axis=1)[:, wide.shape[1] - self.k :]
        self.best[rows] = best  # partition leaves the k-th best in front

    def _weigh(self) -> None:
        """Give the candidates their exact scores, and keep the k best of each query, best first, ties by position."""
        likely = self.found >= self._floor(self.rows)
        rows, places = self.rows[likely], self.places[likely]
        exact = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), 1 << 18):
            part = slice(start, start + (1 << 18))
            one, other = self.queries[rows[part]], self.items.vectors[places[part]]
            exact[part] = np.einsum("ij,ij->i", one, other, dtype=np.float64)
        order = np.lexsort((self.items.positions[places], -exact, rows))
        rows, places, exact = rows[order], places[order], exact[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = rank < self.k
        self.rows, self.places, self.found = rows[kept], places[kept], exact[kept]


def _lengths(vectors: Floats) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return lengths

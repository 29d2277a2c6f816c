"""Exact search for the k items with the highest dot product with each query vector. `top_k` is the entry point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

BATCH_ROWS = 4096
"""Maximum number of queries per batch."""

FIRST_BLOCK, LARGEST_BLOCK = 128, 1024
"""Items per block, doubled from the first to the largest: the score matrix has at most 17 MB, and small first blocks
give an early k-th best score to prune with."""

BLOCK_SCORES = 1 << 17
"""Minimum number of scores per block if there are few queries."""

PENDING_PER_RESULT = 6
"""Maximum mean number of candidates per place of a list: above it, exact scores reduce them. Bounds the memory if very
many items tie."""


@dataclass(frozen=True)
class Excluded:
    """The items that each query must not get: items[begins[i] : begins[i + 1]] for query i."""

    begins: Integers
    items: Integers

    @classmethod
    def nothing(cls, queries: int) -> Excluded:
        """Returns an empty list of excluded items for each query."""
        return cls(np.zeros(queries + 1, np.int64), np.empty(0, np.int64))

    def of(self, queries: Integers) -> tuple[Integers, Integers]:
        """Returns pairs of a place in `queries` and an item that this query must not get, in the order of `queries`."""
        begins = self.begins[queries]
        counts = self.begins[queries + 1] - begins
        owners = np.repeat(np.arange(len(queries)), counts)
        offsets = np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners]
        return owners, self.items[begins[owners] + offsets]


@dataclass(frozen=True)
class Items:
    """m items sorted by the length of their vectors, longest first; searched by many batches.

    Attributes
    ----------
    positions
        (m,) position of each item in the original order.
    vectors
        (m, rank) vectors.
    lengths
        (m,) Euclidean lengths, float64.
    """

    positions: Integers
    vectors: Floats
    lengths: npt.NDArray[np.float64]

    @classmethod
    def of(cls, vectors: Floats) -> Items:
        """Returns sorted items of (m, rank) vectors; the position of an item is its row."""
        vectors = np.asarray(vectors, np.float32)
        lengths = _lengths(vectors)
        order = np.argsort(-lengths, kind="stable")
        return cls(order, np.ascontiguousarray(vectors[order]), lengths[order])

    @cached_property
    def place_of(self) -> Integers:
        """(m,) place of each item in the sorted order, by its position."""
        place = np.empty(len(self.positions), np.int64)
        place[self.positions] = np.arange(len(self.positions))
        return place


def top_k(queries: Floats, items: Items, excluded: Excluded, k: int) -> tuple[Integers, Floats]:
    """Returns the k items with the highest dot product with each query, best first, ties by position.

    The search goes through blocks of items, longest first. A query is done when its length times the length of the next
    item is below its k-th best score: by the Cauchy-Schwarz inequality no better item follows (Teflioudi, Gemulla and
    Mykytiuk, "LEMP: Fast Retrieval of Large Entries in a Matrix Product", SIGMOD 2015).

    The last digits of a float32 matrix product depend on the batch. So all items that can be among the best within its
    error bound are summed again in float64, in a fixed order, and rounded to float32: equal items tie, and a query has
    the same result in any batch.

    Use one BLAS thread, as in Spark's Python workers: more threads wait for each other at every block.

    Parameters
    ----------
    queries
        (n, rank) vectors.
    items
        The m items.
    excluded
        For each query, positions of items that it must not get.
    k
        Maximum number of items per query.

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
    for start in range(0, len(queries), BATCH_ROWS):
        stop = min(start + BATCH_ROWS, len(queries))
        begins = excluded.begins[start : stop + 1]
        excluded_rows = np.repeat(np.arange(stop - start), np.diff(begins))
        excluded_places = items.place_of[excluded.items[begins[0] : begins[-1]]]
        search = _Search(queries[start:stop], items, k, excluded_rows, excluded_places)
        search.run(positions[start:stop], scores[start:stop])
    return positions, scores


class _Search:
    """The search of one batch of queries.

    `rows`, `places` and `scores` are the candidates: the row of a query, the place of an item, and a score that is
    within `error` of the exact one. `best` has the k highest scores of each query so far, the lowest one first.
    """

    def __init__(
        self, queries: Floats, items: Items, k: int, excluded_rows: Integers, excluded_places: Integers
    ) -> None:
        self.queries, self.items, self.k = queries, items, k
        order = np.argsort(excluded_places, kind="stable")
        self.excluded_rows, self.excluded_places = excluded_rows[order], excluded_places[order]
        self.lengths = _lengths(queries)
        longest = items.lengths[0] if len(items.lengths) else 0.0
        # Bounds a float32 sum of `rank` products in any order, the rounding of the result, and underflow.
        rounding = (queries.shape[1] + 4) * float(np.finfo(np.float32).eps)
        self.error = rounding * self.lengths * longest + queries.shape[1] * float(np.finfo(np.float32).tiny)
        self.best = np.full((len(queries), k), -np.inf, np.float32)
        self.rows, self.places = np.empty(0, np.int64), np.empty(0, np.int64)
        self.scores: Floats = np.empty(0, np.float32)

    def run(self, positions: Integers, scores: Floats) -> None:
        """Fills the (n, k) positions and scores of these queries."""
        active, width, first = np.arange(len(self.queries)), FIRST_BLOCK, 0
        vectors = self.queries
        while first < len(self.items.positions) and len(active):
            last = min(first + width, len(self.items.positions))
            self._search_block(active, vectors, first, last)
            if len(self.rows) > PENDING_PER_RESULT * self.k * len(self.queries):
                self._reduce_candidates()
            first, width = last, min(2 * width, max(LARGEST_BLOCK, BLOCK_SCORES // len(active)))
            if first < len(self.items.positions):
                upper_bound = self.lengths[active] * self.items.lengths[first]
                still_active = upper_bound >= self.best[active, 0] - self.error[active]
                if not still_active.all():
                    active, vectors = active[still_active], vectors[still_active]
        self._reduce_candidates()
        begins = np.searchsorted(self.rows, np.arange(len(self.queries)))
        rank = np.arange(len(self.rows)) - begins[self.rows]
        positions[self.rows, rank] = self.items.positions[self.places]
        scores[self.rows, rank] = self.scores

    def _search_block(self, active: Integers, vectors: Floats, first: int, last: int) -> None:
        """Adds candidates from the items `first` to `last` for the active queries, which have these vectors."""
        products = vectors @ self.items.vectors[first:last].T
        in_block = slice(*np.searchsorted(self.excluded_places, [first, last]))
        if in_block.start < in_block.stop:
            rows = np.searchsorted(active, self.excluded_rows[in_block])
            rows[rows == len(active)] = 0
            is_active = active[rows] == self.excluded_rows[in_block]
            products[rows[is_active], self.excluded_places[in_block][is_active] - first] = -np.inf
        floor = self._floor(active)
        if first == 0 and last > self.k:
            # Only items at least as good as the k-th best of the first block can be among the best.
            kth = np.partition(products, last - self.k, axis=1)[:, last - self.k]
            floor = np.maximum(floor, kth - 2 * self.error[active])
        # Rounding to float32 must not raise the bound.
        floor32 = np.nextafter(floor.astype(np.float32), np.float32(-np.inf))
        np.maximum(floor32, np.finfo(np.float32).min, out=floor32)  # excluded items have -inf
        cells = np.flatnonzero(products >= floor32[:, None])
        if not len(cells):
            return
        slots, columns = np.divmod(cells, last - first)
        values = products.ravel()[cells]
        self.rows = np.concatenate([self.rows, active[slots]])
        self.places = np.concatenate([self.places, columns + first])
        self.scores = np.concatenate([self.scores, values])
        self._update_best(active, slots, values)

    def _floor(self, rows: Integers) -> npt.NDArray[np.float64]:
        """Returns for each query the lowest approximate score that can be among the k best."""
        floor: npt.NDArray[np.float64] = self.best[rows, 0] - 2 * self.error[rows]
        return floor

    def _update_best(self, active: Integers, slots: Integers, values: Floats) -> None:
        """Updates the k best scores with new scores, which are in the order of `slots`."""
        changed, begins, counts = np.unique(slots, return_index=True, return_counts=True)
        wide = np.full((len(changed), self.k + int(counts.max())), -np.inf, np.float32)
        rows = active[changed]
        wide[:, : self.k] = self.best[rows]
        wide[np.repeat(np.arange(len(changed)), counts), self.k + np.arange(len(slots)) - np.repeat(begins, counts)] = (
            values
        )
        # partition puts the k-th best score first.
        self.best[rows] = np.partition(wide, wide.shape[1] - self.k, axis=1)[:, wide.shape[1] - self.k :]

    def _reduce_candidates(self) -> None:
        """Computes exact scores, and keeps the k best candidates of each query, best first, ties by position."""
        possible = self.scores >= self._floor(self.rows)
        rows, places = self.rows[possible], self.places[possible]
        exact = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), 1 << 18):
            part = slice(start, start + (1 << 18))
            one, other = self.queries[rows[part]], self.items.vectors[places[part]]
            exact[part] = np.einsum("ij,ij->i", one, other, dtype=np.float64)
        order = np.lexsort((self.items.positions[places], -exact, rows))
        rows, places, exact = rows[order], places[order], exact[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = rank < self.k
        self.rows, self.places, self.scores = rows[kept], places[kept], exact[kept]


def _lengths(vectors: Floats) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return lengths

"""The kernel: for a batch of vectors, the k items with the highest dot product. NumPy only, no Spark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ROWS_AT_ONCE = 128
"""Bounds the score matrix: 128 rows by 167,000 items are 171 MB as doubles, and 86 MB as floats."""


def top_k(queries: Floats, items: Floats, excluded: Sequence[Integers], k: int) -> tuple[list[Integers], list[Floats]]:
    """The exact k best items of each query by dot product, best first, ties by position.

    Parameters
    ----------
    queries
        (n, rank) vectors.
    items
        (m, rank) vectors.
    excluded
        For each query, positions of items that it must not get.
    k
        How many at the most; a query with fewer items left gets fewer.

    Returns
    -------
    positions, scores
        For each query, int64 positions into `items` and their float32 dot products.
    """
    positions: list[Integers] = []
    scores: list[Floats] = []
    # Summed in doubles and rounded to float32: a float32 product gives equal items different last digits, depending on
    # where they stand and on how many queries there are, so that ties would be broken by chance.
    items_by_rank = items.T.astype(np.float64)
    for start in range(0, len(queries), ROWS_AT_ONCE):
        block = (queries[start : start + ROWS_AT_ONCE].astype(np.float64) @ items_by_rank).astype(np.float32)
        for row, barred in zip(block, excluded[start : start + ROWS_AT_ONCE], strict=True):
            row[barred] = -np.inf
            best = _best(row, k)
            positions.append(best)
            scores.append(row[best])
    return positions, scores


def _best(row: Floats, k: int) -> Integers:
    if k < len(row):
        # Everything as good as the k-th best takes part, so that ties are broken by position and not by chance.
        threshold = np.partition(row, len(row) - k)[len(row) - k]
        candidates = np.flatnonzero(row >= threshold)
    else:
        candidates = np.arange(len(row))
    candidates = candidates[row[candidates] > -np.inf]
    order = np.lexsort((candidates, -row[candidates]))
    return candidates[order][:k].astype(np.int64)

"""Implicit ALS on one machine, in NumPy and Numba: the objective and the parameters of Spark MLlib, without Spark.

The loops over ratings are in als_kernels.py. als.py chooses the engine that fits the published model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

SWEEPS = 2
"""Of coordinate descent per half-step. More take longer and do not end at a lower objective, because each iteration
starts where the one before ended."""

CHUNKS = 64
"""Pieces of a half-step that threads take one after the other, of about equal cost."""

ROW_COST = 10
"""What a row costs beside its ratings, in ratings."""

GRAM_ROWS = 16_384
"""Rows summed in float32 before the sum goes on in doubles."""

PAIRS_AT_ONCE = 1 << 18
"""Whose vectors are side by side in memory: 52 MB for each side at rank 50."""


@dataclass(frozen=True)
class Factors:
    """Vectors by number, ascending; a number without a rating has none."""

    numbers: Integers
    vectors: Floats


@dataclass
class Side:
    """Users or products: their ratings, row by row, and their factors.

    Attributes
    ----------
    numbers
        Number of each row, ascending.
    begins, others, ratings
        Row i has the ratings begins[i] to begins[i + 1], given to (by) the rows `others` of the other side.
    factors
        One row of factors each, padded with zeros to a multiple of 8.
    """

    numbers: Integers
    begins: npt.NDArray[np.int64]
    others: Integers
    ratings: Floats
    factors: Floats

    def chunks(self) -> list[tuple[int, int]]:
        """First and last row of pieces that cost about the same; they depend on the data alone."""
        cost = self.begins + ROW_COST * np.arange(len(self.begins))
        edges = np.unique(np.searchsorted(cost, np.linspace(0, cost[-1], CHUNKS + 1)))
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))

    def weighted_squares(self) -> float:
        """Σ n |x|² over the rows, n being a row's number of ratings above zero."""
        counts = np.add.reduceat(self.ratings > 0, self.begins[:-1], dtype=np.int64)
        return float((counts * np.einsum("ij,ij->i", self.factors, self.factors)).sum())


class LocalAls:
    """The fit, one half-step at a time.

    Minimises Σ c (p - x·y)² over all users and products, plus λ (Σ n_u |x|² + Σ n_p |y|²): Hu, Koren and Volinsky,
    "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008), p = 1, c = 1 + alpha |rating| where there is a
    rating above zero, p = 0 elsewhere and c = 1 where there is none; n counts ratings above zero (Zhou et al.,
    "Large-scale Parallel Collaborative Filtering for the Netflix Prize", 2008), all as in Spark MLlib.

    Parameters
    ----------
    user_idx, product_idx, rating
        The pairs, in any order: the order changes no bit of the result.
    rank, regParam, alpha, nonnegative, seed
        By MLlib's names.
    threads
        As many as the process may use cores, by default. Their number changes no bit of the result.

    Attributes
    ----------
    objectives
        What is minimised, at the end of each iteration so far.
    """

    def __init__(
        self,
        user_idx: npt.NDArray[Any],
        product_idx: npt.NDArray[Any],
        rating: npt.NDArray[Any],
        rank: int = 50,
        regParam: float = 0.1,
        alpha: float = 1.0,
        nonnegative: bool = True,
        seed: int = 42,
        threads: int | None = None,
    ) -> None:
        # Imported here: Numba takes half a second and 100 MB that only a fit needs.
        from ecommerce_assets.recommendation import als_kernels

        if not len(rating):
            raise ValueError("There is nothing to learn from: no pairs.")
        if not np.isfinite(rating).all():
            raise ValueError("A rating is not a number, or infinite.")
        self._kernels: Any = als_kernels
        self.rank, self.regParam, self.alpha, self.nonnegative = rank, float(regParam), float(alpha), nonnegative
        self._threads = threads or cores()
        users, user_rows = _rows(user_idx)
        products, product_rows = _rows(product_idx)
        ratings = np.ascontiguousarray(rating, dtype=np.float32)
        # Three stable counting sorts: by product, by user (now users' rows are in order), by product (now both are).
        begins, by_user, ratings = als_kernels.group(product_rows, user_rows, ratings, len(products))
        begins, by_product, ratings = als_kernels.group(by_user, _spread(begins), ratings, len(users))
        als_kernels.order_repeats(begins, by_product, ratings)
        width = -(-rank // 8) * 8
        self.users = Side(users, begins, by_product, ratings, np.zeros((len(users), width), np.float32))
        begins, by_user, ratings = als_kernels.group(by_product, _spread(begins), ratings, len(products))
        self.products = Side(products, begins, by_user, ratings, np.zeros((len(products), width), np.float32))
        # As MLlib: a random direction of length one, in the positive quadrant where factors must be.
        start = np.random.default_rng(seed).standard_normal((len(users), rank), np.float32)
        start /= np.linalg.norm(start, axis=1, keepdims=True)
        self.users.factors[:, :rank] = np.abs(start) if nonnegative else start
        self.objectives: list[float] = []
        # Σ c p, which no factor changes.
        liked = self.users.ratings > 0
        total = float(np.sum(self.users.ratings, where=liked, dtype=np.float64))
        self._constant = np.count_nonzero(liked) + self.alpha * total

    def run(self, maxIter: int = 15) -> Iterator[Side]:
        """Solve products, then users, `maxIter` times; yields the side that was just solved."""
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in range(maxIter):
                self._half_step(self.users, self.products, pool)
                yield self.products
                of_users = self._half_step(self.products, self.users, pool, tell=True)
                self.objectives.append(self._constant + of_users + self.regParam * self.products.weighted_squares())
                yield self.users

    def _half_step(self, given: Side, solved: Side, pool: ThreadPoolExecutor, tell: bool = False) -> float:
        """Solve one side; if it shall tell, the objective without Σ c p and the given side's regularisation."""
        gram = _gram(given.factors)
        rows = (solved.begins, solved.others, solved.ratings)
        operands: tuple[Any, ...]
        tail: tuple[Any, ...]
        if self.nonnegative:
            solve, tail = self._kernels.solve_nonnegative, (self.regParam, self.alpha, SWEEPS, tell)
            operands = (given.factors, gram.astype(np.float32), solved.factors)
        else:
            # In the eigenvectors' coordinates the Gram matrix is diagonal.
            values, turn = _eigen(gram, self.rank)
            solve, tail = self._kernels.solve_unconstrained, (self.rank, self.regParam, self.alpha, tell)
            operands = (given.factors @ turn, values, solved.factors)
        pieces = [pool.submit(partial(solve, *piece, *rows, *operands, *tail)) for piece in solved.chunks()]
        # Summed in the order of the rows, whichever piece is done first.
        share = sum(piece.result() for piece in pieces)
        if not self.nonnegative:
            solved.factors[:] = solved.factors @ turn.T
        return float(share)

    def factors(self) -> tuple[Factors, Factors]:
        """Those of the users and those of the products."""
        users, products = (
            Factors(side.numbers, np.ascontiguousarray(side.factors[:, : self.rank]))
            for side in (self.users, self.products)
        )
        return users, products


def cores() -> int:
    # os.process_cpu_count comes with Python 3.13; macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rows(numbers: npt.NDArray[Any]) -> tuple[Integers, Integers]:
    """The numbers that occur, ascending, and each pair's row among them, without a sort."""
    if numbers.min() < 0:
        raise ValueError(f"A number below zero: {numbers.min()}.")
    occurs = np.zeros(int(numbers.max()) + 1, dtype=bool)
    occurs[numbers] = True
    row_of = np.cumsum(occurs, dtype=np.int32) - np.int32(1)
    return np.flatnonzero(occurs).astype(np.int32), row_of[numbers]


def _spread(begins: npt.NDArray[np.int64]) -> Integers:
    return np.repeat(np.arange(len(begins) - 1, dtype=np.int32), np.diff(begins))


def _gram(factors: Floats) -> npt.NDArray[np.float64]:
    """factorsᵀ · factors, summed in a fixed order."""
    width = factors.shape[1]
    total = np.zeros((width, width))
    for start in range(0, len(factors), GRAM_ROWS):
        block = factors[start : start + GRAM_ROWS]
        total += block.T @ block
    return total


def _eigen(gram: npt.NDArray[np.float64], rank: int) -> tuple[Floats, Floats]:
    """Eigenvalues, kept above zero, and eigenvectors as columns; the padding stays apart."""
    values, turn = np.ones(len(gram), np.float32), np.eye(len(gram), dtype=np.float32)
    found, vectors = np.linalg.eigh(gram[:rank, :rank])
    values[:rank] = np.maximum(found, max(found[-1], 1.0) * 1e-7)
    turn[:rank, :rank] = vectors
    return values, turn


def predictions(
    users: Factors, products: Factors, user_idx: npt.NDArray[Any], product_idx: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which pairs have factors on both sides, and for these the predicted preference."""
    u, p = np.searchsorted(users.numbers, user_idx), np.searchsorted(products.numbers, product_idx)
    known = (np.append(users.numbers, -1)[u] == user_idx) & (np.append(products.numbers, -1)[p] == product_idx)
    u, p = u[known], p[known]
    predicted = np.empty(len(u), np.float32)
    for start in range(0, len(u), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        predicted[part] = np.einsum("ij,ij->i", users.vectors[u[part]], products.vectors[p[part]])
    return known, predicted


def objective(
    als_pairs: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    users: Factors,
    products: Factors,
    regParam: float,
    alpha: float,
) -> float:
    """What implicit ALS minimises, of any factors: of this engine's or of MLlib's.

    Parameters
    ----------
    als_pairs
        user_idx, product_idx, rating.
    """
    user_idx, product_idx, rating = als_pairs
    u, p = np.searchsorted(users.numbers, user_idx), np.searchsorted(products.numbers, product_idx)
    total = float((_gram(users.vectors) * _gram(products.vectors)).sum())
    for start in range(0, len(rating), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        predicted = np.einsum("ij,ij->i", users.vectors[u[part]], products.vectors[p[part]], dtype=np.float64)
        extra = alpha * np.abs(rating[part])
        wanted = rating[part] > 0
        total += float(((1 + extra) * (wanted - predicted) ** 2 - predicted**2).sum())
    for side, rows in ((users, u), (products, p)):
        counts = np.bincount(rows, weights=rating > 0, minlength=len(side.numbers))
        total += regParam * float(counts @ np.einsum("ij,ij->i", side.vectors, side.vectors, dtype=np.float64))
    return total

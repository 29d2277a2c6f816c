"""Implicit-feedback ALS on one machine, in NumPy and Numba: `LocalAls` minimises the same objective as Spark MLlib.

The loops over ratings are in als_kernels.py. als.py chooses between this engine and MLlib.
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
"""Sweeps of coordinate descent per half-step. More sweeps take longer and reach no lower objective, because each
iteration starts where the previous one ended."""

CHUNKS = 64
"""Maximum number of chunks of rows that the threads share."""

ROW_COST = 10
"""Fixed cost of a row, in ratings."""

GRAM_ROWS = 16_384
"""Rows that are summed in float32 before their sum is added in float64."""

PAIRS_PER_CHUNK = 1 << 18
"""Pairs whose vectors are in memory at once: 52 MB for users and as much for products, at rank 50."""


@dataclass(frozen=True)
class Factors:
    """Factors of the users or products that have ratings.

    Attributes
    ----------
    indices
        (n,) `user_idx` or `product_idx`, ascending.
    vectors
        (n, rank) factors of each.
    """

    indices: Integers
    vectors: Floats


@dataclass
class Side:
    """Users or products: one row each, with its ratings and its factors.

    Attributes
    ----------
    indices
        `user_idx` or `product_idx` of each row, ascending.
    begins, others, ratings
        Row i has the ratings begins[i] to begins[i + 1]; `others` are the rows of the other side that they belong to.
    factors
        Factors of each row, padded with zeros to a multiple of 8 columns.
    """

    indices: Integers
    begins: npt.NDArray[np.int64]
    others: Integers
    ratings: Floats
    factors: Floats

    def chunks(self) -> list[tuple[int, int]]:
        """Returns the first and last row of chunks of about equal cost, which depend only on the data."""
        return equal_chunks(self.begins + ROW_COST * np.arange(len(self.begins)))

    def weighted_squares(self) -> float:
        """Returns Σ n |x|² over the rows, where n is the row's number of ratings above zero."""
        counts = np.add.reduceat(self.ratings > 0, self.begins[:-1], dtype=np.int64)
        return float((counts * np.einsum("ij,ij->i", self.factors, self.factors)).sum())


class LocalAls:
    """Fits implicit-feedback ALS, one half-step at a time.

    Minimises Σ c (p - x·y)² over all users and products, plus λ (Σ n_u |x|² + Σ n_p |y|²): Hu, Koren and Volinsky,
    "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008), with p = 1 for a rating above zero and p = 0
    otherwise, and c = 1 + alpha |rating|; n counts ratings above zero (Zhou et al., "Large-scale Parallel Collaborative
    Filtering for the Netflix Prize", 2008). All as in Spark MLlib.

    Parameters
    ----------
    user_idx, product_idx, rating
        The pairs. Their order changes no bit of the result.
    rank, regParam, alpha, nonnegative, seed
        Parameters by MLlib's names.
    threads
        Number of threads; None: one per core that the process may use. It changes no bit of the result.

    Attributes
    ----------
    objectives
        The objective after each iteration so far.

    Raises
    ------
    ValueError
        If there are no pairs, a rating is not finite, or a user_idx or product_idx is negative.
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
        # Imported here: Numba takes half a second and 100 MB, which only a fit needs.
        from ecommerce_assets.recommendation import als_kernels

        if not len(rating):
            raise ValueError("There are no pairs to train on.")
        if not np.isfinite(rating).all():
            raise ValueError(f"rating must be finite, got {rating[~np.isfinite(rating)][0]}.")
        self._kernels: Any = als_kernels
        self.rank, self.regParam, self.alpha, self.nonnegative = rank, float(regParam), float(alpha), nonnegative
        self._threads = threads or cores()
        users, user_rows = _rows(user_idx)
        products, product_rows = _rows(product_idx)
        ratings = np.ascontiguousarray(rating, dtype=np.float32)
        # Three stable counting sorts: by product; by user, which orders the users' rows; by product, for theirs.
        begins, by_user, ratings = als_kernels.counting_sort(product_rows, user_rows, ratings, len(products))
        begins, by_product, ratings = als_kernels.counting_sort(by_user, _row_of_rating(begins), ratings, len(users))
        als_kernels.sort_repeated_pairs(begins, by_product, ratings)
        width = -(-rank // 8) * 8
        self.users = Side(users, begins, by_product, ratings, np.zeros((len(users), width), np.float32))
        begins, by_user, ratings = als_kernels.counting_sort(by_product, _row_of_rating(begins), ratings, len(products))
        self.products = Side(products, begins, by_user, ratings, np.zeros((len(products), width), np.float32))
        # As in MLlib: random directions of length one, with absolute values where factors must be nonnegative.
        initial = np.random.default_rng(seed).standard_normal((len(users), rank), np.float32)
        initial /= np.linalg.norm(initial, axis=1, keepdims=True)
        self.users.factors[:, :rank] = np.abs(initial) if nonnegative else initial
        self.objectives: list[float] = []
        # Σ c p, which does not depend on the factors.
        is_positive = self.users.ratings > 0
        total = float(np.sum(self.users.ratings, where=is_positive, dtype=np.float64))
        self._constant = float(np.count_nonzero(is_positive)) + self.alpha * total

    def run(self, maxIter: int = 15) -> Iterator[Side]:
        """Solves products, then users, `maxIter` times; yields the side that was just solved."""
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in range(maxIter):
                self._half_step(self.users, self.products, pool)
                yield self.products
                of_rows = self._half_step(self.products, self.users, pool, with_objective=True)
                self.objectives.append(self._constant + of_rows + self.regParam * self.products.weighted_squares())
                yield self.users

    def _half_step(self, fixed: Side, solved: Side, pool: ThreadPoolExecutor, with_objective: bool = False) -> float:
        """Solves one side for fixed factors of the other.

        Returns, if `with_objective`, the objective without Σ c p and without the regularisation of the fixed side.
        """
        gram = _gram(fixed.factors)
        rows = (solved.begins, solved.others, solved.ratings)
        matrices: tuple[Any, ...]
        options: tuple[Any, ...]
        if self.nonnegative:
            solve, options = self._kernels.solve_nonnegative, (self.regParam, self.alpha, SWEEPS, with_objective)
            matrices = (fixed.factors, gram.astype(np.float32), solved.factors)
        else:
            # In the coordinates of the eigenvectors the Gram matrix is diagonal.
            eigenvalues, eigenvectors = _eigen(gram, self.rank)
            solve, options = self._kernels.solve_unconstrained, (self.rank, self.regParam, self.alpha, with_objective)
            matrices = (fixed.factors @ eigenvectors, eigenvalues, solved.factors)
        tasks = [pool.submit(partial(solve, *chunk, *rows, *matrices, *options)) for chunk in solved.chunks()]
        # Summed in the order of the rows, so that the sum does not depend on the threads.
        total = sum(task.result() for task in tasks)
        if not self.nonnegative:
            solved.factors[:] = solved.factors @ eigenvectors.T
        return float(total)

    def factors(self) -> tuple[Factors, Factors]:
        """Returns the factors of the users and of the products."""
        users, products = (
            Factors(side.indices, np.ascontiguousarray(side.factors[:, : self.rank]))
            for side in (self.users, self.products)
        )
        return users, products


def equal_chunks(cost: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Returns the first row, and the row after the last one, of chunks of about equal cost.

    Parameters
    ----------
    cost
        (rows + 1,) cost of all rows before each row, and at the end of all rows.
    """
    edges = np.searchsorted(cost, np.linspace(0, cost[-1], CHUNKS + 1))
    edges = np.unique(np.concatenate([[0], edges, [len(cost) - 1]]))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def cores() -> int:
    """Returns the number of cores that this process may use."""
    # os.process_cpu_count comes with Python 3.13; macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rows(indices: npt.NDArray[Any]) -> tuple[Integers, Integers]:
    """Returns the distinct indices, ascending, and the row of each pair among them; in linear time."""
    if indices.min() < 0:
        raise ValueError(f"user_idx and product_idx must not be negative, got {indices.min()}.")
    occurs = np.zeros(int(indices.max()) + 1, dtype=bool)
    occurs[indices] = True
    row_of = np.cumsum(occurs, dtype=np.int32) - np.int32(1)
    return np.flatnonzero(occurs).astype(np.int32), row_of[indices]


def _row_of_rating(begins: npt.NDArray[np.int64]) -> Integers:
    return np.repeat(np.arange(len(begins) - 1, dtype=np.int32), np.diff(begins))


def _gram(factors: Floats) -> npt.NDArray[np.float64]:
    """Returns factorsᵀ · factors, summed in a fixed order."""
    width = factors.shape[1]
    total = np.zeros((width, width))
    for start in range(0, len(factors), GRAM_ROWS):
        block = factors[start : start + GRAM_ROWS]
        total += block.T @ block
    return total


def _eigen(gram: npt.NDArray[np.float64], rank: int) -> tuple[Floats, Floats]:
    """Returns the eigenvalues, raised above zero, and the eigenvectors as columns; the padding is left unchanged."""
    eigenvalues, eigenvectors = np.ones(len(gram), np.float32), np.eye(len(gram), dtype=np.float32)
    values, vectors = np.linalg.eigh(gram[:rank, :rank])
    eigenvalues[:rank] = np.maximum(values, max(values[-1], 1.0) * 1e-7)
    eigenvectors[:rank, :rank] = vectors
    return eigenvalues, eigenvectors


def predictions(
    users: Factors, products: Factors, user_idx: npt.NDArray[Any], product_idx: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Returns which pairs have a user and a product with factors, and the predicted preference of those pairs."""
    u, p = np.searchsorted(users.indices, user_idx), np.searchsorted(products.indices, product_idx)
    known = (np.append(users.indices, -1)[u] == user_idx) & (np.append(products.indices, -1)[p] == product_idx)
    u, p = u[known], p[known]
    predicted = np.empty(len(u), np.float32)
    for start in range(0, len(u), PAIRS_PER_CHUNK):
        part = slice(start, start + PAIRS_PER_CHUNK)
        predicted[part] = np.einsum("ij,ij->i", users.vectors[u[part]], products.vectors[p[part]])
    return known, predicted


def objective(
    pairs: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    users: Factors,
    products: Factors,
    regParam: float,
    alpha: float,
) -> float:
    """Returns the objective of implicit-feedback ALS for the factors of either engine; see `LocalAls`.

    Parameters
    ----------
    pairs
        user_idx, product_idx, rating.
    """
    user_idx, product_idx, rating = pairs
    u, p = np.searchsorted(users.indices, user_idx), np.searchsorted(products.indices, product_idx)
    total = float((_gram(users.vectors) * _gram(products.vectors)).sum())
    for start in range(0, len(rating), PAIRS_PER_CHUNK):
        part = slice(start, start + PAIRS_PER_CHUNK)
        predicted = np.einsum("ij,ij->i", users.vectors[u[part]], products.vectors[p[part]], dtype=np.float64)
        extra = alpha * np.abs(rating[part])
        preference = rating[part] > 0
        total += float(((1 + extra) * (preference - predicted) ** 2 - predicted**2).sum())
    for side, rows in ((users, u), (products, p)):
        counts = np.bincount(rows, weights=rating > 0, minlength=len(side.indices))
        total += regParam * float(counts @ np.einsum("ij,ij->i", side.vectors, side.vectors, dtype=np.float64))
    return total

"""The inner loops of local_als.py, compiled by Numba. Importing this module imports Numba, so it is imported late.

Every function works on the rows `start` to `stop` alone, one row after the other, and releases the GIL: who calls may
deal the rows out to threads as he likes, and gets the same bits. Factors are float32 rows of `width` numbers, the rank
rounded up to a multiple of 8; what is beyond the rank is zero and stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

IN_MEMORY = 16_384
"""Rows with up to so many ratings are solved over a copy of their ratings' factors: 16,384 of width 56 are 3.7 MB."""

BLOCK = 64
"""Ratings of a longer row that are summed at a time: 64 of width 56 are 14 KB, half of a first-level cache."""

f4 = np.float32
TINY = f4(1e-12)


def compiled(function: Function) -> Function:
    """Compile at the first call, and keep the result on disk where there is a place for it.

    Numba keeps it beside this file, else in the user's cache folder, and refuses where it can write to neither; then it
    is compiled anew in each process. `fastmath` lets sums be taken in another order, which vector units need; the order
    is fixed at compile time.
    """
    options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


@compiled
def group(keys: Any, others: Any, ratings: Any, count: int) -> Any:
    """Counting sort by `keys` (0 to count - 1), stable: where each key's rows begin, their `others` and `ratings`."""
    begins = np.zeros(count + 1, np.int64)
    for key in keys:
        begins[key + 1] += 1
    for key in range(count):
        begins[key + 1] += begins[key]
    free = begins[:-1].copy()
    sorted_others, sorted_ratings = np.empty_like(others), np.empty_like(ratings)
    for i in range(len(keys)):
        place = free[keys[i]]
        free[keys[i]] += 1
        sorted_others[place] = others[i]
        sorted_ratings[place] = ratings[i]
    return begins, sorted_others, sorted_ratings


@compiled
def order_repeats(begins: Any, others: Any, ratings: Any) -> None:
    """Sort the ratings of a pair that occurs several times: `group` leaves them in the order of the input."""
    for row in range(len(begins) - 1):
        for i in range(begins[row] + 1, begins[row + 1]):
            j = i
            while j > begins[row] and others[j] == others[j - 1] and ratings[j] < ratings[j - 1]:
                ratings[j], ratings[j - 1] = ratings[j - 1], ratings[j]
                j -= 1


@compiled
def positive(ratings: Any, begin: int, end: int) -> Any:
    """How many ratings are above zero: what MLlib multiplies the regularisation by."""
    found = 0
    for i in range(begin, end):
        if ratings[i] > 0:
            found += 1
    return found


@compiled
def add_squares(matrix: Any, vectors: Any, count: int) -> None:
    """Add vᵀv of the first `count` vectors (a multiple of 4) to the upper half of the matrix.

    Four vectors and two rows of the matrix at once: eight products for six loads and two stores, where one vector at a
    time has one product for two loads and a store.
    """
    width = matrix.shape[0]
    for j in range(0, count, 4):
        for i in range(0, width, 2):
            a0, a1, a2, a3 = vectors[j, i], vectors[j + 1, i], vectors[j + 2, i], vectors[j + 3, i]
            b0, b1, b2, b3 = vectors[j, i + 1], vectors[j + 1, i + 1], vectors[j + 2, i + 1], vectors[j + 3, i + 1]
            for k in range(i - i % 8, width):
                v0, v1, v2, v3 = vectors[j, k], vectors[j + 1, k], vectors[j + 2, k], vectors[j + 3, k]
                matrix[i, k] += a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3
                matrix[i + 1, k] += b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3


@compiled
def weigh(
    block: Any, right: Any, begin: int, count: int, others: Any, ratings: Any, factors: Any, alpha: float
) -> Any:
    """Copy √(c - 1) y of `count` ratings to `block` and add Σ c p y to `right`; returns count, rounded up to 4."""
    width = len(right)
    for j in range(count):
        y, rating = others[begin + j], ratings[begin + j]
        extra = f4(alpha * abs(rating))
        root, target = np.sqrt(extra), f4(1) + extra if rating > 0 else f4(0)
        for k in range(width):
            right[k] += target * factors[y, k]
            block[j, k] = root * factors[y, k]
    padded = (count + 3) // 4 * 4
    for j in range(count, padded):
        for k in range(width):
            block[j, k] = f4(0)
    return padded


@compiled
def normal_equation(
    matrix: Any, right: Any, block: Any, begin: int, end: int, others: Any, ratings: Any, factors: Any, alpha: float
) -> None:
    """Add Σ (c - 1) y yᵀ over a row's ratings to the upper half of `matrix`, and Σ c p y to `right`.

    The ratings are taken in blocks: no memory that grows with the row, and every factor is fetched once.
    """
    for first in range(begin, end, BLOCK):
        add_squares(matrix, block, weigh(block, right, first, min(BLOCK, end - first), others, ratings, factors, alpha))


@compiled
def descend_matrix(
    matrix: Any,
    gradient: Any,
    block: Any,
    x: Any,
    begin: int,
    end: int,
    others: Any,
    ratings: Any,
    factors: Any,
    gram: Any,
    penalty: float,
    alpha: float,
    sweeps: int,
) -> None:
    """Coordinate descent for a row with very many ratings, on its rank × rank matrix; see solve_nonnegative."""
    width = gram.shape[0]
    for i in range(width):
        gradient[i] = f4(0)
        for k in range(width):
            matrix[i, k] = gram[i, k]
        matrix[i, i] += penalty
    normal_equation(matrix, gradient, block, begin, end, others, ratings, factors, alpha)
    for i in range(width):
        for k in range(i):
            matrix[i, k] = matrix[k, i]
    for k in range(width):
        gradient[k] = -gradient[k]
    for i in range(width):
        if x[i] != 0:
            for k in range(width):
                gradient[k] += x[i] * matrix[i, k]
    for _ in range(sweeps):
        for k in range(width):
            moved = max(x[k] - gradient[k] / (matrix[k, k] + TINY), f4(0))
            step = moved - x[k]
            if step != 0:
                x[k] = moved
                for m in range(width):
                    gradient[m] += step * matrix[k, m]


@compiled
def solve_nonnegative(
    start: int,
    stop: int,
    begins: Any,
    others: Any,
    ratings: Any,
    factors: Any,
    gram: Any,
    solved: Any,
    reg: float,
    alpha: float,
    sweeps: int,
) -> None:
    """Improve rows of `solved` by coordinate descent on the nonnegative problem, from where they stand.

    Minimised over x ≥ 0 is xᵀ(G + λnI)x + Σ (c - 1)(y·x)² - 2 Σ c p y·x. A row's gradient has G x, which is kept, and
    Σ w y with one number w = (c - 1) y·x - c p per rating, which is kept too: the rank × rank matrix of the row, which
    costs rank² / 2 per rating, is not formed. Descended are only those coordinates that are above zero or whose
    gradient is below, 8 to 10 of 50 once the first iterations are over; their columns of y are copied so that the
    ratings of a coordinate stand side by side. Others come in at the next iteration, which starts from here.
    """
    width = gram.shape[0]
    longest = 0
    for row in range(start, stop):
        length = begins[row + 1] - begins[row]
        if longest < length <= IN_MEMORY:
            longest = length
    longest = (longest + 3) // 4 * 4
    own, columns = np.empty((max(longest, BLOCK), width), f4), np.empty(width * (longest + 16), f4)
    w, extra = np.empty(longest, f4), np.empty(longest, f4)
    x, gx, gradient, inverse = np.empty(width, f4), np.empty(width, f4), np.empty(width, f4), np.empty(width, f4)
    active = np.empty(width, np.int64)
    matrix = np.empty((width, width), f4)
    for row in range(start, stop):
        begin, end = begins[row], begins[row + 1]
        n, counted = end - begin, positive(ratings, begin, end)
        if counted == 0:
            solved[row, :] = f4(0)  # nothing pulls it away from zero
            continue
        penalty = f4(reg * counted)
        for k in range(width):
            x[k] = solved[row, k]
        if n > IN_MEMORY:
            descend_matrix(
                matrix, gradient, own, x, begin, end, others, ratings, factors, gram, penalty, alpha, sweeps
            )
            for k in range(width):
                solved[row, k] = x[k]
            continue
        for k in range(width):
            gx[k] = f4(0)
        for i in range(width):
            if x[i] != 0:
                for k in range(width):
                    gx[k] += x[i] * gram[i, k]
        for k in range(width):
            gradient[k] = gx[k] + penalty * x[k]
        # Copied first, by a loop short enough that the processor fetches many factors from memory at once.
        for j in range(n):
            y, rating = others[begin + j], ratings[begin + j]
            for k in range(width):
                own[j, k] = factors[y, k]
            extra[j] = f4(alpha * abs(rating))
            w[j] = -f4(1) - extra[j] if rating > 0 else f4(0)
        padded = (n + 3) // 4 * 4
        for j in range(n, padded):
            for k in range(width):
                own[j, k] = f4(0)
            extra[j], w[j] = f4(0), f4(0)
        for j in range(0, padded, 4):
            q0, q1, q2, q3 = f4(0), f4(0), f4(0), f4(0)
            for k in range(width):
                q0 += own[j, k] * x[k]
                q1 += own[j + 1, k] * x[k]
                q2 += own[j + 2, k] * x[k]
                q3 += own[j + 3, k] * x[k]
            w0, w1 = w[j] + extra[j] * q0, w[j + 1] + extra[j + 1] * q1
            w2, w3 = w[j + 2] + extra[j + 2] * q2, w[j + 3] + extra[j + 3] * q3
            w[j], w[j + 1], w[j + 2], w[j + 3] = w0, w1, w2, w3
            for k in range(width):
                gradient[k] += w0 * own[j, k] + w1 * own[j + 1, k] + w2 * own[j + 2, k] + w3 * own[j + 3, k]
        count = 0
        for k in range(width):
            if x[k] > 0 or gradient[k] < 0:
                active[count] = k
                count += 1
        pitch = padded + 8  # never a large power of two, which would put all columns into the same lines of the cache
        pitch += 8 if pitch % 256 == 0 else 0
        for i in range(count):
            k, at = active[i], i * pitch
            curvature = gram[k, k] + penalty + TINY
            for j in range(padded):
                columns[at + j] = own[j, k]
                curvature += extra[j] * own[j, k] * own[j, k]
            inverse[i] = f4(1) / curvature
        for _ in range(sweeps):
            for i in range(count):
                k, at = active[i], i * pitch
                slope = gx[k] + penalty * x[k]
                for j in range(padded):
                    slope += w[j] * columns[at + j]
                moved = max(x[k] - slope * inverse[i], f4(0))
                step = moved - x[k]
                if step != 0:
                    x[k] = moved
                    for m in range(width):
                        gx[m] += step * gram[k, m]
                    for j in range(padded):
                        w[j] += step * extra[j] * columns[at + j]
        for k in range(width):
            solved[row, k] = x[k]

@compiled
def cholesky_solve(matrix: Any, right: Any, size: int) -> None:
    """Solve in place for a positive definite matrix of which the upper half is read, and overwritten."""
    for p in range(size):
        scale = f4(1) / np.sqrt(matrix[p, p])
        for k in range(p, size):
            matrix[p, k] *= scale
        for i in range(p + 1, size):
            for k in range(i, size):
                matrix[i, k] -= matrix[p, i] * matrix[p, k]
    for p in range(size):
        right[p] /= matrix[p, p]
        for k in range(p + 1, size):
            right[k] -= matrix[p, k] * right[p]
    for p in range(size - 1, -1, -1):
        rest = right[p]
        for k in range(p + 1, size):
            rest -= matrix[p, k] * right[k]
        right[p] = rest / matrix[p, p]


@compiled
def solve_unconstrained(
    start: int,
    stop: int,
    begins: Any,
    others: Any,
    ratings: Any,
    factors: Any,
    eigenvalues: Any,
    solved: Any,
    rank: int,
    reg: float,
    alpha: float,
) -> None:
    """Solve rows of `solved` exactly, in coordinates in which the Gram matrix is diagonal.

    With Δ = eigenvalues + λn and the rows √(c - 1) y as Z, x = (Δ + ZᵀZ)⁻¹ v for v = Σ c p y. A row with fewer ratings
    than the rank is solved in the space of its ratings (Woodbury): x = Δ⁻¹v - Δ⁻¹Zᵀ(I + ZΔ⁻¹Zᵀ)⁻¹ZΔ⁻¹v.
    """
    width = len(eigenvalues)
    block = np.empty((max(BLOCK, (rank + 3) // 4 * 4), width), f4)
    matrix = np.empty((max(rank, width), max(rank, width)), f4)
    right, inverse, scaled = np.empty(width, f4), np.empty(width, f4), np.empty(width, f4)
    small = np.empty(rank, f4)
    for row in range(start, stop):
        begin, end = begins[row], begins[row + 1]
        n, counted = end - begin, positive(ratings, begin, end)
        if counted == 0:
            solved[row, :] = f4(0)
            continue
        penalty = f4(reg * counted)
        right[:] = f4(0)
        if n < rank:
            weigh(block, right, begin, n, others, ratings, factors, alpha)
            for k in range(width):
                inverse[k] = f4(1) / (eigenvalues[k] + penalty)
                right[k] *= inverse[k]
            for i in range(n):
                projected = f4(0)
                for k in range(width):
                    scaled[k] = block[i, k] * inverse[k]
                    projected += block[i, k] * right[k]
                small[i] = projected
                for j in range(i, n):
                    product = f4(0)
                    for k in range(width):
                        product += scaled[k] * block[j, k]
                    matrix[i, j] = product
                matrix[i, i] += f4(1)
            cholesky_solve(matrix, small, n)
            for i in range(n):
                for k in range(width):
                    right[k] -= inverse[k] * small[i] * block[i, k]
        else:
            matrix[:, :] = f4(0)
            for k in range(width):
                matrix[k, k] = eigenvalues[k] + penalty
            normal_equation(matrix, right, block, begin, end, others, ratings, factors, alpha)
            cholesky_solve(matrix, right, width)
        for k in range(width):
            solved[row, k] = right[k]

"""Rows of implicit ALS by their normal equations, compiled by Numba; so it is imported late.

Here stand the equations themselves, and the half-step that solves them without a constraint; nonnegative rows are the
business of als_descent.py, whose opening says what holds of both: threads, factors, `rows`, and why no compiled
function calls one of another module.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ecommerce_assets.recommendation.compiled import compiled, part_of_kernel

BLOCK, PITCH = 256, 272
"""Ratings whose squares are summed at a time, and the distance between their columns in memory: a large power of two
would put all columns into the same lines of the cache (writing them takes 25 ns per rating, and 78 at a distance of
256)."""

f4, f8 = np.float32, np.float64


@compiled
def add_squares(matrix: Any, columns: Any, count: int) -> None:
    """Add Σ v vᵀ to the upper half of the matrix; `columns` holds the vectors v as its first `count` columns.

    Eight sums at once, along the vectors: eight products for six loads. 45 ns per vector of 56 numbers, where adding
    one vector after the other to the matrix takes 200 to 300 ns and NumPy's BLAS, with both halves, 100 ns.
    """
    for i in range(0, matrix.shape[0], 2):
        for k in range(i - i % 4, matrix.shape[0], 4):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = f4(0)
            for j in range(count):
                a, b = columns[i, j], columns[i + 1, j]
                v0, v1, v2, v3 = columns[k, j], columns[k + 1, j], columns[k + 2, j], columns[k + 3, j]
                a0 += a * v0
                a1 += a * v1
                a2 += a * v2
                a3 += a * v3
                b0 += b * v0
                b1 += b * v1
                b2 += b * v2
                b3 += b * v3
            matrix[i, k] += a0
            matrix[i, k + 1] += a1
            matrix[i, k + 2] += a2
            matrix[i, k + 3] += a3
            matrix[i + 1, k] += b0
            matrix[i + 1, k + 1] += b1
            matrix[i + 1, k + 2] += b2
            matrix[i + 1, k + 3] += b3


@compiled
def normal_equation(matrix: Any, right: Any, row: int, rows: Any, factors: Any, alpha: float) -> None:
    """Add Σ (c - 1) y yᵀ over a row's ratings to the upper half of `matrix`, and Σ c p y to `right`.

    The ratings are taken in blocks: no memory that grows with the row, and every factor is fetched once.
    """
    begins, others, ratings, _ = rows
    begin, end = begins[row], begins[row + 1]
    width = len(right)
    columns = np.empty((width, PITCH), f4)
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        for j in range(count):
            y, rating = others[first + j], ratings[first + j]
            extra = f4(alpha * abs(rating))
            root, target = np.sqrt(extra), f4(1) + extra if rating > 0 else f4(0)
            for k in range(width):
                right[k] += target * factors[y, k]
                columns[k, j] = root * factors[y, k]
        padded = (count + 15) // 16 * 16
        for k in range(width):
            for j in range(count, padded):
                columns[k, j] = f4(0)
        add_squares(matrix, columns, padded)


@compiled
def share_of_ratings(x: Any, row: int, rows: Any, factors: Any, alpha: float) -> Any:
    """Σ (c - 1)(y·x)² - 2 Σ c p y·x over a row's ratings, summed in doubles."""
    begins, others, ratings, _ = rows
    total = f8(0)
    for i in range(begins[row], begins[row + 1]):
        y, rating = others[i], ratings[i]
        extra = f4(alpha * abs(rating))
        target = f4(1) + extra if rating > 0 else f4(0)
        predicted = f4(0)
        for k in range(len(x)):
            predicted += factors[y, k] * x[k]
        total += predicted * (extra * predicted - f4(2) * target)
    return total


@compiled
def cholesky_solve(matrix: Any, right: Any, size: int) -> None:
    """Solve in place for a positive definite matrix of which the upper half is read, and overwritten."""
    for p in range(size):
        scale = f4(1) / np.sqrt(matrix[p, p])
        lead = matrix[p, p:size]
        for k in range(size - p):
            lead[k] *= scale
        # Two rows at once: 7 µs for 56 numbers, where one at a time takes 9.
        for i in range(p + 1, size - 1, 2):
            a, b = matrix[p, i], matrix[p, i + 1]
            lead, row, below = matrix[p, i:size], matrix[i, i:size], matrix[i + 1, i:size]
            for k in range(size - i):
                row[k] -= a * lead[k]
                below[k] -= b * lead[k]
        if (size - p) % 2 == 0:
            matrix[size - 1, size - 1] -= matrix[p, size - 1] * matrix[p, size - 1]
    for p in range(size):
        right[p] /= matrix[p, p]
        for k in range(p + 1, size):
            right[k] -= matrix[p, k] * right[p]
    for p in range(size - 1, -1, -1):
        rest = right[p]
        for k in range(p + 1, size):
            rest -= matrix[p, k] * right[k]
        right[p] = rest / matrix[p, p]


@part_of_kernel
def solve_few(right: Any, memory: Any, row: int, rows: Any, factors: Any, alpha: float) -> None:
    """A row with fewer ratings than the rank, in the space of its ratings; the solution takes the place of `right`."""
    own, matrix, inverse, small, scaled = memory
    begins, others, ratings, _ = rows
    begin, n, width = begins[row], begins[row + 1] - begins[row], len(right)
    for j in range(n):
        y, rating = others[begin + j], ratings[begin + j]
        extra = f4(alpha * abs(rating))
        root, target = np.sqrt(extra), f4(1) + extra if rating > 0 else f4(0)
        for k in range(width):
            right[k] += target * factors[y, k]
            own[j, k] = root * factors[y, k]
    for k in range(width):
        right[k] *= inverse[k]
    for i in range(n):
        projected = f4(0)
        for k in range(width):
            scaled[k] = own[i, k] * inverse[k]
            projected += own[i, k] * right[k]
        small[i] = projected
        for j in range(i, n):
            product = f4(0)
            for k in range(width):
                product += scaled[k] * own[j, k]
            matrix[i, j] = product
        matrix[i, i] += f4(1)
    cholesky_solve(matrix, small, n)
    for i in range(n):
        for k in range(width):
            right[k] -= inverse[k] * small[i] * own[i, k]


@compiled
def solve_unconstrained(
    start: int, stop: int, rows: Any, given: Any, solved: Any, rank: int, reg: float, alpha: float, tell: bool
) -> Any:
    """Solve rows of `solved` exactly, in coordinates in which the Gram matrix is diagonal.

    With Δ = eigenvalues + λn and the rows √(c - 1) y as Z, x = (Δ + ZᵀZ)⁻¹ v for v = Σ c p y. A row with fewer ratings
    than the rank is solved in the space of its ratings (Woodbury): x = Δ⁻¹v - Δ⁻¹Zᵀ(I + ZΔ⁻¹Zᵀ)⁻¹ZΔ⁻¹v.

    Returns, if it shall `tell`, the sum over the rows of what is minimised (see als_descent.py). Of a row it is -v·x,
    but only as far as float32 solves it exactly.
    """
    (factors, eigenvalues), begins, counts = given, rows[0], rows[3]
    width = len(eigenvalues)
    own, matrix, right = np.empty((rank, width), f4), np.empty((width, width), f4), np.empty(width, f4)
    inverse, scaled, small = np.empty(width, f4), np.empty(width, f4), np.empty(rank, f4)
    share = f8(0)
    for row in range(start, stop):
        if counts[row] == 0:
            solved[row, :] = f4(0)
            continue
        penalty = f4(reg * counts[row])
        right[:] = f4(0)
        if begins[row + 1] - begins[row] < rank:
            for k in range(width):
                inverse[k] = f4(1) / (eigenvalues[k] + penalty)
            solve_few(right, (own, matrix, inverse, small, scaled), row, rows, factors, alpha)
        else:
            matrix[:, :] = f4(0)
            for k in range(width):
                matrix[k, k] = eigenvalues[k] + penalty
            normal_equation(matrix, right, row, rows, factors, alpha)
            cholesky_solve(matrix, right, width)
        solved[row] = right
        if tell:
            share += share_of_ratings(right, row, rows, factors, alpha)
            for k in range(width):
                share += (eigenvalues[k] + penalty) * right[k] * right[k]
    return share

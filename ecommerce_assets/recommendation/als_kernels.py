"""The loops of local_als.py, compiled by Numba; import this module late, because it imports Numba.

`counting_sort` and `sort_repeated_pairs` arrange the pairs by row, in linear time. `solve_nonnegative` and
`solve_unconstrained` solve the rows `start` to `stop` of a half-step, one after the other, without the GIL: the result
does not depend on how callers divide the rows among threads. Factors are float32 rows of `width` columns, the rank
rounded up to a multiple of 8; columns beyond the rank are zero and stay zero.

The functions are long because shorter ones made the fit and the first compilation slower. They are in one module
because Numba's cache is invalidated only by changes to the module of the function that is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ecommerce_assets.recommendation.compiled import compiled

MAX_COPIED_RATINGS = 4_096
"""Rows with at most this many ratings are solved with a copy of the factors of their ratings, which fits in the L2
cache."""

BLOCK, PITCH = 256, 272
"""Number of ratings whose squares are summed at a time, and the distance between their columns in memory. A distance
that is a large power of two would map all columns to the same cache lines."""

f4, f8 = np.float32, np.float64
TINY = f4(1e-12)


@compiled
def counting_sort(keys: Any, others: Any, ratings: Any, count: int) -> Any:
    """Returns where each key (0 to count - 1) begins, and `others` and `ratings` sorted by key; the sort is stable."""
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
def sort_repeated_pairs(begins: Any, others: Any, ratings: Any) -> None:
    """Sorts the ratings of each pair that occurs several times; `counting_sort` leaves them in the input's order."""
    for row in range(len(begins) - 1):
        for i in range(begins[row] + 1, begins[row + 1]):
            j = i
            while j > begins[row] and others[j] == others[j - 1] and ratings[j] < ratings[j - 1]:
                ratings[j], ratings[j - 1] = ratings[j - 1], ratings[j]
                j -= 1


@compiled
def count_positive(ratings: Any, begin: int, end: int) -> Any:
    """Returns the number of ratings above zero, which scales the regularisation as in MLlib."""
    count = 0
    for i in range(begin, end):
        if ratings[i] > 0:
            count += 1
    return count


@compiled
def add_squares(matrix: Any, columns: Any, count: int) -> None:
    """Adds Σ v vᵀ to the upper half of the matrix; the vectors v are the first `count` columns of `columns`.

    Computes eight sums at once, so that six loads serve eight products. This is faster than BLAS, which computes both
    halves of the matrix.
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
def add_normal_equation(
    matrix: Any, right: Any, columns: Any, begin: int, end: int, others: Any, ratings: Any, factors: Any, alpha: float
) -> None:
    """Adds Σ (c - 1) y yᵀ over a row's ratings to the upper half of `matrix`, and Σ c p y to `right`.

    Works in blocks of ratings, so that memory does not grow with the row and every factor is loaded once.
    """
    width = len(right)
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
def objective_of_ratings(x: Any, begin: int, end: int, others: Any, ratings: Any, factors: Any, alpha: float) -> Any:
    """Returns Σ (c - 1)(y·x)² - 2 Σ c p y·x over a row's ratings, summed in float64."""
    total = f8(0)
    for i in range(begin, end):
        y, rating = others[i], ratings[i]
        extra = f4(alpha * abs(rating))
        target = f4(1) + extra if rating > 0 else f4(0)
        predicted = f4(0)
        for k in range(len(x)):
            predicted += factors[y, k] * x[k]
        total += predicted * (extra * predicted - f4(2) * target)
    return total


@compiled
def descend_matrix(
    matrix: Any,
    gradient: Any,
    columns: Any,
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
    """Coordinate descent on the rank x rank matrix of a row with very many ratings; see `solve_nonnegative`."""
    width = gram.shape[0]
    for i in range(width):
        gradient[i] = f4(0)
        for k in range(width):
            matrix[i, k] = gram[i, k]
        matrix[i, i] += penalty
    add_normal_equation(matrix, gradient, columns, begin, end, others, ratings, factors, alpha)
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
            updated = max(x[k] - gradient[k] / (matrix[k, k] + TINY), f4(0))
            step = updated - x[k]
            if step != 0:
                x[k] = updated
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
    with_objective: bool,
) -> Any:
    """Improves rows of `solved` by coordinate descent on the nonnegative problem, starting from their current values.

    Each row x ≥ 0 minimises xᵀ(G + λnI)x + Σ (c - 1)(y·x)² - 2 Σ c p y·x. The gradient consists of G x and of Σ w y,
    with w = (c - 1) y·x - c p for each rating; both G x and w are updated in each step, so the rank x rank matrix of
    the row, which costs rank² / 2 per rating, is not needed. Only coordinates that are above zero or have a negative
    gradient are descended, about a fifth after the first iterations; their columns of y are copied, so that the values
    of one coordinate are contiguous. Other coordinates join in the next iteration.

    Returns, if `with_objective`, the sum of the minimised function over the rows. It is computed at the start of a row
    and reduced by each step, because y·x would have to be computed again at the end of a row.
    """
    width = gram.shape[0]
    longest = 0
    for row in range(start, stop):
        length = begins[row + 1] - begins[row]
        if longest < length <= MAX_COPIED_RATINGS:
            longest = length
    longest = (longest + 3) // 4 * 4
    copied, columns = np.empty((longest, width), f4), np.empty(width * (longest + 16), f4)
    w, extra, fitted = np.empty(longest, f4), np.empty(longest, f4), np.empty(longest, f4)
    x, gx, gradient = np.empty(width, f4), np.empty(width, f4), np.empty(width, f4)
    inverse, curvatures = np.empty(width, f4), np.empty(width, f4)
    active = np.empty(width, np.int64)
    matrix, squared = np.empty((width, width), f4), np.empty((width, PITCH), f4)
    objective = f8(0)
    for row in range(start, stop):
        begin, end = begins[row], begins[row + 1]
        n, positive = end - begin, count_positive(ratings, begin, end)
        if positive == 0:
            solved[row, :] = f4(0)  # the minimum: all preferences are zero
            continue
        penalty = f4(reg * positive)
        for k in range(width):
            x[k] = solved[row, k]
        if n > MAX_COPIED_RATINGS:
            descend_matrix(
                matrix, gradient, squared, x, begin, end, others, ratings, factors, gram, penalty, alpha, sweeps
            )
            for k in range(width):
                solved[row, k] = x[k]
            if with_objective:
                objective += objective_of_ratings(x, begin, end, others, ratings, factors, alpha)
                for i in range(width):
                    objective += penalty * x[i] * x[i]
                    for k in range(width):
                        objective += x[i] * gram[i, k] * x[k]
            continue
        for k in range(width):
            gx[k] = f4(0)
        for i in range(width):
            if x[i] != 0:
                for k in range(width):
                    gx[k] += x[i] * gram[i, k]
        quadratic = f4(0)
        for k in range(width):
            gradient[k] = gx[k] + penalty * x[k]
            quadratic += x[k] * gradient[k]
        objective += quadratic
        # A short separate loop, so that the processor loads many factors from memory at once.
        for j in range(n):
            y, rating = others[begin + j], ratings[begin + j]
            for k in range(width):
                copied[j, k] = factors[y, k]
            extra[j] = f4(alpha * abs(rating))
            w[j] = -f4(1) - extra[j] if rating > 0 else f4(0)
        padded = (n + 3) // 4 * 4
        for j in range(n, padded):
            for k in range(width):
                copied[j, k] = f4(0)
            extra[j], w[j] = f4(0), f4(0)
        for j in range(0, padded, 4):
            q0, q1, q2, q3 = f4(0), f4(0), f4(0), f4(0)
            for k in range(width):
                q0 += copied[j, k] * x[k]
                q1 += copied[j + 1, k] * x[k]
                q2 += copied[j + 2, k] * x[k]
                q3 += copied[j + 3, k] * x[k]
            w0, w1 = w[j] + extra[j] * q0, w[j + 1] + extra[j + 1] * q1
            w2, w3 = w[j + 2] + extra[j + 2] * q2, w[j + 3] + extra[j + 3] * q3
            fitted[j], fitted[j + 1], fitted[j + 2], fitted[j + 3] = q0, q1, q2, q3
            w[j], w[j + 1], w[j + 2], w[j + 3] = w0, w1, w2, w3
            for k in range(width):
                gradient[k] += w0 * copied[j, k] + w1 * copied[j + 1, k] + w2 * copied[j + 2, k] + w3 * copied[j + 3, k]
        for j in range(padded if with_objective else 0):
            objective += fitted[j] * (f4(2) * w[j] - extra[j] * fitted[j])
        count = 0
        for k in range(width):
            if x[k] > 0 or gradient[k] < 0:
                active[count] = k
                count += 1
        pitch = padded + 8  # never a large power of two; see PITCH
        pitch += 8 if pitch % 256 == 0 else 0
        for i in range(count):
            k, column = active[i], columns[i * pitch : i * pitch + padded]
            curvature = gram[k, k] + penalty + TINY
            for j in range(padded):
                column[j] = copied[j, k]
                curvature += extra[j] * copied[j, k] * copied[j, k]
            inverse[i], curvatures[i] = f4(1) / curvature, curvature
        for _ in range(sweeps):
            for i in range(count):
                k, column = active[i], columns[i * pitch : i * pitch + padded]
                slope = gx[k] + penalty * x[k]
                for j in range(padded):
                    slope += w[j] * column[j]
                updated = max(x[k] - slope * inverse[i], f4(0))
                step = updated - x[k]
                if step != 0:
                    x[k] = updated
                    if with_objective:
                        objective += step * (f4(2) * slope + step * curvatures[i])
                    for m in range(width):
                        gx[m] += step * gram[k, m]
                    for j in range(padded):
                        w[j] += step * extra[j] * column[j]
        for k in range(width):
            solved[row, k] = x[k]
    return objective


@compiled
def cholesky_solve(matrix: Any, right: Any, size: int) -> None:
    """Solves for `right` in place; reads and overwrites the upper half of the positive definite matrix."""
    for p in range(size):
        scale = f4(1) / np.sqrt(matrix[p, p])
        lead = matrix[p, p:size]
        for k in range(size - p):
            lead[k] *= scale
        # Two rows at once is faster than one at a time.
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
    with_objective: bool,
) -> Any:
    """Solves rows of `solved` exactly, in coordinates in which the Gram matrix is diagonal.

    With Δ = eigenvalues + λn and the rows √(c - 1) y as Z, x = (Δ + ZᵀZ)⁻¹ v for v = Σ c p y. A row with fewer ratings
    than the rank is solved in the space of its ratings (Woodbury): x = Δ⁻¹v - Δ⁻¹Zᵀ(I + ZΔ⁻¹Zᵀ)⁻¹ZΔ⁻¹v.

    Returns the same sum as `solve_nonnegative`. For an exact solution a row's term is -v·x, but float32 is not exact
    enough for this shortcut.
    """
    width = len(eigenvalues)
    copied, columns, matrix = np.empty((rank, width), f4), np.empty((width, PITCH), f4), np.empty((width, width), f4)
    right, inverse, scaled = np.empty(width, f4), np.empty(width, f4), np.empty(width, f4)
    small = np.empty(rank, f4)
    objective = f8(0)
    for row in range(start, stop):
        begin, end = begins[row], begins[row + 1]
        n, positive = end - begin, count_positive(ratings, begin, end)
        if positive == 0:
            solved[row, :] = f4(0)
            continue
        penalty = f4(reg * positive)
        right[:] = f4(0)
        if n < rank:
            for j in range(n):
                y, rating = others[begin + j], ratings[begin + j]
                extra = f4(alpha * abs(rating))
                root, target = np.sqrt(extra), f4(1) + extra if rating > 0 else f4(0)
                for k in range(width):
                    right[k] += target * factors[y, k]
                    copied[j, k] = root * factors[y, k]
            for k in range(width):
                inverse[k] = f4(1) / (eigenvalues[k] + penalty)
                right[k] *= inverse[k]
            for i in range(n):
                projected = f4(0)
                for k in range(width):
                    scaled[k] = copied[i, k] * inverse[k]
                    projected += copied[i, k] * right[k]
                small[i] = projected
                for j in range(i, n):
                    product = f4(0)
                    for k in range(width):
                        product += scaled[k] * copied[j, k]
                    matrix[i, j] = product
                matrix[i, i] += f4(1)
            cholesky_solve(matrix, small, n)
            for i in range(n):
                for k in range(width):
                    right[k] -= inverse[k] * small[i] * copied[i, k]
        else:
            matrix[:, :] = f4(0)
            for k in range(width):
                matrix[k, k] = eigenvalues[k] + penalty
            add_normal_equation(matrix, right, columns, begin, end, others, ratings, factors, alpha)
            cholesky_solve(matrix, right, width)
        for k in range(width):
            solved[row, k] = right[k]
        if with_objective:
            objective += objective_of_ratings(right, begin, end, others, ratings, factors, alpha)
            for k in range(width):
                objective += (eigenvalues[k] + penalty) * right[k] * right[k]
    return objective

"""A half-step of nonnegative implicit ALS: coordinate descent, row by row, compiled by Numba; so it is imported late.

It works on the rows `start` to `stop` alone, one after the other, and releases the GIL: who calls may deal the rows out
to threads as he likes, and gets the same bits. Factors are float32 rows of `width` numbers, the rank rounded up to a
multiple of 8; what is beyond the rank is zero and stays so. `rows` are those of a `Side`; `given` are the factors of
the other side and their Gram matrix G. Rows without the constraint are the business of als_normal_equations.py.

A compiled function calls none that is compiled in another module: Numba keeps what it compiled until the module of the
caller changes, and would not see that the other did.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ecommerce_assets.recommendation.als_normal_equations import normal_equation, share_of_ratings
from ecommerce_assets.recommendation.compiled import compiled, part_of_kernel

IN_MEMORY = 4_096
"""Rows with up to so many ratings are solved over a copy of their ratings' factors, which fits in a second-level cache.
With 1,024, 4,096 or 16,384 a fit takes the same time, with 256 more."""

f4, f8 = np.float32, np.float64
TINY = f4(1e-12)


class Work(NamedTuple):
    """Memory of solve_nonnegative, for one row at a time; the first block is by rating, the others by coordinate."""

    own: Any  # (ratings, width): the factors of the row's ratings
    columns: Any  # the active coordinates of `own`, one after the other
    w: Any  # (c - 1) y·x - c p
    extra: Any  # c - 1
    fitted: Any  # y·x where the row starts

    x: Any
    gx: Any  # G x
    gradient: Any  # half of it
    active: Any
    curvatures: Any  # of the active coordinates, and one divided by them
    inverse: Any


@part_of_kernel
def work_for(start: int, stop: int, begins: Any, width: int) -> Any:
    """Memory for the longest of the rows that are solved over their ratings."""
    longest = 0
    for row in range(start, stop):
        length = begins[row + 1] - begins[row]
        if longest < length <= IN_MEMORY:
            longest = length
    n = (longest + 3) // 4 * 4
    return Work(
        np.empty((n, width), f4),
        np.empty(width * (n + 16), f4),
        np.empty(n, f4),
        np.empty(n, f4),
        np.empty(n, f4),
        np.empty(width, f4),
        np.empty(width, f4),
        np.empty(width, f4),
        np.empty(width, np.int64),
        np.empty(width, f4),
        np.empty(width, f4),
    )


@part_of_kernel
def begin_row(work: Any, gram: Any, penalty: float) -> Any:
    """G x and what it and the penalty add to the gradient; returns xᵀ(G + λnI)x."""
    x, gx, width = work.x, work.gx, gram.shape[0]
    for k in range(width):
        gx[k] = f4(0)
    for i in range(width):
        if x[i] != 0:
            for k in range(width):
                gx[k] += x[i] * gram[i, k]
    quadratic = f4(0)
    for k in range(width):
        work.gradient[k] = gx[k] + penalty * x[k]
        quadratic += x[k] * work.gradient[k]
    return quadratic


@part_of_kernel
def fetch_ratings(work: Any, row: int, rows: Any, factors: Any, alpha: float) -> Any:
    """Copy the factors of the row's ratings; returns how many, filled up with zeros to a multiple of 4.

    A loop short enough that the processor fetches many factors from memory at once.
    """
    begins, others, ratings, _ = rows
    begin, n, width = begins[row], begins[row + 1] - begins[row], factors.shape[1]
    own, extra, w = work.own, work.extra, work.w
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
    return padded


@part_of_kernel
def fit_ratings(work: Any, padded: int) -> None:
    """y·x of each rating, its w, and what that adds to the gradient; four ratings at once."""
    own, w, extra, fitted, x, gradient = work.own, work.w, work.extra, work.fitted, work.x, work.gradient
    width = len(x)
    for j in range(0, padded, 4):
        q0, q1, q2, q3 = f4(0), f4(0), f4(0), f4(0)
        for k in range(width):
            q0 += own[j, k] * x[k]
            q1 += own[j + 1, k] * x[k]
            q2 += own[j + 2, k] * x[k]
            q3 += own[j + 3, k] * x[k]
        w0, w1 = w[j] + extra[j] * q0, w[j + 1] + extra[j + 1] * q1
        w2, w3 = w[j + 2] + extra[j + 2] * q2, w[j + 3] + extra[j + 3] * q3
        fitted[j], fitted[j + 1], fitted[j + 2], fitted[j + 3] = q0, q1, q2, q3
        w[j], w[j + 1], w[j + 2], w[j + 3] = w0, w1, w2, w3
        for k in range(width):
            gradient[k] += w0 * own[j, k] + w1 * own[j + 1, k] + w2 * own[j + 2, k] + w3 * own[j + 3, k]


@part_of_kernel
def activate(work: Any, padded: int, pitch: int, gram: Any, penalty: float) -> Any:
    """Choose the coordinates to descend, and copy their columns of `own`; returns how many there are."""
    own, extra, width = work.own, work.extra, gram.shape[0]
    count = 0
    for k in range(width):
        if work.x[k] > 0 or work.gradient[k] < 0:
            work.active[count] = k
            count += 1
    for i in range(count):
        k, column = work.active[i], work.columns[i * pitch : i * pitch + padded]
        curvature = gram[k, k] + penalty + TINY
        for j in range(padded):
            column[j] = own[j, k]
            curvature += extra[j] * own[j, k] * own[j, k]
        work.inverse[i], work.curvatures[i] = f4(1) / curvature, curvature
    return count


@part_of_kernel
def descend(work: Any, count: int, padded: int, pitch: int, gram: Any, penalty: float) -> Any:
    """One sweep over the active coordinates; returns by how much it changes what is minimised."""
    w, extra, x, gx = work.w, work.extra, work.x, work.gx
    change = f8(0)
    for i in range(count):
        k, column = work.active[i], work.columns[i * pitch : i * pitch + padded]
        slope = gx[k] + penalty * x[k]
        for j in range(padded):
            slope += w[j] * column[j]
        moved = max(x[k] - slope * work.inverse[i], f4(0))
        step = moved - x[k]
        if step != 0:
            x[k] = moved
            change += step * (f4(2) * slope + step * work.curvatures[i])
            for m in range(gram.shape[0]):
                gx[m] += step * gram[k, m]
            for j in range(padded):
                w[j] += step * extra[j] * column[j]
    return change


@compiled
def descend_matrix(matrix: Any, right: Any, x: Any, sweeps: int) -> None:
    """Coordinate descent on xᵀMx - 2 right·x, x ≥ 0, from where x stands; of M the upper half is given."""
    width = len(x)
    for i in range(width):
        for k in range(i):
            matrix[i, k] = matrix[k, i]
    gradient = -right  # half of it
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


@part_of_kernel
def descend_row(work: Any, row: int, rows: Any, given: Any, penalty: float, alpha: float, sweeps: int) -> Any:
    """Improve work.x for one row; returns what is minimised, where it ends."""
    factors, gram = given
    share = f8(begin_row(work, gram, penalty))
    padded = fetch_ratings(work, row, rows, factors, alpha)
    fit_ratings(work, padded)
    for j in range(padded):
        share += work.fitted[j] * (f4(2) * work.w[j] - work.extra[j] * work.fitted[j])
    pitch = padded + 8  # never a large power of two, which would put all columns into the same lines of the cache
    pitch += 8 if pitch % 256 == 0 else 0
    count = activate(work, padded, pitch, gram, penalty)
    for _ in range(sweeps):
        share += descend(work, count, padded, pitch, gram, penalty)
    return share


@compiled
def solve_nonnegative(
    start: int, stop: int, rows: Any, given: Any, solved: Any, reg: float, alpha: float, sweeps: int
) -> Any:
    """Improve rows of `solved` by coordinate descent on the nonnegative problem, from where they stand.

    Minimised over x ≥ 0 is xᵀ(G + λnI)x + Σ (c - 1)(y·x)² - 2 Σ c p y·x. A row's gradient has G x, which is kept, and
    Σ w y with one number w = (c - 1) y·x - c p per rating, which is kept too: the rank x rank matrix of the row, which
    costs rank² / 2 per rating, is not formed. Descended are only those coordinates that are above zero or whose
    gradient is below, 8 to 10 of 50 once the first iterations are over; their columns of y are copied so that the
    ratings of a coordinate stand side by side. Others come in at the next iteration, which starts from here.

    Rows with more than IN_MEMORY ratings stay as they are: those are for solve_long_row.

    Returns the sum over the rows of what was minimised. Where a row ends, that would need y·x once more: it is taken
    where the row starts, and each step tells by how much it lowers it.
    """
    begins, _, _, counts = rows
    work, share = work_for(start, stop, begins, solved.shape[1]), f8(0)
    for row in range(start, stop):
        if counts[row] == 0:
            solved[row, :] = f4(0)  # nothing pulls it away from zero
        elif begins[row + 1] - begins[row] <= IN_MEMORY:
            work.x[:] = solved[row]
            share += descend_row(work, row, rows, given, f4(reg * counts[row]), alpha, sweeps)
            solved[row] = work.x
    return share


def solve_long_row(row: int, rows: Any, given: Any, solved: Any, reg: float, alpha: float, sweeps: int) -> float:
    """The same for one row with more ratings than IN_MEMORY, on its rank x rank matrix."""
    (factors, gram), x, count = given, solved[row], rows[3][row]
    if count == 0:
        return 0.0
    penalty = f4(reg * count)
    matrix, right = gram.copy(), np.zeros_like(x)
    np.fill_diagonal(matrix, matrix.diagonal() + penalty)
    normal_equation(matrix, right, row, rows, factors, alpha)
    descend_matrix(matrix, right, x, sweeps)
    own = x.astype(f8)
    return float(share_of_ratings(x, row, rows, factors, alpha) + penalty * (own @ own) + own @ gram @ own)

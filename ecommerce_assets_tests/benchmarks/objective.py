"""The objective of implicit ALS, independent of the engines that are compared by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ROWS_AT_ONCE = 1 << 17
Matrix = npt.NDArray[np.float32]


def objective(
    pairs: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    users: Matrix,
    products: Matrix,
    regParam: float = 0.1,
    alpha: float = 1.0,
) -> float:
    """Returns the confidence-weighted squared error over all users and products plus regularisation, as in MLlib.

    It is the sum of c (p - x y)^2, with c = 1 + alpha r and p = 1 for the pairs, c = 1 and p = 0 for all others, plus
    regParam (sum of n_u |x|^2 + sum of n_p |y|^2), where n counts the ratings of a user or a product. The sum
    over pairs without a rating is computed from the Gram matrices.

    Parameters
    ----------
    pairs
        User rows, product rows, ratings above zero.
    users, products
        Factors, one row each; rows without ratings are not regularised.

    Examples
    --------
    One user, two products, the first with a rating of 3, scores 0.5 and 1: 4 * 0.25 + 1, and 0.1 * (1 + 0.25).

    >>> pair = np.array([0]), np.array([0]), np.array([3.0])
    >>> round(objective(pair, np.ones((1, 1), np.float32), np.array([[0.5], [1]], np.float32)), 6)
    2.125
    """
    user, product, rating = pairs
    total = float((_gram(users) * _gram(products)).sum())
    for start in range(0, len(rating), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        score = np.einsum("ij,ij->i", users[user[part]], products[product[part]], dtype=np.float64)
        confidence = 1 + alpha * rating[part].astype(np.float64)
        total += float((confidence * (1 - score) ** 2 - score**2).sum())
    for rows, factors in ((user, users), (product, products)):
        counts = np.bincount(rows, minlength=len(factors))
        total += regParam * float(counts @ np.einsum("ij,ij->i", factors, factors, dtype=np.float64))
    return total


def _gram(factors: Matrix) -> npt.NDArray[np.float64]:
    gram = np.zeros((factors.shape[1], factors.shape[1]))
    for start in range(0, len(factors), ROWS_AT_ONCE):
        block = factors[start : start + ROWS_AT_ONCE].astype(np.float64)
        gram += block.T @ block
    return gram

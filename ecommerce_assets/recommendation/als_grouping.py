"""Pairs sorted into rows, users' or products', in time that goes with their number; compiled, so imported late.

What is solved over the rows stands in als_kernels.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ecommerce_assets.recommendation.compiled import compiled


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

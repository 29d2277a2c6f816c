"""Numba-compiled loops that put products into lists. Import this module inside functions: Numba is slow to import."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecommerce_assets.recommendation.compiled import compiled


@compiled
def is_full(row: Any, count: Any, groups: Any, group: Any, limit: Any) -> Any:
    """Returns whether the first `count` places of a list have at least `limit` products of a group; -1: no group."""
    if group < 0:
        return False
    same = 0
    for i in range(count):
        if groups[row[i]] == group:
            same += 1
    return same >= limit


@compiled
def within_limits(
    row: Any, count: Any, product: Any, category: Any, brand: Any, max_per_category: Any, max_per_brand: Any
) -> Any:
    """Returns whether the limits allow one more product of this category and brand in a list of `count` products."""
    if max_per_category >= 0 and is_full(row, count, category, category[product], max_per_category):
        return False
    return max_per_brand < 0 or not is_full(row, count, brand, brand[product], max_per_brand)


@compiled
def append(
    positions: Any,
    scores: Any,
    sources: Any,
    limits: Any,
    more_positions: Any,
    more_scores: Any,
    more_sources: Any,
    category: Any,
    brand: Any,
    max_per_category: Any,
    max_per_brand: Any,
) -> None:
    """Appends candidates to lists, in place, until `limits` places are filled; see `Lists.append`.

    Skips empty places, products that the list already has, and products whose category or brand is full: a list has
    at most `max_per_category` and `max_per_brand` products of one (-1: no limit). The group -1 is unknown and never
    full.
    """
    for user in range(len(positions)):
        row, count = positions[user], 0
        while count < len(row) and row[count] >= 0:
            count += 1
        for i in range(more_positions.shape[1]):
            if count >= limits[user]:
                break
            product = more_positions[user, i]
            if product < 0 or (row[:count] == product).any():
                continue
            if not within_limits(row, count, product, category, brand, max_per_category, max_per_brand):
                continue
            row[count], scores[user, count] = product, more_scores[user, i]
            sources[user, count] = more_sources[user, i]
            count += 1


@compiled
def complete(
    rows: Any,
    positions: Any,
    scores: Any,
    sources: Any,
    order: Any,
    shares: Any,
    of_segment: Any,
    segment_source: Any,
    shop_source: Any,
    excluded_begins: Any,
    excluded: Any,
    products: Any,
    category: Any,
    brand: Any,
    max_per_category: Any,
    max_per_brand: Any,
) -> None:
    """Fills the empty places of the lists `rows`, in place, with products in one order; see `ListMaker.complete`.

    Skips products that are excluded for the user, that the list already has, or whose category or brand is full. The
    first `of_segment` products of the order get `segment_source`, the others `shop_source`.
    """
    left_out = np.zeros(products, np.bool_)
    for user in rows:
        row, count = positions[user], 0
        for i in range(excluded_begins[user], excluded_begins[user + 1]):
            left_out[excluded[i]] = True
        while count < len(row) and row[count] >= 0:
            left_out[row[count]] = True
            count += 1
        listed = count
        for i in range(len(order)):
            if count == len(row):
                break
            product = order[i]
            if left_out[product]:
                continue
            if not within_limits(row, count, product, category, brand, max_per_category, max_per_brand):
                continue
            row[count], scores[user, count] = product, shares[i]
            sources[user, count] = segment_source if i < of_segment else shop_source
            count += 1
        for i in range(listed):
            left_out[row[i]] = False
        for i in range(excluded_begins[user], excluded_begins[user + 1]):
            left_out[excluded[i]] = False

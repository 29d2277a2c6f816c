"""Loops that put products into lists, compiled by Numba, so import this module late."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecommerce_assets.recommendation.compiled import compiled


@compiled
def is_full(row: Any, count: Any, groups: Any, group: Any, most: Any) -> Any:
    """Whether the first places of a list have as many products of a group as one list may have."""
    if group < 0:
        return False
    same = 0
    for i in range(count):
        if groups[row[i]] == group:
            same += 1
    return same >= most


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
    most_of_category: Any,
    most_of_brand: Any,
) -> None:
    """Put candidates behind what the lists have, until they have `limits` places filled.

    Left out are empty places, products that the list has, and those of a category or brand (-1: unknown) of which it
    has as many as it may (-1: any number).
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
            if most_of_category >= 0 and is_full(row, count, category, category[product], most_of_category):
                continue
            if most_of_brand >= 0 and is_full(row, count, brand, brand[product], most_of_brand):
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
    most_of_category: Any,
    most_of_brand: Any,
) -> None:
    """Fill the free places of some lists with products in one order, without those that are excluded for the user.

    The first `of_segment` products of the order have another source than the others.
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
            if most_of_category >= 0 and is_full(row, count, category, category[product], most_of_category):
                continue
            if most_of_brand >= 0 and is_full(row, count, brand, brand[product], most_of_brand):
                continue
            row[count], scores[user, count] = product, shares[i]
            sources[user, count] = segment_source if i < of_segment else shop_source
            count += 1
        for i in range(listed):
            left_out[row[i]] = False
        for i in range(excluded_begins[user], excluded_begins[user + 1]):
            left_out[excluded[i]] = False

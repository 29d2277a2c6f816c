"""Loops over neighbours and lists, compiled by Numba; import this module late, because it imports Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecommerce_assets.recommendation.compiled import compiled


@compiled
def insert(value: Any, item: Any, values: Any, items: Any, count: Any) -> Any:
    """Inserts an item into the best so far, highest value first, ties by item; returns their new count."""
    size = len(values)
    if count == size:
        last = size - 1
        if value < values[last] or (value == values[last] and item > items[last]):
            return count
        count = last
    place = count
    while place > 0 and (value > values[place - 1] or (value == values[place - 1] and item < items[place - 1])):
        values[place], items[place] = values[place - 1], items[place - 1]
        place -= 1
    values[place], items[place] = value, item
    return count + 1


@compiled
def best_neighbours(
    first: Any,
    last: Any,
    product_begins: Any,
    product_users: Any,
    user_begins: Any,
    user_products: Any,
    neighbours: Any,
    similarities: Any,
    common_users: Any,
    counts: Any,
) -> None:
    """Writes the neighbours of the products first to last by Jaccard similarity to rows of the last four arrays."""
    products, best = len(product_begins) - 1, neighbours.shape[1]
    common = np.zeros(products, np.int32)
    candidates = np.empty(products, np.int64)
    for product in range(first, last):
        count = 0
        for i in range(product_begins[product], product_begins[product + 1]):
            user = product_users[i]
            for j in range(user_begins[user], user_begins[user + 1]):
                other = user_products[j]
                if common[other] == 0:
                    candidates[count] = other
                    count += 1
                common[other] += 1
        users = product_begins[product + 1] - product_begins[product]
        kept = 0
        for i in range(count):
            other = candidates[i]
            if other != product:
                either = users + product_begins[other + 1] - product_begins[other] - common[other]
                kept = insert(
                    np.float32(common[other] / either), other, similarities[product], neighbours[product], kept
                )
        for i in range(kept):
            common_users[product, i] = common[neighbours[product, i]]
        counts[product] = min(kept, best)
        for i in range(count):
            common[candidates[i]] = 0


@compiled
def best_of_rows(begins: Any, items: Any, values: Any, best: Any, best_values: Any) -> None:
    """Writes the items with the highest values of each row to rows of the last two arrays."""
    for row in range(len(begins) - 1):
        kept = 0
        for i in range(begins[row], begins[row + 1]):
            kept = insert(values[i], items[i], best_values[row], best[row], kept)


@compiled
def best_sums(
    begins: Any,
    items: Any,
    weights: Any,
    row_begins: Any,
    row_items: Any,
    row_values: Any,
    products: Any,
    excluded_begins: Any,
    excluded: Any,
    positions: Any,
    scores: Any,
) -> None:
    """Writes to (n, k) `positions` and `scores` the products with the highest sums for each user.

    The sum of a product is that of weight times value over the user's items that have the product in their row.
    Excluded products are left out.
    """
    sums = np.zeros(products, np.float64)
    candidates = np.empty(products, np.int64)
    is_excluded, seen = np.zeros(products, np.bool_), np.zeros(products, np.bool_)
    for user in range(len(begins) - 1):
        count = 0
        for i in range(begins[user], begins[user + 1]):
            for j in range(row_begins[items[i]], row_begins[items[i] + 1]):
                product = row_items[j]
                if not seen[product]:
                    seen[product] = True
                    candidates[count] = product
                    count += 1
                sums[product] += weights[i] * row_values[j]
        for i in range(excluded_begins[user], excluded_begins[user + 1]):
            is_excluded[excluded[i]] = True
        kept = 0
        for i in range(count):
            if not is_excluded[candidates[i]] and sums[candidates[i]] > 0:
                kept = insert(np.float32(sums[candidates[i]]), candidates[i], scores[user], positions[user], kept)
        for i in range(kept, positions.shape[1]):
            positions[user, i], scores[user, i] = -1, 0
        for i in range(count):
            sums[candidates[i]], seen[candidates[i]] = 0, False
        for i in range(excluded_begins[user], excluded_begins[user + 1]):
            is_excluded[excluded[i]] = False


@compiled
def because(
    begins: Any,
    items: Any,
    ratings: Any,
    longest: Any,
    row_begins: Any,
    row_items: Any,
    row_values: Any,
    factors: Any,
    category: Any,
    positions: Any,
    by_factors: Any,
    by_category: Any,
    contributed: Any,
) -> None:
    """Writes to `contributed` the product of the history that contributed most to each entry; see `reasons`.

    Parameters
    ----------
    begins, items, ratings
        The histories, latest product first.
    longest
        Maximum number of products of a history that rules 2 to 4 of `reasons` use.
    row_begins, row_items, row_values
        The neighbours of each product, and their similarities.
    factors
        Factors of the products, by position.
    category
        (p,) number of each product's category; -1: unknown.
    positions, by_factors, by_category
        (n, k) the entries, and whether rules 3 and 4 apply to them.
    contributed
        (n, k) result, filled in place: positions of products; -1: no reason.
    """
    places = positions.shape[1]
    # Place of each product in the user's list from 1, 0 for others: a lookup instead of a search.
    place_of = np.zeros(len(row_begins) - 1, np.int32)
    best = np.empty(places, np.float64)
    for user in range(len(begins) - 1):
        for j in range(places):
            best[j], contributed[user, j] = 0, -1
            if positions[user, j] >= 0:
                place_of[positions[user, j]] = j + 1
        begin, end = begins[user], begins[user + 1]
        for i in range(begin, end):
            place = place_of[items[i]]
            if place > 0:
                contributed[user, place - 1], place_of[items[i]] = items[i], 0
        end = min(end, begin + longest)
        for i in range(begin, end):
            weight = 1 / (1.0 + (i - begin))
            for m in range(row_begins[items[i]], row_begins[items[i] + 1]):
                place = place_of[row_items[m]]
                if place > 0 and weight * row_values[m] > best[place - 1]:
                    best[place - 1], contributed[user, place - 1] = weight * row_values[m], items[i]
        for j in range(places):
            product = positions[user, j]
            if product < 0:
                continue
            place_of[product] = 0
            if contributed[user, j] >= 0:
                continue
            if by_factors[user, j]:
                for i in range(begin, end):
                    explained = 0.0
                    for f in range(factors.shape[1]):
                        explained += factors[items[i], f] * factors[product, f]
                    if ratings[i] * explained > best[j]:
                        best[j], contributed[user, j] = ratings[i] * explained, items[i]
            elif by_category[user, j] and category[product] >= 0:
                for i in range(begin, end):
                    if category[items[i]] == category[product]:
                        contributed[user, j] = items[i]
                        break

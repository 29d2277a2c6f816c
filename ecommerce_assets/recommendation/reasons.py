"""Reasons of recommendations: the product of the user's history that contributed most. Entry point: `reasons`."""

from __future__ import annotations

import numpy as np

from ecommerce_assets.recommendation.lists import NEW, PINNED, SOURCES, ListMaker, Lists
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import Flags, Integers, Users
from ecommerce_assets.recommendation.recommenders.category_affinity import CategoryAffinity

LONGEST_HISTORY = 50
"""Number of latest products of a history that rules 2 to 4 of `reasons` use."""

ALS, CATEGORY = (SOURCES.index(system.source) for system in (Als, CategoryAffinity))


def reasons(maker: ListMaker, users: Users, lists: Lists) -> Integers:
    """Returns for each entry the product of the user's history that contributed most: "because you viewed …".

    The first of these rules that applies decides; of equal products the latest one is taken:

    1. The entry is in the history: the entry itself.
    2. The entry is a neighbour of products of the history: the one with the highest similarity / (1 + rank), where
       rank is its place in the history, 0 for the latest product.
    3. The source is `als`: the product with the highest rating · (its factors · the entry's factors) above zero. This
       is a product's term in the explanation of Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback
       Datasets" (ICDM 2008), section 5, without the inverse matrix between the two vectors of factors.
    4. The source is `category` or `new`: the latest product of the same category.

    Rules 2 to 4 use the latest `LONGEST_HISTORY` products. Pinned products have no reason.

    Parameters
    ----------
    maker
        The ListMaker that made the lists.
    users
        The n users.
    lists
        Their lists of k places.

    Returns
    -------
    Integers
        (n, k) positions of products; -1: no reason, such as for popular or pinned products.
    """
    from ecommerce_assets.recommendation.neighbour_kernels import because

    training, is_new = maker.training, lists.sources == NEW

    def contributors(category: Integers, by_category: Flags) -> Integers:
        contributed = np.empty(lists.positions.shape, np.int64)
        because(
            users.begins,
            users.positions,
            users.ratings,
            LONGEST_HISTORY,
            training.neighbours.begins,
            training.neighbours.items,
            training.neighbours.values,
            training.item_factors,
            category,
            lists.positions,
            lists.sources == ALS,
            by_category,
            contributed,
        )
        return contributed

    contributed = contributors(training.products.category, lists.sources == CATEGORY)
    if is_new.any():  # only the catalogue knows the category of products without events
        contributed[is_new] = contributors(maker.rules.category, is_new)[is_new]
    contributed[lists.sources == PINNED] = -1
    return contributed

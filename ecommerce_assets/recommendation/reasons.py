"""Why a product is in a list: the product of the user's history that contributed most. `reasons` is the entry point."""

from __future__ import annotations

import numpy as np

from ecommerce_assets.recommendation.lists import NEW, PINNED, SOURCES, ListMaker, Lists
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import Flags, Integers, Users
from ecommerce_assets.recommendation.recommenders.category_affinity import CategoryAffinity

LONGEST_HISTORY = 50
"""Latest products of a history that may be a reason."""

ALS, CATEGORY = (SOURCES.index(system.source) for system in (Als, CategoryAffinity))


def reasons(maker: ListMaker, users: Users, lists: Lists) -> Integers:
    """For each entry the product of the user's history that contributed most to it: "because you viewed …".

    The first of these rules that finds a product of the history decides; ties go to the latest product:

    1. The entry is in the history: the entry itself.
    2. The entry is a neighbour of products of the history: the one with the highest similarity / (1 + rank), its rank
       in the history being 0 for the latest product.
    3. The source is `als`: the product with the highest rating · (its factors · the entry's factors) above zero. This
       is a product's term in the explanation of Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback
       Datasets" (ICDM 2008), section 5, without the inverse matrix between the two vectors of factors.
    4. The source is `category` or `new`: the latest product of the same category.

    Rules 2 to 4 look at the latest `LONGEST_HISTORY` products.

    Parameters
    ----------
    maker
        What made the lists.
    lists
        One list per user.

    Returns
    -------
    Integers
        (n, k) positions of products; -1: none, as for what is only popular, or pinned.
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
    if is_new.any():  # the catalogue has the category of products without events
        contributed[is_new] = contributors(maker.rules.category, is_new)[is_new]
    contributed[lists.sources == PINNED] = -1
    return contributed

"""Popular products to complete lists with: those of the user's segment first, then those of the shop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecommerce_assets.recommendation.recommenders.base import ProductStats

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Products in the order in which they fill lists.

    Attributes
    ----------
    positions, shares
        Each product's position, and its share of users, 0 to 1.
    of_segment
        How many of the first are popular in the segment; the others are popular in the shop.
    """

    positions: Integers
    shares: npt.NDArray[np.float64]
    of_segment: int


@dataclass(frozen=True)
class Fallback:
    """Users of each product in the shop and in each segment, and the orders that follow from them.

    Attributes
    ----------
    orders
        By segment; the order of the shop is that of None.
    """

    orders: Mapping[str | None, Order]

    @classmethod
    def of(cls, products: ProductStats, eligible: npt.NDArray[np.bool_] | None = None) -> Fallback:
        """Returns the orders of eligible products by number of distinct users, most first, ties by position.

        The order of the shop has all eligible products, that of a segment begins with those that its users know.

        Parameters
        ----------
        products
            The p products.
        eligible
            (p,) True for products that may be recommended; None: all.
        """
        allowed = np.ones(len(products), np.bool_) if eligible is None else eligible
        whole = _most_first(products.users, allowed)
        shares = products.users[whole] / max(products.total_users, 1)
        orders: dict[str | None, Order] = {None: Order(whole, shares, 0)}
        for segment, users in products.segment_users.items():
            first = _most_first(users, allowed & (users > 0))
            other = ~np.isin(whole, first)
            segment_shares = users[first] / max(products.segment_sizes[segment], 1)
            orders[segment] = Order(
                np.concatenate([first, whole[other]]), np.concatenate([segment_shares, shares[other]]), len(first)
            )
        return cls(orders)

    def order(self, segment: str | None) -> Order:
        """What a user of the segment is offered, best first; without a segment, or in an unknown one, the shop's."""
        return self.orders.get(segment, self.orders[None])


def _most_first(users: Integers, allowed: npt.NDArray[np.bool_]) -> Integers:
    order = np.lexsort((np.arange(len(users)), -users))
    return np.asarray(order[allowed[order]], np.int64)

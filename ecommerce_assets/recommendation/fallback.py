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
    """All products in the order in which they are offered.

    Attributes
    ----------
    positions, shares
        Each product's position, and its share of users, 0 to 1.
    of_segment
        How many of the first are popular in the segment; the others are popular in the shop.
    place_of
        By position, the product's place in this order.
    """

    positions: Integers
    shares: npt.NDArray[np.float64]
    of_segment: int
    place_of: Integers


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
    def of(cls, products: ProductStats) -> Fallback:
        """From the number of distinct users, most first, ties by position; the shop's order has all products."""
        whole = np.lexsort((np.arange(len(products)), -products.users))
        shares = products.users[whole] / max(products.total_users, 1)
        orders: dict[str | None, Order] = {None: _order(np.empty(0, np.int64), np.empty(0), whole, shares)}
        for segment, users in products.segment_users.items():
            first = np.lexsort((np.arange(len(users)), -users))
            first = first[users[first] > 0]
            orders[segment] = _order(first, users[first] / max(products.segment_sizes[segment], 1), whole, shares)
        return cls(orders)

    def order(self, segment: str | None) -> Order:
        """What a user of the segment is offered, best first; without a segment, or in an unknown one, the shop's."""
        return self.orders.get(segment, self.orders[None])


def _order(
    first: Integers, first_shares: npt.NDArray[np.float64], whole: Integers, shares: npt.NDArray[np.float64]
) -> Order:
    other = ~np.isin(whole, first)
    positions = np.concatenate([first, whole[other]])
    place_of = np.empty(len(positions), np.int64)
    place_of[positions] = np.arange(len(positions))
    return Order(positions, np.concatenate([first_shares, shares[other]]), len(first), place_of)

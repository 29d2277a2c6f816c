"""The fallback: popular products of the user's segment, then of the shop, which complete lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecommerce_assets.recommendation.recommenders.base import Flags, Integers, ProductStats


@dataclass(frozen=True)
class Order:
    """Products in the order in which they complete lists.

    Attributes
    ----------
    positions, shares
        Position of each product, and the share of users who interacted with it, 0 to 1.
    of_segment
        The first `of_segment` products are popular in the segment, the others in the shop.
    """

    positions: Integers
    shares: npt.NDArray[np.float64]
    of_segment: int


@dataclass(frozen=True)
class Fallback:
    """The orders by popularity.

    Attributes
    ----------
    orders
        Order by segment; None: the order of the shop.
    """

    orders: Mapping[str | None, Order]

    @classmethod
    def of(cls, products: ProductStats, eligible: Flags | None = None) -> Fallback:
        """Returns the orders of eligible products by number of distinct users, most first, ties by position.

        All orders have all eligible products. The order of a segment begins with the products that its users
        interacted with.

        Parameters
        ----------
        products
            Stats of the p products.
        eligible
            (p,) True for products that may be recommended; None: all.
        """
        is_eligible = np.ones(len(products), np.bool_) if eligible is None else eligible
        in_shop = _by_users(products.users, is_eligible)
        shares = products.users[in_shop] / max(products.total_users, 1)
        orders: dict[str | None, Order] = {None: Order(in_shop, shares, 0)}
        for segment, users in products.segment_users.items():
            in_segment = _by_users(users, is_eligible & (users > 0))
            others = ~np.isin(in_shop, in_segment)
            segment_shares = users[in_segment] / max(products.segment_sizes[segment], 1)
            orders[segment] = Order(
                np.concatenate([in_segment, in_shop[others]]),
                np.concatenate([segment_shares, shares[others]]),
                len(in_segment),
            )
        return cls(orders)

    def order(self, segment: str | None) -> Order:
        """Returns the order of a segment; that of the shop for None and unknown segments."""
        return self.orders.get(segment, self.orders[None])


def _by_users(users: Integers, allowed: Flags) -> Integers:
    """Returns the positions of allowed products by number of users, most first, ties by position."""
    order = np.lexsort((np.arange(len(users)), -users))
    return np.asarray(order[allowed[order]], np.int64)

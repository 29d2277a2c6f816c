"""Popular products for users whom the model cannot serve: those of their segment first, then those of the shop.

Who needs it, and how it joins the model's lists, stands in lists.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.spark.at_once import at_once


@dataclass(frozen=True)
class PopularityList:
    """Products by the number of distinct users who interacted, most first, ties by position."""

    positions: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]

    @classmethod
    def from_counts(cls, users_by_position: npt.NDArray[np.int64], users: int, *, with_zero: bool) -> PopularityList:
        """Rank positions 0 … n - 1 by their number of users; `with_zero` keeps products that nobody touched."""
        order = np.lexsort((np.arange(len(users_by_position)), -users_by_position))
        if not with_zero:
            order = order[users_by_position[order] > 0]
        return cls(order, users_by_position[order] / max(users, 1))


@dataclass(frozen=True)
class Order:
    """All products in the order in which they are offered.

    Attributes
    ----------
    positions, shares
        Each product's position, and how popular it is (share of users, 0 to 1).
    own
        How many of the first are the segment's; the others are the shop's.
    place_of
        By position, where the product stands in this order.
    """

    positions: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    own: int
    place_of: npt.NDArray[np.int64]

    @classmethod
    def of(cls, own: PopularityList | None, overall: PopularityList) -> Order:
        """The segment's products first, then those of the shop that are not among them."""
        if own is None:
            positions, shares = overall.positions, overall.shares
        else:
            other = ~np.isin(overall.positions, own.positions)
            positions = np.concatenate([own.positions, overall.positions[other]])
            shares = np.concatenate([own.shares, overall.shares[other]])
        place_of = np.empty(len(positions), np.int64)
        place_of[positions] = np.arange(len(positions))
        return cls(positions, shares, len(own.positions) if own else 0, place_of)


@dataclass(frozen=True)
class Fallback:
    """The shop's popular products and those of each segment."""

    overall: PopularityList
    by_segment: dict[str, PopularityList]

    def order(self, segment: str | None) -> Order:
        """What someone of the segment is offered, best first; without a segment, or in an unknown one, the shop's."""
        return Order.of(self.by_segment.get(segment) if segment is not None else None, self.overall)

    def without_segments(self) -> Fallback:
        """Popularity in the shop alone."""
        return Fallback(self.overall, {})


def build_fallback(
    interactions: DataFrame, segments: DataFrame, position_of: npt.NDArray[np.int64], products: int
) -> Fallback:
    """Popularity from interactions.

    Parameters
    ----------
    interactions
        `user_idx`, `product_idx`; one row per pair, so that rows are distinct users.
    segments
        `user_idx`, `segment` of the users that have one.
    position_of
        Position of each product_idx.
    products
        Number of products; those nobody touched come last in the overall list.
    """
    joined = interactions.select("user_idx", "product_idx").join(segments, "user_idx", "left")
    per_product = joined.groupBy("segment", "product_idx").agg(F.count("*").alias("users"))
    per_segment = segments.groupBy("segment").agg(F.count("*").alias("users"))
    in_all = interactions.agg(F.count_distinct("user_idx").alias("users"))
    counted: Any
    counted, sized, all_users = at_once(
        interactions.sparkSession, [per_product.toPandas, per_segment.toPandas, in_all.toPandas]
    )
    sizes = dict(zip(sized["segment"], sized["users"], strict=True))
    by_segment = {
        segment: _dense(own, position_of, products) for segment, own in counted.groupby("segment", dropna=False)
    }
    whole = sum(by_segment.values(), np.zeros(products, np.int64))
    return Fallback(
        PopularityList.from_counts(whole, int(all_users["users"].iloc[0]), with_zero=True),
        {
            segment: PopularityList.from_counts(users, sizes[segment], with_zero=False)
            for segment, users in by_segment.items()
            if segment in sizes
        },
    )


def _dense(counts: Any, position_of: npt.NDArray[np.int64], products: int) -> npt.NDArray[np.int64]:
    users = np.zeros(products, dtype=np.int64)
    users[position_of[counts["product_idx"].to_numpy()]] = counts["users"].to_numpy()
    return users

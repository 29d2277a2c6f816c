"""Popular products for users whom the model cannot serve: those of their segment first, then those of the shop."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

SEGMENT_POPULAR = "segment_popular"
POPULAR = "popular"


class Suggestion(NamedTuple):
    """A product by its position, how popular it is (share of users, 0 to 1), and where it comes from."""

    position: int
    share: float
    source: str


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
class Fallback:
    """The shop's popular products and those of each segment."""

    overall: PopularityList
    by_segment: dict[str, PopularityList]

    def suggest(self, segment: str | None, barred: Collection[int], wanted: int) -> list[Suggestion]:
        """The first `wanted` products that are not barred: the segment's, then the shop's; fewer if none are left."""
        chosen: list[Suggestion] = []
        taken = set(barred)
        for suggestion in self._in_order(segment):
            if len(chosen) == wanted:
                break
            if suggestion.position not in taken:
                taken.add(suggestion.position)
                chosen.append(suggestion)
        return chosen

    def _in_order(self, segment: str | None) -> Iterator[Suggestion]:
        if segment in self.by_segment:
            own = self.by_segment[segment]
            for position, share in zip(own.positions, own.shares, strict=True):
                yield Suggestion(int(position), float(share), SEGMENT_POPULAR)
        for position, share in zip(self.overall.positions, self.overall.shares, strict=True):
            yield Suggestion(int(position), float(share), POPULAR)


def build_fallback(
    interactions: DataFrame, segments: DataFrame | None, position_of: npt.NDArray[np.int64], products: int
) -> Fallback:
    """Popularity from interactions.

    Parameters
    ----------
    interactions
        `user_idx`, `product_idx`; one row per pair, so that rows are distinct users.
    segments
        `user_idx`, `segment` of the users that have one; None where segments play no part.
    position_of
        Position of each product_idx.
    products
        Number of products; those nobody touched come last in the overall list.
    """
    overall: Any = interactions.groupBy("product_idx").agg(F.count("*").alias("users")).toPandas()
    everyone = interactions.select("user_idx").distinct().count()
    whole = PopularityList.from_counts(_dense(overall, position_of, products), everyone, with_zero=True)
    if segments is None:
        return Fallback(whole, {})
    joined = interactions.select("user_idx", "product_idx").join(segments, "user_idx")
    counts: Any = joined.groupBy("segment", "product_idx").agg(F.count("*").alias("users")).toPandas()
    sizes = {row["segment"]: row["count"] for row in segments.groupBy("segment").count().collect()}
    by_segment = {
        str(segment): PopularityList.from_counts(_dense(own, position_of, products), sizes[segment], with_zero=False)
        for segment, own in counts.groupby("segment")
    }
    return Fallback(whole, by_segment)


def _dense(counts: Any, position_of: npt.NDArray[np.int64], products: int) -> npt.NDArray[np.int64]:
    users = np.zeros(products, dtype=np.int64)
    users[position_of[counts["product_idx"].to_numpy()]] = counts["users"].to_numpy()
    return users

"""The lists of a batch of users: chosen by a ranker, completed with what is popular. NumPy and Arrow only.

`ListMaker.lists` is the entry point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ecommerce_assets.recommendation.blend import Blend, pool_candidates
from ecommerce_assets.recommendation.fallback import Fallback, Order
from ecommerce_assets.recommendation.products import batch_type
from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import Candidates, Recommender, Training, Users
from ecommerce_assets.recommendation.recommenders.popularity import Popularity
from ecommerce_assets.recommendation.recommenders.segment_popularity import SegmentPopularity
from ecommerce_assets.recommendation.top_k import Excluded

SOURCES = tuple(recommender.source for recommender in RECOMMENDERS)
"""Where an entry of a list comes from, by its code."""

SEGMENT_POPULAR, POPULAR = (SOURCES.index(system.source) for system in (SegmentPopularity, Popularity))

DEPTH = 50
"""Candidates of each recommender, at least."""

LONGEST_LIST = 248
"""Lists are made as a matrix of users times k: a typing error must not ask for one that no memory holds."""

CELLS = 1 << 22
"""Users times products that are looked at in one piece while lists are completed: 21 MB."""

Integers = npt.NDArray[np.int64]


class Ranker(StrEnum):
    """What orders the products of a list."""

    blend = "blend"
    als = "als"


@dataclass(frozen=True)
class Lists:
    """Lists of n users, best first, each of k places of which the last may be empty.

    Attributes
    ----------
    positions
        (n, k) positions of the products; -1 where a place is empty.
    scores
        (n, k), not rising along a list; -inf where a place is empty.
    sources
        (n, k) codes of `SOURCES`.
    """

    positions: Integers
    scores: npt.NDArray[np.float64]
    sources: npt.NDArray[np.int8]

    @classmethod
    def empty(cls, users: int, k: int) -> Lists:
        """(users, k) places with nothing in them."""
        shape = (users, k)
        return cls(np.full(shape, -1, np.int64), np.full(shape, -np.inf), np.full(shape, POPULAR, np.int8))

    @classmethod
    def of(cls, candidates: Candidates, k: int, source: str) -> Lists:
        """The first k candidates of one recommender."""
        filled = candidates.filled[:, :k]
        made = cls.empty(*filled.shape)
        made.positions[:] = candidates.positions[:, :k]
        made.scores[filled] = candidates.scores[:, :k][filled]
        made.sources[filled] = SOURCES.index(source)
        return made

    def copy(self) -> Lists:
        """The same in memory of its own."""
        return Lists(self.positions.copy(), self.scores.copy(), self.sources.copy())

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """(users, k) which places hold a product."""
        return self.positions >= 0

    def as_rows(self, user_ids: pa.Array, product_ids: npt.NDArray[Any], because: Integers) -> pa.RecordBatch:
        """The columns of `RECOMMENDATIONS`: a row for each filled place, user by user, by rank.

        Parameters
        ----------
        because
            (n, k) positions of the products that contributed most; -1: none.
        """
        users, ranks = np.nonzero(self.filled)
        sources = pa.DictionaryArray.from_arrays(pa.array(self.sources[users, ranks]), pa.array(SOURCES))
        contributed, kind = because[users, ranks], batch_type(product_ids)
        return pa.RecordBatch.from_pydict(
            {
                "user_id": user_ids.take(pa.array(users)),
                "rank": pa.array((ranks + 1).astype(np.int32)),
                "product_id": pa.array(product_ids[self.positions[users, ranks]], kind),
                "score": pa.array(self.scores[users, ranks]),
                "source": sources.cast(pa.string()),
                "because_product_id": pa.array(product_ids[contributed], kind, mask=contributed < 0),
            }
        )


@dataclass(frozen=True)
class ListMaker:
    """All that lists are made with; it can be pickled.

    Attributes
    ----------
    training
        What the recommenders were fitted on.
    recommenders
        The fitted recommenders, by name.
    fallback
        What is popular in each segment and in the shop.
    """

    training: Training
    recommenders: Mapping[str, Recommender]
    fallback: Fallback

    @classmethod
    def fit(cls, training: Training) -> ListMaker:
        """Fits every recommender."""
        recommenders = {system.name: system.fit(training) for system in RECOMMENDERS}
        return cls(training, recommenders, Fallback.of(training.products))

    def candidates(self, users: Users, depth: int = DEPTH) -> dict[str, Candidates]:
        """The best products of each recommender for each user."""
        return {name: recommender.recommend(users, depth) for name, recommender in self.recommenders.items()}

    def lists(self, users: Users, k: int, blend: Blend | None) -> Lists:
        """Lists of k products; ranked by the blend, or, without one, by ALS alone."""
        if blend is None:
            return self.complete(Lists.of(self.recommenders[Als.name].recommend(users, k), k, Als.source), users)
        return self.blended(users, self.candidates(users, max(DEPTH, k)), k, blend)

    def blended(self, users: Users, candidates: Mapping[str, Candidates], k: int, blend: Blend) -> Lists:
        """Lists ranked by the blend; users without a history get what is popular."""
        made = Lists.empty(len(users), k)
        has_history = np.diff(users.begins) > 0
        pool = pool_candidates(self.training, users, candidates)
        best, places = blend.best(pool, len(users), k)
        filled = best.filled & has_history[:, None]
        made.positions[filled] = best.positions[filled]
        made.scores[filled] = best.scores[filled]
        made.sources[filled] = pool.sources[places[filled]]
        return self.complete(made, users)

    def complete(self, made: Lists, users: Users) -> Lists:
        """Fill the free places with what is popular in the segment, then in the shop."""
        short = np.flatnonzero(~made.filled[:, -1])
        segments = users.segments[short]
        for segment in set(segments.tolist()):
            complete(made, short[segments == segment], self.fallback.order(segment), users.excluded)
        # A share of users is not on the scale of other scores: it is capped, so that the score does not rise.
        made.scores[short] = np.minimum.accumulate(made.scores[short], axis=1)
        return made


def complete(made: Lists, rows: Integers, order: Order, excluded: Excluded) -> None:
    """Fill the free places of these lists in the given order, without what is excluded and what is listed already.

    Of the first k + b products of the order at most b can be excluded or listed, so no more need to be looked at.
    """
    k = made.positions.shape[1]
    listed_counts = made.filled[rows].sum(axis=1, dtype=np.int32)
    widths = np.minimum(k + listed_counts + excluded.begins[rows + 1] - excluded.begins[rows], len(order.positions))
    widest_first = np.argsort(-widths, kind="stable")
    start = 0
    while start < len(rows):
        width = max(int(widths[widest_first[start]]), 1)
        chunk = widest_first[start : start + max(1, CELLS // width)]
        start += len(chunk)
        part = rows[chunk]
        free = np.ones((len(part), width), dtype=bool)
        listed = np.nonzero(made.filled[part])
        for owners, positions in (excluded.of(part), (listed[0], made.positions[part][listed])):
            places = order.place_of[positions]
            seen = places < width
            free[owners[seen], places[seen]] = False
        free = free[:, : len(order.positions)]
        slots = listed_counts[chunk, None] + np.cumsum(free, axis=1, dtype=np.int32) - 1
        user, place = np.nonzero(free & (slots < k))
        slot = slots[user, place]
        made.positions[part[user], slot] = order.positions[place]
        made.scores[part[user], slot] = order.shares[place]
        made.sources[part[user], slot] = np.where(place < order.of_segment, SEGMENT_POPULAR, POPULAR)


def vectors_of(features: pa.ListArray | pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """An Arrow column of lists of equal length, without nulls, as a matrix: no Python object per number."""
    flat = pc.list_flatten(features).to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(features), len(flat) // max(len(features), 1))


def ragged(lists: pa.ListArray) -> tuple[Integers, pa.Array]:
    """Where each list begins (and, one more, where the last ends), and all their values; null is an empty list."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return begins, pc.list_flatten(lists)

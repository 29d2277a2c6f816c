"""Makes the lists of a batch of users: ranks, applies the shop's rules, adds popular products. Does not use Spark.

`ListMaker.lists` is the entry point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecommerce_assets.recommendation.blend import Blend, pool_candidates
from ecommerce_assets.recommendation.fallback import Fallback
from ecommerce_assets.recommendation.list_rules import ListRules
from ecommerce_assets.recommendation.products import batch_type
from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import Candidates, Flags, Integers, Recommender, Training, Users
from ecommerce_assets.recommendation.recommenders.popularity import Popularity, SegmentPopularity

RULE_SOURCES = ("pinned", "new")
"""Sources of entries that a shop's rules put into lists."""

SOURCES = (*(recommender.source for recommender in RECOMMENDERS), *RULE_SOURCES)
"""Sources of entries; the code of a source is its place here."""

SEGMENT_POPULAR, POPULAR = (SOURCES.index(system.source) for system in (SegmentPopularity, Popularity))
PINNED, NEW = (SOURCES.index(source) for source in RULE_SOURCES)

DEPTH = 50
"""Minimum number of candidates of each recommender."""

LONGEST_LIST = 248
"""Maximum length of a list: lists are a matrix of users times k, which must fit in memory."""


class Ranker(StrEnum):
    """What ranks the products of a list: the blend, or ALS alone."""

    blend = "blend"
    als = "als"


@dataclass(frozen=True)
class Lists:
    """Lists of n users with k places each, best first; empty places come last.

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
        """Returns lists of k empty places for this number of users."""
        shape = (users, k)
        return cls(np.full(shape, -1, np.int64), np.full(shape, -np.inf), np.full(shape, POPULAR, np.int8))

    @classmethod
    def of(cls, candidates: Candidates, k: int, source: str) -> Lists:
        """Returns the first k candidates of one recommender as lists; `source` is one of `SOURCES`."""
        filled = candidates.filled[:, :k]
        lists = cls.empty(*filled.shape)
        lists.positions[:] = candidates.positions[:, :k]
        lists.scores[filled] = candidates.scores[:, :k][filled]
        lists.sources[filled] = SOURCES.index(source)
        return lists

    def copy(self) -> Lists:
        """Returns a copy that shares no memory."""
        return Lists(self.positions.copy(), self.scores.copy(), self.sources.copy())

    @property
    def filled(self) -> Flags:
        """(n, k) True where a place has a product."""
        return self.positions >= 0

    def append(
        self,
        positions: Integers,
        scores: npt.NDArray[np.float64],
        sources: npt.NDArray[np.int8] | int,
        limits: Integers,
        rules: ListRules,
    ) -> None:
        """Append products to the lists, in place, as far as the limits per category and brand permit.

        Parameters
        ----------
        positions, scores, sources
            (n, m) positions of products, -1 where a place is empty; their scores; their codes of `SOURCES`, or one
            code for all.
        limits
            (n,) maximum length of each list, at most k.
        rules
            The limits per category and brand.
        """
        from ecommerce_assets.recommendation.list_kernels import append

        codes = np.ascontiguousarray(np.broadcast_to(np.asarray(sources, np.int8), positions.shape))
        append(
            self.positions, self.scores, self.sources, limits, positions, scores, codes,
            rules.category, rules.brand, rules.max_per_category, rules.max_per_brand,
        )  # fmt: skip

    def as_rows(self, user_ids: pa.Array, product_ids: npt.NDArray[Any], because: Integers) -> pa.RecordBatch:
        """Returns the columns of `RECOMMENDATIONS`: one row for each filled place, by user, then by rank.

        Parameters
        ----------
        user_ids
            (n,) ids of the users.
        product_ids
            Ids of the products by position.
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
    """The fitted recommenders, the fallback and the rules that make lists. It can be pickled.

    Attributes
    ----------
    training
        The data that the recommenders were fitted on.
    recommenders
        The fitted recommenders, by name.
    fallback
        The popular products of each segment and of the shop.
    rules
        The shop's rules about the composition of lists; by default none.
    """

    training: Training
    recommenders: Mapping[str, Recommender]
    fallback: Fallback
    rules: ListRules = field(default_factory=ListRules)

    @classmethod
    def fit(
        cls,
        training: Training,
        rules: ListRules | None = None,
        recommenders: Sequence[type[Recommender]] = RECOMMENDERS,
    ) -> ListMaker:
        """Returns a ListMaker with the recommenders fitted on `training`."""
        fitted = {system.name: system.fit(training) for system in recommenders}
        return cls(training, fitted, Fallback.of(training.products, training.eligible), rules or ListRules())

    def candidates(self, users: Users, depth: int = DEPTH) -> dict[str, Candidates]:
        """Returns the best `depth` products of each recommender for each user, by the name of the recommender."""
        return {name: recommender.recommend(users, depth) for name, recommender in self.recommenders.items()}

    def lists(self, users: Users, k: int, blend: Blend | None) -> Lists:
        """Returns lists of k products, ranked by the blend, or by ALS alone if `blend` is None."""
        width = self.rules.candidates(k)
        if blend is None:
            ranked = Lists.of(self.recommenders[Als.name].recommend(users, width), width, Als.source)
        else:
            ranked = self._ranked(users, self.candidates(users, max(DEPTH, k)), width, blend)
        return self.complete(self._composed(ranked, users, k) if self.rules.change_lists else ranked, users)

    def blended(self, users: Users, candidates: Mapping[str, Candidates], k: int, blend: Blend) -> Lists:
        """Returns lists of k products ranked by the blend, without pinned and new products.

        Users without a history get popular products.
        """
        return self.complete(self._ranked(users, candidates, k, blend), users)

    def _ranked(self, users: Users, candidates: Mapping[str, Candidates], k: int, blend: Blend) -> Lists:
        lists = Lists.empty(len(users), k)
        has_history = np.diff(users.begins) > 0
        pool = pool_candidates(self.training, users, candidates)
        best, places = blend.best(pool, len(users), k)
        filled = best.filled & has_history[:, None]
        lists.positions[filled] = best.positions[filled]
        lists.scores[filled] = best.scores[filled]
        lists.sources[filled] = pool.sources[places[filled]]
        return lists

    def _composed(self, ranked: Lists, users: Users, k: int) -> Lists:
        """Returns lists of up to k products: pinned products, then ranked ones, then new ones.

        Pinned products have the highest score of the ranked ones (1.0 if there are none). A new product has the score
        of the product before it.
        """
        rules, lists, full = self.rules, Lists.empty(len(users), k), np.full(len(users), k)
        pinned, new = rules.pinned_for(users), rules.new_for(users, k)
        lists.append(pinned, np.full(pinned.shape, np.inf), PINNED, full, rules)
        lists.append(ranked.positions, ranked.scores, ranked.sources, full - (new >= 0).sum(axis=1), rules)
        lists.append(new, np.full(new.shape, np.inf), NEW, full, rules)
        lists.append(ranked.positions, ranked.scores, ranked.sources, full, rules)
        best = np.where(np.isfinite(lists.scores), lists.scores, -np.inf).max(axis=1, initial=-np.inf)
        highest = np.where(np.isfinite(best), best, 1.0)[:, None]
        lists.scores[:] = np.minimum.accumulate(np.minimum(lists.scores, highest), axis=1)
        return lists

    def complete(self, lists: Lists, users: Users) -> Lists:
        """Fills empty places, in place, with popular products of the segment, then of the shop; returns the lists."""
        from ecommerce_assets.recommendation.list_kernels import complete

        short = np.flatnonzero(~lists.filled[:, -1])
        segments, excluded, rules = users.segments[short], users.excluded, self.rules
        for segment in set(segments.tolist()):
            order = self.fallback.order(segment)
            complete(
                short[segments == segment], lists.positions, lists.scores, lists.sources,
                order.positions, order.shares, order.of_segment, SEGMENT_POPULAR, POPULAR,
                excluded.begins, excluded.items, len(self.training.products),
                rules.category, rules.brand, rules.max_per_category, rules.max_per_brand,
            )  # fmt: skip
        # The share of users has another scale than other scores: cap it, so that scores do not rise.
        lists.scores[short] = np.minimum.accumulate(lists.scores[short], axis=1)
        return lists

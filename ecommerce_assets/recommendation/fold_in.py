"""Recommendations for a visitor whom the model does not know, from a few events and without Spark ("fold-in").

The entry point is `FoldIn.load(Lake(data_dir)).recommend_for([Event(1004856), Event(1005115, "cart")])`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from ecommerce_assets.events.parsing import parse_id
from ecommerce_assets.events.schema import EVENT_TYPES
from ecommerce_assets.features.expressions import SECONDS_PER_DAY
from ecommerce_assets.recommendation.als_model import SavedModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.fitting import categories_of, stats_in_process
from ecommerce_assets.recommendation.interactions import (
    LAST,
    MAX_RATING,
    WEIGHTS,
    collect_pairs,
    latest_of_pairs,
    recency_weight,
)
from ecommerce_assets.recommendation.list_rules import ELIGIBILITY, with_catalog
from ecommerce_assets.recommendation.lists import LONGEST_LIST, SOURCES, ListMaker, Ranker
from ecommerce_assets.recommendation.parameters import ListParameters
from ecommerce_assets.recommendation.products import INDEXED, Products, products_of
from ecommerce_assets.recommendation.reasons import reasons
from ecommerce_assets.recommendation.recommend import HAS_SEGMENT, list_maker, with_user_idx
from ecommerce_assets.recommendation.recommenders.base import Integers, Users
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import MODEL_FOLDER, read_document, read_without_spark

Doubles = npt.NDArray[np.float64]

TINY = np.finfo(np.float64).tiny
PRECISION = 1e-12
"""Gradients below this share of the largest absolute value of the right-hand side count as zero."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Event:
    """An event of the visitor.

    Attributes
    ----------
    product_id
        The product; a number, or a string if the shop's ids are strings.
    event_type
        `view`, `cart`, `purchase` or `remove_from_cart`; the last one is ignored.
    event_time
        UTC if it has no time zone; None: now. Events without a time happen in the order of the list.
    """

    product_id: int | str
    event_type: str = "view"
    event_time: datetime | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of a list; the fields are columns of the table `recommendations`."""

    rank: int
    product_id: int | str
    score: float
    source: str
    because_product_id: int | str | None


@dataclass(frozen=True)
class FoldIn:
    """Everything that the published lists were made from, in memory. Threads can share it.

    Run BLAS with one thread (for example with OPENBLAS_NUM_THREADS=1): the matrices of one visitor are small.

    Attributes
    ----------
    products, maker, blend
        The products, the ListMaker, and the blend; `blend` is None for the ranker `als`.
    als, lists
        Parameters of the model and of the lists.
    reference
        Time of the latest interaction in the training data, in microseconds since 1970-01-01 UTC.
    """

    products: Products
    maker: ListMaker
    blend: Blend | None
    als: AlsParameters
    lists: ListParameters
    reference: int

    @classmethod
    def load(cls, lake: Lake) -> FoldIn:
        """Loads exactly the versions that the published recommendations were made from.

        Raises
        ------
        VersionNotFoundError
            If no recommendations are published, or if a version that they were made from was removed.
        """
        published = lake.latest("recommendations")
        model = lake.ancestor(published, "als_model")
        names = ("product_index", "user_index", "segmented_users", "interaction_data", "item_neighbours")
        index, user_index, users, interactions, neighbours = (
            read_without_spark(lake, lake.ancestor(published, name)) for name in names
        )
        features = read_without_spark(lake, lake.ancestor(published, "product_features"))
        eligibility = read_without_spark(lake, lake.ancestor(published, "product_eligibility"))
        eligible = eligibility.to_arrow(*ELIGIBILITY)
        products = with_catalog(products_of(index.to_arrow(*INDEXED)), eligible)
        pairs = collect_pairs(interactions, LAST)
        segments = with_user_idx(users, user_index).filter(HAS_SEGMENT)
        stats = stats_in_process(pairs, segments, products, categories_of(features))
        saved = SavedModel(lake.folder(model) / MODEL_FOLDER)
        maker = list_maker(stats, products, neighbours, saved, eligible, eligibility.parameters)
        lists, blend = ListParameters.of(published.parameters), None
        if lists.ranker == Ranker.blend:
            blend = Blend.of(read_document(lake, lake.ancestor(published, "blend_model")))
        fold_in = cls(products, maker, blend, AlsParameters.of(model.parameters), lists, latest_of_pairs(pairs))
        fold_in.recommend_for([Event(product) for product in products.ids[:1].tolist()])  # compiles the loops
        return fold_in

    def recommend_for(self, events: Sequence[Event], segment: str | None = None, k: int | None = None) -> list[Entry]:
        """Returns the visitor's list, best first, made as the published list of a user with these events.

        Events of unknown products are ignored. Without any known product, the list has the products that are popular in
        the segment, then in the shop.

        Parameters
        ----------
        events
            The visitor's events.
        segment
            Name of the visitor's segment; None or an unknown name: no segment.
        k
            Length of the list; None: the length of the published lists.

        Raises
        ------
        ValueError
            If an event has an unknown type or an id of the wrong type, or if k is not from 1 to `LONGEST_LIST`.
        """
        if k is not None and (isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= LONGEST_LIST):
            raise ValueError(f"k must be a whole number from 1 to {LONGEST_LIST}, got {k!r}.")
        return self.entries(self.visitor(events, segment), self.lists.k if k is None else k)

    def visitor(self, events: Sequence[Event], segment: str | None = None) -> Users:
        """Returns a batch of one user whose history and factors are made from these events.

        Raises ValueError; see `recommend_for`.
        """
        now = datetime.now(UTC)
        pairs: dict[int, tuple[float, int, bool, int]] = {}
        for number, event in enumerate(events):
            if event.event_type not in EVENT_TYPES:
                raise ValueError(f"event_type must be one of {', '.join(EVENT_TYPES)}; got {event.event_type!r}.")
            if not isinstance(event.event_time, datetime | None):
                raise ValueError(f"event_time must be a datetime, got {event.event_time!r}.")
            position = self._position(event.product_id)
            if position is None or event.event_type not in WEIGHTS:
                continue
            rating, count, purchased, last = pairs.get(position, (0.0, 0, False, 0))
            pairs[position] = (
                rating + WEIGHTS[event.event_type],
                count + 1,
                purchased or event.event_type == "purchase",
                max(last, _microseconds(event.event_time or now + number * MICROSECOND)),
            )
        history = sorted(pairs.items(), key=lambda pair: (-pair[1][3], pair[0]))
        positions = np.array([position for position, _ in history], np.int64)
        ratings = np.minimum(np.array([pair[0] for _, pair in history], np.float32), np.float32(MAX_RATING))
        times = np.array([pair[3] for _, pair in history], np.int64)
        ages = (times.max(initial=self.reference) - times) / 1e6 / SECONDS_PER_DAY
        half_life = self.als.halfLife
        weighted = ratings if half_life is None else ratings * recency_weight(ages, half_life)
        return Users(
            begins=np.array([0, len(history)]),
            positions=positions,
            ratings=ratings,
            events=np.array([pair[1] for _, pair in history], np.int64),
            ages=ages.astype(np.float32),
            purchased=np.array([pair[2] for _, pair in history], np.bool_),
            segments=np.array([segment], dtype=object),
            factors=self.factors(positions, weighted)[None, :].astype(np.float32),
            exclude=self.lists.exclude,
        )

    def entries(self, visitor: Users, k: int) -> list[Entry]:
        """Returns the list of the only user of a batch, best first."""
        lists = self.maker.lists(visitor, k, self.blend)
        filled, ids = lists.filled[0], self.products.ids
        rows = zip(
            ids[lists.positions[0, filled]].tolist(),
            lists.scores[0, filled].tolist(),
            lists.sources[0, filled].tolist(),
            reasons(self.maker, visitor, lists)[0, filled].tolist(),
            strict=True,
        )
        return [
            Entry(rank, product, score, SOURCES[source], ids[[reason]].tolist()[0] if reason >= 0 else None)
            for rank, (product, score, source, reason) in enumerate(rows, 1)
        ]

    def factors(self, positions: Integers, ratings: npt.NDArray[Any]) -> Doubles:
        """Returns the factors of a user with these ratings, for the stored factors of the products.

        Solves (YᵀY + λnI + Σ (c - 1) y yᵀ) x = Σ c y over the n rated products, where c = 1 + alpha · rating. This is
        a half-step of the fit: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM
        2008). Products that the model does not know are ignored.

        Parameters
        ----------
        positions, ratings
            (n,) positions of the rated products, and their ratings.
        """
        rated = self.maker.training.item_factors[positions].astype(np.float64)
        known = rated.any(axis=1)
        rated, extra = rated[known], self.als.alpha * ratings[known].astype(np.float64)
        if not len(rated):
            return np.zeros(len(self._gram))
        matrix = self._gram + (rated.T * extra) @ rated
        matrix[np.diag_indices_from(matrix)] += self.als.regParam * len(rated)
        right = rated.T @ (1 + extra)
        return minimise_nonnegative(matrix, right) if self.als.nonnegative else _solve(matrix, right)

    @cached_property
    def _gram(self) -> Doubles:
        """Returns YᵀY, where Y has the factors of all products."""
        factors = self.maker.training.item_factors.astype(np.float64)
        return factors.T @ factors

    def _position(self, product_id: int | str) -> int | None:
        """Returns the product's position; None if it is unknown. Raises ValueError if the id has the wrong type."""
        ids = self.products.ids
        is_number = np.issubdtype(ids.dtype, np.integer)
        if (parsed := parse_id(product_id, "bigint" if is_number else "string")) is None:
            kind = "a whole number of at most 64 bits" if is_number else "a string"
            raise ValueError(f"product_id must be {kind} in this shop, got {product_id!r}.")
        position = bisect_left(ids, parsed)
        return position if position < len(ids) and ids[position] == parsed else None


def minimise_nonnegative(matrix: Doubles, right: Doubles) -> Doubles:
    """Returns the x ≥ 0 that minimises xᵀ·matrix·x / 2 - right·x, for a positive semidefinite matrix.

    Lawson and Hanson, "Solving Least Squares Problems" (1974), chapter 23, on the normal equations (Bro and De Jong,
    "A fast non-negativity-constrained least squares algorithm", Journal of Chemometrics, 1997).
    """
    x, free, limit = np.zeros(len(right)), np.zeros(len(right), np.bool_), PRECISION * np.abs(right).max(initial=0)
    for _ in range(3 * len(right)):  # the method terminates, but rounding errors could make it cycle
        descent = np.where(free, 0, right - matrix @ x)
        if descent.max(initial=0) <= limit:
            break
        free[np.argmax(descent)] = True
        while True:
            solved = np.zeros(len(right))
            solved[free] = _solve(matrix[np.ix_(free, free)], right[free])
            below = free & (solved <= 0)
            if not below.any():
                break
            # Step towards the solution until the first value reaches zero; that value is no longer free.
            steps = np.full(len(right), np.inf)
            steps[below] = x[below] / np.maximum(x[below] - solved[below], TINY)
            x += steps.min() * (solved - x)
            free &= steps > steps.min()
            x[~free] = 0
        x = solved
    return x


def _solve(matrix: Doubles, right: Doubles) -> Doubles:
    """Returns the solution of a linear system; the one with the smallest norm if there are several."""
    try:
        return np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:  # without regularisation, and with fewer products than factors
        return np.asarray(np.linalg.lstsq(matrix, right)[0])


def _microseconds(time: datetime) -> int:
    """Returns the microseconds since 1970-01-01 UTC."""
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND

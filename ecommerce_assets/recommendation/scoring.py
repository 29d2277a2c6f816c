"""Fits all systems on the past of a holdout and scores their lists for its users.

The evaluation, the backtest and the tuning call `Past.of`, `Past.fit`, `training_examples` and `score`.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain
from operator import add
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.als import AfterIteration, choose_engine, fit_als
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.batches import map_in_threads, split_batch
from ecommerce_assets.recommendation.blend import (
    FEATURES,
    MAX_TRAINING_USERS,
    MIN_TRAINING_USERS,
    Blend,
    fit_blend,
    pool_candidates,
)
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import (
    item_factors,
    neighbours_of,
    ragged,
    stats_by_spark,
    stats_in_process,
    users_of,
    with_features,
)
from ecommerce_assets.recommendation.holdout import Holdout
from ecommerce_assets.recommendation.interactions import (
    LAST,
    collect_pairs,
    latest_interaction,
    latest_of_pairs,
)
from ecommerce_assets.recommendation.item_neighbours import neighbours_by_spark, neighbours_in_process
from ecommerce_assets.recommendation.lists import DEPTH, ListMaker, Lists
from ecommerce_assets.recommendation.local_holdout import LocalHoldout
from ecommerce_assets.recommendation.metrics import among
from ecommerce_assets.recommendation.products import INDEXED, Products, products_of
from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.base import (
    Candidates,
    Flags,
    Floats,
    Integers,
    ProductStats,
    Ragged,
    Recommender,
    Training,
    Users,
)
from ecommerce_assets.recommendation.recommenders.neighbours import Neighbours
from ecommerce_assets.recommendation.scores import Relevant, Scores, score_lists
from ecommerce_assets.recommendation.systems import ALS_ALONE, ALS_LIST, BASELINES, POPULARITY, PUBLISHED, TITLES
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.spark.connect import send_to_workers
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.stored_table import StoredTable

Result = TypeVar("Result")

FEW, SOME = 5, 20
"""A user with fewer events has few, or some, events."""

SERVED, SERVED_BY_FALLBACK = "served by: recommenders", "served by: fallback"

SLICES = {
    "all": "all users",
    SERVED: "served by a recommender",
    SERVED_BY_FALLBACK: "served by the fallback alone",
    "events: none": "no past events",
    "events: few": f"1 to {FEW - 1} past events",
    "events: some": f"{FEW} to {SOME - 1} past events",
    "events: many": f"{SOME} or more past events",
    **{f"segment: {name}": name for name in SEGMENT_NAMES},
}
"""Slices of users and their titles, in display order; users without events have no segment."""

SAMPLED_USERS = 2 * MAX_TRAINING_USERS
"""Number of sampled users for the published blend; about half of them have a relevant candidate."""

OTHER_SAMPLED_USERS = 1_000
"""Number of sampled users for the blends that are scored but not published."""

DRAWS, DRAW_SEED = 1_000_000, 42
"""Resolution and seed of the hash that samples users."""


@dataclass(frozen=True)
class Systems:
    """The systems fitted at a cutoff, and the holdout users to score them with.

    Attributes
    ----------
    products
        Products known at the cutoff.
    maker
        The fitted recommenders.
    reference
        Time of the latest interaction, in microseconds since 1970.
    users
        The users as in `Holdout.users`, with their `features`. A table is scored by threads of this process, a
        DataFrame by Spark's workers.
    """

    products: Products
    maker: ListMaker
    reference: int
    users: pa.Table | DataFrame

    def batch(self, users: pa.RecordBatch, exclude: Exclude) -> HoldoutBatch:
        """Returns a batch of the users for this exclusion."""
        rank = self.maker.training.item_factors.shape[1]
        return HoldoutBatch.of(users, self.products, rank, self.reference, exclude)


@dataclass(frozen=True)
class Past:
    """All that systems are fitted on at a cutoff and scored with, for any parameters of ALS.

    Attributes
    ----------
    products
        Products known at the cutoff.
    interactions
        The pairs before the cutoff. The local engine fits a table, with pairs of `collect_pairs` and `LAST`, and MLlib
        a StoredTable.
    stats, neighbours
        See `Training`.
    reference
        Time of the latest interaction, in microseconds since 1970.
    users
        See `Holdout.users`.
    recommenders
        The recommenders that are fitted and scored.
    """

    products: Products
    interactions: pa.Table | StoredTable
    stats: ProductStats
    neighbours: Ragged
    reference: int
    users: pa.Table | DataFrame
    recommenders: Sequence[type[Recommender]]

    @classmethod
    def of(
        cls,
        holdout: Holdout | LocalHoldout,
        categories: pa.Table,
        als: AlsParameters,
        engine: Engine = Engine.auto,
        recommenders: Sequence[type[Recommender]] = RECOMMENDERS,
    ) -> Past:
        """Returns the past of a holdout.

        Parameters
        ----------
        holdout
            A `LocalHoldout` stays in this process.
        categories
            `product_id`, `category_id`, `category`.
        als, engine
            Parameters of the largest ALS model that will be fitted, and its engine.
        recommenders
            ALS, popularity and any others; without `Neighbours` no neighbours are computed.
        """
        with_neighbours = Neighbours in recommenders
        if isinstance(holdout, LocalHoldout):
            products, pairs, segments = holdout.products, holdout.interactions, holdout.segments
        else:
            products = products_of(holdout.products.select(*INDEXED).toArrow())
            stored = StoredTable(holdout.interactions)
            if choose_engine(stored, als, engine).engine == Engine.mllib:
                frame, neighbours = stored.frame, Ragged.empty(len(products.ids))
                if with_neighbours:
                    neighbours = neighbours_of(StoredTable(neighbours_by_spark(frame, holdout.products)), products)
                stats = stats_by_spark(frame, holdout.segments, products, categories)
                latest = latest_interaction(frame)
                return cls(products, stored, stats, neighbours, latest, holdout.users, recommenders)
            pairs, segments = collect_pairs(stored, LAST), holdout.segments.toArrow()
        stats = stats_in_process(pairs, segments, products, categories)
        nothing = Ragged.empty(len(stats))
        neighbours = neighbours_in_process(pairs, products).as_ragged() if with_neighbours else nothing
        return cls(products, pairs, stats, neighbours, latest_of_pairs(pairs), holdout.users, recommenders)

    def fit(self, als: AlsParameters, after_iteration: AfterIteration | None = None) -> Systems:
        """Returns the systems with an ALS model of these parameters.

        Parameters
        ----------
        after_iteration
            Called after each iteration of the local engine.
        """
        # The engine of a StoredTable; a table is always fitted by the local one.
        model = fit_als(self.interactions, als, Engine.mllib, after_iteration)
        training = Training(self.stats, self.neighbours, item_factors(model.products, self.products))
        maker = ListMaker.fit(training, recommenders=self.recommenders)
        return Systems(self.products, maker, self.reference, with_features(self.users, model))


PRIMES = np.array([0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64)
"""Primes 1, 2, 3 and 5 of xxHash64."""


def xxhash64(numbers: npt.NDArray[Any], *more: int) -> Integers:
    """Returns the xxHash64 of 32-bit numbers, each followed by `more`; equal to Spark's `xxhash64`."""
    first, second, third, fifth = PRIMES
    hashes = np.full(len(numbers), 42, np.uint64)
    for value in (numbers.astype(np.uint32), *more):
        hashes = (hashes + fifth + np.uint64(4)) ^ (np.full(len(numbers), value, np.uint64) * first)
        hashes = ((hashes << np.uint64(23)) | (hashes >> np.uint64(41))) * second + third
        hashes = (hashes ^ (hashes >> np.uint64(33))) * second
        hashes = (hashes ^ (hashes >> np.uint64(29))) * third
        hashes = hashes ^ (hashes >> np.uint64(32))
    return hashes.astype(np.int64)


def _activity(total_events: pa.Array) -> npt.NDArray[np.object_]:
    """Returns `none`, `few`, `some` or `many` for the numbers of events before the cutoff."""
    events = pc.fill_null(total_events, 0).to_numpy(zero_copy_only=False)
    names = np.array(["none", "few", "some", "many"], object)
    return np.asarray(names[np.searchsorted([1, FEW, SOME], events, side="right")])


@dataclass(frozen=True)
class HoldoutBatch:
    """n holdout users with relevant products that are not excluded.

    Attributes
    ----------
    user_idx, users
        (n,) numbers of the users, and the users.
    relevant
        Their relevant products.
    activity
        (n,) `none`, `few`, `some` or `many` events before the cutoff.
    buckets
        (n,) bucket of each user.
    draws
        (n,) a hash of each user from 0 to 1, which samples users.
    """

    user_idx: Integers
    users: Users
    relevant: Relevant
    activity: npt.NDArray[np.object_]
    buckets: Integers
    draws: npt.NDArray[np.float64]

    @classmethod
    def of(cls, batch: pa.RecordBatch, products: Products, rank: int, reference: int, exclude: Exclude) -> HoldoutBatch:
        """Returns the users of a batch of `USER_COLUMNS` that have relevant products; see `users_of`."""
        users = users_of(batch, products, rank, reference, exclude)
        begins, values = ragged(batch.column("relevant"))
        owners = np.repeat(np.arange(batch.num_rows), np.diff(begins))
        positions = products.positions(values.to_numpy(zero_copy_only=False))
        excluded_owners, excluded = users.excluded.of(np.arange(len(users)))
        width = len(products.ids) + 1
        kept = ~among(owners * width + positions, excluded_owners * width + excluded)
        owners, positions = owners[kept], positions[kept]
        counts = np.bincount(owners, minlength=len(users))
        rows = np.flatnonzero(counts)
        place = np.zeros(len(users), np.int64)
        place[rows] = np.arange(len(rows))
        known = positions >= 0
        user_idx = batch.column("user_idx").to_numpy()[rows]
        return cls(
            user_idx,
            users.take(rows),
            Relevant(place[owners[known]], positions[known], counts[rows]),
            _activity(batch.column("total_events"))[rows],
            batch.column("bucket").to_numpy()[rows],
            xxhash64(user_idx, DRAW_SEED) % DRAWS / DRAWS,
        )

    def take(self, rows: Integers) -> HoldoutBatch:
        """Returns the users with these row numbers."""
        place = np.full(len(self.users), -1, np.int64)
        place[rows] = np.arange(len(rows))
        owners = place[self.relevant.owners]
        relevant = Relevant(owners[owners >= 0], self.relevant.positions[owners >= 0], self.relevant.counts[rows])
        return HoldoutBatch(
            self.user_idx[rows],
            self.users.take(rows),
            relevant,
            self.activity[rows],
            self.buckets[rows],
            self.draws[rows],
        )


def _map_users(
    systems: Systems, process: Callable[[Systems, Iterable[pa.RecordBatch]], Iterator[Result]]
) -> list[Result]:
    """Returns what `process` yields for batches of the users, in threads of this process or in Spark's workers."""
    users = systems.users
    if isinstance(users, pa.Table):
        return map_in_threads(users, partial(process, systems))
    shared = send_to_workers(users.sparkSession, replace(systems, users=pa.table({})))

    def pickled(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for result in process(shared.value, chain.from_iterable(map(split_batch, batches))):
            # Spark limits the size of results, and scores are mostly zeros.
            data = zlib.compress(pickle.dumps(result), 1)
            yield pa.RecordBatch.from_pydict({"result": pa.array([data], pa.binary())})

    table = users.mapInArrow(pickled, "result binary").toArrow()
    shared.destroy()  # a tuning sends one object per trial
    return [pickle.loads(zlib.decompress(data)) for data in table.column("result").to_pylist()]


@dataclass(frozen=True)
class Examples:
    """Training examples of the blend: candidates of the training users.

    Attributes
    ----------
    user_idx
        (c,) the user of each candidate.
    features
        (c, f) features of the candidates.
    relevant
        (c,) True if the user interacted with the candidate.
    """

    user_idx: Integers
    features: Floats
    relevant: Flags

    @classmethod
    def of(cls, parts: Iterable[Examples]) -> Examples:
        """Returns the examples of all parts, sorted by user, of at most `MAX_TRAINING_USERS` users."""
        nothing = cls(np.empty(0, np.int64), np.empty((0, len(FEATURES)), np.float32), np.empty(0, np.bool_))
        every = [nothing, *parts]
        user_idx = np.concatenate([part.user_idx for part in every])
        # Sums of floating-point numbers depend on their order, and the order of tasks varies.
        order = np.argsort(user_idx, kind="stable")
        users = np.unique(user_idx)
        if len(users) > MAX_TRAINING_USERS:
            users = np.random.default_rng(0).permutation(users)[:MAX_TRAINING_USERS]
            order = order[np.isin(user_idx[order], users)]
        features = np.concatenate([part.features for part in every])
        relevant = np.concatenate([part.relevant for part in every])
        return cls(user_idx[order], features[order], relevant[order])

    @property
    def users(self) -> int:
        """Number of training users."""
        return len(np.unique(self.user_idx))

    def fit(self) -> Blend:
        """Returns the trained blend; with fewer than `MIN_TRAINING_USERS` users, the blend without weights."""
        return fit_blend(self.features, self.relevant) if self.users >= MIN_TRAINING_USERS else Blend()


def score(
    systems: Systems,
    blends: Mapping[Exclude, Blend | None],
    k: int,
    published: Exclude | None = None,
) -> tuple[dict[Exclude, Scores], Examples | None]:
    """Returns the scores of the systems over the holdout users, by exclusion, and training examples.

    Parameters
    ----------
    blends
        By exclusion, the blend that ranks the published lists; None: ALS alone.
    k
        Length of the lists.
    published
        The exclusion whose candidates are returned as training examples of the published blend; None: no examples.
    """
    share = SAMPLED_USERS / _users_with_history(systems) if published else 0.0
    depth = max(DEPTH, k) if any(blend is not None for blend in blends.values()) else k

    def process(
        fitted: Systems, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[tuple[dict[Exclude, Scores], list[Examples]]]:
        totals = {exclude: Scores(tuple(TITLES)) for exclude in blends}
        examples = []
        for users in batches:
            for exclude, blend in blends.items():
                batch = fitted.batch(users, exclude)
                if not len(batch.users):
                    continue
                candidates = fitted.maker.candidates(batch.users, depth)
                totals[exclude] += _score_batch(fitted.maker, batch, candidates, blend, k)
                if exclude == published:
                    examples.append(_examples(fitted.maker, batch, candidates, share))
        yield totals, examples

    results = _map_users(systems, process)
    scores = {
        exclude: reduce(add, (totals[exclude] for totals, _ in results), Scores(tuple(TITLES))) for exclude in blends
    }
    return scores, Examples.of(chain(*(examples for _, examples in results))) if published else None


def _score_batch(
    maker: ListMaker, batch: HoldoutBatch, candidates: Mapping[str, Candidates], blend: Blend | None, k: int
) -> Scores:
    users = batch.users
    alone = {name: Lists.of(best, k, maker.recommenders[name].source) for name, best in candidates.items()}
    completed = {name: maker.complete(lists.copy(), users) for name, lists in alone.items()}
    lists = {
        PUBLISHED: completed[ALS_ALONE] if blend is None else maker.blended(users, candidates, k, blend),
        ALS_LIST: completed[ALS_ALONE],
        ALS_ALONE: alone[ALS_ALONE],
        **{name: completed[name] for name in BASELINES if name in completed},
    }
    served = np.asarray(np.diff(users.begins) > 0 if blend is not None else alone[ALS_ALONE].filled.any(axis=1))
    slices: dict[str, Flags] = {
        SERVED: served,
        SERVED_BY_FALLBACK: ~served,
        **_slices("events", batch.activity),
        **_slices("segment", users.segments),
    }
    category = maker.training.products.category
    return score_lists(lists, PUBLISHED, POPULARITY, batch.relevant, category, slices, batch.buckets)


def _slices(name: str, values: npt.NDArray[np.object_]) -> dict[str, Flags]:
    return {f"{name}: {value}": np.asarray(values == value) for value in set(values.tolist()) if value is not None}


def training_examples(systems: Systems, excludes: Sequence[Exclude]) -> dict[Exclude, Examples]:
    """Returns training examples of the blend by exclusion: the candidates of users who have a relevant one.

    Users are sampled by a hash, so they are the same in each run: `SAMPLED_USERS` for the first exclusion (at most
    `MAX_TRAINING_USERS` of them are used), `OTHER_SAMPLED_USERS` for the others.
    """
    count = _users_with_history(systems)
    shares = {
        exclude: (OTHER_SAMPLED_USERS if number else SAMPLED_USERS) / count for number, exclude in enumerate(excludes)
    }

    def process(fitted: Systems, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Exclude, Examples]]:
        for users in batches:
            for exclude, share in shares.items():
                batch = fitted.batch(users, exclude)
                batch = batch.take(np.flatnonzero(batch.draws < share))
                if len(batch.users):
                    yield exclude, _examples(fitted.maker, batch, fitted.maker.candidates(batch.users), share)

    results = _map_users(systems, process)
    return {exclude: Examples.of(part for by, part in results if by == exclude) for exclude in excludes}


def _users_with_history(systems: Systems) -> int:
    users = systems.users
    if isinstance(users, pa.Table):
        return max(pc.sum(pc.greater(pc.list_value_length(users.column("history")), 0)).as_py() or 0, 1)
    return max(users.where(F.size("history") > 0).count(), 1)


def _examples(maker: ListMaker, batch: HoldoutBatch, candidates: Mapping[str, Candidates], share: float) -> Examples:
    """Returns the candidates of the sampled users who have a relevant one."""
    rows = np.flatnonzero((batch.draws < share) & (np.diff(batch.users.begins) > 0))
    batch = batch.take(rows)
    candidates = {name: each.take(rows) for name, each in candidates.items()}
    pool = pool_candidates(maker.training, batch.users, candidates)
    width = len(maker.training.products)
    relevant = among(pool.owners * width + pool.positions, batch.relevant.owners * width + batch.relevant.positions)
    has_relevant = np.zeros(len(batch.users), np.bool_)
    has_relevant[pool.owners[relevant]] = True
    kept = has_relevant[pool.owners]
    return Examples(batch.user_idx[pool.owners[kept]].astype(np.int64), pool.features[kept], relevant[kept])

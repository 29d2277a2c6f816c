"""Fits all systems on the past of a holdout and scores their lists for its users.

The evaluation, the backtest and the tuning call `fit_systems`, `training_examples` and `score`.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from operator import add
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.als import AfterIteration, choose_engine, fit_als, fit_local
from ecommerce_assets.recommendation.als_model import factor_frame
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
    factors_of,
    histories_in_process,
    item_factors,
    lists_of,
    neighbours_of,
    ragged,
    stats_by_spark,
    stats_in_process,
    users_of,
)
from ecommerce_assets.recommendation.holdout import Holdout
from ecommerce_assets.recommendation.interactions import (
    LAST,
    collect_pairs,
    latest_interaction,
    latest_of_pairs,
    weigh_pairs,
)
from ecommerce_assets.recommendation.item_neighbours import neighbours_by_spark, neighbours_in_process
from ecommerce_assets.recommendation.lists import DEPTH, ListMaker, Lists
from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.recommendation.local_holdout import LocalHoldout
from ecommerce_assets.recommendation.metrics import among
from ecommerce_assets.recommendation.products import INDEXED, Products, products_of
from ecommerce_assets.recommendation.recommenders.base import Candidates, Flags, Floats, Integers, Training, Users
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

USER_COLUMNS = ("user_idx", "bucket", "history", "segment", "total_events", "features", "relevant")
"""Columns of `Systems.users`."""


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
        `USER_COLUMNS` of the holdout users with relevant products. A table is scored by threads of this process, a
        DataFrame by Spark's workers.
    """

    products: Products
    maker: ListMaker
    reference: int
    users: pa.Table | DataFrame


def fit_systems(
    holdout: Holdout | LocalHoldout,
    categories: pa.Table,
    als: AlsParameters,
    engine: Engine,
    after_iteration: AfterIteration | None = None,
) -> Systems:
    """Returns all recommenders, fitted on the interactions before the cutoff.

    Parameters
    ----------
    holdout
        The past and the holdout users; a `LocalHoldout` is fitted in this process.
    categories
        `product_id`, `category_id`, `category`.
    als, engine
        Parameters and engine of the ALS model.
    after_iteration
        Called after each iteration of the local engine.
    """
    if isinstance(holdout, LocalHoldout):
        return _fit_in_process(holdout, categories, als, after_iteration)
    spark, products = holdout.pairs.sparkSession, products_of(holdout.products.select(*INDEXED).toArrow())
    interactions = StoredTable(holdout.interactions)
    if choose_engine(interactions, als, engine).engine == Engine.local:
        pairs = collect_pairs(interactions, LAST)
        stats = stats_in_process(pairs, holdout.segments.toArrow(), products, categories)
        neighbours = neighbours_in_process(pairs, products).as_ragged()
        reference = latest_of_pairs(pairs)
        of_users, of_products = fit_local(_with_recency_weights(pairs, als), als, after_iteration)
        del pairs
        factors, user_factors = item_factors(of_products, products), factor_frame(spark, of_users)
    else:
        stats = stats_by_spark(interactions.frame, holdout.segments, products, categories)
        neighbours = neighbours_of(StoredTable(neighbours_by_spark(interactions.frame, holdout.products)), products)
        reference = latest_interaction(interactions.frame)
        model = fit_als(interactions, als, engine)
        factors, user_factors = item_factors(model.products, products), model.user_frame(spark)
    maker = ListMaker.fit(Training(stats, neighbours, factors))
    return Systems(products, maker, reference, with_factors(holdout, user_factors))


def with_factors(holdout: Holdout, user_factors: DataFrame) -> DataFrame:
    """Returns `USER_COLUMNS` of the holdout users; `user_factors` has `id` and `features` of the ALS model."""
    features = user_factors.withColumnRenamed("id", "user_idx")
    return holdout.users.join(features, "user_idx", "left").select(*USER_COLUMNS)


def _fit_in_process(
    holdout: LocalHoldout, categories: pa.Table, als: AlsParameters, after_iteration: AfterIteration | None
) -> Systems:
    products, pairs = holdout.products, holdout.interactions
    stats = stats_in_process(pairs, holdout.segments, products, categories)
    neighbours = neighbours_in_process(pairs, products).as_ragged()
    of_users, of_products = fit_local(_with_recency_weights(pairs, als), als, after_iteration)
    maker = ListMaker.fit(Training(stats, neighbours, item_factors(of_products, products)))
    return Systems(products, maker, latest_of_pairs(pairs), users_in_process(holdout, of_users))


def _with_recency_weights(pairs: pa.Table, als: AlsParameters) -> pa.Table:
    """Returns pairs of `collect_pairs` (with `LAST`) with ratings weighted by recency, if `halfLife` is set."""
    if als.halfLife is None:
        return pairs
    rating = weigh_pairs(pairs.column("rating"), pairs.column(LAST), als.halfLife)
    return pairs.set_column(pairs.schema.get_field_index("rating"), "rating", rating.cast(pa.float32()))


def users_in_process(holdout: LocalHoldout, factors: Factors) -> pa.Table:
    """Returns `USER_COLUMNS` of the holdout users; `factors` are those of the ALS model's users."""
    relevant, known = holdout.pairs.filter(holdout.pairs.column("relevant")), holdout.segments
    distinct, first = np.unique(relevant.column("user_idx").to_numpy(), return_index=True)
    users = pa.array(distinct)
    at = pc.index_in(users, value_set=known.column("user_idx").combine_chunks())
    return pa.table(
        {
            "user_idx": users,
            "bucket": relevant.column("bucket").take(pa.array(first)),
            "history": histories_in_process(holdout.interactions, users),
            "segment": known.column("segment").take(at),
            "total_events": known.column("total_events").take(at),
            "features": factors_of(users, pa.array(factors.indices), factors.vectors),
            "relevant": lists_of(relevant.column("user_idx"), relevant.column("product_idx").combine_chunks(), users),
        }
    )


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


class _Fitted(NamedTuple):
    """`Systems` without the users: what Spark's workers need."""

    products: Products
    maker: ListMaker
    reference: int

    def batch(self, users: pa.RecordBatch, exclude: Exclude) -> HoldoutBatch:
        rank = self.maker.training.item_factors.shape[1]
        return HoldoutBatch.of(users, self.products, rank, self.reference, exclude)


def _map_users(
    systems: Systems, process: Callable[[_Fitted, Iterable[pa.RecordBatch]], Iterator[Result]]
) -> list[Result]:
    """Returns what `process` yields for batches of the users, in threads of this process or in Spark's workers."""
    fitted = _Fitted(systems.products, systems.maker, systems.reference)
    users = systems.users
    if isinstance(users, pa.Table):
        return map_in_threads(users, partial(process, fitted))
    shared = send_to_workers(users.sparkSession, fitted)

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
    """Returns the scores of all systems over the holdout users, by exclusion, and training examples.

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

    def process(
        fitted: _Fitted, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[tuple[dict[Exclude, Scores], list[Examples]]]:
        totals = {exclude: Scores(tuple(TITLES)) for exclude in blends}
        examples = []
        for users in batches:
            for exclude, blend in blends.items():
                batch = fitted.batch(users, exclude)
                if not len(batch.users):
                    continue
                candidates = fitted.maker.candidates(batch.users, max(DEPTH, k))
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
        **{name: completed[name] for name in BASELINES},
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


def score_als(systems: Systems, exclude: Exclude, k: int) -> Scores:
    """Returns the scores of the ranker `als` and of popularity over the holdout users.

    Parameters
    ----------
    systems
        Only the recommenders ALS and popularity are used.
    exclude, k
        Which products are excluded, and the length of the lists.
    """

    def process(fitted: _Fitted, batches: Iterable[pa.RecordBatch]) -> Iterator[Scores]:
        maker, total = fitted.maker, Scores((ALS_LIST, POPULARITY))
        popular, category = maker.recommenders[POPULARITY], maker.training.products.category
        for users in batches:
            batch = fitted.batch(users, exclude)
            if not len(batch.users):
                continue
            completed = maker.complete(Lists.of(popular.recommend(batch.users, k), k, popular.source), batch.users)
            lists = {ALS_LIST: maker.lists(batch.users, k, None), POPULARITY: completed}
            total += score_lists(lists, ALS_LIST, POPULARITY, batch.relevant, category, {}, batch.buckets)
        yield total

    return reduce(add, _map_users(systems, process), Scores((ALS_LIST, POPULARITY)))


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

    def process(fitted: _Fitted, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Exclude, Examples]]:
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

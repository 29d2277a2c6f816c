"""Fits every system on the past of a holdout, and scores their lists over its users, with Spark.

`fit_systems`, `training_examples` and `score` are used by the evaluation, the backtest and the tuning.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain, zip_longest
from operator import add
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.als import AfterIteration, choose_engine, fit_als, fit_local
from ecommerce_assets.recommendation.als_model import factor_frame
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.blend import (
    FEATURES,
    FEWEST_TRAINING_USERS,
    MOST_TRAINING_USERS,
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
from ecommerce_assets.recommendation.lists import DEPTH, ListMaker, Lists, ragged
from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.recommendation.local_holdout import LocalHoldout
from ecommerce_assets.recommendation.metrics import among
from ecommerce_assets.recommendation.parts import by_threads, parts_of
from ecommerce_assets.recommendation.products import INDEXED, Products, products_of
from ecommerce_assets.recommendation.recommenders.base import Candidates, Floats, Integers, Training, Users
from ecommerce_assets.recommendation.scores import Relevant, Scores, score_lists
from ecommerce_assets.recommendation.systems import ALS_ALONE, ALS_LIST, BASELINES, POPULARITY, PUBLISHED, TITLES
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.spark.connect import send_to_workers
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.stored_table import StoredTable

FEW, SOME = 5, 20
SERVED, SERVED_BY_FALLBACK = "served by: recommenders", "served by: fallback"

SLICES = {
    "all": "all users",
    SERVED: "served by a recommender",
    SERVED_BY_FALLBACK: "served by the fallback alone",
    "events: none": "no events before",
    "events: few": f"1 to {FEW - 1} events before",
    "events: some": f"{FEW} to {SOME - 1} events before",
    "events: many": f"{SOME} events or more before",
    **{f"segment: {name}": name for name in SEGMENT_NAMES},
}
"""Slices of users and their names for people, in order; users without events have no segment."""

SAMPLED_USERS = 2 * MOST_TRAINING_USERS
"""Users whose candidates are made for the training: about half of them have a relevant one."""

DRAWS, DRAW_SEED = 1_000_000, 42

OTHER_SAMPLED_USERS = 1_000
"""The same for the blends that are scored but not published."""


@dataclass(frozen=True)
class Systems:
    """Everything that lists are made with at a cutoff.

    Attributes
    ----------
    products
        Products known at the cutoff.
    maker
        The fitted recommenders.
    reference
        The latest interaction, in microseconds since 1970.
    users
        `ASKED` of the users of the holdout, for whom something is relevant: for threads of this process, or for
        Spark's workers.
    """

    products: Products
    maker: ListMaker
    reference: int
    users: pa.Table | DataFrame


ASKED = ("user_idx", "bucket", "history", "segment", "total_events", "features", "relevant")
"""Columns of the users of a holdout, as the functions below read them in parts."""


def fit_systems(
    holdout: Holdout | LocalHoldout,
    categories: pa.Table,
    als: AlsParameters,
    engine: Engine,
    after_iteration: AfterIteration | None = None,
) -> Systems:
    """Fits every recommender on the interactions before the cutoff.

    Parameters
    ----------
    categories
        `product_id`, `category_id`, `category`.
    als, engine
        Parameters of the ALS model, and what fits it.
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
        of_users, of_products = fit_local(_weighed(pairs, als), als, after_iteration)
        del pairs
        factors, user_factors = item_factors(of_products, products), factor_frame(spark, of_users)
    else:
        stats = stats_by_spark(interactions.frame, holdout.segments, products, categories)
        by_spark = neighbours_by_spark(interactions.frame, holdout.products)
        neighbours = neighbours_of(StoredTable(by_spark), products)
        reference = latest_interaction(interactions.frame)
        model = fit_als(interactions, als, engine)
        factors, user_factors = item_factors(model.products, products), model.user_frame(spark)
    maker = ListMaker.fit(Training(stats, neighbours, factors))
    return Systems(products, maker, reference, with_factors(holdout, user_factors))


def with_factors(holdout: Holdout, user_factors: DataFrame) -> DataFrame:
    """`ASKED` of the users of the holdout, with `id`, `features` of the ALS model."""
    features = user_factors.withColumnRenamed("id", "user_idx")
    return holdout.users.join(features, "user_idx", "left").select(*ASKED)


def _fit_in_process(
    holdout: LocalHoldout, categories: pa.Table, als: AlsParameters, after_iteration: AfterIteration | None
) -> Systems:
    products, pairs = holdout.products, holdout.interactions
    stats = stats_in_process(pairs, holdout.segments, products, categories)
    neighbours = neighbours_in_process(pairs, products).as_ragged()
    of_users, of_products = fit_local(_weighed(pairs, als), als, after_iteration)
    maker = ListMaker.fit(Training(stats, neighbours, item_factors(of_products, products)))
    return Systems(products, maker, latest_of_pairs(pairs), users_in_process(holdout, of_users))


def _weighed(pairs: pa.Table, als: AlsParameters) -> pa.Table:
    """Pairs of `collect_pairs` with `LAST`, as ALS is fitted on them."""
    if als.halfLife is None:
        return pairs
    rating = weigh_pairs(pairs.column("rating"), pairs.column(LAST), als.halfLife)
    return pairs.set_column(pairs.schema.get_field_index("rating"), "rating", rating.cast(pa.float32()))


def users_in_process(holdout: LocalHoldout, factors: Factors) -> pa.Table:
    """`ASKED` of the users of the holdout."""
    relevant, known = holdout.pairs.filter(holdout.pairs.column("relevant")), holdout.segments
    numbers, first = np.unique(relevant.column("user_idx").to_numpy(), return_index=True)
    users = pa.array(numbers)
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
"""Of xxHash64: the first three and the fifth."""


def _hashed(numbers: npt.NDArray[Any], *more: int) -> Integers:
    """xxHash64 of 32-bit numbers, each followed by `more`, as Spark's `xxhash64`: the same in each run."""
    first, second, third, fifth = PRIMES
    made = np.full(len(numbers), 42, np.uint64)
    for value in (numbers.astype(np.uint32), *more):
        made = (made + fifth + np.uint64(4)) ^ (np.full(len(numbers), value, np.uint64) * first)
        made = ((made << np.uint64(23)) | (made >> np.uint64(41))) * second + third
        made = (made ^ (made >> np.uint64(33))) * second
        made = (made ^ (made >> np.uint64(29))) * third
        made = made ^ (made >> np.uint64(32))
    return made.astype(np.int64)


def _activity(total_events: pa.Array) -> npt.NDArray[np.object_]:
    """How much each user did before the cutoff."""
    events = pc.fill_null(total_events, 0).to_numpy(zero_copy_only=False)
    names = np.array(["none", "few", "some", "many"], object)
    return np.asarray(names[np.searchsorted([1, FEW, SOME], events, side="right")])


@dataclass(frozen=True)
class _Batch:
    """Users of a holdout for whom something is relevant under an exclusion, and what it is."""

    numbers: Integers
    users: Users
    relevant: Relevant
    events: npt.NDArray[np.object_]
    buckets: Integers
    draws: npt.NDArray[np.float64]

    @classmethod
    def of(cls, batch: pa.RecordBatch, products: Products, rank: int, reference: int, exclude: Exclude) -> _Batch:
        users = users_of(batch, products, rank, reference, exclude)
        begins, values = ragged(batch.column("relevant"))
        owners = np.repeat(np.arange(batch.num_rows), np.diff(begins))
        positions = products.positions(values.to_numpy(zero_copy_only=False))
        barred_owners, barred = users.excluded.of(np.arange(len(users)))
        width = len(products.ids) + 1
        kept = ~among(owners * width + positions, barred_owners * width + barred)
        owners, positions = owners[kept], positions[kept]
        counts = np.bincount(owners, minlength=len(users))
        rows = np.flatnonzero(counts)
        place = np.zeros(len(users), np.int64)
        place[rows] = np.arange(len(rows))
        known = positions >= 0
        numbers, events = batch.column("user_idx").to_numpy()[rows], _activity(batch.column("total_events"))[rows]
        buckets = batch.column("bucket").to_numpy()[rows]
        draws = _hashed(numbers, DRAW_SEED) % DRAWS / DRAWS
        relevant = Relevant(place[owners[known]], positions[known], counts[rows])
        return cls(numbers, users.take(rows), relevant, events, buckets, draws)

    def take(self, rows: Integers) -> _Batch:
        """These users of the batch."""
        place = np.full(len(self.users), -1, np.int64)
        place[rows] = np.arange(len(rows))
        owners = place[self.relevant.owners]
        relevant = Relevant(owners[owners >= 0], self.relevant.positions[owners >= 0], self.relevant.counts[rows])
        return _Batch(
            self.numbers[rows],
            self.users.take(rows),
            relevant,
            self.events[rows],
            self.buckets[rows],
            self.draws[rows],
        )


class _Fitted(NamedTuple):
    """What of the systems works without Spark."""

    products: Products
    maker: ListMaker
    reference: int

    def batch(self, part: pa.RecordBatch, exclude: Exclude) -> _Batch:
        return _Batch.of(part, self.products, self.maker.training.item_factors.shape[1], self.reference, exclude)


def _by_parts(
    systems: Systems,
    make: Callable[[_Fitted, Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
) -> pa.Table:
    """What `make` yields for the users, some at once: by threads of this process, or by Spark's workers.

    A table of the columns of `PACKED`.
    """
    fitted = _Fitted(systems.products, systems.maker, systems.reference)
    users = systems.users
    if isinstance(users, pa.Table):
        return by_threads(users, partial(make, fitted), PACKED)
    shared = send_to_workers(users.sparkSession, fitted)
    columns = ", ".join(f"{field.name} {field.type}" for field in PACKED)
    table = users.mapInArrow(
        lambda batches: make(shared.value, chain.from_iterable(map(parts_of, batches))), columns
    ).toArrow()
    shared.destroy()  # a tuning comes here once per trial
    return table


@dataclass(frozen=True)
class Examples:
    """Candidates of training users, and which of them were relevant.

    Attributes
    ----------
    features
        (c, f) of the candidates.
    relevant
        (c,) whether the user interacted with it.
    users
        Number of users.
    """

    features: Floats
    relevant: npt.NDArray[np.bool_]
    users: int

    def fit(self) -> Blend:
        """The blend; with fewer than 100 users the rule for few training users."""
        return fit_blend(self.features, self.relevant) if self.users >= FEWEST_TRAINING_USERS else Blend()


def score(
    systems: Systems,
    blends: Mapping[Exclude, Blend | None],
    k: int,
    published: Exclude | None = None,
) -> tuple[dict[Exclude, Scores], Examples | None]:
    """The scores of all systems over all users for whom something is relevant, for each exclusion.

    Parameters
    ----------
    blends
        By exclusion, what ranks the published lists; None: ALS alone.
    published
        The exclusion whose candidates are also returned, as examples for the blend of the published lists.
    """
    share = SAMPLED_USERS / _users_with_history(systems) if published else 0.0

    def make(fitted: _Fitted, parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        totals = {exclude: Scores(tuple(TITLES)) for exclude in blends}
        for part in parts:
            for exclude, blend in blends.items():
                batch = fitted.batch(part, exclude)
                if not len(batch.users):
                    continue
                candidates = fitted.maker.candidates(batch.users, max(DEPTH, k))
                totals[exclude] += score_batch(fitted.maker, batch, candidates, blend, k)
                if exclude == published:
                    yield _examples(fitted.maker, batch, candidates, exclude, share)
        yield _packed("scores", _compressed(totals))

    table = _by_parts(systems, make)
    parts: list[dict[Exclude, Scores]] = list(map(_decompressed, _values(table, "scores", "data")))
    scores = {exclude: reduce(add, (part[exclude] for part in parts), Scores(tuple(TITLES))) for exclude in blends}
    return scores, _unpacked(table, published) if published else None


def score_batch(
    maker: ListMaker, batch: _Batch, candidates: Mapping[str, Candidates], blend: Blend | None, k: int
) -> Scores:
    """The scores of all systems for one batch of users."""
    users = batch.users
    alone = {name: Lists.of(best, k, maker.recommenders[name].source) for name, best in candidates.items()}
    completed = {name: maker.complete(lists.copy(), users) for name, lists in alone.items()}
    lists = {
        PUBLISHED: completed[ALS_ALONE] if blend is None else maker.blended(users, candidates, k, blend),
        ALS_LIST: completed[ALS_ALONE],
        ALS_ALONE: alone[ALS_ALONE],
        **{name: completed[name] for name in BASELINES},
    }
    knows = np.asarray(np.diff(users.begins) > 0 if blend is not None else alone[ALS_ALONE].filled.any(axis=1))
    slices: dict[str, npt.NDArray[np.bool_]] = {
        SERVED: knows,
        SERVED_BY_FALLBACK: ~knows,
        **_slices("events", batch.events),
        **_slices("segment", users.segments),
    }
    category = maker.training.products.category
    return score_lists(lists, PUBLISHED, POPULARITY, batch.relevant, category, slices, batch.buckets)


def score_als(systems: Systems, exclude: Exclude, k: int) -> Scores:
    """The scores of the ranker `als` and of popularity alone, over all users for whom something is relevant.

    Parameters
    ----------
    systems
        With the recommenders ALS and popularity; no others are needed.
    """

    def make(fitted: _Fitted, parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        maker, total = fitted.maker, Scores((ALS_LIST, POPULARITY))
        popular, category = maker.recommenders[POPULARITY], maker.training.products.category
        for part in parts:
            batch = fitted.batch(part, exclude)
            if not len(batch.users):
                continue
            completed = maker.complete(Lists.of(popular.recommend(batch.users, k), k, popular.source), batch.users)
            lists = {ALS_LIST: maker.lists(batch.users, k, None), POPULARITY: completed}
            total += score_lists(lists, ALS_LIST, POPULARITY, batch.relevant, category, {}, batch.buckets)
        yield _packed("scores", _compressed(total))

    table = _by_parts(systems, make)
    return reduce(add, map(_decompressed, _values(table, "scores", "data")), Scores((ALS_LIST, POPULARITY)))


def _compressed(scores: Any) -> bytes:
    """Small also for a large catalogue, of which a partition shows few products: Spark limits the size of results."""
    return zlib.compress(pickle.dumps(scores), 1)


def _decompressed(data: bytes) -> Any:
    return pickle.loads(zlib.decompress(data))


def _slices(name: str, values: npt.NDArray[np.object_]) -> dict[str, npt.NDArray[np.bool_]]:
    return {f"{name}: {value}": np.asarray(values == value) for value in set(values.tolist()) if value is not None}


def training_examples(systems: Systems, excludes: Sequence[Exclude]) -> dict[Exclude, Examples]:
    """Examples for the blend, by exclusion: all candidates of up to 2,000 users with a relevant one.

    The users are drawn by a hash, so they are the same in each run; for all exclusions but the first, from 1,000.
    """
    count = _users_with_history(systems)
    shares = {
        exclude: (OTHER_SAMPLED_USERS if number else SAMPLED_USERS) / count for number, exclude in enumerate(excludes)
    }

    def make(fitted: _Fitted, parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part in parts:
            for exclude, share in shares.items():
                batch = fitted.batch(part, exclude)
                batch = batch.take(np.flatnonzero(batch.draws < share))
                if len(batch.users):
                    yield _examples(fitted.maker, batch, fitted.maker.candidates(batch.users), exclude, share)

    table = _by_parts(systems, make)
    return {exclude: _unpacked(table, exclude) for exclude in excludes}


def _users_with_history(systems: Systems) -> int:
    users = systems.users
    if isinstance(users, pa.Table):
        return max(pc.sum(pc.greater(pc.list_value_length(users.column("history")), 0)).as_py() or 0, 1)
    return max(users.where(F.size("history") > 0).count(), 1)


PACKED = pa.schema({"kind": pa.string(), **dict.fromkeys(("data", "users", "features", "relevant"), pa.binary())})


def _examples(
    maker: ListMaker, batch: _Batch, candidates: Mapping[str, Candidates], exclude: Exclude, share: float
) -> pa.RecordBatch:
    """The candidates of the drawn users of a batch who have a relevant one."""
    rows = np.flatnonzero((batch.draws < share) & (np.diff(batch.users.begins) > 0))
    batch = batch.take(rows)
    candidates = {name: each.take(rows) for name, each in candidates.items()}
    pool = pool_candidates(maker.training, batch.users, candidates)
    width = len(maker.training.products)
    relevant = among(pool.owners * width + pool.positions, batch.relevant.owners * width + batch.relevant.positions)
    reached = np.zeros(len(batch.users), np.bool_)
    reached[pool.owners[relevant]] = True
    kept = reached[pool.owners]
    users = batch.numbers[pool.owners[kept]].astype(np.int64)
    return _packed(str(exclude), b"", users, pool.features[kept], relevant[kept])


def _packed(kind: str, data: bytes, *columns: npt.NDArray[Any]) -> pa.RecordBatch:
    values = [data, *(np.ascontiguousarray(column).tobytes() for column in columns)]
    names = ["data", "users", "features", "relevant"]
    packed = {name: pa.array([value], pa.binary()) for name, value in zip_longest(names, values)}
    return pa.RecordBatch.from_pydict({"kind": pa.array([kind]), **packed})


def _values(table: pa.Table, kind: str, name: str) -> list[bytes]:
    values: list[bytes] = table.filter(pc.equal(table.column("kind"), kind)).column(name).to_pylist()
    return values


def _unpacked(table: pa.Table, exclude: Exclude) -> Examples:
    def values(name: str) -> bytes:
        return b"".join(_values(table, str(exclude), name))

    numbers = np.frombuffer(values("users"), np.int64)
    features = np.frombuffer(values("features"), np.float32).reshape(-1, len(FEATURES))
    relevant = np.frombuffer(values("relevant"), np.bool_)
    # In the order of the users and not of the tasks: sums of floating-point numbers depend on it.
    order = np.argsort(numbers, kind="stable")
    users = np.unique(numbers)
    if len(users) > MOST_TRAINING_USERS:
        users = np.sort(np.random.default_rng(0).permutation(users)[:MOST_TRAINING_USERS])
        order = order[np.isin(numbers[order], users)]
    return Examples(features[order], relevant[order], len(users))

"""Implicit-feedback ALS: `choose_engine` chooses an engine, `fit_als` fits the model.

Two engines fit the same kind of model (als_model.py): `local` (local_als.py, one machine) and `mllib` (Spark, any
cluster).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.progress import Progress, Say
from ecommerce_assets.recommendation.als_model import COLUMNS, FittedModel, LocalModel, MllibModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters as AlsParameters
from ecommerce_assets.recommendation.als_parameters import Engine as Engine
from ecommerce_assets.recommendation.als_parameters import ParamsFrom as ParamsFrom
from ecommerce_assets.recommendation.free_memory import free_memory
from ecommerce_assets.recommendation.local_als import Factors, LocalAls
from ecommerce_assets.spark.connect import master_of, parallelism

if TYPE_CHECKING:  # Spark ML takes a second to import, which only a run needs
    from pyspark.ml.recommendation import ALS

NOTHING = "There is nothing to learn from: interaction_data has no rows (no view, cart or purchase)."

BYTES_PER_PAIR = 64
"""Of the local engine: a pair as it comes (12), as rows (12), sorted for users and products (8 each), in between."""

VECTORS_PER_ROW = 6
"""Vectors that a user or product has at the most at once: the factors, their start, the copy without padding, Arrow's,
and Spark's, for which the vector is twice there."""

MEMORY_SHARE = 0.5
"""Of the memory that is free, what the local engine may plan with; the rest is Spark's and the estimate's error."""

PAIRS_AT_ONCE = 20_000_000
"""Collected in one job: 240 MB, well below Spark's limit for results, which is 1 GB."""

MICROSECONDS_PER_DAY = 86_400 * 1_000_000

AfterIteration = Callable[[int, float], None]
"""Is told how many iterations are done, and the objective that they reached."""


@dataclass(frozen=True)
class EngineChoice:
    """An engine, never `auto`, and in one sentence why it."""

    engine: Engine
    reason: str


def choose_engine(interactions: DataFrame, parameters: AlsParameters, engine: Engine = Engine.auto) -> EngineChoice:
    """The engine that is asked for; `auto`: local where Spark runs on this machine and the pairs fit in its memory.

    The local engine is more than ten times as fast as MLlib on the same cores and reaches the same objective or less.
    What it needs is estimated as 64 bytes per pair and six vectors of `rank` floats per user and product, and may be
    half of the memory that is free now.
    """
    if engine != Engine.auto:
        return EngineChoice(Engine(engine), f"Engine {engine}, as the configuration asks.")
    master = master_of(interactions.sparkSession)
    if not master.startswith("local"):
        return EngineChoice(Engine.mllib, f"Engine mllib, because Spark runs on a cluster ({master}).")
    pairs, last_user, last_product = interactions.agg(F.count("*"), F.max("user_idx"), F.max("product_idx")).collect()[
        0
    ]
    rows = (last_user or 0) + (last_product or 0) + 2
    needed = pairs * BYTES_PER_PAIR + rows * parameters.rank * 4 * VECTORS_PER_ROW
    free = free_memory()
    fits = needed <= MEMORY_SHARE * free
    estimate = f"{pairs:,} pairs need about {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
    if fits:
        return EngineChoice(Engine.local, f"Engine local, because Spark runs on this machine and {estimate}.")
    return EngineChoice(Engine.mllib, f"Engine mllib, because {estimate}, of which half may be used.")


def fit_als(
    interactions: DataFrame,
    parameters: AlsParameters,
    engine: Engine = Engine.auto,
    after_iteration: AfterIteration | None = None,
) -> FittedModel:
    """Factors for every user and product of the interactions.

    Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008): preference 1 for every
    pair, confidence 1 + alpha · rating; the regularisation of each row is scaled by its number of ratings (Zhou et al.,
    ALS-WR, 2008). Both engines minimise the same objective and give the same kind of model.

    Parameters
    ----------
    interactions
        `user_idx`, `product_idx` (int), `rating`; with a half-life also `last_interaction_at`. For MLlib, the Spark
        context needs a checkpoint directory: without one the lineage of 15 iterations overflows the stack.
    engine
        See `choose_engine`.
    after_iteration
        Called by the local engine alone: MLlib does not tell how far it is.

    Raises
    ------
    ValueError
        Where there are no interactions.
    """
    weighed = weigh_by_recency(interactions, parameters.halfLife)
    if choose_engine(interactions, parameters, engine).engine == Engine.mllib:
        return fit_mllib(weighed, parameters)
    return LocalModel(*fit_local(collect_pairs(weighed), parameters, after_iteration))


def weigh_by_recency(interactions: DataFrame, half_life: float | None) -> DataFrame:
    """The interactions with each `rating` multiplied by 0.5 ** (age / half-life).

    The age of a pair is the time from its last interaction to the latest one of all.

    Parameters
    ----------
    interactions
        `rating`, `last_interaction_at` and any other columns.
    half_life
        In days; None: the ratings stay as they are.
    """
    if half_life is None:
        return interactions
    age = (F.lit(latest_interaction(interactions)) - F.unix_micros("last_interaction_at")) / MICROSECONDS_PER_DAY
    return interactions.withColumn("rating", F.col("rating") * F.pow(F.lit(0.5), age / half_life))


def latest_interaction(interactions: DataFrame) -> int:
    """The time of the latest interaction, in microseconds since 1970; 0 without any."""
    [row] = interactions.agg(F.max(F.unix_micros("last_interaction_at")).alias("latest")).collect()
    return int(row["latest"] or 0)


def collect_pairs(interactions: DataFrame, *more: str | SparkColumn) -> pa.Table:
    """`user_idx`, `product_idx` (int32) and `rating` (float32) in the driver, as Arrow: no Python object per row.
    `more` columns come as they are.

    Collected a number of users at a time where there are many pairs, for Spark limits the size of a job's result.
    """
    pairs = interactions.select(
        F.col("user_idx").cast("int"), F.col("product_idx").cast("int"), F.col("rating").cast("float"), *more
    )
    slices = -(-interactions.count() // PAIRS_AT_ONCE)
    if slices <= 1:
        return pairs.toArrow()
    of_slice = F.pmod("user_idx", F.lit(slices))
    return pa.concat_tables([pairs.where(of_slice == number).toArrow() for number in range(slices)])


def fit_local(
    pairs: pa.Table, parameters: AlsParameters, after_iteration: AfterIteration | None = None
) -> tuple[Factors, Factors]:
    """Factors of the users and of the products of `collect_pairs`, without Spark.

    The ratings count as they are: `weigh_by_recency` comes before the pairs are collected.
    """
    if not pairs.num_rows:
        raise ValueError(NOTHING)
    options = parameters.spark_params()
    iterations = options.pop("maxIter")
    als = LocalAls(*(pairs.column(name).to_numpy() for name in ("user_idx", "product_idx", "rating")), **options)
    for solved in als.run(iterations):
        if after_iteration and solved is als.users:
            after_iteration(len(als.objectives), als.objectives[-1])
    return als.factors()


def log_iterations(say: Say, what: str, parameters: AlsParameters) -> AfterIteration:
    """Tells how far a fit is, and what it reached."""
    progress = Progress(say, what, parameters.maxIter, "iteration")
    return lambda done, objective: progress.step(done, f"objective {objective:,.0f}")


def fit_mllib(interactions: DataFrame, parameters: AlsParameters) -> MllibModel:
    """The model of Spark's ALS; the ratings count as they are.

    Raises ValueError if there are no interactions.
    """
    if interactions.isEmpty():
        raise ValueError(NOTHING)
    blocks = max(2, parallelism(interactions.sparkSession))
    # The order of the ratings in a block is the order in which they are summed: fixed, so that two fits agree.
    fixed = (
        interactions.select("user_idx", "product_idx", "rating")
        .repartition(blocks, "user_idx")
        .sortWithinPartitions("user_idx", "product_idx")
    )
    return MllibModel(_estimator(parameters).setNumBlocks(blocks).fit(fixed))


def _estimator(parameters: AlsParameters) -> ALS:
    from pyspark.ml.recommendation import ALS

    return ALS(
        ratingCol="rating",
        implicitPrefs=True,
        **COLUMNS,
        **parameters.spark_params(),
    )

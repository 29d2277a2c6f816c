"""Trains implicit-feedback ALS: `fit_als` is the entry point.

Two engines fit the same kind of model (als_model.py): `local` on one machine (local_als.py), and `mllib` with Spark.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyspark.sql import DataFrame

from ecommerce_assets.progress import Log, Progress
from ecommerce_assets.recommendation.als_model import COLUMNS, FittedModel, LocalModel, MllibModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.interactions import LAST, collect_pairs, weigh_by_recency, weigh_pairs
from ecommerce_assets.recommendation.local_als import Factors, LocalAls
from ecommerce_assets.spark.connect import parallelism
from ecommerce_assets.spark.engine import Engine, EngineChoice
from ecommerce_assets.spark.engine import choose_engine as choose_by_memory
from ecommerce_assets.storage.stored_table import StoredTable

NO_INTERACTIONS = (
    "interaction_data has no rows, so there is nothing to train ALS on. Land events with views, carts or purchases."
)

BYTES_PER_PAIR = 64
"""Memory of the local engine: a pair as read (12), as rows (12), sorted by user and by product (8 each), and copies."""

VECTORS_PER_ROW = 6
"""Maximum number of vectors per user or product in memory at once: factors, initial values, copy without padding,
Arrow's copy, and two copies for Spark."""

AfterIteration = Callable[[int, float], None]
"""Called with the number of completed iterations and the objective after them."""


def choose_engine(interactions: StoredTable, parameters: AlsParameters, engine: Engine = Engine.auto) -> EngineChoice:
    """Returns the configured engine; for `auto`, local if Spark runs on this machine and the pairs fit in memory.

    The local engine is faster than MLlib on the same cores and reaches the same objective.
    """

    def estimate() -> tuple[str, int]:
        pairs = interactions.rows
        rows = sum((interactions.maximum(name) or 0) + 1 for name in ("user_idx", "product_idx"))
        return f"{pairs:,} pairs", bytes_of_fit(pairs, rows, parameters.rank)

    return choose_by_memory(interactions.frame.sparkSession, engine, estimate)


def bytes_of_fit(pairs: int, rows: int, rank: int) -> int:
    """Returns the estimated memory of the local engine for this number of pairs, and of users and products."""
    return pairs * BYTES_PER_PAIR + rows * rank * 4 * VECTORS_PER_ROW


def fit_als(
    interactions: StoredTable | pa.Table,
    parameters: AlsParameters,
    engine: Engine = Engine.auto,
    after_iteration: AfterIteration | None = None,
) -> FittedModel:
    """Returns the factors of every user and product of the interactions.

    Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008): preference 1 for every
    pair, confidence 1 + alpha · rating; the regularisation of each row is scaled by its number of ratings (Zhou et al.,
    ALS-WR, 2008). Both engines minimise the same objective and give the same kind of model.

    Parameters
    ----------
    interactions
        `user_idx`, `product_idx` (int), `rating`; with a half-life also `last_interaction_at`. For MLlib, the Spark
        context needs a checkpoint directory: without one, the lineage of 15 iterations overflows the stack.
        Or pairs of `collect_pairs`, with a half-life also `LAST`, which the local engine fits.
    parameters
        Parameters of ALS.
    engine
        See `choose_engine`.
    after_iteration
        Called by the local engine only: MLlib does not report its progress.

    Raises
    ------
    ValueError
        If there are no interactions.
    """
    half_life = parameters.halfLife
    if not isinstance(interactions, pa.Table):
        if choose_engine(interactions, parameters, engine).engine == Engine.mllib:
            return fit_mllib(weigh_by_recency(interactions.frame, half_life), parameters)
        interactions = collect_pairs(interactions, *([] if half_life is None else [LAST]))
    return LocalModel(*fit_local(weigh_pairs(interactions, half_life), parameters, after_iteration))


def fit_local(
    pairs: pa.Table, parameters: AlsParameters, after_iteration: AfterIteration | None = None
) -> tuple[Factors, Factors]:
    """Returns the factors of the users and of the products, without Spark.

    Parameters
    ----------
    pairs
        Pairs of `collect_pairs`.
    parameters, after_iteration
        As in `fit_als`; `halfLife` is ignored.

    Raises ValueError if there are no pairs.
    """
    if not pairs.num_rows:
        raise ValueError(NO_INTERACTIONS)
    options = parameters.spark_params()
    iterations = options.pop("maxIter")
    als = LocalAls(*(pairs.column(name).to_numpy() for name in ("user_idx", "product_idx", "rating")), **options)
    for solved in als.run(iterations):
        if after_iteration and solved is als.users:
            after_iteration(len(als.objectives), als.objectives[-1])
    return als.factors()


def log_iterations(log: Log, title: str, parameters: AlsParameters) -> AfterIteration:
    """Returns a callback that logs the progress of a fit, with the objective; each line begins with the title."""
    progress = Progress(log, title, parameters.maxIter, "iteration")
    return lambda done, objective: progress.step(done, f"objective {objective:,.0f}")


def fit_mllib(interactions: DataFrame, parameters: AlsParameters) -> MllibModel:
    """Returns the model of Spark's ALS; `halfLife` is ignored.

    Raises ValueError if there are no interactions.
    """
    if interactions.isEmpty():
        raise ValueError(NO_INTERACTIONS)
    blocks = max(2, parallelism(interactions.sparkSession))
    # Ratings are summed in the order in which they are in a block: with a fixed order, two fits agree.
    ordered = (
        interactions.select("user_idx", "product_idx", "rating")
        .repartition(blocks, "user_idx")
        .sortWithinPartitions("user_idx", "product_idx")
    )
    from pyspark.ml.recommendation import ALS  # Spark ML takes a second to import, which only this function needs

    estimator = ALS(ratingCol="rating", implicitPrefs=True, **COLUMNS, **parameters.spark_params())
    return MllibModel(estimator.setNumBlocks(blocks).fit(ordered))

"""Implicit-feedback ALS: `choose_engine` chooses an engine, `fit_als` fits the model.

Two engines fit the same kind of model (als_model.py): `local` (local_als.py, one machine) and `mllib` (Spark, any
cluster).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import DataFrame

from ecommerce_assets.progress import Log, Progress
from ecommerce_assets.recommendation.als_model import COLUMNS, FittedModel, LocalModel, MllibModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters as AlsParameters
from ecommerce_assets.recommendation.als_parameters import ParamsFrom as ParamsFrom
from ecommerce_assets.recommendation.interactions import collect_pairs, weigh_by_recency
from ecommerce_assets.recommendation.local_als import Factors, LocalAls
from ecommerce_assets.spark.connect import parallelism
from ecommerce_assets.spark.engine import Engine as Engine
from ecommerce_assets.spark.engine import EngineChoice
from ecommerce_assets.spark.engine import choose_engine as by_memory
from ecommerce_assets.storage.stored_table import StoredTable

if TYPE_CHECKING:  # Spark ML takes a second to import, which only a run needs
    from pyspark.ml.recommendation import ALS

NOTHING = "There is nothing to learn from: interaction_data has no rows (no view, cart or purchase)."

BYTES_PER_PAIR = 64
"""Memory of the local engine: a pair as read (12), as rows (12), sorted by user and by product (8 each), and copies."""

VECTORS_PER_ROW = 6
"""Maximum number of vectors per user or product in memory at once: factors, initial values, copy without padding,
Arrow's copy, and two copies for Spark."""

AfterIteration = Callable[[int, float], None]
"""Called with the number of iterations that are done, and the objective after them."""


def choose_engine(interactions: StoredTable, parameters: AlsParameters, engine: Engine = Engine.auto) -> EngineChoice:
    """Returns the engine that is asked for; `auto`: local if Spark runs on this machine and the pairs fit in memory.

    The local engine is more than ten times as fast as MLlib on the same cores and reaches the same objective or less.
    The estimate of its memory is 64 bytes per pair and six vectors of `rank` floats per user and product.
    """

    def estimate() -> tuple[str, int]:
        pairs = interactions.rows
        rows = sum((interactions.maximum(name) or 0) + 1 for name in ("user_idx", "product_idx"))
        return f"{pairs:,} pairs", pairs * BYTES_PER_PAIR + rows * parameters.rank * 4 * VECTORS_PER_ROW

    return by_memory(interactions.frame.sparkSession, engine, estimate)


def fit_als(
    interactions: StoredTable,
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
        context needs a checkpoint directory: without one the lineage of 15 iterations overflows the stack.
    engine
        See `choose_engine`.
    after_iteration
        Called by the local engine only: MLlib does not report its progress.

    Raises
    ------
    ValueError
        If there are no interactions.
    """
    if choose_engine(interactions, parameters, engine).engine == Engine.mllib:
        return fit_mllib(weigh_by_recency(interactions.frame, parameters.halfLife), parameters)
    return LocalModel(
        *fit_local(collect_pairs(interactions, half_life=parameters.halfLife), parameters, after_iteration)
    )


def fit_local(
    pairs: pa.Table, parameters: AlsParameters, after_iteration: AfterIteration | None = None
) -> tuple[Factors, Factors]:
    """Returns the factors of the users and of the products of `collect_pairs`, without Spark.

    The ratings count as they are: `collect_pairs` weighs them.
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


def log_iterations(say: Log, what: str, parameters: AlsParameters) -> AfterIteration:
    """Returns a function that logs the progress of a fit, with the objective."""
    progress = Progress(say, what, parameters.maxIter, "iteration")
    return lambda done, objective: progress.step(done, f"objective {objective:,.0f}")


def fit_mllib(interactions: DataFrame, parameters: AlsParameters) -> MllibModel:
    """Returns the model of Spark's ALS; the ratings count as they are.

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

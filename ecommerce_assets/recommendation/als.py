"""Implicit-feedback ALS: which engine fits it, and its fit. Who is recommended what is recommend.py's business.

Two engines give the same kind of model: `local` (local_als.py, one machine) and `mllib` (Spark, any cluster).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructField, StructType

from ecommerce_assets.progress import Progress, Say
from ecommerce_assets.recommendation.als_parameters import AlsParameters as AlsParameters
from ecommerce_assets.recommendation.als_parameters import Engine as Engine
from ecommerce_assets.recommendation.als_parameters import ParamsFrom as ParamsFrom
from ecommerce_assets.recommendation.free_memory import free_memory
from ecommerce_assets.recommendation.local_als import Factors, LocalAls

if TYPE_CHECKING:  # Spark ML takes a second to import, which only a run needs
    from pyspark.ml.recommendation import ALS, ALSModel

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

ROWS_PER_BATCH = 10_000
"""Of factors on their way to Spark: 2 MB at rank 50."""

FACTORS = StructType(
    [StructField("id", IntegerType(), False), StructField("features", ArrayType(FloatType(), False), True)]
)
"""Of the frames in an ALSModel, as MLlib makes them."""

ALS_MODEL_PARTS = {
    "userFactors.id": "int",
    "userFactors.features": "array<float>",
    "itemFactors.id": "int",
    "itemFactors.features": "array<float>",
}
"""What of the fitted model other tables are computed from: folders of the saved model, and their columns."""


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
    master = str(interactions.sparkSession.sparkContext.master)
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
) -> ALSModel:
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
        return _fit_mllib(weighed, parameters)
    factors = fit_local(collect_pairs(weighed), parameters, after_iteration)
    return model_of(interactions.sparkSession, factors, parameters)


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


def model_of(spark: SparkSession, factors: tuple[Factors, Factors], parameters: AlsParameters) -> ALSModel:
    """Factors of the users and of the products as one of Spark's models."""
    from pyspark.ml.recommendation import ALSModel

    users, products = factors
    user_frame, product_frame = factor_frame(spark, users), factor_frame(spark, products)
    estimator = _estimator(parameters)
    jvm: Any = spark._jvm
    model = jvm.org.apache.spark.ml.recommendation.ALSModel(
        estimator.uid, parameters.rank, user_frame._jdf, product_frame._jdf
    )
    # What ALS.fit does with the model that it gets from the JVM: the columns' names and the cold start go with it.
    copied: ALSModel = estimator._copyValues(ALSModel(model))
    # recommendForAllUsers asks the JVM's own copy of the parameters.
    copied._transfer_params_to_java()
    return copied


def describe_factors(model: ALSModel) -> dict[str, int]:
    """`users` and `products` that have factors, and how many vectors are `vectors_not_finite`, `vectors_negative`."""
    both = [
        frame.select(
            F.lit(of_user).alias("of_user"), F.array_min("features").alias("low"), F.array_max("features").alias("high")
        )
        for frame, of_user in ((model.userFactors, True), (model.itemFactors, False))
    ]
    infinite = float("inf")
    [row] = (
        both[0]
        .unionAll(both[1])
        .agg(
            F.count_if("of_user").alias("users"),
            F.count_if(~F.col("of_user")).alias("products"),
            # NaN is the largest of all numbers to Spark.
            F.count_if((F.col("low") == -infinite) | (F.col("high") >= infinite)).alias("vectors_not_finite"),
            F.count_if(F.col("low") < 0).alias("vectors_negative"),
        )
        .collect()
    )
    return dict(row.asDict())


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


def factor_frame(spark: SparkSession, factors: Factors) -> DataFrame:
    """`id`, `features`, as in MLlib's models; handed over as Arrow."""
    features = pa.list_(pa.field("element", pa.float32(), nullable=False))
    schema = pa.schema([pa.field("id", pa.int32(), nullable=False), pa.field("features", features)])
    rank = factors.vectors.shape[1]
    batches = []
    for start in range(0, len(factors.numbers), ROWS_PER_BATCH):
        vectors = factors.vectors[start : start + ROWS_PER_BATCH]
        begins = pa.array(np.arange(0, vectors.size + 1, rank, dtype=np.int32))
        lists = pa.ListArray.from_arrays(begins, pa.array(vectors.ravel()), type=features)
        numbers = pa.array(factors.numbers[start : start + ROWS_PER_BATCH])
        batches.append(pa.RecordBatch.from_arrays([numbers, lists], schema=schema))
    return spark.createDataFrame(pa.Table.from_batches(batches, schema), FACTORS)


def _fit_mllib(interactions: DataFrame, parameters: AlsParameters) -> ALSModel:
    if interactions.isEmpty():
        raise ValueError(NOTHING)
    blocks = max(2, interactions.sparkSession.sparkContext.defaultParallelism)
    # The order of the ratings in a block is the order in which they are summed: fixed, so that two fits agree.
    fixed = (
        interactions.select("user_idx", "product_idx", "rating")
        .repartition(blocks, "user_idx")
        .sortWithinPartitions("user_idx", "product_idx")
    )
    return _estimator(parameters).setNumBlocks(blocks).fit(fixed)


def _estimator(parameters: AlsParameters) -> ALS:
    from pyspark.ml.recommendation import ALS

    return ALS(
        userCol="user_idx",
        itemCol="product_idx",
        ratingCol="rating",
        implicitPrefs=True,
        coldStartStrategy="drop",
        **parameters.spark_params(),
    )

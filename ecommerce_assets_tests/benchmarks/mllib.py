"""A plain Spark MLlib pipeline with Spark's defaults, as one writes it from the documentation.

It has feature tables with several distinct counts, StringIndexer, K-Means, nonnegative implicit ALS and
recommendForAllUsers; but no cleaning, checks, evaluation or similar products.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyspark.ml import Pipeline
from pyspark.ml.clustering import KMeans
from pyspark.ml.feature import StandardScaler, StringIndexer, VectorAssembler
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.interactions import MAX_RATING, WEIGHTS
from ecommerce_assets_tests.benchmarks.part import TOP, Place, Stopwatch, run_part


def session(memory: str, work: Path) -> SparkSession:
    """Returns a local session with the settings of tutorials."""
    spark = (
        SparkSession.builder.appName("benchmark")
        .master("local[*]")
        .config("spark.driver.memory", memory)
        .config("spark.local.dir", str(work / "spark"))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.serializer", "org.apache.spark.serializer.KryoSerializer")
        .config("spark.ui.enabled", False)
        .config("spark.ui.showConsoleProgress", False)
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    # Without checkpoints, ALS overflows the stack at 15 iterations.
    spark.sparkContext.setCheckpointDir(str(work / "checkpoints"))
    return spark


def als() -> ALS:
    """Returns MLlib's ALS with the project's parameters."""
    return ALS(
        userCol="user_idx",
        itemCol="product_idx",
        ratingCol="rating",
        implicitPrefs=True,
        coldStartStrategy="drop",
        **AlsParameters().spark_params(),
    )


def _counts(prefix: str = "") -> list[Any]:
    named = (("view", "views"), ("cart", "carts"), ("remove_from_cart", "removals"), ("purchase", "purchases"))
    return [F.sum((F.col("event_type") == kind).cast("long")).alias(prefix + name) for kind, name in named]


def user_features(events: DataFrame) -> DataFrame:
    last = events.agg(F.max("event_time")).first()
    reference = F.lit(last[0] if last else None)
    features = events.groupBy("user_id").agg(
        F.datediff(reference, F.max("event_time")).alias("recency"),
        F.countDistinct(F.to_date("event_time")).alias("frequency"),
        F.sum(F.when(F.col("event_type") == "purchase", F.col("price")).otherwise(0.0)).alias("monetary"),
        F.count("*").alias("total_events"),
        *_counts(),
        F.countDistinct("product_id").alias("unique_products"),
        F.countDistinct("category_id").alias("unique_categories"),
        F.countDistinct("brand").alias("unique_brands"),
        F.countDistinct("user_session").alias("unique_sessions"),
        F.avg("price").alias("avg_price"),
        F.min("event_time").alias("first_event_time"),
        F.max("event_time").alias("last_event_time"),
    )
    return features.withColumns(
        {
            "conversion_rate": F.coalesce(F.expr("try_divide(purchases, views)"), F.lit(0.0)),
            "cart_abandonment": F.coalesce(F.expr("try_divide(carts - purchases, carts)"), F.lit(0.0)),
        }
    )


def product_features(events: DataFrame) -> DataFrame:
    features = events.groupBy("product_id").agg(
        F.max_by("category_code", "event_time").alias("category_code"),
        F.max_by("brand", "event_time").alias("brand"),
        F.count("*").alias("total_events"),
        *_counts("total_"),
        F.countDistinct("user_id").alias("unique_users"),
        F.avg("price").alias("avg_price"),
        F.sum(F.when(F.col("event_type") == "purchase", F.col("price")).otherwise(0.0)).alias("revenue"),
    )
    return features.withColumns(
        {
            "category": F.coalesce(F.split("category_code", "[.]")[0], F.lit("unknown")),
            "conversion_rate": F.coalesce(F.expr("try_divide(total_purchases, total_views)"), F.lit(0.0)),
            "enhanced_popularity_score": F.expr("(3 * total_purchases + 2 * total_carts + total_views) / unique_users"),
        }
    ).drop("category_code")


def interactions(indexed: DataFrame) -> DataFrame:
    weights = F.create_map(*[F.lit(part) for pair in WEIGHTS.items() for part in pair])
    weighed = indexed.where(F.col("event_type").isin(*WEIGHTS)).withColumn("weight", weights[F.col("event_type")])
    return weighed.groupBy("user_idx", "product_idx").agg(
        F.least(F.sum("weight"), F.lit(MAX_RATING)).alias("rating"),
        F.count("*").alias("interaction_count"),
    )


def measure(place: Place) -> dict[str, Any]:
    """Returns seconds by stage; writes every table and model."""
    work, watch = place.work("mllib"), Stopwatch()

    def write(frame: DataFrame, name: str) -> DataFrame:
        frame.write.parquet(f"{work}/{name}")
        return spark.read.parquet(f"{work}/{name}")

    with watch("session"):
        spark = session(place.memory, work)
        events = spark.read.parquet(str(place.export))
    with watch("user_features"):
        users = write(user_features(events), "user_features")
    with watch("segmentation"):
        assembler = VectorAssembler(inputCols=list(CLUSTERING_FEATURES), outputCol="raw")
        scaler = StandardScaler(inputCol="raw", outputCol="features", withMean=True, withStd=True)
        kmeans = KMeans(k=5, seed=42, maxIter=20, predictionCol="segment_id")
        segmentation = Pipeline(stages=[assembler, scaler, kmeans]).fit(users)
        segmentation.write().save(f"{work}/segmentation_model")
        write(segmentation.transform(users).drop("raw", "features"), "segmented_users")
    with watch("product_features"):
        write(product_features(events), "product_features")
    with watch("indices"):
        columns = {"user_id": "user_idx", "product_id": "product_idx"}
        stages: list[Any] = [StringIndexer(inputCol=i, outputCol=o, handleInvalid="keep") for i, o in columns.items()]
        indexer = Pipeline(stages=stages).fit(events)
        indexer.write().save(f"{work}/indices")
    with watch("interaction_data"):
        pairs = write(interactions(indexer.transform(events)), "interaction_data")
    with watch("als_model"):
        model = als().fit(pairs)
        model.write().save(f"{work}/als_model")
    with watch("recommendations"):
        write(model.recommendForAllUsers(TOP), "recommendations")
    spark.stop()
    return {"stages": watch.seconds}


if __name__ == "__main__":
    run_part(measure)

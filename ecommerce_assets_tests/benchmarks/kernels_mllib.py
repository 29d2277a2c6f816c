"""The Spark part of kernels.py: MLlib's ALS on its pairs, and recommendForAllUsers with its factors.

Reads pairs.parquet, users.parquet and products.parquet from the folder of the part `kernels`, and writes als/users,
als/products and top there. The time of the search includes writing its result, because Spark computes it then.
"""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from ecommerce_assets.recommendation.als_model import LocalModel, as_factors, as_spark_model
from ecommerce_assets_tests.benchmarks.mllib import als, session
from ecommerce_assets_tests.benchmarks.part import TOP, Place, Stopwatch, run_part


def measure(place: Place) -> dict[str, Any]:
    """Returns seconds of the fit and of the search, without reading the data."""
    work, watch = place.root / "work" / "kernels", Stopwatch()
    spark = session(place.memory, work)
    pairs = spark.read.parquet(str(work / "pairs.parquet")).repartition(spark.sparkContext.defaultParallelism).cache()
    pairs.count()
    with watch("als: MLlib"):
        model = als().fit(pairs)
    for name, factors in (("users", model.userFactors), ("products", model.itemFactors)):
        factors.write.parquet(str(work / "als" / name))
    pairs.unpersist()
    users, products = (as_factors(pq.read_table(work / f"{name}.parquet")) for name in ("users", "products"))
    searched = as_spark_model(LocalModel(users, products), str(work / "als_model"))
    searched.userFactors.cache().count(), searched.itemFactors.cache().count()
    with watch("top 10: MLlib"):
        searched.recommendForAllUsers(TOP).write.parquet(str(work / "top"))
    spark.stop()
    return {"stages": watch.seconds}


if __name__ == "__main__":
    run_part(measure)

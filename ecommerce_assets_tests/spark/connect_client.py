"""A client of a Spark Connect server. It is a separate process, because PySpark has one kind of session per process.

`python -m ecommerce_assets_tests.spark.connect_client sc://host:port folder` ends with 0 if all assertions hold.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pyspark.ml.recommendation import ALSModel

from ecommerce_assets.recommendation import recommend
from ecommerce_assets.recommendation.als import fit_als
from ecommerce_assets.recommendation.als_model import SavedModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.segmentation.model import SegmentationModel, SegmentationParameters, as_pipeline
from ecommerce_assets.segmentation.pipeline import as_seen, assign_segments, fit_segmentation
from ecommerce_assets.spark import connect
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets_tests.recommendation.test_als import are_equal
from ecommerce_assets_tests.recommendation.test_recommend import Shop
from ecommerce_assets_tests.segmentation.test_pipeline import three_groups, users_frame


def main(url: str, folder: Path) -> None:
    resource = SparkResource(master=url, spark_config={"spark.sql.shuffle.partitions": 3, "spark.driver.memory": "1g"})
    resource.working_on("a step")
    spark: Any = resource.spark_session
    assert spark.conf.get("spark.sql.shuffle.partitions") == "3"
    assert connect.parallelism(spark) == 2
    assert resource.application_id == spark.conf.get("spark.app.id")

    # Spark's Python workers return the same lists as this process.
    shop = Shop(spark)
    in_process = shop.recommend(Exclude.purchased, 3)
    recommend.PAIRS_IN_PROCESS = -1  # type: ignore[attr-defined]
    assert shop.recommend(Exclude.purchased, 3) == in_process

    # Both engines fit, describe and save models that MLlib and Arrow read.
    pairs = [(u, p, float(u * p % 5 + 1)) for u in range(12) for p in range(8) if (u + p) % 2]
    interactions = StoredTable(spark.createDataFrame(pairs, "user_idx int, product_idx int, rating double"))
    for engine in (Engine.local, Engine.mllib):
        path = str(folder / engine)
        model = fit_als(interactions, AlsParameters(rank=3, maxIter=2), engine)
        model.save(path)
        saved = SavedModel(Folder(path))
        assert are_equal(saved.users, model.users)
        assert are_equal(saved.products, model.products)
        assert saved.user_frame(spark).count() == model.describe()["users"] == 12
        assert ALSModel.load(path).recommendForAllUsers(2).count() == 12

    # The same for the segmentation.
    users = StoredTable(users_frame(spark, three_groups()))
    for engine in (Engine.local, Engine.mllib):
        path = str(folder / f"segmentation-{engine}")
        fit = fit_segmentation(users, SegmentationParameters(k=3), engine)
        predicted = as_pipeline(fit.model, path).transform(as_seen(users.frame)).select("user_id", "segment_id")
        assigned = assign_segments(SegmentationModel.load(Folder(path)), users.frame)[0].select("user_id", "segment_id")
        assert sorted(predicted.collect()) == sorted(assigned.collect())
        assert fit.silhouette is not None
        assert fit.silhouette > 0.9
    resource.stop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""The segmentation on a few users, with both engines."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.clustering import KMeans
from pyspark.ml.evaluation import ClusteringEvaluator
from pyspark.ml.feature import StandardScaler, VectorAssembler
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, build_user_features
from ecommerce_assets.segmentation.local import feature_matrix
from ecommerce_assets.segmentation.model import ASSEMBLER, KMEANS, SCALER, Fit, SegmentationModel, as_pipeline
from ecommerce_assets.segmentation.pipeline import (
    SEGMENTED_USERS,
    SegmentationParameters,
    assign_segments,
    choose_engine,
    fill_features,
    fit_segmentation,
)
from ecommerce_assets.spark import engine as engines
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets_tests.helpers import event, events_frame

THREE = SegmentationParameters(k=3)
USERS_DDL = (
    "user_id bigint, recency int, frequency bigint, monetary double, conversion_rate double, cart_abandonment double, "
    "unique_products bigint, unique_categories bigint, avg_price double"
)

#                     recency frequency monetary conversion abandonment products categories avg_price
VIP: tuple[Any, ...] = (5, 20, 900.0, 0.5, 0.0, 30, 5, 40.0)
DORMANT: tuple[Any, ...] = (85, 1, 0.0, 0.0, 0.0, 1, 1, 10.0)
CASUAL: tuple[Any, ...] = (40, 3, 0.0, 0.0, 1.0, 6, 2, 25.0)
NULLS, ZEROS = (None,) * 8, (0, 0, 0.0, 0.0, 0.0, 0, 0, 0.0)

BY_PRICE = SegmentationModel(
    np.zeros(8), np.ones(8), np.array([[0.0] * 7 + [price] for price in (0.0, 100.0, 200.0)]), THREE
)
"""A model that assigns users by avg_price: near 0, near 100 or near 200."""


def users_frame(spark: SparkSession, users: Sequence[tuple[Any, ...]]) -> DataFrame:
    return spark.createDataFrame(list(users), USERS_DDL)


def three_groups() -> list[tuple[Any, ...]]:
    """Returns users 0 to 29: by turns near VIP, DORMANT and CASUAL."""
    draw = random.Random(3)
    users = []
    for user_id in range(30):
        near = (VIP, DORMANT, CASUAL)[user_id % 3]
        users.append((user_id, near[0] + draw.randint(-2, 2), near[1], near[2] + draw.random(), *near[3:]))
    return users


def segment_ids(model: SegmentationModel, users: DataFrame) -> dict[int, int]:
    rows = model.assign(fill_features(users)).select("user_id", "segment_id").collect()
    return {row["user_id"]: row["segment_id"] for row in rows}


@pytest.fixture(scope="module")
def groups(spark: SparkSession) -> DataFrame:
    return users_frame(spark, three_groups()).persist()


@pytest.fixture(scope="module", params=[Engine.local, Engine.mllib])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(request.param)


@pytest.fixture(scope="module")
def fit(groups: DataFrame, engine: Engine) -> Fit:
    return fit_segmentation(StoredTable(groups), THREE, engine)


def test_three_groups_become_segments_with_names_sizes_and_means(fit: Fit, groups: DataFrame) -> None:
    assigned, segments = assign_segments(fit.model, groups)
    rows = assigned.select("user_id", "segment_id", "segment").collect()
    names = {0: "VIP_Customers", 1: "Dormant_Users", 2: "Casual_Browsers"}
    assert {row["user_id"]: row["segment"] for row in rows} == {n: names[n % 3] for n in range(30)}
    assert len({(row["segment_id"], row["segment"]) for row in rows}) == 3
    assert [s.segment_id for s in segments] == [0, 1, 2]
    assert {s.name: s.users for s in segments} == dict.fromkeys(names.values(), 10)
    means = {s.name: s.means for s in segments}
    assert means["VIP_Customers"]["frequency"] == 20.0
    assert means["Dormant_Users"]["avg_price"] == 10.0
    assert list(means["Casual_Browsers"]) == list(CLUSTERING_FEATURES)
    assert fit.silhouette is not None
    assert 0.9 < fit.silhouette <= 1.0


@pytest.fixture(scope="module")
def shuffled(spark: SparkSession) -> Fit:
    """The fit of MLlib on the same users in another order and partitioning."""
    users = three_groups()
    random.Random(11).shuffle(users)
    return fit_segmentation(StoredTable(users_frame(spark, users).repartition(3)), THREE, Engine.mllib)


@pytest.mark.spark_only
def test_mllib_on_shuffled_users_gives_the_same_clusters_as_both_engines(fit: Fit, shuffled: Fit) -> None:
    np.testing.assert_allclose(shuffled.model.mean, fit.model.mean, rtol=1e-12)
    np.testing.assert_allclose(shuffled.model.std, fit.model.std, rtol=1e-12)
    np.testing.assert_allclose(np.sort(shuffled.model.centres, 0), np.sort(fit.model.centres, 0), atol=1e-9)
    assert shuffled.cost == pytest.approx(fit.cost, rel=1e-9)
    assert shuffled.silhouette == pytest.approx(fit.silhouette, abs=1e-9)


@pytest.mark.spark_only
def test_plain_pyspark_loads_the_saved_model_and_agrees(spark: SparkSession, tmp_path: Path) -> None:
    draw, near = np.random.default_rng(5), three_groups()
    rows = [(n, *near[n % 30][1:8], float(draw.exponential(50.0))) for n in range(500)]
    users = users_frame(spark, [*rows, (500, *VIP[:2], 1e6, *VIP[3:])]).persist()  # the last is alone in its cluster
    fit = fit_segmentation(StoredTable(users), SegmentationParameters(k=7), Engine.local)
    loaded = as_pipeline(fit.model, str(tmp_path / "model-[1]"))
    assert isinstance(loaded, PipelineModel)
    clustered = loaded.transform(fill_features(users)).persist()
    predicted = {row["user_id"]: row["segment_id"] for row in clustered.select("user_id", "segment_id").collect()}
    assert predicted == segment_ids(fit.model, users)
    table = users.toArrow()
    numbers = fit.model.predict(feature_matrix(table)).tolist()
    assert predicted == dict(zip(table["user_id"].to_pylist(), numbers, strict=True))
    assert sorted(set(numbers)) == list(range(7))
    assert numbers.count(predicted[500]) == 1
    evaluator = ClusteringEvaluator(featuresCol="features", predictionCol="segment_id")
    assert fit.silhouette == pytest.approx(evaluator.evaluate(clustered), abs=1e-9)
    kmeans: Any = loaded.stages[-1]
    assert (kmeans.getK(), kmeans.getSeed(), kmeans.getMaxIter(), kmeans.getTol()) == (7, 42, 20, 1e-4)


def test_the_saved_model_is_read_without_spark(tmp_path: Path) -> None:
    model = SegmentationModel(np.arange(8) / 3, np.arange(8) / 7, np.arange(16).reshape(2, 8) / 9, THREE)
    model.save(str(tmp_path / "model"))
    loaded = SegmentationModel.load(Folder(str(tmp_path / "model")))
    for name in ("mean", "std", "centres"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
    assert loaded.parameters == THREE


@pytest.mark.spark_only
def test_a_model_that_spark_saved_is_read(spark: SparkSession, tmp_path: Path) -> None:
    # Spark stores a vector that is mostly zeros as a sparse one.
    users = users_frame(spark, [(n, 0, 1, 0.0, 0.0, 0.0, 0, 0, float(n % 4)) for n in range(12)])
    stages = [VectorAssembler(**ASSEMBLER), StandardScaler(**SCALER), KMeans(**KMEANS, k=3, seed=1, maxIter=2)]
    pipeline = Pipeline(stages=stages).fit(users)
    pipeline.write().save(str(tmp_path / "model"))
    loaded = SegmentationModel.load(Folder(str(tmp_path / "model")))
    fitted: Any = pipeline.stages
    np.testing.assert_array_equal(loaded.std, fitted[1].std.toArray())
    np.testing.assert_array_equal(loaded.mean, fitted[1].mean.toArray())
    np.testing.assert_array_equal(loaded.centres, fitted[2].clusterCenters())
    assert loaded.parameters == SegmentationParameters(k=3, seed=1, maxIter=2)


@pytest.mark.spark_only
def test_auto_is_local_if_the_users_fit_in_memory(groups: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((2 * 30 * 500, Engine.local), (2 * 30 * 500 - 2, Engine.mllib)):
        monkeypatch.setattr(engines, "free_memory", lambda free=free: free)
        choice = choose_engine(StoredTable(groups))
        assert choice.engine == expected
        assert "30 users" in choice.reason


def test_null_and_zero_features_give_one_segment_and_k_may_exceed_the_users(
    spark: SparkSession, engine: Engine
) -> None:
    users = users_frame(spark, [(1, *NULLS), (2, *ZEROS), (3, *VIP)])
    fit = fit_segmentation(StoredTable(users), SegmentationParameters(), engine)
    numbers = segment_ids(fit.model, users)
    assert numbers[1] == numbers[2] != numbers[3]
    assert len(fit.model.centres) <= 3


def test_a_single_user_is_one_segment_without_silhouette(spark: SparkSession, engine: Engine) -> None:
    users = users_frame(spark, [(1, *VIP)])
    fit = fit_segmentation(StoredTable(users), SegmentationParameters(), engine)
    assert segment_ids(fit.model, users) == {1: 0}
    assert fit.silhouette is None


def test_no_users_are_an_error_that_names_the_table(spark: SparkSession, engine: Engine) -> None:
    with pytest.raises(ValueError, match="user_features has no rows"):
        fit_segmentation(StoredTable(users_frame(spark, [])), SegmentationParameters(), engine)


def test_segments_may_share_a_name_and_know_whether_users_have_views(spark: SparkSession) -> None:
    views = [(0.0, 0), (1.0, 0), (100.0, 0), (101.0, 1), (200.0, 0), (201.0, None)]
    rows = [(n, *ZEROS[:7], price, count) for n, (price, count) in enumerate(views)]
    segments = assign_segments(BY_PRICE, spark.createDataFrame(rows, f"{USERS_DDL}, views bigint"))[1]
    assert [(s.segment_id, s.name, s.users) for s in segments] == [(n, "Casual_Browsers", 2) for n in range(3)]
    assert [s.has_views for s in segments] == [False, True, True]


def test_segmented_users_have_the_documented_columns_and_zeros_for_nulls(spark: SparkSession) -> None:
    features = build_user_features(events_frame(spark, [event("2020-01-01 10:00:00", user_id=1, price=None)]))
    assigned, _ = assign_segments(BY_PRICE, features)
    assert SEGMENTED_USERS.conform(assigned).columns == assigned.columns == SEGMENTED_USERS.names
    [row] = assigned.collect()
    assert dict(assigned.dtypes) == {c.name: c.type for c in SEGMENTED_USERS.with_id_type("bigint").columns}
    assert (row["avg_price"], row["segment_id"], row["segment"]) == (0.0, 0, "Casual_Browsers")

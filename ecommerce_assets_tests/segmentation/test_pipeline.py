"""The segmentation model on a handful of users."""

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


def users_frame(spark: SparkSession, users: Sequence[tuple[Any, ...]]) -> DataFrame:
    return spark.createDataFrame(list(users), USERS_DDL)


def three_groups() -> list[tuple[Any, ...]]:
    """Users 0 to 29: ten near each of VIP, DORMANT and CASUAL, in turns."""
    draw = random.Random(3)
    users = []
    for user_id in range(30):
        near = (VIP, DORMANT, CASUAL)[user_id % 3]
        users.append((user_id, near[0] + draw.randint(-2, 2), near[1], near[2] + draw.random(), *near[3:]))
    return users


def segment_ids(model: SegmentationModel, users: DataFrame) -> dict[int, int]:
    assigned, _ = assign_segments(model, users)
    return {row["user_id"]: row["segment_id"] for row in assigned.collect()}


def fitted(users: DataFrame, k: int, engine: Engine = Engine.local) -> SegmentationModel:
    return fit_segmentation(StoredTable(users), SegmentationParameters(k=k), engine).model


@pytest.fixture(scope="module")
def groups(spark: SparkSession) -> DataFrame:
    return users_frame(spark, three_groups()).persist()


@pytest.fixture(scope="module", params=[Engine.local, Engine.mllib])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(request.param)


@pytest.fixture(scope="module")
def fit(groups: DataFrame, engine: Engine) -> Fit:
    return fit_segmentation(StoredTable(groups), THREE, engine)


def test_finds_the_three_groups(fit: Fit, groups: DataFrame) -> None:
    found = segment_ids(fit.model, groups)
    assert len(found) == 30
    assert all(found[user_id] == found[user_id % 3] for user_id in found)
    assert sorted({found[0], found[1], found[2]}) == [0, 1, 2]
    assert fit.silhouette is not None
    assert 0.9 < fit.silhouette <= 1.0


def test_segments_have_names_sizes_and_means(fit: Fit, groups: DataFrame) -> None:
    users, segments = assign_segments(fit.model, groups)
    assert {s.name: s.users for s in segments} == {"VIP_Customers": 10, "Dormant_Users": 10, "Casual_Browsers": 10}
    assert [s.segment_id for s in segments] == [0, 1, 2]
    by_name = {s.name: s.means for s in segments}
    assert by_name["VIP_Customers"]["frequency"] == 20.0
    assert by_name["Dormant_Users"]["avg_price"] == 10.0
    assert list(by_name["Casual_Browsers"]) == list(CLUSTERING_FEATURES)
    names = {row["user_id"]: row["segment"] for row in users.collect()}
    assert (names[0], names[1], names[2]) == ("VIP_Customers", "Dormant_Users", "Casual_Browsers")


def test_shuffled_input_gives_the_same_clusters(
    spark: SparkSession, fit: Fit, groups: DataFrame, engine: Engine
) -> None:
    shuffled = three_groups()
    random.Random(11).shuffle(shuffled)
    other = users_frame(spark, shuffled).repartition(7)
    assert segment_ids(fitted(other, 3, engine), other) == segment_ids(fit.model, groups)


@pytest.mark.spark_only
def test_the_engines_agree(groups: DataFrame) -> None:
    local, mllib = (fit_segmentation(StoredTable(groups), THREE, engine) for engine in (Engine.local, Engine.mllib))
    np.testing.assert_allclose(local.model.mean, mllib.model.mean, rtol=1e-12)
    np.testing.assert_allclose(local.model.std, mllib.model.std, rtol=1e-12)
    np.testing.assert_allclose(np.sort(local.model.centres, 0), np.sort(mllib.model.centres, 0), atol=1e-9)
    assert local.cost == pytest.approx(mllib.cost, rel=1e-9)
    assert local.silhouette == pytest.approx(mllib.silhouette, abs=1e-9)


@pytest.mark.spark_only
def test_plain_pyspark_loads_the_saved_model_and_predicts_the_same(spark: SparkSession, tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    users = users_frame(spark, [(n, *three_groups()[n % 30][1:8], float(draw.exponential(50.0))) for n in range(500)])
    model = fitted(users, 7)
    loaded = as_pipeline(model, str(tmp_path / "model-[1]"))
    assert isinstance(loaded, PipelineModel)
    predicted = {row["user_id"]: row["segment_id"] for row in loaded.transform(fill_features(users)).collect()}
    assert predicted == segment_ids(model, users)
    table = users.toArrow()
    assert predicted == dict(
        zip(table["user_id"].to_pylist(), model.predict(feature_matrix(table)).tolist(), strict=True)
    )
    assert sorted(set(predicted.values())) == list(range(7))
    kmeans: Any = loaded.stages[-1]
    assert (kmeans.getK(), kmeans.getSeed(), kmeans.getMaxIter(), kmeans.getTol()) == (7, 42, 20, 1e-4)


@pytest.mark.spark_only
def test_silhouette_is_that_of_spark(spark: SparkSession, tmp_path: Path) -> None:
    # The last user is alone in its cluster.
    users = users_frame(spark, [*three_groups(), (30, *VIP[:2], 1e6, *VIP[3:])])
    fit = fit_segmentation(StoredTable(users), SegmentationParameters(k=6), Engine.local)
    clustered = as_pipeline(fit.model, str(tmp_path / "model")).transform(fill_features(users)).persist()
    assert 1 in [row["count"] for row in clustered.groupBy("segment_id").count().collect()]
    evaluator = ClusteringEvaluator(featuresCol="features", predictionCol="segment_id")
    assert fit.silhouette == pytest.approx(evaluator.evaluate(clustered), abs=1e-9)


def test_saved_model_is_read_without_spark(tmp_path: Path, fit: Fit) -> None:
    fit.model.save(str(tmp_path / "model"))
    loaded = SegmentationModel.load(Folder(str(tmp_path / "model")))
    for name in ("mean", "std", "centres"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(fit.model, name))
    assert loaded.parameters == THREE


@pytest.mark.spark_only
def test_a_model_that_spark_saved_is_read_too(spark: SparkSession, tmp_path: Path) -> None:
    # Spark stores a vector that is mostly zeros as a sparse one.
    users = users_frame(spark, [(n, 0, 1, 0.0, 0.0, 0.0, 0, 0, float(n % 4)) for n in range(12)])
    stages = [VectorAssembler(**ASSEMBLER), StandardScaler(**SCALER), KMeans(**KMEANS, k=3, seed=1, maxIter=5)]
    pipeline = Pipeline(stages=stages).fit(users)
    pipeline.write().save(str(tmp_path / "model"))
    loaded = SegmentationModel.load(Folder(str(tmp_path / "model")))
    fitted: Any = pipeline.stages
    np.testing.assert_array_equal(loaded.std, fitted[1].std.toArray())
    np.testing.assert_array_equal(loaded.mean, fitted[1].mean.toArray())
    np.testing.assert_array_equal(loaded.centres, fitted[2].clusterCenters())
    assert loaded.parameters == SegmentationParameters(k=3, seed=1, maxIter=5)


@pytest.mark.spark_only
def test_auto_is_local_where_the_users_fit_in_memory(groups: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((2 * 30 * 500, Engine.local), (2 * 30 * 500 - 2, Engine.mllib)):
        monkeypatch.setattr(engines, "free_memory", lambda free=free: free)
        choice = choose_engine(StoredTable(groups))
        assert choice.engine == expected
        assert "30 users" in choice.reason


@pytest.mark.parametrize(("views", "expected"), [((0, 0), False), ((0, 1), True), ((0, None), True)])
def test_a_shop_without_views_is_known(spark: SparkSession, views: tuple[int | None, ...], expected: bool) -> None:
    users = spark.createDataFrame([(1, *VIP, views[0]), (2, *VIP, views[1])], f"{USERS_DDL}, views bigint")
    [segment] = assign_segments(fitted(users, 2), users)[1]
    assert segment.has_views == expected


def test_null_features_count_as_zero(spark: SparkSession, engine: Engine) -> None:
    users = users_frame(spark, [(1, *[None] * 8), (2, *VIP), (3, *CASUAL)])
    zeros = dict.fromkeys(CLUSTERING_FEATURES, 0.0)
    assert {row["user_id"]: row.asDict() for row in fill_features(users).collect()}[1] == {"user_id": 1, **zeros}
    assigned, _ = assign_segments(fitted(users, 2, engine), users)
    stored = {row["user_id"]: row.asDict() for row in assigned.collect()}
    assert {name: stored[1][name] for name in CLUSTERING_FEATURES} == zeros


def test_null_and_zero_give_one_segment(spark: SparkSession, engine: Engine) -> None:
    users = users_frame(spark, [(1, *[None] * 8), (2, 0, 0, 0.0, 0.0, 0.0, 0, 0, 0.0), (3, *VIP)])
    found = segment_ids(fitted(users, 2, engine), users)
    assert found[1] == found[2] != found[3]


def test_fewer_users_than_clusters(spark: SparkSession, engine: Engine) -> None:
    users = users_frame(spark, [(1, *VIP), (2, *DORMANT), (3, *CASUAL)])
    fit = fit_segmentation(StoredTable(users), SegmentationParameters(), engine)
    assert sorted(segment_ids(fit.model, users)) == [1, 2, 3]
    assert len(fit.model.centres) <= 3
    assert fit.silhouette is None


def test_one_user_forms_one_segment(spark: SparkSession, engine: Engine) -> None:
    users = users_frame(spark, [(1, *VIP)])
    fit = fit_segmentation(StoredTable(users), SegmentationParameters(), engine)
    assigned, segments = assign_segments(fit.model, users)
    assert [(row["user_id"], row["segment_id"], row["segment"]) for row in assigned.collect()] == [
        (1, 0, "VIP_Customers")
    ]
    assert [(s.segment_id, s.users) for s in segments] == [(0, 1)]
    assert fit.silhouette is None


def test_equal_users_form_one_segment_without_silhouette(spark: SparkSession, engine: Engine) -> None:
    users = users_frame(spark, [(user_id, *CASUAL) for user_id in range(6)])
    fit = fit_segmentation(StoredTable(users), SegmentationParameters(), engine)
    assert set(segment_ids(fit.model, users).values()) == {0}
    assert fit.silhouette is None


def test_no_users_is_an_error_that_names_the_table(spark: SparkSession, engine: Engine) -> None:
    with pytest.raises(ValueError, match="user_features has no rows"):
        fitted(users_frame(spark, []), 5, engine)


def test_two_clusters_may_have_one_name(spark: SparkSession, engine: Engine) -> None:
    cheap, dear = (40, 3, 0.0, 0.0, 0.0, 2, 1, 1.0), (40, 3, 0.0, 0.0, 0.0, 2, 1, 900.0)
    users = users_frame(spark, [(n, *(cheap if n % 2 else dear)) for n in range(6)])
    assigned, segments = assign_segments(fitted(users, 2, engine), users)
    assert [(s.segment_id, s.name, s.users) for s in segments] == [
        (0, "Casual_Browsers", 3),
        (1, "Casual_Browsers", 3),
    ]
    assert {row["segment"] for row in assigned.collect()} == {"Casual_Browsers"}


def test_segmented_users_have_the_documented_columns_and_types(spark: SparkSession, engine: Engine) -> None:
    events = [event("2020-01-01 10:00:00", user_id=user_id, price=10.0 * user_id) for user_id in (1, 2, 3)]
    features = build_user_features(events_frame(spark, events))
    assigned, _ = assign_segments(fitted(features, 2, engine), features)
    stored = SEGMENTED_USERS.conform(assigned)
    assert stored.columns == assigned.columns == SEGMENTED_USERS.names
    assert dict(stored.dtypes) == {c.name: c.type for c in SEGMENTED_USERS.with_id_type("bigint").columns}
    assert all(row["segment"] is not None for row in stored.collect())

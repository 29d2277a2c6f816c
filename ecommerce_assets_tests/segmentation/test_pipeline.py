"""The segmentation model on a handful of users."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, build_user_features
from ecommerce_assets.segmentation.pipeline import (
    SEGMENTED_USERS,
    SegmentationParameters,
    as_seen,
    assign_segments,
    cluster_count,
    fit_segmentation,
    silhouette,
)
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


def segment_ids(model: PipelineModel, users: DataFrame) -> dict[int, int]:
    assigned, _ = assign_segments(model, users)
    return {row["user_id"]: row["segment_id"] for row in assigned.collect()}


@pytest.fixture(scope="module")
def groups(spark: SparkSession) -> DataFrame:
    return users_frame(spark, three_groups()).persist()


@pytest.fixture(scope="module")
def model(groups: DataFrame) -> PipelineModel:
    return fit_segmentation(groups, THREE)


def test_finds_the_three_groups(model: PipelineModel, groups: DataFrame) -> None:
    found = segment_ids(model, groups)
    assert len(found) == 30
    assert all(found[user_id] == found[user_id % 3] for user_id in found)
    assert sorted({found[0], found[1], found[2]}) == [0, 1, 2]
    assert cluster_count(model) == 3


def test_segments_have_names_sizes_and_means(model: PipelineModel, groups: DataFrame) -> None:
    users, segments = assign_segments(model, groups)
    assert {s.name: s.users for s in segments} == {"VIP_Customers": 10, "Dormant_Users": 10, "Casual_Browsers": 10}
    assert [s.segment_id for s in segments] == [0, 1, 2]
    by_name = {s.name: s.means for s in segments}
    assert by_name["VIP_Customers"]["frequency"] == 20.0
    assert by_name["Dormant_Users"]["avg_price"] == 10.0
    assert list(by_name["Casual_Browsers"]) == list(CLUSTERING_FEATURES)
    names = {row["user_id"]: row["segment"] for row in users.collect()}
    assert (names[0], names[1], names[2]) == ("VIP_Customers", "Dormant_Users", "Casual_Browsers")


def test_shuffled_input_gives_the_same_clusters(spark: SparkSession, model: PipelineModel, groups: DataFrame) -> None:
    expected = segment_ids(model, groups)
    shuffled = three_groups()
    random.Random(11).shuffle(shuffled)
    other = users_frame(spark, shuffled).repartition(7)
    assert segment_ids(fit_segmentation(other, THREE), other) == expected


def test_saved_pipeline_loads_in_plain_pyspark(tmp_path: Path, model: PipelineModel, groups: DataFrame) -> None:
    model.write().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    assert segment_ids(loaded, groups) == segment_ids(model, groups)
    assert SegmentationParameters.of_model(loaded) == SegmentationParameters(k=3, seed=42, maxIter=20)


def test_silhouette_of_groups_far_apart_is_high(model: PipelineModel, groups: DataFrame) -> None:
    found = silhouette(model, groups)
    assert found is not None
    assert 0.9 < found <= 1.0


def test_null_features_count_as_zero(spark: SparkSession) -> None:
    users = users_frame(spark, [(1, *[None] * 8), (2, *VIP), (3, *CASUAL)])
    zeros = dict.fromkeys(CLUSTERING_FEATURES, 0.0)
    assert {row["user_id"]: row.asDict() for row in as_seen(users).collect()}[1] == {"user_id": 1, **zeros}
    assigned, _ = assign_segments(fit_segmentation(users, SegmentationParameters(k=2)), users)
    stored = {row["user_id"]: row.asDict() for row in assigned.collect()}
    assert {name: stored[1][name] for name in CLUSTERING_FEATURES} == zeros


def test_null_and_zero_give_one_segment(spark: SparkSession) -> None:
    users = users_frame(spark, [(1, *[None] * 8), (2, 0, 0, 0.0, 0.0, 0.0, 0, 0, 0.0), (3, *VIP)])
    found = segment_ids(fit_segmentation(users, SegmentationParameters(k=2)), users)
    assert found[1] == found[2] != found[3]


def test_fewer_users_than_clusters(spark: SparkSession) -> None:
    users = users_frame(spark, [(1, *VIP), (2, *DORMANT), (3, *CASUAL)])
    model = fit_segmentation(users, SegmentationParameters(k=5))
    assert sorted(segment_ids(model, users)) == [1, 2, 3]
    assert cluster_count(model) <= 3
    assert silhouette(model, users) is None


def test_one_user_forms_one_segment(spark: SparkSession) -> None:
    users = users_frame(spark, [(1, *VIP)])
    model = fit_segmentation(users, SegmentationParameters())
    assigned, segments = assign_segments(model, users)
    assert [(row["user_id"], row["segment_id"], row["segment"]) for row in assigned.collect()] == [
        (1, 0, "VIP_Customers")
    ]
    assert [(s.segment_id, s.users) for s in segments] == [(0, 1)]
    assert silhouette(model, users) is None


def test_equal_users_form_one_segment_without_silhouette(spark: SparkSession) -> None:
    users = users_frame(spark, [(user_id, *CASUAL) for user_id in range(6)])
    model = fit_segmentation(users, SegmentationParameters())
    assert set(segment_ids(model, users).values()) == {0}
    assert silhouette(model, users) is None


def test_no_users_is_an_error_that_names_the_table(spark: SparkSession) -> None:
    with pytest.raises(ValueError, match="user_features has no rows"):
        fit_segmentation(users_frame(spark, []), SegmentationParameters())


def test_two_clusters_may_have_one_name(spark: SparkSession) -> None:
    cheap, dear = (40, 3, 0.0, 0.0, 0.0, 2, 1, 1.0), (40, 3, 0.0, 0.0, 0.0, 2, 1, 900.0)
    users = users_frame(spark, [(n, *(cheap if n % 2 else dear)) for n in range(6)])
    assigned, segments = assign_segments(fit_segmentation(users, SegmentationParameters(k=2)), users)
    assert [(s.segment_id, s.name, s.users) for s in segments] == [
        (0, "Casual_Browsers", 3),
        (1, "Casual_Browsers", 3),
    ]
    assert {row["segment"] for row in assigned.collect()} == {"Casual_Browsers"}


def test_segmented_users_have_the_documented_columns_and_types(spark: SparkSession) -> None:
    events = [event("2020-01-01 10:00:00", user_id=user_id, price=10.0 * user_id) for user_id in (1, 2, 3)]
    features = build_user_features(events_frame(spark, events))
    assigned, _ = assign_segments(fit_segmentation(features, SegmentationParameters(k=2)), features)
    stored = SEGMENTED_USERS.conform(assigned)
    assert stored.columns == assigned.columns == SEGMENTED_USERS.names
    assert dict(stored.dtypes) == {c.name: c.type for c in SEGMENTED_USERS.with_id_type("bigint").columns}
    assert all(row["segment"] is not None for row in stored.collect())

"""Feature tables that were computed elsewhere: which is taken, when none is, and which checks warn then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.features.precomputed import PRODUCT_DATA, USER_BEHAVIOR, FeatureExport, PrecomputedFeatures
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.stored_asset import Artifact
from ecommerce_assets_tests.helpers import event, read, run_graph, write_day


def users(*ids: int, **columns: list[Any]) -> pa.Table:
    return pa.table({"user_id": list(ids), **{name: [1.0] * len(ids) for name in CLUSTERING_FEATURES}, **columns})


def export(data_dir: Path, name: str, table: pa.Table | None = None) -> Path:
    path = data_dir / "processed" / "parquet" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(users(1) if table is None else table, path)
    return path


class Log:
    def __init__(self) -> None:
        self.info: list[str] = []
        self.warn: list[str] = []


@pytest.fixture
def log() -> Log:
    return Log()


def newest(data_dir: Path, spark: SparkSession, log: Log, kind: FeatureExport = USER_BEHAVIOR) -> Artifact | None:
    return PrecomputedFeatures(f"{data_dir}/processed/parquet").newest(kind, spark, log.info.append, log.warn.append)


def test_the_newest_is_taken_file_or_folder(spark: SparkSession, tmp_path: Path, log: Log) -> None:
    export(tmp_path, "user_behavior_20241130_235959.parquet", users(1))
    (tmp_path / "processed" / "parquet" / "user_behavior_20241201_120000.parquet").mkdir()
    for part, user in enumerate((2, 3)):
        export(tmp_path, f"user_behavior_20241201_120000.parquet/part-{part}.parquet", users(user))
    found = newest(tmp_path, spark, log)
    assert found is not None
    assert sorted(row["user_id"] for row in found.value.collect()) == [2, 3]
    assert "user_behavior_20241201_120000.parquet" in log.info[0]
    [source] = found.inputs or ()
    assert [file.path for file in source.files] == [
        f"user_behavior_20241201_120000.parquet/part-{part}.parquet" for part in (0, 1)
    ]
    assert len(source.fingerprint) == 64


def test_missing_columns_are_null_and_the_others_are_cast(spark: SparkSession, tmp_path: Path, log: Log) -> None:
    export(tmp_path, "user_behavior_v2_20241201_120000.parquet", users(7, recency=["3"], views=[4]))
    found = newest(tmp_path, spark, log)
    assert found is not None
    [row] = found.value.collect()
    assert (row["user_id"], row["recency"], row["views"], row["purchases"]) == (7, 3, 4, None)


def test_nanoseconds_of_pandas_are_read_as_timestamps(spark: SparkSession, tmp_path: Path, log: Log) -> None:
    times = pa.array([1_569_924_000_250_000_128], pa.timestamp("ns", "UTC"))
    export(tmp_path, "user_behavior_20241201_120000.parquet", users(7).append_column("last_event_time", times))
    found = newest(tmp_path, spark, log)
    assert found is not None
    [row] = found.value.selectExpr("cast(last_event_time as string) at").collect()
    assert row["at"] == "2019-10-01 10:00:00.25"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("user_behavior_20249999_120000.parquet", "", "20249999_120000"),
        ("user_behavior_20241202_120000.parquet", "truncated", "readable Parquet"),
        ("user_behavior_20241202_120000.parquet", "corrupt page", "readable Parquet"),
        ("user_behavior_20241202_120000.parquet", "corrupt optional column", "readable Parquet"),
        ("user_behavior_20241202_120000.parquet", "column", "avg_price"),
        ("user_behavior_20241202_120000.parquet", "no rows", "no rows"),
        ("user_behavior_20241202_120000.parquet", "infinite", "monetary is NaN or infinite in 2 rows"),
        ("user_behavior_20241202_120000.parquet", "infinite text", "avg_price is NaN or infinite in 1 rows"),
        ("user_behavior_20241202_120000", "mixed types", "b.parquet has other types"),
        ("user_behavior_20241202_120000", "empty folder", "no Parquet file"),
    ],
)
def test_an_unusable_export_is_skipped_with_a_warning(
    spark: SparkSession, tmp_path: Path, log: Log, name: str, damage: str, message: str
) -> None:
    export(tmp_path, "user_behavior_20241201_120000.parquet", users(1))
    if damage == "empty folder":
        (tmp_path / "processed" / "parquet" / name).mkdir()
        export(tmp_path, f"{name}/notes.txt")
    elif damage == "column":
        export(tmp_path, name, users(2).drop_columns(["avg_price"]))
    elif damage == "no rows":
        export(tmp_path, name, users())
    elif damage == "infinite":
        export(tmp_path, name, users(2, 3, 4, monetary=[float("inf"), float("nan"), 1.0]))
    elif damage == "infinite text":
        export(tmp_path, name, users(2, 3, avg_price=[" -Infinity", "1.5"]))
    elif damage == "mixed types":
        (tmp_path / "processed" / "parquet" / name).mkdir()
        export(tmp_path, f"{name}/a.parquet", users(2, views=[4]))
        export(tmp_path, f"{name}/b.parquet", users(3, views=[4.5]))
    elif damage == "corrupt optional column":
        numbers = range(2_000)
        path = export(tmp_path, name, users(*numbers, views=[n * 7919 % 2003 for n in numbers]))
        group = pq.ParquetFile(path).metadata.row_group(0)
        views = group.column(group.num_columns - 1)
        begin = views.dictionary_page_offset or views.data_page_offset
        content = path.read_bytes()
        path.write_bytes(content[:begin] + b"\xff" * 100 + content[begin + 100 :])
    else:
        path = export(tmp_path, name, users(*range(2_000)))
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[:-100])
        elif damage == "corrupt page":
            path.write_bytes(path.read_bytes()[:4] + b"\xff" * 200 + path.read_bytes()[204:])
    found = newest(tmp_path, spark, log)
    assert found is not None
    assert [row["user_id"] for row in found.value.collect()] == [1]
    assert len(log.warn) == 1
    assert name in log.warn[0]
    assert message in log.warn[0]


def test_other_names_are_ignored(spark: SparkSession, tmp_path: Path, log: Log) -> None:
    for name in ("user_behavior.parquet", "old_user_behavior_20241201_120000.parquet", "product_data_20241201_120000"):
        export(tmp_path, name)
    assert newest(tmp_path, spark, log) is None
    assert log.warn == []
    assert "cleaned_events" in log.info[0]


def test_product_data_with_the_three_required_columns_is_taken(spark: SparkSession, tmp_path: Path, log: Log) -> None:
    table = pa.table({"product_id": [5], "category": ["toys"], "enhanced_popularity_score": [2.5]})
    export(tmp_path, "product_data_20241201_120000.parquet", table)
    found = newest(tmp_path, spark, log, PRODUCT_DATA)
    assert found is not None
    [row] = found.value.collect()
    assert (row["product_id"], row["category"], row["enhanced_popularity_score"], row["brand"]) == (
        5,
        "toys",
        2.5,
        None,
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write_day(tmp_path, "2019-10-01", [event(f"2019-10-01 10:00:{n:02d}", user_id=n, price=n) for n in range(12)])
    values: dict[str, list[Any]] = {name: [float(n % 5) for n in range(12)] for name in CLUSTERING_FEATURES}
    export(tmp_path, "user_behavior_20241201_120000.parquet", users(*range(12), **values))
    return tmp_path


FEATURES = ["cleaned_events", "rejected_events", "user_features", "segmentation_model", "segmented_users"]


@pytest.mark.spark_only
def test_a_run_over_an_export_records_it_and_only_warns(spark: SparkSession, shop: Path) -> None:
    result = run_graph(shop, "2019-10-01", select=FEATURES, run_config={})
    assert result.success
    version = Lake(str(shop)).latest("user_features")
    assert version.stats.results["precomputed"].endswith("processed/parquet/user_behavior_20241201_120000.parquet")
    [made_of] = version.inputs
    assert (made_of.asset, made_of.version) == ("user_behavior_20241201_120000", None)
    assert version.column_lineage["recency"] == ("user_behavior_20241201_120000.recency",)
    assert version.column_lineage["purchases"] == ()
    failed = {e.check_name: e.severity for e in result.get_asset_check_evaluations() if not e.passed}
    assert failed["events_conserved"] == dg.AssetCheckSeverity.WARN
    assert failed["no_nulls"] == dg.AssetCheckSeverity.WARN
    assert read(spark, shop, "segmented_users").count() == 12


def test_an_export_with_repeated_users_is_blocked(spark: SparkSession, shop: Path) -> None:
    export(shop, "user_behavior_20241202_120000.parquet", users(1, 1, 2))
    result = run_graph(shop, "2019-10-01", select=FEATURES[:3], run_config={}, raise_on_error=False)
    assert not result.success
    [blocked] = Lake(str(shop)).blocked("user_features")
    assert [check.name for check in blocked.failed_blocking] == ["unique_key"]


def test_the_setting_turns_exports_off(spark: SparkSession, shop: Path) -> None:
    assert run_graph(shop, "2019-10-01", select=FEATURES[:3], run_config={}, precomputed_features=False).success
    version = Lake(str(shop)).latest("user_features")
    assert "precomputed" not in version.stats.results
    assert [step.asset for step in version.inputs] == ["cleaned_events"]

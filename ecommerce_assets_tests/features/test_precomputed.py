"""Precomputed feature tables: which export is used, when none is, and which checks then only warn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.features.precomputed import (
    PRODUCT_DATA,
    USER_BEHAVIOR,
    FeatureExport,
    _inspect,
    _newest_first,
    _UnusableError,
    newest_export,
)
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.stored_asset import Artifact
from ecommerce_assets_tests.helpers import read, run_graph
from ecommerce_assets_tests.lookup.shop import publish, seen

FOLDER = "processed/parquet"


def users(*ids: int, **columns: list[Any]) -> pa.Table:
    return pa.table({"user_id": list(ids), **{name: [1.0] * len(ids) for name in CLUSTERING_FEATURES}, **columns})


def export(data_dir: Path, name: str, table: pa.Table | None = None) -> Path:
    path = data_dir / FOLDER / name
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
    return newest_export(kind, f"{data_dir}/{FOLDER}", "bigint", spark, log.info.append, log.warn.append)


def test_newest_readable_export_is_used_with_nulls_for_missing_columns(
    spark: SparkSession, tmp_path: Path, log: Log
) -> None:
    export(tmp_path, "user_behavior_20241130_235959.parquet", users(1))
    name = "user_behavior_v2_20241201_120000.parquet"
    times = pa.array([1_569_924_000_250_000_128], pa.timestamp("ns", "UTC"))
    for part, user in enumerate((2, 3)):
        table = users(user, recency=["3"], views=[4]).append_column("last_event_time", times)
        export(tmp_path, f"{name}/part-{part}.parquet", table)
    export(tmp_path, "user_behavior_20241202_120000.parquet", users())
    artifact = newest(tmp_path, spark, log)
    assert artifact is not None
    columns = ("user_id", "recency", "views", "purchases", "cast(last_event_time as string)")
    rows = sorted(tuple(row) for row in artifact.value.selectExpr(*columns).collect())
    assert rows == [(user, 3, 4, None, "2019-10-01 10:00:00.25") for user in (2, 3)]
    assert name in log.info[0]
    [warning] = log.warn
    assert "user_behavior_20241202_120000.parquet is skipped" in warning
    [source] = artifact.inputs or ()
    assert [file.path for file in source.files] == [f"{name}/part-{part}.parquet" for part in (0, 1)]
    assert len(source.fingerprint) == 64


def test_product_data_needs_three_columns_only(spark: SparkSession, tmp_path: Path, log: Log) -> None:
    table = pa.table({"product_id": [5], "category": ["toys"], "enhanced_popularity_score": [2.5]})
    export(tmp_path, "product_data_20241201_120000.parquet", table)
    artifact = newest(tmp_path, spark, log, PRODUCT_DATA)
    assert artifact is not None
    [row] = artifact.value.select("product_id", "category", "enhanced_popularity_score", "brand").collect()
    assert tuple(row) == (5, "toys", 2.5, None)


def test_names_without_the_prefix_and_a_valid_time_are_not_exports(
    spark: SparkSession, tmp_path: Path, log: Log
) -> None:
    for name in ("user_behavior.parquet", "old_user_behavior_20241201_120000.parquet", "product_data_20241201_120000"):
        export(tmp_path, name)
    export(tmp_path, "user_behavior_20249999_120000.parquet")
    assert list(_newest_first(Folder(f"{tmp_path}/{FOLDER}"), "user_behavior", log.warn.append)) == []
    assert len(log.warn) == 1
    assert "20249999_120000" in log.warn[0]
    assert newest(tmp_path, spark, log) is None


def overwrite(path: Path, begin: int, length: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:begin] + b"\xff" * length + content[begin + length :])


@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ("truncated", "readable as Parquet"),
        ("corrupt page", "readable as Parquet"),
        ("corrupt optional column", "readable as Parquet"),
        ("missing column", "avg_price"),
        ("no rows", "no rows"),
        ("infinite", "monetary is NaN or infinite in 2 rows"),
        ("infinite text", "avg_price is NaN or infinite in 1 rows"),
        ("mixed types", "views in x/b.parquet differ"),
        ("empty folder", "no Parquet file"),
    ],
)
def test_export_with_a_flaw_is_unusable(tmp_path: Path, flaw: str, reason: str) -> None:
    name = "x.parquet"
    if flaw == "empty folder":
        export(tmp_path, "x.parquet/notes.txt")
    elif flaw == "missing column":
        export(tmp_path, name, users(2).drop_columns(["avg_price"]))
    elif flaw == "no rows":
        export(tmp_path, name, users())
    elif flaw == "infinite":
        export(tmp_path, name, users(2, 3, 4, monetary=[float("inf"), float("nan"), 1.0]))
    elif flaw == "infinite text":
        export(tmp_path, name, users(2, 3, avg_price=[" -Infinity", "1.5"]))
    elif flaw == "mixed types":
        name = "x"
        export(tmp_path, "x/a.parquet", users(2, views=[4]))
        export(tmp_path, "x/b.parquet", users(3, views=[4.5]))
    else:
        numbers = range(2_000)
        path = export(tmp_path, name, users(*numbers, views=[n * 7919 % 2003 for n in numbers]))
        if flaw == "truncated":
            path.write_bytes(path.read_bytes()[:-100])
        elif flaw == "corrupt page":
            overwrite(path, 4, 200)
        else:
            views = pq.ParquetFile(path).metadata.row_group(0).column(len(CLUSTERING_FEATURES) + 1)
            overwrite(path, views.dictionary_page_offset or views.data_page_offset, 100)
    with pytest.raises(_UnusableError, match=reason):
        _inspect(Folder(f"{tmp_path}/{FOLDER}"), name, USER_BEHAVIOR)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    rows = [seen(f"2019-10-01 10:00:{n:02d}", n, 1, price=n) for n in range(12)]
    publish(Lake(str(tmp_path)), "cleaned_events", {"2019-10-01": rows})
    values: dict[str, list[Any]] = {name: [float(n % 5) for n in range(12)] for name in CLUSTERING_FEATURES}
    export(tmp_path, "user_behavior_20241201_120000.parquet", users(*range(12), **values))
    return tmp_path


@pytest.mark.spark_only
def test_run_over_an_export_records_it_as_input_and_only_warns(spark: SparkSession, shop: Path) -> None:
    chain = ["user_features", "segmentation_model", "segmented_users"]
    result = run_graph(shop, "2019-10-01", select=chain, run_config={})
    assert result.success
    version = Lake(str(shop)).latest("user_features")
    assert version.stats.results["precomputed"].endswith("processed/parquet/user_behavior_20241201_120000.parquet")
    [source] = version.inputs
    assert (source.asset, source.version) == ("user_behavior_20241201_120000", None)
    assert version.column_lineage["recency"] == ("user_behavior_20241201_120000.recency",)
    assert version.column_lineage["purchases"] == ()
    failed = {e.check_name: e.severity for e in result.get_asset_check_evaluations() if not e.passed}
    assert failed["events_conserved"] == dg.AssetCheckSeverity.WARN
    assert failed["no_nulls"] == dg.AssetCheckSeverity.WARN
    assert read(spark, shop, "segmented_users").count() == 12


def test_export_with_repeated_users_is_blocked_unless_exports_are_off(spark: SparkSession, shop: Path) -> None:
    export(shop, "user_behavior_20241202_120000.parquet", users(1, 1, 2))
    result = run_graph(shop, "2019-10-01", select=["user_features"], run_config={}, raise_on_error=False)
    assert not result.success
    [blocked] = Lake(str(shop)).blocked("user_features")
    assert [check.name for check in blocked.failed_blocking] == ["unique_key"]
    assert run_graph(shop, "2019-10-01", select=["user_features"], precomputed_features=False).success
    version = Lake(str(shop)).latest("user_features")
    assert "precomputed" not in version.stats.results
    assert [step.asset for step in version.inputs] == ["cleaned_events"]

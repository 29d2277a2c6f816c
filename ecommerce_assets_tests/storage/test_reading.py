"""Reading the newest, an exact version, or what readers saw at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.storage.filesystem import spark_path
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.reading import arrow_schema, dataset, paths, read
from ecommerce_assets_tests.helpers import event, run_graph, write_day
from ecommerce_assets_tests.storage.test_lake import NOON, put


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def chosen(lake: Lake, asset: str = "a", **which: str | datetime) -> list[str]:
    """Version and file of each path."""
    found = paths(asset, data_dir=lake.data.uri, **which)  # type: ignore[arg-type]
    return [path.split(f"/{asset}/")[1] for path in found]


def test_as_of_a_time_and_at_a_version(lake: Lake) -> None:
    put(lake, "a", "v1")
    put(lake, "a", "v2", minutes=10)
    assert chosen(lake) == ["v2/part-0.parquet"]
    assert chosen(lake, version="v1") == ["v1/part-0.parquet"]
    assert chosen(lake, as_of=NOON + timedelta(minutes=5)) == ["v1/part-0.parquet"]
    assert chosen(lake, as_of="2026-01-01 12:10") == ["v2/part-0.parquet"]
    assert chosen(lake, as_of="2026-01-01T14:05:00+02:00") == ["v1/part-0.parquet"]


def test_a_daily_table_as_of_a_time_takes_each_day_as_it_was(lake: Lake) -> None:
    put(lake, "a", "v1", days=["2019-10-01", "2019-10-02"])
    put(lake, "a", "v2", minutes=10, days=["2019-10-02"])
    assert chosen(lake, as_of=NOON) == [
        "v1/event_date=2019-10-01/part-0.parquet",
        "v1/event_date=2019-10-02/part-1.parquet",
    ]
    assert chosen(lake) == ["v1/event_date=2019-10-01/part-0.parquet", "v2/event_date=2019-10-02/part-0.parquet"]
    assert chosen(lake, version="v2") == ["v2/event_date=2019-10-02/part-0.parquet"]


def test_what_is_not_there_is_told(lake: Lake) -> None:
    put(lake, "a", "v1")
    with pytest.raises(VersionNotFoundError, match=r"from 2025-12-31 00:00:00 UTC or before; the oldest .* 2026-01-01"):
        paths("a", as_of=datetime(2025, 12, 31, tzinfo=UTC), data_dir=lake.data.uri)
    with pytest.raises(VersionNotFoundError, match=r"^a has no whole version v9 in .*; the newest are v1\.$"):
        paths("a", version="v9", data_dir=lake.data.uri)
    with pytest.raises(ValueError, match="version or as_of, not both"):
        paths("a", version="v1", as_of="2026-01-01", data_dir=lake.data.uri)


def test_what_is_misnamed_is_told_what_there_is(lake: Lake) -> None:
    with pytest.raises(
        VersionNotFoundError, match=rf"^Nothing is stored in {lake.root.uri}: materialise a first, or name"
    ):
        read("a", data_dir=lake.data.uri)
    put(lake, "als_model", "v1")
    put(lake, "a", "v1")
    for look in (paths, dataset, read):
        with pytest.raises(
            VersionNotFoundError,
            match=rf"^Nothing is stored of als_modle in {lake.root.uri}; there is: a, als_model\. Check the name, or",
        ):
            look("als_modle", data_dir=lake.data.uri)
    with pytest.raises(ValueError, match=r"^as_of='yesterday' is no time: write it as 2026-01-31 or 2026-01-31 06:00"):
        paths("a", as_of="yesterday", data_dir=lake.data.uri)


def by_all(table: str, data_dir: str) -> dict[str, pa.Table]:
    """A table as the lines in the README get it, by library."""
    return {
        "pandas": pa.Table.from_pandas(
            dataset(table, data_dir=data_dir).to_table().to_pandas(types_mapper=pd.ArrowDtype), preserve_index=False
        ),
        "polars": pl.scan_pyarrow_dataset(dataset(table, data_dir=data_dir)).collect().to_arrow(),
        "duckdb": duckdb.from_arrow(dataset(table, data_dir=data_dir)).to_arrow_table(),
    }


TABLES = [name for name, spec in CATALOG.items() if spec.schema and name != "raw_events"]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_the_same_for_all(
    spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult], table: str
) -> None:
    lake = Lake(str(ran[0]))
    as_stored = dataset(table, data_dir=lake.data.uri).to_table()
    assert as_stored.num_rows == lake.latest(table).rows, "one run made all days"
    for frame in by_all(table, lake.data.uri).values():
        assert frame.cast(as_stored.schema).equals(as_stored)
    by_spark = to_arrow_schema(read(table, data_dir=lake.data.uri, spark=spark).schema, timezone="UTC")
    assert [(f.name, f.type) for f in by_spark] == [(f.name, f.type) for f in as_stored.schema]


def test_spark_reads_the_same_rows(spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    key = [
        ("user_id", "ascending"),
        ("event_time", "ascending"),
        ("product_id", "ascending"),
        ("event_type", "ascending"),
    ]
    by_spark = read("cleaned_events", data_dir=str(ran[0]), spark=spark).toArrow().sort_by(key)
    by_arrow = dataset("cleaned_events", data_dir=str(ran[0])).to_table().sort_by(key)
    assert by_spark.cast(by_arrow.schema).equals(by_arrow)
    assert by_arrow["category_id"].null_count, "else a 64-bit number that became a double would not be noticed"


def test_a_table_without_a_row_has_its_columns(lake: Lake, spark: SparkSession) -> None:
    columns = {"user_id": "string", "event_time": "timestamp", "price": "double", "category_id": "bigint"}
    clean = put(lake, "rejected_events", "v1", days=["2019-10-01"], columns=columns)
    lake.publish(clean.model_copy(update={"files": ()}))
    assert paths("rejected_events", data_dir=lake.data.uri) == []
    for frame in by_all("rejected_events", lake.data.uri).values():
        assert (frame.num_rows, frame.column_names) == (0, list(columns))
    assert dataset("rejected_events", data_dir=lake.data.uri).schema == arrow_schema(columns)
    assert read("rejected_events", data_dir=lake.data.uri, spark=spark).columns == list(columns)


def test_what_is_no_table_is_no_dataset(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    for asset, kind in (("als_model", "a model"), ("training_metadata", "a document")):
        with pytest.raises(ValueError, match=rf"^{asset} is {kind}, not a table: read\('{asset}'\) gives it\.$"):
            dataset(asset, data_dir=str(ran[0]))


def test_models_and_documents(spark: SparkSession, ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    data_dir = str(ran[0])
    assert isinstance(read("als_model", data_dir=data_dir, spark=spark), ALSModel)
    assert read("training_metadata", data_dir=data_dir)["segments_count"] == 5


@pytest.mark.trial
def test_a_notebook_needs_no_session_and_no_time_zone(ran: tuple[Path, dg.ExecuteInProcessResult]) -> None:
    program = (
        "from ecommerce_assets.storage.reading import read\n"
        f"users = read('segmented_users', data_dir={str(ran[0])!r})\n"
        "print(users.count(), users.sparkSession.conf.get('spark.sql.session.timeZone'))"
    )
    environment = {**os.environ, "TZ": "America/New_York"}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert said.stdout.split() == [str(Lake(str(ran[0])).latest("segmented_users").rows), "UTC"]


NAMES = ["my shop [1]", "a{b,c}", "wh*t?", "back\\slash", "per%20cent"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_no_pattern_for_spark(spark: SparkSession, tmp_path: Path, name: str) -> None:
    folder = f"{tmp_path}/{name}"
    spark.range(3).selectExpr("id", "'x' as kind").write.partitionBy("kind").parquet(folder)
    files = [spark_path(str(path)) for path in Path(folder).rglob("*.parquet")]
    assert spark.read.parquet(*files).columns == ["id"]
    frame = spark.read.option("basePath", folder).parquet(*files)
    assert (frame.count(), frame.columns) == (3, ["id", "kind"])


def test_the_graph_runs_in_a_folder_whose_name_looks_like_a_pattern(spark: SparkSession, tmp_path: Path) -> None:
    shop = tmp_path / "my shop [1]"
    events = [
        event(f"2019-10-01 12:{user:02d}:{product:02d}", "purchase", product_id=product, user_id=user)
        for user in range(1, 13)
        for product in range(1, 13)
        if (user + product) % 3
    ]
    write_day(shop, "2019-10-01", events, name="drop {a,b}")
    tables = ["cleaned_events", "rejected_events", "user_features"]
    result = run_graph(
        shop, "2019-10-01", select=[*tables, "user_index", "product_index", "interaction_data", "als_model"]
    )
    assert result.success
    assert read("cleaned_events", data_dir=str(shop), spark=spark).count() == len(events)
    assert read("user_features", data_dir=str(shop), spark=spark).count() == 12
    assert isinstance(read("als_model", data_dir=str(shop), spark=spark), ALSModel)

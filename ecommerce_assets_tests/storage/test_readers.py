"""deltalake, Polars, DuckDB and pandas read the same rows as Spark, and `read` finds the right version."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import SparkSession

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.spark.connect import path_to_write, read_files
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.reading import read, read_parquet
from ecommerce_assets.storage.version import PARTITION_COLUMN
from ecommerce_assets_tests.stored import put_folder, put_table

TABLES = [name for name, stored in CATALOG.items() if stored.table and name not in ("raw_events", "product_catalog")]
Ran = tuple[Path, dg.ExecuteInProcessResult]


def by_all(uri: str) -> dict[str, pa.Table]:
    """Returns a table as each library reads it, with the code of the README."""
    table = DeltaTable(uri)
    return {
        "deltalake": table.to_pyarrow_table(),
        "pandas": pa.Table.from_pandas(table.to_pandas(types_mapper=pd.ArrowDtype), preserve_index=False),
        "polars": pl.scan_delta(uri).collect().to_arrow(),
        "duckdb": duckdb.from_arrow(table.to_pyarrow_dataset()).to_arrow_table(),
    }


def comparable(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return table.select(schema.names).cast(schema).sort_by([(name, "ascending") for name in schema.names])


@pytest.mark.parametrize("name", TABLES)
def test_all_libraries_read_the_same_table(spark: SparkSession, ran: Ran, name: str) -> None:
    lake = Lake(str(ran[0]))
    uri, table = lake.asset(name).uri, CATALOG[name].table
    assert table is not None
    by_spark = read(name, data_dir=str(ran[0]), spark=spark).toArrow()
    fields = [pa.field(f.name, f.type) for f in by_spark.schema]
    schema = pa.schema([f.with_type(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(f.type) else f for f in fields])
    expected = comparable(by_spark, schema)
    assert expected.num_rows == lake.latest(name).stats.rows
    for library, frame in by_all(uri).items():
        found = comparable(frame, schema)
        assert found.equals(expected), library
        assert set(frame.column_names) == set(expected.column_names), library

    delta = {field.name: field for field in DeltaTable(uri).schema().fields}
    for column in table.columns:
        assert delta[column.name].metadata["comment"] == column.description
        assert delta[column.name].nullable == (column.name not in table.required)

    stats = pa.table(DeltaTable(uri).get_add_actions(flatten=True)).to_pydict()
    assert sum(stats["num_records"]) == expected.num_rows
    for column in table.names:
        if expected.num_rows == 0 or f"null_count.{column}" not in stats:
            continue
        assert sum(stats[f"null_count.{column}"]) == expected[column].null_count, column
        low, high = stats.get(f"min.{column}", [None]), stats.get(f"max.{column}", [None])
        if None not in (*low, *high):
            bounds = pc.min_max(expected[column]).as_py()
            assert (min(low), max(high)) == (bounds["min"], bounds["max"]), column


def test_64_bit_numbers_with_nulls_stay_numbers(ran: Ran) -> None:
    for frame in by_all(Lake(str(ran[0])).asset("cleaned_events").uri).values():
        assert frame["category_id"].type == pa.int64()
        assert frame["category_id"].null_count


def test_a_daily_table_without_rows_has_its_columns(tmp_path: Path, spark: SparkSession) -> None:
    empty = pa.table({"user_id": pa.array([], pa.string()), "at": pa.array([], pa.timestamp("us", "UTC"))})
    put_table(Lake(str(tmp_path)), "rejected_events", days={"2019-10-01": empty})
    columns = ["user_id", "at", PARTITION_COLUMN]
    for frame in by_all(f"{tmp_path}/lake/rejected_events").values():
        assert (frame.num_rows, frame.column_names) == (0, columns)
    assert read("rejected_events", data_dir=str(tmp_path), spark=spark).columns == columns


def rows(data_dir: Path, spark: SparkSession, asset: str, **which: Any) -> list[int]:
    return [row["a"] for row in read(asset, data_dir=str(data_dir), spark=spark, **which).sort("a").collect()]


def test_time_travel_by_version_and_by_time(tmp_path: Path, spark: SparkSession) -> None:
    lake = Lake(str(tmp_path))
    times = []
    for number in range(3):
        times.append(put_table(lake, "a", pa.table({"a": [number]})).committed_at)
        put_table(lake, "e", days={f"2019-10-0{number + 1}": pa.table({"a": [number]})})
        time.sleep(0.05)
    assert [rows(tmp_path, spark, "a", version=version) for version in (0, "1", None)] == [[0], [1], [2]]
    assert [rows(tmp_path, spark, "e", version=version) for version in (0, 1, 2)] == [[0], [0, 1], [0, 1, 2]]
    assert rows(tmp_path, spark, "a", as_of=times[1]) == [1]
    assert rows(tmp_path, spark, "a", as_of=times[1].isoformat()) == [1]
    assert rows(tmp_path, spark, "e", as_of=times[2]) == [0, 1]
    # delta-rs finds the same version by the times in its log, which are in milliseconds.
    table = DeltaTable(lake.asset("a").path)
    table.load_as_version(times[1] + timedelta(milliseconds=30))
    assert table.to_pyarrow_table()["a"].to_pylist() == [1]


def test_a_missing_version_is_an_error_with_the_existing_ones(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    with pytest.raises(VersionNotFoundError, match=r"Nothing is stored in .*: materialise a first"):
        read("a", data_dir=str(tmp_path))
    put_table(lake, "a")
    put_folder(lake, "als_model")
    with pytest.raises(VersionNotFoundError, match=r"als_modle is not stored in .*, which has a, als_model"):
        read("als_modle", data_dir=str(tmp_path))
    with pytest.raises(VersionNotFoundError, match="from 2025-12-31 00:00:00 UTC or before"):
        read("a", as_of=datetime(2025, 12, 31, tzinfo=UTC), data_dir=str(tmp_path))
    with pytest.raises(VersionNotFoundError, match=r"Version 9 of a .* does not exist; the newest are 0"):
        read("a", version=9, data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="either version or as_of"):
        read("a", version="0", as_of="2026-01-01", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="got 'yesterday'"):
        read("a", as_of="yesterday", data_dir=str(tmp_path))


@pytest.mark.spark_only
def test_read_returns_models_and_documents(spark: SparkSession, ran: Ran) -> None:
    data_dir = str(ran[0])
    assert isinstance(read("als_model", data_dir=data_dir, spark=spark), ALSModel)
    assert len(read("segmentation_model", data_dir=data_dir, spark=spark).stages) == 3
    assert read("training_metadata", data_dir=data_dir)["segments_count"] == 5


@pytest.mark.spark_only
def test_a_flipped_bit_is_an_error_and_not_another_value(spark: SparkSession, ran: Ran, tmp_path: Path) -> None:
    """Bits are flipped all over the file, because some of them are outside of pages."""
    lake, asset = Lake(str(ran[0])), "user_features"
    file = lake.asset(asset).path + "/" + lake.files(lake.latest(asset))[0].path
    content, expected = Path(file).read_bytes(), sorted(map(str, read_file(spark, Path(file), asset)))
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    refused = 0
    for place in range(4, len(content) - footer, max(1, (len(content) - footer) // 8)):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        copy = tmp_path / f"part-{place}.parquet"
        copy.write_bytes(damaged)
        try:
            found = sorted(map(str, read_file(spark, copy, asset)))
        except Exception:
            refused += 1
        else:
            assert found == expected, f"byte {place} of {len(content)}"
    assert refused >= 6


def read_file(spark: SparkSession, file: Path, asset: str) -> list[Any]:
    table = CATALOG[asset].table
    assert table is not None
    columns = {column.name: column.type for column in table.with_id_type("bigint").columns}
    return list(read_parquet(spark, Folder(str(file.parent)), [file.name], columns).collect())


@pytest.mark.trial
def test_a_notebook_needs_no_session_and_no_time_zone(ran: Ran) -> None:
    program = (
        "from ecommerce_assets.storage.reading import read\n"
        f"users = read('segmented_users', data_dir={str(ran[0])!r})\n"
        "print(users.count(), users.sparkSession.conf.get('spark.sql.session.timeZone'))"
    )
    environment = {**os.environ, "TZ": "America/New_York"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == [str(Lake(str(ran[0])).latest("segmented_users").stats.rows), "UTC"]


@pytest.mark.parametrize("name", ["my shop [1]", "a{b,c} wh*t?", "back\\slash", "per%20cent"])
def test_a_path_is_not_a_pattern(spark: SparkSession, tmp_path: Path, name: str) -> None:
    folder = f"{tmp_path}/{name}"
    written = spark.range(3).selectExpr("id", "'x' as kind").write.partitionBy("kind")
    written.parquet(path_to_write(spark, folder))
    files = [str(path) for path in Path(folder).rglob("*.parquet")]
    assert read_files(spark, files).columns == ["id"]
    if any(mark in name for mark in "%\\"):
        with pytest.raises(ValueError, match="choose another data dir"):
            put_table(Lake(folder), "e", days={"2019-10-01": pa.table({"a": [1]})})
        return
    put_table(Lake(folder), "e", days={"2019-10-01": pa.table({"a": [1]})})
    [row] = read("e", data_dir=folder, spark=spark).collect()
    assert (row["a"], str(row[PARTITION_COLUMN])) == (1, "2019-10-01")
    assert DeltaTable(f"{folder}/lake/e").to_pyarrow_table()["a"].to_pylist() == [1]

"""What is written is computed once: rows are counted from the files, per day, and not by computing them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from pyspark.accumulators import Accumulator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.events import assets as event_assets
from ecommerce_assets.events.cleaning import classify
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import auditing, audits
from ecommerce_assets.storage.asset_spec import AssetSpec
from ecommerce_assets.storage.io_managers import ParquetIOManager
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.tables import Column, TableSchema
from ecommerce_assets_tests.helpers import event, run_graph, write_day

DAYS = ("2019-10-01", "2019-10-02", "2019-10-03")
ROWS = (12, 0, 25)
TABLES = ("rejected_events", "cleaned_events", "user_features")


def counted(frame: DataFrame, column: str, counter: Accumulator[int]) -> DataFrame:
    """The same frame; whenever Spark computes a row of it, the counter goes up by one."""
    # Not deterministic, so that Spark may neither leave it out nor compute it twice where once is enough.
    udf: Callable[..., Any] = F.udf(
        lambda value: (counter.add(1), value)[1], frame.schema[column].dataType
    ).asNondeterministic()
    return frame.withColumn(column, udf(F.col(column)))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Three days of 12, 0 and 25 rows, one in ten with a negative price, and one exact repeat a day."""
    for day, rows in zip(DAYS, ROWS, strict=True):
        made = [event(f"{day} 10:{n:02d}:00", user_id=n % 5, price=-1.0 if n % 10 == 9 else 2.0) for n in range(rows)]
        write_day(tmp_path, day, [*made, *made[:1]])
    return tmp_path


def test_rows_are_counted_for_each_day_of_a_range(spark: SparkSession, shop: Path) -> None:
    result = run_graph(shop, DAYS[0], DAYS[-1], select=["cleaned_events", "rejected_events"], run_config={})
    lake = Lake(str(shop))
    expected = {"cleaned_events": [11, 0, 23], "rejected_events": [1, 0, 2]}
    for asset, rows in expected.items():
        folder = shop / "lake" / asset / lake.latest(asset).version
        in_files = [sum(pq.read_metadata(f).num_rows for f in folder.glob(f"event_date={day}/part-*")) for day in DAYS]
        told = {
            event.partition: event.metadata["dagster/partition_row_count"].value
            for event in result.asset_materializations_for_node("clean_events")
            if event.asset_key == dg.AssetKey(asset)
        }
        stored = lake.latest(asset).partitions
        assert in_files == rows
        assert [told[day] for day in DAYS] == rows
        assert [stored[day].rows for day in DAYS] == rows
        assert lake.latest(asset).rows == sum(rows)
        assert 0 < (lake.latest(asset).audit_seconds or 0) < lake.latest(asset).seconds


def test_where_nothing_was_rejected_spark_looks_at_nothing(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def measure(frame: DataFrame, *arguments: Any, **more: Any) -> Any:
        looked_at.append(frame.count())
        return audits.measure(frame, *arguments, **more)

    monkeypatch.setattr(auditing, "measure", measure)
    write_day(tmp_path, DAYS[0], [event(f"{DAYS[0]} 10:00:00")])
    run_graph(tmp_path, DAYS[0], DAYS[0], select=["cleaned_events", "rejected_events"], run_config={})
    rejected = Lake(str(tmp_path)).latest("rejected_events")
    assert rejected.audits, "they are judged all the same"
    assert all(audit.passed for audit in rejected.audits)
    assert rejected.partitions[DAYS[0]].measures == {"rows": 0}
    assert looked_at == [1], "cleaned_events alone"


def test_the_io_manager_computes_a_frame_once(spark: SparkSession, tmp_path: Path) -> None:
    counter: Accumulator[int] = spark.sparkContext.accumulator(0)
    schema = TableSchema.of(Column("number", "bigint", "A number.", key=True))

    @dg.asset
    def numbers() -> DataFrame:
        return counted(spark.range(1_000).withColumnRenamed("id", "number"), "number", counter)

    @dg.io_manager(required_resource_keys={"spark"})
    def io_manager(_: Any) -> ParquetIOManager:
        return ParquetIOManager(str(tmp_path), {"numbers": AssetSpec(schema)})

    assert dg.materialize([numbers], resources={"io_manager": io_manager, "spark": SparkResource()}).success
    assert counter.value == 1_000
    assert Lake(str(tmp_path)).latest("numbers").rows == 1_000


@pytest.fixture
def raw_rows(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Accumulator[int]:
    """Counts every raw row that the events' assets read, as often as they read it."""
    counter: Accumulator[int] = spark.sparkContext.accumulator(0)

    def counting(frames: list[DataFrame], *how: Any) -> DataFrame:
        return classify([counted(frame, "price", counter) for frame in frames], *how)

    monkeypatch.setattr(event_assets, "classify", counting)
    return counter


@pytest.fixture
def written_rows(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> dict[str, Accumulator[int]]:
    """Counts, for each table, every row that is computed of the frame that is written."""
    counters = {name: spark.sparkContext.accumulator(0) for name, spec in CATALOG.items() if spec.schema}
    plain = TableSchema.conform

    def conform(self: TableSchema, frame: DataFrame, extra: Any = ()) -> DataFrame:
        [name] = [asset for asset, spec in CATALOG.items() if spec.schema is self and asset != "raw_events"]
        return counted(plain(self, frame, extra), self.names[0], counters[name])

    monkeypatch.setattr(TableSchema, "conform", conform)
    return counters


@pytest.mark.parametrize(
    "assets",
    [
        pytest.param(TABLES, id="a few assets"),
        pytest.param(tuple(set(CATALOG) - {"raw_events"}), id="the whole graph", marks=pytest.mark.trial),
    ],
)
def test_every_table_is_computed_once(
    shop: Path, raw_rows: Accumulator[int], written_rows: dict[str, Accumulator[int]], assets: tuple[str, ...]
) -> None:
    models = {"ops": {"als_model": {"config": {"rank": 2, "maxIter": 2}}}} if "als_model" in assets else {}
    assert run_graph(shop, DAYS[0], DAYS[-1], select=assets, run_config=models).success
    assert raw_rows.value == sum(ROWS) + 2, "both tables of the events come from one reading"
    lake = Lake(str(shop))
    tables = [asset for asset in assets if CATALOG[asset].schema]
    assert {asset: written_rows[asset].value for asset in tables} == {a: lake.latest(a).rows for a in tables}


def test_one_more_day_costs_one_day(shop: Path, raw_rows: Accumulator[int]) -> None:
    events = ["cleaned_events", "rejected_events"]
    run_graph(shop, DAYS[0], DAYS[1], select=events, run_config={})
    before = raw_rows.value
    assert before == ROWS[0] + 1  # and one exact repeat
    run_graph(shop, DAYS[2], select=events, run_config={})
    assert raw_rows.value - before == ROWS[2] + 1
    lake = Lake(str(shop))
    assert [day.day for day in lake.days("cleaned_events")] == list(DAYS)
    assert [i.partitions for i in lake.latest("cleaned_events").inputs] == [(DAYS[2],)]

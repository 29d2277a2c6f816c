"""Every row is computed once: the stats come from the written files."""

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
from ecommerce_assets.storage import io_managers
from ecommerce_assets.storage.checks import measure
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.helpers import event, run_graph, write_day
from ecommerce_assets_tests.lookup.shop import publish, seen

DAYS = ("2019-10-01", "2019-10-02", "2019-10-03")
ROWS = (12, 0, 25)
EVENTS = ("rejected_events", "cleaned_events")


def counted(frame: DataFrame, column: str, counter: Accumulator[int]) -> DataFrame:
    """Returns the same frame, which adds 1 to the counter whenever Spark computes a row."""
    # Nondeterministic, so that Spark neither drops it nor duplicates it.
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


@pytest.fixture
def raw_rows(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Accumulator[int]:
    """Counts how often the assets of events read a raw row."""
    counter: Accumulator[int] = spark.sparkContext.accumulator(0)

    def counting(frame: DataFrame, *how: Any) -> DataFrame:
        return classify(counted(frame, "price", counter), *how)

    monkeypatch.setattr(event_assets, "classify", counting)
    return counter


@pytest.fixture
def written_rows(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> dict[str, Accumulator[int]]:
    """Counts the computed rows of each written frame, by table."""
    counters = {name: spark.sparkContext.accumulator(0) for name, stored in CATALOG.items() if stored.table}
    plain = TableSpec.conform

    def conform(self: TableSpec, frame: DataFrame, extra: Any = ()) -> DataFrame:
        [name] = [asset for asset, stored in CATALOG.items() if stored.table is self and asset != "raw_events"]
        return counted(plain(self, frame, extra), self.names[0], counters[name])

    monkeypatch.setattr(TableSpec, "conform", conform)
    return counters


@pytest.mark.spark_only
@pytest.mark.parametrize(
    "assets",
    [
        pytest.param((*EVENTS, "user_features"), id="a few assets"),
        pytest.param(tuple(set(CATALOG) - {"raw_events"}), id="the whole graph", marks=pytest.mark.trial),
    ],
)
def test_every_table_is_computed_once_and_has_the_row_counts_of_its_files(
    shop: Path, raw_rows: Accumulator[int], written_rows: dict[str, Accumulator[int]], assets: tuple[str, ...]
) -> None:
    models = {"ops": {"als_model": {"config": {"rank": 2, "maxIter": 2}}}} if "als_model" in assets else {}
    result = run_graph(shop, DAYS[0], DAYS[-1], select=assets, run_config=models)
    assert raw_rows.value == sum(ROWS) + 2, "both tables of events come from one read"
    lake = Lake(str(shop))
    newest = {asset: lake.latest(asset) for asset in assets if CATALOG[asset].table}
    assert {asset: written_rows[asset].value for asset in newest} == {a: v.stats.rows for a, v in newest.items()}
    for asset, rows in {"cleaned_events": [11, 0, 23], "rejected_events": [1, 0, 2]}.items():
        folder = Path(lake.folder(newest[asset]).path)
        shown = {
            event.partition: event.metadata["dagster/partition_row_count"].value
            for event in result.asset_materializations_for_node("clean_events")
            if event.asset_key == dg.AssetKey(asset)
        }
        assert [sum(pq.read_metadata(f).num_rows for f in folder.glob(f"event_date={d}/part-*")) for d in DAYS] == rows
        assert [newest[asset].days[day].rows for day in DAYS] == rows
        assert [shown[day] for day in DAYS] == rows
        assert newest[asset].stats.rows == sum(rows)
        assert 0 < (newest[asset].check_seconds or 0) < newest[asset].seconds


@pytest.mark.spark_only
def test_a_new_day_reads_one_day_and_an_empty_table_needs_no_query(
    shop: Path, raw_rows: Accumulator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_day(shop, DAYS[1], [event(f"{DAYS[1]} 10:00:00")])
    measured: list[int] = []

    def measuring(frame: DataFrame, *arguments: Any) -> Any:
        measured.append(frame.count())
        return measure(frame, *arguments)

    lake = Lake(str(shop))
    publish(lake, "cleaned_events", {DAYS[0]: [seen(f"{DAYS[0]} 10:00", 1, 1)]})
    monkeypatch.setattr(io_managers, "measure", measuring)
    run_graph(shop, DAYS[1], select=EVENTS, run_config={})
    assert raw_rows.value == 1
    assert measured == [1], "cleaned_events alone"
    assert [day.day for day in lake.days("cleaned_events")] == list(DAYS[:2])
    assert [read.partitions for read in lake.latest("cleaned_events").inputs] == [(DAYS[1],)]
    rejected = lake.latest("rejected_events")
    assert [check.passed for check in rejected.checks] == [True] * len(CATALOG["rejected_events"].checks)
    stats = rejected.days[DAYS[1]]
    assert (stats.rows, stats.content, stats.numbers) == (0, None, {})

"""Makes events, writes them as raw partitions and runs the graph over them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage import display
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.promoted import promote, read_promoted
from ecommerce_assets.storage.reading import read as read_asset
from ecommerce_assets_tests.stored import put_folder as put_folder
from ecommerce_assets_tests.stored import put_table as put_table
from ecommerce_assets_tests.stored import version_of as version_of

FIRST_DAY, LAST_DAY = "2019-10-01", "2019-10-08"
"""Days of the shop of the fixture `ran`."""

SECRET, SECRET_VALUE = "spark.hadoop.fs.test.secret.key", r"hunter2\ n=:ü"
"""A secret setting of the session that the tests share."""

RAW_TYPES = {
    "event_time": pa.timestamp("us", tz="UTC"),
    "event_type": pa.string(),
    "product_id": pa.int64(),
    "category_id": pa.int64(),
    "category_code": pa.string(),
    "brand": pa.string(),
    "price": pa.float64(),
    "user_id": pa.int64(),
    "user_session": pa.string(),
}
EVENTS_DDL = (
    "event_time timestamp, event_type string, product_id bigint, category_id bigint, category_code string, "
    "brand string, price double, user_id bigint, user_session string"
)
SMALL_MODELS = {"als_model": {"rank": 4, "maxIter": 2}, "segmentation_model": {"maxIter": 3}}
"""Parameters of models that are fitted quickly."""


def event(
    time: str,
    event_type: str = "view",
    product_id: Any = 1,
    user_id: Any = 1,
    price: Any = 10.0,
    brand: str | None = None,
    category_code: str | None = None,
    category_id: Any = None,
    user_session: str | None = "s",
) -> dict[str, Any]:
    """Returns an event; `time` is UTC, such as `2019-10-01 12:00:00`."""
    return {
        "event_time": dt.datetime.fromisoformat(time).replace(tzinfo=dt.UTC),
        "event_type": event_type,
        "product_id": product_id,
        "category_id": category_id,
        "category_code": category_code,
        "brand": brand,
        "price": price,
        "user_id": user_id,
        "user_session": user_session,
    }


def events_frame(spark: SparkSession, events: Sequence[dict[str, Any]]) -> DataFrame:
    """Returns events as a DataFrame of cleaned events."""
    return spark.createDataFrame([tuple(e.values()) for e in events], EVENTS_DDL)


def write_day(data_dir: Path, day: str, table: pa.Table | Sequence[dict[str, Any]], name: str = "part-0") -> Path:
    """Writes a raw file into a daily partition; lists of events get the types of `RAW_TYPES`. Returns its path."""
    if not isinstance(table, pa.Table):
        table = pa.Table.from_pylist(list(table), schema=pa.schema(list(RAW_TYPES.items())))
    folder = data_dir / "raw" / "events" / f"event_date={day}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pq.write_table(table, path)
    return path


def run_graph(
    data_dir: Path | str,
    first: str,
    last: str | None = None,
    select: Sequence[str] | None = None,
    run_config: dict[str, Any] | None = None,
    raise_on_error: bool = True,
    instance: dg.DagsterInstance | None = None,
    **settings: Any,
) -> dg.ExecuteInProcessResult:
    """Materialises the graph, or `select`, over the days from `first` to `last` in one run, as the command does.

    Promotes `SMALL_MODELS` if no parameters are promoted. Draws plots, which are slow, only in runs of the whole graph.
    """
    lake = Lake(str(data_dir))
    if not read_promoted(lake).assets:
        promote(lake, SMALL_MODELS, "tests")
    window = {"first_day": dt.date(2019, 10, 1), "last_day": dt.date(2019, 12, 29), **settings}
    defs = build_defs(load_settings(data_dir=str(data_dir), **window))
    job = defs.resolve_implicit_global_asset_job_def()
    with patch.object(display, "draw_plots", return_value="") if select else nullcontext():
        return job.execute_in_process(
            run_config=run_config,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first},
            asset_selection=[dg.AssetKey(name) for name in select] if select else None,
            raise_on_error=raise_on_error,
            instance=instance,
        )


def read(spark: SparkSession, data_dir: Path, asset: str) -> DataFrame:
    """Reads the newest published version of a table."""
    return read_asset(asset, data_dir=str(data_dir), spark=spark)

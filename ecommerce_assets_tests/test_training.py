"""Training from exports: in Python, and by spark-submit."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import SparkSession

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.events.raw import RawDataError
from ecommerce_assets.events.sample import generate
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.io_managers import BlockedError
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import read
from ecommerce_assets.training import METADATA_FILE, RESULTS, EcommerceModelTrainer
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, RAW_TYPES, event, run_graph, write_day
from ecommerce_assets_tests.lookup.shop import publish, seen

PROJECT = Path(__file__).parents[1]
SCRIPT = PROJECT / "ecommerce_assets" / "training.py"


def rows_of_day(folder: Path) -> pa.Table:
    """Returns the rows of a raw day without those of other days, which would be valid in an export."""
    table = pq.read_table(folder, partitioning=None)
    return table.filter(pc.equal(pc.strftime(table["event_time"], "%Y-%m-%d"), folder.name.partition("=")[2]))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data dir with eight days of raw events, and the same events as two exports that share a day."""
    folder = tmp_path_factory.mktemp("exports")
    generate(folder, events=2_500, days=8, first_day=date(2019, 10, 1))
    days = [rows_of_day(day) for day in sorted((folder / "raw" / "events").glob("event_date=*"))]
    processed = folder / "processed" / "parquet"
    export = processed / "cleaned_data_20241201_120000.parquet"
    export.mkdir(parents=True)
    pq.write_table(pa.concat_tables(days[:5]), export / "part-0.parquet")
    pq.write_table(pa.concat_tables(days[4:]), processed / "cleaned_data_20241202_120000.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(spark: SparkSession, shop: Path) -> Iterator[tuple[EcommerceModelTrainer, dict[str, Any]]]:
    with EcommerceModelTrainer(str(shop / "models")) as trainer:
        exports = f"{shop}/processed/parquet/cleaned_data_*.parquet"
        yield trainer, trainer.train_all_models(exports, f"{shop}/processed/parquet")


@pytest.mark.trial
def test_results_are_returned_and_stored(trained: tuple[EcommerceModelTrainer, dict[str, Any]], shop: Path) -> None:
    _, results = trained
    assert set(results) == {*RESULTS, "metadata"}
    assert isinstance(results["segmentation_model"], PipelineModel)
    assert isinstance(results["als_model"], ALSModel)
    document = json.loads((shop / "models" / METADATA_FILE).read_text())
    assert document == results["metadata"]
    assert document["total_users"] == results["user_index"].count() == results["segmented_users"].count()
    assert results["recommendations"].groupBy("user_id").count().where("count <> 10").count() == 0
    assert not list((shop / "models").glob("raw*"))  # exports are not copied


@pytest.mark.trial
def test_tables_are_those_of_the_graph_over_raw_days(
    trained: tuple[EcommerceModelTrainer, dict[str, Any]], spark: SparkSession, shop: Path, tmp_path: Path
) -> None:
    _, results = trained
    (tmp_path / "raw").symlink_to(shop / "raw")
    tables = ["user_features", "product_features", "user_index", "product_index", "interaction_data"]
    selected = ["cleaned_events", "rejected_events", *tables]
    run_graph(tmp_path, FIRST_DAY, LAST_DAY, select=selected, run_config={})
    for asset in tables:
        assert rows_of(results[asset]) == rows_of(read(asset, data_dir=str(tmp_path), spark=spark)), asset


def rows_of(frame: Any) -> list[Any]:
    return sorted(map(tuple, frame.collect()), key=repr)


@pytest.mark.trial
def test_lineage_leads_back_to_the_exports(trained: tuple[EcommerceModelTrainer, dict[str, Any]], shop: Path) -> None:
    lake = Lake(str(shop / "models"))
    events = lake.ancestor(lake.latest("recommendations"), "cleaned_events")
    [entry] = events.inputs
    assert all(Path(file.path).stat().st_size == file.bytes for file in entry.files)
    assert [file.path.partition("/cleaned_data_")[2] for file in entry.files] == [
        "20241201_120000.parquet/part-0.parquet",
        "20241202_120000.parquet",
    ]
    assert events.column_lineage["price"] == ("raw_events.price",)


@pytest.mark.trial
def test_single_steps_give_the_same_results(trained: tuple[EcommerceModelTrainer, dict[str, Any]]) -> None:
    trainer, results = trained
    events = read("cleaned_events", data_dir=trainer._settings.data_dir, spark=trainer.spark)
    assert rows_of(trainer.prepare_user_features(events)) == rows_of(results["user_features"])
    assert rows_of(trainer.prepare_product_features(events)) == rows_of(results["product_features"])
    interactions, indices = trainer.prepare_recommendation_data(events)
    assert rows_of(interactions) == rows_of(results["interaction_data"])
    assert rows_of(indices.user_index) == rows_of(results["user_index"])
    assert rows_of(indices.product_index) == rows_of(results["product_index"])
    model, users = trainer.train_user_segmentation_model(results["user_features"])
    assert isinstance(model, PipelineModel)
    assert rows_of(users.select("user_id", "segment")) == rows_of(
        results["segmented_users"].select("user_id", "segment")
    )
    assert trainer.train_als_model(interactions).rank == 50


def test_with_own_days_only_a_run_ignores_days_of_earlier_runs(spark: SparkSession, tmp_path: Path) -> None:
    publish(Lake(str(tmp_path)), "cleaned_events", {"2019-10-01": [seen("2019-10-01 10:00", 1, 1)]})
    day = "2019-10-02"
    write_day(tmp_path, day, [event(f"{day} 10:00:00", user_id=2)])
    settings = load_settings(data_dir=str(tmp_path), first_day=day, last_day=day)
    job = build_defs(settings, own_days_only=True).resolve_implicit_global_asset_job_def()
    job.execute_in_process(
        partition_key=day,
        asset_selection=[dg.AssetKey(name) for name in ("cleaned_events", "rejected_events", "user_features")],
    )
    assert [row["user_id"] for row in read("user_features", data_dir=str(tmp_path), spark=spark).collect()] == [2]


@pytest.mark.spark_only
def test_a_running_session_is_not_stopped(spark: SparkSession, tmp_path: Path) -> None:
    with EcommerceModelTrainer(str(tmp_path)) as trainer:
        assert trainer.spark.sparkContext is spark.sparkContext
    assert spark.range(3).count() == 3


def test_a_blocked_day_is_an_error_with_day_and_reason(spark: SparkSession, tmp_path: Path) -> None:
    events = [event("2019-10-01 10:00:00", user_id=n, price=-1.0) for n in range(4)]
    table = pa.Table.from_pylist(events, schema=pa.schema(list(RAW_TYPES.items())))
    pq.write_table(table, tmp_path / "cleaned_data_20241201_120000.parquet")
    with (
        EcommerceModelTrainer(str(tmp_path / "models")) as trainer,
        pytest.raises(BlockedError) as error,
    ):
        trainer.train_all_models(f"{tmp_path}/cleaned_data_*.parquet")
    assert str(error.value.description).startswith(
        "cleaned_events is blocked by few_rejected: 2019-10-01: 4 of 4 raw rows were rejected"
    )


def test_a_failure_is_logged_and_raised(spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "ecommerce_assets.training"),
        EcommerceModelTrainer(str(tmp_path)) as trainer,
        pytest.raises(RawDataError, match="There are no Parquet files at"),
    ):
        trainer.train_all_models(f"{tmp_path}/cleaned_data_*.parquet")
    assert "Training failed after" in caplog.text
    assert not (tmp_path / "lake").exists()


def submit(folder: Path, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs spark-submit in a folder. With its own TMPDIR, it does not wait for the lock of the tests' Spark."""
    program = Path(sys.executable).with_name("spark-submit")
    environment = {**os.environ, "TMPDIR": str(folder), "PYSPARK_PYTHON": sys.executable}
    command = [str(program), "--driver-memory", "1g", *options, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.trial
def test_spark_submit_trains_from_the_default_folders(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "processed").mkdir(parents=True)
    (tmp_path / "data" / "processed" / "parquet").symlink_to(shop / "processed" / "parquet")
    done = submit(tmp_path, options=("--conf", "spark.sql.shuffle.partitions=3", "--name", "Nightly"))
    assert done.returncode == 0, done.stderr[-3000:]
    models = dict(line.split(": ") for line in done.stdout.splitlines()[-2:])
    assert set(models) == {"segmentation_model", "als_model"}
    assert all(Path(path, "metadata").is_dir() for path in models.values())
    assert (tmp_path / "data" / "models" / METADATA_FILE).is_file()
    # spark-submit prints stdout and stderr of Python to its stdout.
    assert "Training succeeded after" in done.stdout
    assert "user_features: " in done.stdout
    assert "Computed from cleaned_events: " in done.stdout
    assert "DEBUG" not in done.stdout


@pytest.mark.trial
def test_a_failed_spark_submit_ends_with_1_and_the_reason(tmp_path: Path) -> None:
    done = submit(tmp_path, "--cleaned-data", "./nothing_*.parquet")
    assert done.returncode == 1
    assert done.stdout.rstrip().splitlines()[-1].startswith("Training failed: There are no Parquet files at ./nothing_")

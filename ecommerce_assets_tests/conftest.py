"""Fixtures that all tests share, such as one Spark session and one run of the graph; and the workers of a test run."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from ecommerce_assets.events.sample import generate
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets_tests.engine import SAIL
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, SECRET, SECRET_VALUE, run_graph

WORKERS = 2
"""Processes of a run of all tests. Each starts a Spark, which needs 2 GB of memory."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Returns the number of workers: `WORKERS` for all tests, 0 for given files and for trials."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and config.option.markexpr == "not trial"
    return WORKERS if is_whole else 0


class FilesTogether(LoadFileScheduling):
    """Runs the tests of a file in one worker, and so all files that use `ran`, whose graph then runs once."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "ran" if "ran: " in (self.config.rootpath / file).read_text() else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesTogether:
    return FilesTogether(config, log)


@pytest.fixture(scope="session")
def spark(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One session for all tests, with the project's settings and little memory."""
    if pytestconfig.getoption("engine") == SAIL:
        on_sail: Any = SparkResource(
            master=SAIL, driver_memory="2g", checkpoint_dir=str(tmp_path_factory.mktemp("checkpoints"))
        )
        with _separate_lock(tmp_path_factory):
            session = on_sail.spark_session
        yield session
        on_sail.stop()
        return
    resource: Any = SparkResource(
        master="local[2]",
        driver_memory="3g",
        checkpoint_dir=str(tmp_path_factory.mktemp("checkpoints")),
        # For many small jobs, compiling code (by Spark, or by Java's second compiler) takes longer than it saves.
        spark_config={
            "spark.sql.shuffle.partitions": 2,
            "spark.default.parallelism": 2,
            "spark.sql.codegen.wholeStage": False,
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            # For error messages, Spark looks up the Python line of each column, which is slow.
            "spark.python.sql.dataFrameDebugging.enabled": False,
            SECRET: SECRET_VALUE,
            # With one compiler, Java has 48 MB for compiled code by default; the whole graph needs more.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC "
            "-Xss4m",
        },
    )
    with _separate_lock(tmp_path_factory):
        session = resource.spark_session
    yield session
    resource.stop()


@contextmanager
def _separate_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sets a separate temporary folder, in which the lock for one Spark per machine does not wait for other runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
        yield


@pytest.fixture(scope="session")
def ran(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dg.ExecuteInProcessResult]:
    """A data dir with eight days of generated events, and the run of the graph over it. Copy it before writing to it.

    Spark could read its name as a pattern.
    """
    data_dir = tmp_path_factory.mktemp("shop-[1]")
    generate(data_dir, events=4_000, days=8, first_day=date(2019, 10, 1))
    return data_dir, run_graph(data_dir, FIRST_DAY, LAST_DAY)


@pytest.fixture(scope="session")
def days_of_events(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One CSV file for each of six days of a generated shop."""
    folder = tmp_path_factory.mktemp("files")
    generate(folder / "shop", events=3_000, days=6, first_day=date(2019, 11, 5))
    files = []
    for day in sorted((folder / "shop" / "raw" / "events").glob("event_date=*")):
        rows = pq.read_table(day, partitioning=None).to_pylist()
        path = folder / f"{day.name.removeprefix('event_date=')}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        files.append(path)
    return files

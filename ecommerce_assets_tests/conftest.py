"""What all tests share: one Spark session, and short ways to make events, land them and run the graph."""

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
"""Processes of a run of all tests; each has a Spark of its own, which needs 2 GB of memory."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers for all tests; chosen tests and trials run in pytest's own process."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and config.option.markexpr == "not trial"
    return WORKERS if is_whole else 0


class FilesTogether(LoadFileScheduling):
    """Keeps the tests of a file in one worker, and all files that use `ran`, so that its graph runs once."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "ran" if "ran: " in (self.config.rootpath / file).read_text() else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesTogether:
    return FilesTogether(config, log)


@pytest.fixture(scope="session")
def spark(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session of the whole test run, small, with the project's own settings."""
    if pytestconfig.getoption("engine") == SAIL:
        on_sail: Any = SparkResource(
            master=SAIL, driver_memory="2g", checkpoint_dir=str(tmp_path_factory.mktemp("checkpoints"))
        )
        with _own_lock(tmp_path_factory):
            session = on_sail.spark_session
        yield session
        on_sail.stop()
        return
    resource: Any = SparkResource(
        master="local[2]",
        driver_memory="3g",
        checkpoint_dir=str(tmp_path_factory.mktemp("checkpoints")),
        # Many tiny jobs: compiling code for them, in Spark or in the JVM's second compiler, costs more than it saves.
        spark_config={
            "spark.sql.shuffle.partitions": 2,
            "spark.default.parallelism": 2,
            "spark.sql.codegen.wholeStage": False,
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            # Looking up the line of Python that makes each column, for error messages, takes five times as long as
            # making the column.
            "spark.python.sql.dataFrameDebugging.enabled": False,
            SECRET: SECRET_VALUE,
            # With one compiler Java keeps 48 MB for compiled code, and ends where a whole graph fills them.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC "
            "-Xss4m",
        },
    )
    with _own_lock(tmp_path_factory):
        session = resource.spark_session
    yield session
    resource.stop()


@contextmanager
def _own_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The lock for one Spark per machine is in the temporary folder: in a folder of its own, it waits for no other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
        yield


@pytest.fixture(scope="session")
def ran(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dg.ExecuteInProcessResult]:
    """A data dir with eight days of generated events, and the graph run over it. Not to be written to: copy it.

    Its name is one that Spark could take for a pattern.
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

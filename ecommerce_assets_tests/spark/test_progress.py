"""Log lines of long stages, and the names of jobs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.spark.progress import log_long_stages
from ecommerce_assets.spark.resource import JOB_PROPERTIES, SparkResource

pytestmark = pytest.mark.spark_only


def slow(spark: SparkSession, tasks: int, seconds: float) -> DataFrame:
    """Returns a frame whose job has so many tasks of so many seconds each."""

    def wait(batches: Iterator[object]) -> Iterator[object]:
        time.sleep(seconds)
        return batches

    return spark.range(tasks, numPartitions=tasks).mapInArrow(wait, "id long")  # type: ignore[arg-type]


def test_a_long_stage_is_logged_with_growing_shares(spark: SparkSession) -> None:
    lines: list[str] = []
    threads = threading.active_count()
    with log_long_stages(spark.sparkContext, lambda: "user_features", lines.append, seconds=0.15):
        slow(spark, 8, 0.2).collect()
    assert threading.active_count() == threads
    matches = [re.fullmatch(r"user_features: Spark stage \d+: (\d) of 8 tasks", line) for line in lines]
    assert all(matches), lines
    done = [int(match[1]) for match in matches if match]
    assert done == sorted(done)
    assert done[0] < done[-1]


def test_short_stages_are_not_logged(spark: SparkSession) -> None:
    lines: list[str] = []
    with log_long_stages(spark.sparkContext, lambda: "user_features", lines.append, seconds=0.3):
        slow(spark, 1, 0.1).collect()
        time.sleep(0.5)
    assert lines == []


def test_an_error_ends_the_log_lines_and_not_the_job(spark: SparkSession) -> None:
    def full(line: str) -> None:
        raise OSError("no space left")

    threads = threading.active_count()
    with log_long_stages(spark.sparkContext, lambda: "user_features", full, seconds=0.1):
        assert len(slow(spark, 2, 0.5).collect()) == 2
        assert threading.active_count() == threads


def test_jobs_have_the_name_of_the_asset_until_the_end_of_the_run(spark: SparkSession) -> None:
    found: list[list[str | None]] = []

    def properties(spark: SparkSession) -> list[str | None]:
        return [spark.sparkContext.getLocalProperty(name) for name in JOB_PROPERTIES]

    @dg.op
    def work(spark: SparkResource) -> None:
        spark.working_on("work")
        found.append(properties(spark.spark_session))
        spark.working_on("more work")
        found.append(properties(spark.spark_session))

    @dg.job(resource_defs={"spark": SparkResource()})
    def job() -> None:
        work()

    assert job.execute_in_process().success
    assert found == [[f"ecommerce_assets: {name}", name, "false"] for name in ("work", "more work")]
    assert properties(spark) == [None, None, None]

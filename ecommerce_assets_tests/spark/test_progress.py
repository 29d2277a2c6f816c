"""Log lines of long Spark jobs, and the names of jobs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.spark.progress import PROPERTIES, JobProgress
from ecommerce_assets.spark.resource import SparkResource

pytestmark = pytest.mark.spark_only


def slow(spark: SparkSession, tasks: int, seconds: float) -> DataFrame:
    """Returns a frame whose job has so many tasks of so many seconds each."""

    def wait(batches: Iterator[object]) -> Iterator[object]:
        time.sleep(seconds)
        return batches

    return spark.range(tasks, numPartitions=tasks).mapInArrow(wait, "id long")  # type: ignore[arg-type]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def progress(spark: SparkSession, lines: list[str]) -> Iterator[JobProgress]:
    progress = JobProgress(spark.sparkContext, lines.append, min_seconds=0.2, interval=0.05)
    yield progress
    progress.stop()


def test_a_long_job_is_logged_with_growing_shares(spark: SparkSession, progress: JobProgress, lines: list[str]) -> None:
    progress.working_on("user_features")
    slow(spark, 8, 0.2).collect()
    matches = [re.fullmatch(r"user_features: Spark job \d+: (\d) of 8 tasks, \d s", line) for line in lines]
    assert all(matches), lines
    done = [int(match[1]) for match in matches if match]
    assert done == sorted(done)
    assert done[0] < done[-1]


def test_short_jobs_and_jobs_of_other_threads_are_not_logged(
    spark: SparkSession, progress: JobProgress, lines: list[str]
) -> None:
    slow(spark, 2, 0.4).collect()  # before an asset is named
    progress.working_on("user_features")
    spark.range(3).collect()
    other = threading.Thread(target=lambda: slow(spark, 2, 0.4).collect())  # a notebook's, in the same Spark
    other.start()
    other.join()
    assert lines == []


def test_skipped_stages_do_not_count(spark: SparkSession, progress: JobProgress, lines: list[str]) -> None:
    context = spark.sparkContext

    def wait(numbers: Iterator[int]) -> Iterator[int]:
        time.sleep(0.3)
        return numbers

    shuffled = context.parallelize(range(100), 5).map(lambda n: (n, n)).groupByKey(4)
    shuffled.count()
    progress.working_on("als_model")
    shuffled.keys().mapPartitions(wait).count()  # Spark skips the five tasks before the shuffle
    assert lines
    assert all(re.search(r": [0-4] of 4 tasks, ", line) for line in lines), lines


def test_jobs_have_the_name_of_the_asset_until_stop_restores_the_previous_one(spark: SparkSession) -> None:
    context = spark.sparkContext
    context.setJobGroup("notebook", "a notebook's", True)
    try:
        before = properties(spark)
        progress = JobProgress(context, print)
        progress.working_on("user_features")
        progress.working_on("als_model")
        assert properties(spark)[:2] == ["ecommerce_assets: als_model", "als_model"]
        progress.stop()
        assert properties(spark) == before
    finally:
        for name in PROPERTIES:
            context.setLocalProperty(name, None)  # type: ignore[arg-type]


def properties(spark: SparkSession) -> list[str | None]:
    return [spark.sparkContext.getLocalProperty(name) for name in PROPERTIES]


def test_an_error_ends_the_log_lines_and_not_the_job(spark: SparkSession) -> None:
    def full(line: str) -> None:
        raise OSError("no space left")

    progress = JobProgress(spark.sparkContext, full, min_seconds=0.1, interval=0.05)
    progress.working_on("user_features")
    assert len(slow(spark, 2, 0.5).collect()) == 2
    assert not progress._thread.is_alive()
    progress.stop()


def test_a_run_names_its_jobs_and_leaves_no_thread(spark: SparkSession) -> None:
    found: list[str | None] = []

    @dg.op
    def work(spark: SparkResource) -> None:
        spark.working_on("work")
        found.extend(properties(spark.spark_session))
        assert "spark progress" in {thread.name for thread in threading.enumerate()}

    @dg.job(resource_defs={"spark": SparkResource()})
    def job() -> None:
        work()

    assert job.execute_in_process().success
    assert found[1] == "work"
    assert properties(spark) == [None, None, None]
    assert "spark progress" not in {thread.name for thread in threading.enumerate()}

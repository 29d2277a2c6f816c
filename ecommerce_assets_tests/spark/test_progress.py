"""What is told of a Spark job that takes long, and of which; how jobs are named."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.spark.progress import DESCRIPTION, JobWatcher
from ecommerce_assets.spark.resource import SparkResource


def slow(spark: SparkSession, tasks: int, seconds: float) -> DataFrame:
    """A job of so many tasks, each of which takes so long."""

    def wait(batches: Iterator[object]) -> Iterator[object]:
        time.sleep(seconds)
        return batches

    return spark.range(tasks, numPartitions=tasks).mapInArrow(wait, "id long")  # type: ignore[arg-type]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def watcher(spark: SparkSession, lines: list[str]) -> Iterator[JobWatcher]:
    watcher = JobWatcher(spark.sparkContext, lines.append, patience=0.2, look_every=0.05)
    yield watcher
    watcher.stop()


def test_a_long_job_is_told_of_with_growing_shares(spark: SparkSession, watcher: JobWatcher, lines: list[str]) -> None:
    watcher.working_on("user_features")
    slow(spark, 8, 0.2).collect()
    form = r"user_features: Spark job \d+ \(\w+\): (\d) of 8 tasks, \d+ %, \d\.\d s so far(, about \d\.\d s left)?"
    matches = [re.fullmatch(form, line) for line in lines]
    assert all(matches), lines
    done = [int(match[1]) for match in matches if match]
    assert done == sorted(done)
    assert done[0] < done[-1]


def test_short_jobs_and_those_of_others_are_not_told_of(
    spark: SparkSession, watcher: JobWatcher, lines: list[str]
) -> None:
    slow(spark, 2, 0.4).collect()  # before a step is named
    watcher.working_on("user_features")
    spark.range(3).collect()
    other = threading.Thread(target=lambda: slow(spark, 2, 0.4).collect())  # a notebook's, in the same Spark
    other.start()
    other.join()
    assert lines == []


def test_stages_that_are_skipped_are_not_waited_for(spark: SparkSession, watcher: JobWatcher, lines: list[str]) -> None:
    context = spark.sparkContext

    def wait(numbers: Iterator[int]) -> Iterator[int]:
        time.sleep(0.3)
        return numbers

    shuffled = context.parallelize(range(100), 5).map(lambda n: (n, n)).groupByKey(4)
    shuffled.count()
    watcher.working_on("als_model")
    shuffled.keys().mapPartitions(wait).count()  # the five tasks before the shuffle are not done again
    # Until the last stage begins, it is not known that no other will.
    assert all(re.search(r": 0 of (at least )?4 tasks, 0 %|: [1-4] of 4 tasks, ", line) for line in lines), lines
    assert " of 4 tasks, " in lines[-1]


def test_jobs_bear_the_name_of_the_step_until_the_end(spark: SparkSession) -> None:
    context = spark.sparkContext

    def names() -> tuple[str | None, list[str]]:
        return context.getLocalProperty(DESCRIPTION), [str(tag) for tag in context.getJobTags()]

    context.setJobDescription("a notebook's")
    try:
        watcher = JobWatcher(context, print)
        watcher.working_on("user_features")
        watcher.working_on("als_model")
        assert names() == ("als_model", ["ecommerce_assets:als_model"])
        watcher.stop()
        assert names() == ("a notebook's", [])
    finally:
        context.setLocalProperty(DESCRIPTION, None)  # type: ignore[arg-type]


def test_an_error_silences_it_and_nothing_else(spark: SparkSession) -> None:
    def full(line: str) -> None:
        raise OSError("no space left")

    watcher = JobWatcher(spark.sparkContext, full, patience=0.1, look_every=0.05)
    watcher.working_on("user_features")
    assert len(slow(spark, 2, 0.5).collect()) == 2
    assert not watcher._thread.is_alive()
    watcher.stop()


def test_a_run_names_its_jobs_and_leaves_no_thread(spark: SparkSession) -> None:
    found: list[str | None] = []

    @dg.op
    def work(spark: SparkResource) -> None:
        spark.working_on("work")
        found.append(spark.spark_session.sparkContext.getLocalProperty(DESCRIPTION))
        assert "spark progress" in {thread.name for thread in threading.enumerate()}

    @dg.job(resource_defs={"spark": SparkResource()})
    def job() -> None:
        work()

    assert job.execute_in_process().success
    assert found == ["work"]
    assert spark.sparkContext.getLocalProperty(DESCRIPTION) is None
    assert "spark progress" not in {thread.name for thread in threading.enumerate()}

"""Several questions at the same time: in order, under the name of the step, and what one that fails does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.spark.at_once import at_once
from ecommerce_assets.spark.progress import JobProgress


@pytest.fixture
def step(spark: SparkSession) -> Iterator[str]:
    progress = JobProgress(spark.sparkContext, print)
    progress.working_on("user_features")
    yield "user_features"
    progress.stop()


def test_answers_come_in_the_order_of_the_questions(spark: SparkSession) -> None:
    assert at_once(spark, [lambda n=n: spark.range(n).count() for n in (3, 1, 2)]) == [3, 1, 2]  # type: ignore[misc]
    assert at_once(spark, [lambda: spark.range(3).count()]) == [3]
    assert at_once(spark, []) == []


def test_they_are_asked_at_the_same_time(spark: SparkSession) -> None:
    together = threading.Barrier(3, timeout=60)  # where one waited for another, nobody would get past it
    assert sorted(at_once(spark, [together.wait] * 3)) == [0, 1, 2]


def test_their_jobs_are_those_of_the_step(spark: SparkSession, step: str) -> None:
    def name() -> str | None:
        return spark.sparkContext.getLocalProperty("spark.job.description")

    assert at_once(spark, [name, name]) == [step, step]


def test_each_has_properties_of_its_own(spark: SparkSession) -> None:
    both_set = threading.Barrier(2, timeout=60)

    def set_and_read(value: str) -> str | None:
        spark.sparkContext.setLocalProperty("ours", value)
        both_set.wait()
        return spark.sparkContext.getLocalProperty("ours")

    assert at_once(spark, [lambda: set_and_read("a"), lambda: set_and_read("b")]) == ["a", "b"]
    assert spark.sparkContext.getLocalProperty("ours") is None


def test_an_error_is_raised_when_all_have_ended(spark: SparkSession) -> None:
    ended = threading.Event()
    failed = threading.Event()

    def fail() -> int:
        failed.set()
        raise ValueError("there is no such column")

    def answer() -> int:
        failed.wait(60)
        counted = spark.range(5).count()
        ended.set()
        return counted

    with pytest.raises(ValueError, match="no such column"):
        at_once(spark, [fail, answer])
    assert ended.is_set()

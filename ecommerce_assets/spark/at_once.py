"""Several questions to Spark at the same time: one alone seldom keeps all cores busy.

A question whose answer is one row spends most of its time in planning and in a last task; while one is planned, another
is computed. What is asked is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

Answer = TypeVar("Answer")


def at_once(spark: SparkSession, questions: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """The answers, in the order of the questions, each asked by a thread of its own.

    Their jobs have the name of the step that the calling thread works on. The first error, in the order of the
    questions, is raised once all have ended.
    """
    if len(questions) < 2:
        return [ask() for ask in questions]
    with ThreadPoolExecutor(len(questions), thread_name_prefix="spark question") as pool:
        # Each with a copy of the thread's properties: Spark notes in them which query is running, and takes it out
        # again when that one ends.
        asked = [pool.submit(inheritable_thread_target(spark)(ask)) for ask in questions]
    return [answer.result() for answer in asked]

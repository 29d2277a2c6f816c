"""Logs the progress of long Spark stages. Use `log_long_stages`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyspark import SparkContext


@contextmanager
def log_long_stages(
    context: SparkContext, title: Callable[[], str], log: Callable[[str], object], seconds: float = 30.0
) -> Iterator[None]:
    """Logs until the end of the block, in a thread whose errors never fail a run, each stage that is long.

    Parameters
    ----------
    title
        Returns the first words of a line.
    seconds
        Time between two looks. A stage is long if it is active at two looks in a row.
    """
    stopped = threading.Event()

    def watch() -> None:
        tracker, previous = context.statusTracker(), set[int]()
        with suppress(Exception):
            while not stopped.wait(seconds):
                active = set(tracker.getActiveStageIds())
                for number in sorted(active & previous):
                    if stage := tracker.getStageInfo(number):
                        done, total = stage.numCompletedTasks, stage.numTasks
                        log(f"{title()}: Spark stage {number}: {done:,} of {total:,} tasks")
                previous = active

    thread = threading.Thread(target=watch, name="spark progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=5)

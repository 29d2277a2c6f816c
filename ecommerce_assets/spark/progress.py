"""Logs how far long Spark jobs are, and names each job after the asset that it is for: see `JobProgress`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pyspark import SparkContext

PROPERTIES = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
"""What `setJobGroup` sets for the calling thread."""


class JobProgress:
    """Logs the jobs of the current asset that take long, from a thread of its own. An error in it never fails a run.

    Parameters
    ----------
    patience
        Seconds that a job runs before its first line, and at least between two lines.
    look_every
        Seconds.
    """

    def __init__(
        self, context: SparkContext, log: Callable[[str], object], patience: float = 10.0, look_every: float = 2.0
    ) -> None:
        self._context, self._log, self._patience, self._look_every = context, log, patience, look_every
        self._asset = ""
        self._properties = {name: context.getLocalProperty(name) for name in PROPERTIES}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spark progress", daemon=True)
        self._thread.start()

    def working_on(self, asset: str) -> None:
        """The jobs that this thread starts from now on are for this asset."""
        self._asset = asset
        self._context.setJobGroup(_group(asset), asset)

    def stop(self) -> None:
        """End the thread, and restore the job group that the caller had before."""
        self._stopped.set()
        self._thread.join(timeout=5)
        with suppress(Exception):  # Java may have died
            for name, value in self._properties.items():
                self._context.setLocalProperty(name, value)  # type: ignore[arg-type]

    def _watch(self) -> None:
        seen: dict[int, tuple[float, float]] = {}
        with suppress(Exception):
            while not self._stopped.wait(self._look_every):
                asset, now, tracker = self._asset, time.monotonic(), self._context.statusTracker()
                jobs = {*tracker.getActiveJobsIds()} & {*tracker.getJobIdsForGroup(_group(asset))}
                seen = {job: seen.get(job, (now, now)) for job in jobs}
                for job, (started, last_line) in seen.items():
                    # Ever fewer lines, or a job of an hour would fill the log.
                    if now - last_line >= max(self._patience, (now - started) / 10):
                        done, total = tasks_of(self._context, job)
                        self._log(f"{asset}: Spark job {job}: {done:,} of {total:,} tasks, {now - started:.0f} s")
                        seen[job] = started, now


def tasks_of(context: SparkContext, job: int) -> tuple[int, int]:
    """Number of completed tasks and of all tasks, in the stages that have begun and in the last one.

    Spark skips a stage whose output still exists, and does not say which.
    """
    tracker = context.statusTracker()
    info = tracker.getJobInfo(job)
    stages = [stage for number in (info.stageIds if info else ()) if (stage := tracker.getStageInfo(number))]
    last = max((stage.stageId for stage in stages), default=None)
    begun = [s for s in stages if s.stageId == last or s.numActiveTasks + s.numCompletedTasks + s.numFailedTasks]
    return sum(s.numCompletedTasks for s in begun), sum(s.numTasks for s in begun)


def _group(asset: str) -> str:
    return f"ecommerce_assets: {asset}"

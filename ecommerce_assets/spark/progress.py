"""Logs the progress of long Spark jobs, and names each job after its asset. Use `JobProgress`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pyspark import SparkContext

PROPERTIES = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
"""What `setJobGroup` sets for the calling thread."""


class JobProgress:
    """Logs the long jobs of the current asset in a background thread. Its errors never fail a run.

    Parameters
    ----------
    min_seconds
        Run time of a job before its first line, and minimum time between two lines.
    interval
        Seconds between two looks at the jobs.
    """

    def __init__(
        self, context: SparkContext, log: Callable[[str], object], min_seconds: float = 10.0, interval: float = 2.0
    ) -> None:
        self._context, self._log, self._min_seconds, self._interval = context, log, min_seconds, interval
        self._asset = ""
        self._previous_properties = {name: context.getLocalProperty(name) for name in PROPERTIES}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spark progress", daemon=True)
        self._thread.start()

    def working_on(self, asset: str) -> None:
        """Assigns the jobs that this thread starts from now on to an asset."""
        self._asset = asset
        self._context.setJobGroup(_group(asset), asset)

    def stop(self) -> None:
        """Ends the thread and restores the caller's job group."""
        self._stopped.set()
        self._thread.join(timeout=5)
        with suppress(Exception):  # Java may have died
            for name, value in self._previous_properties.items():
                self._context.setLocalProperty(name, value)  # type: ignore[arg-type]

    def _watch(self) -> None:
        jobs: dict[int, tuple[float, float]] = {}  # job → times of its start and of its last line
        with suppress(Exception):
            while not self._stopped.wait(self._interval):
                asset, now, tracker = self._asset, time.monotonic(), self._context.statusTracker()
                active = {*tracker.getActiveJobsIds()} & {*tracker.getJobIdsForGroup(_group(asset))}
                jobs = {job: jobs.get(job, (now, now)) for job in active}
                for job, (started, last_line) in jobs.items():
                    # The interval grows with the run time, so that a job of an hour does not fill the log.
                    if now - last_line < max(self._min_seconds, (now - started) / 10):
                        continue
                    info = tracker.getJobInfo(job)
                    stages = [s for number in (info.stageIds if info else ()) if (s := tracker.getStageInfo(number))]
                    # Spark skips a stage whose output still exists, and does not report which.
                    last = max((s.stageId for s in stages), default=None)
                    used = [s for s in stages if s.numActiveTasks + s.numCompletedTasks or s.stageId == last]
                    done, total = sum(s.numCompletedTasks for s in used), sum(s.numTasks for s in used)
                    self._log(f"{asset}: Spark job {job}: {done:,} of {total:,} tasks, {now - started:.0f} s")
                    jobs[job] = started, now


def _group(asset: str) -> str:
    return f"ecommerce_assets: {asset}"

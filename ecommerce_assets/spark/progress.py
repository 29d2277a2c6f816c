"""How far Spark's long jobs are, as lines for a run's log; and a name for each job: the step that it is for.

Which steps there are is not known here. Spark's own UI shows the names too, as the jobs' descriptions.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple

from pyspark import SparkContext

from ecommerce_assets.progress import Say, pace

DESCRIPTION = "spark.job.description"

PATIENCE = 10.0
"""Seconds that a job runs before it is told of, and at least from one line to the next."""

SECONDS_BETWEEN_LOOKS = 2.0

GROWTH = 0.1
"""Of a job's time so far: so much passes at least from one line to the next, or one of an hour would fill the log."""


class Tasks(NamedTuple):
    """Of one job. Not `exact`: more may come, from stages of which only Spark knows whether it will skip them."""

    done: int
    total: int
    exact: bool
    action: str


class JobWatcher:
    """Names the jobs that the calling thread starts, and tells of those that take long, from a thread of its own.

    It tells nothing of other jobs in the same Spark, such as a notebook's, and never fails or holds up a run: after an
    error it is silent.

    Parameters
    ----------
    patience, look_every
        Seconds; see `PATIENCE`.
    """

    def __init__(
        self, context: SparkContext, say: Say, patience: float = PATIENCE, look_every: float = SECONDS_BETWEEN_LOOKS
    ) -> None:
        self._context, self._say, self._patience, self._look_every = context, say, patience, look_every
        self._step: str | None = None
        self._description_before = context.getLocalProperty(DESCRIPTION)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spark progress", daemon=True)
        self._thread.start()

    def working_on(self, step: str) -> None:
        """What this thread asks of Spark from now on is for this step."""
        with suppress(Exception):
            self._unname()
            self._context.setLocalProperty(DESCRIPTION, step)
            self._context.addJobTag(_tag(step))
            self._step = step

    def stop(self) -> None:
        """Leave the thread's jobs as they were named before."""
        self._stopped.set()
        self._thread.join(timeout=5)
        with suppress(Exception):
            self._unname()
            self._context.setLocalProperty(DESCRIPTION, self._description_before)  # type: ignore[arg-type]

    def _unname(self) -> None:
        if self._step is not None:
            self._context.removeJobTag(_tag(self._step))
            self._step = None

    def _watch(self) -> None:
        first_seen: dict[int, float] = {}
        next_line: dict[int, float] = {}
        while not self._stopped.wait(self._look_every):
            try:
                step, now = self._step, time.monotonic()
                jobs = active_jobs(self._context, _tag(step)) if step else []
                first_seen = {job: first_seen.get(job, now) for job in jobs}
                for job, since in first_seen.items():
                    seconds = now - since
                    if seconds < next_line.get(job, self._patience):
                        continue
                    next_line[job] = seconds + max(self._patience, GROWTH * seconds)
                    self._say(f"{step}: {told(job, tasks_of(self._context, job), seconds)}")
            except Exception:
                return


def active_jobs(context: SparkContext, tag: str) -> list[int]:
    """Jobs with this tag that are not finished."""
    tracker: Any = context._jsc.sc().statusTracker()  # PySpark's own knows no tags
    return sorted({*tracker.getActiveJobIds()} & {*tracker.getJobIdsForTag(tag)})


def tasks_of(context: SparkContext, job: int) -> Tasks:
    """Tasks of the stages that have begun, and of the last, which always comes.

    A stage that has not begun is skipped where its output is still there from an earlier job; Spark does not tell
    which, so the others are left out. Once the last has begun, no other will.
    """
    tracker = context.statusTracker()
    info = tracker.getJobInfo(job)
    ids = sorted(info.stageIds) if info else []
    stages = [stage for number in ids if (stage := tracker.getStageInfo(number))]
    begun = [s for s in stages if s.numActiveTasks + s.numCompletedTasks + s.numFailedTasks]
    last = [s for s in stages if s.stageId == ids[-1]]
    total = sum(s.numTasks for s in {s.stageId: s for s in [*begun, *last]}.values())
    exact = any(s in begun for s in last) or {*ids[:-1]} <= {s.stageId for s in begun}
    name = re.match(r"([A-Za-z]\w*) at ", last[0].name) if last else None
    return Tasks(sum(s.numCompletedTasks for s in begun), total, exact, name[1] if name else "")


def told(job: int, tasks: Tasks, seconds: float) -> str:
    """How far a job is, in one line.

    >>> told(42, Tasks(63, 200, True, "parquet"), 41.0)
    'Spark job 42 (parquet): 63 of 200 tasks, 31 %, 41 s so far, about 89 s left'
    >>> told(43, Tasks(50, 100, False, ""), 20.0)
    'Spark job 43: 50 of at least 100 tasks, at most 50 %, 20 s so far, at least 20 s left'
    """
    action, at_least = f" ({tasks.action})" if tasks.action else "", "" if tasks.exact else "at least "
    share = pace(tasks.done, max(tasks.total, 1), seconds, at_least=not tasks.exact)
    return f"Spark job {job}{action}: {tasks.done:,} of {at_least}{tasks.total:,} tasks, {share}"


def _tag(step: str) -> str:
    return f"ecommerce_assets:{step}"

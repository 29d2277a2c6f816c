"""The process of a run, whether it has ended, and whether Dagster retries a failed run.

The Spark resource calls `record_process` when a run begins; the sensors call the other functions.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from pydantic import BaseModel, ValidationError

# Tags that Dagster sets or reads; it has no public names for them.
RANGE_START_TAG, RANGE_END_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"
RUN_KEY_TAG = "dagster/run_key"
WILL_RETRY_TAG = "dagster/will_retry"
AUTO_RETRY_RUN_ID_TAG = "dagster/auto_retry_run_id"
AUTOMATION_CONDITION_TAG = "dagster/from_automation_condition"

PROCESS_TAG = ".dagster/ecommerce_assets_process"
"""Tag of a run with its `RunProcess` as JSON. The UI hides tags that begin with `.dagster/`."""

REMINDER_TAG = "ecommerce_assets/reminder"
"""Tag of a run that was reported as failed again because its retry was overdue; the value is the run's id."""

OVERDUE_SECONDS = 20.0
"""Time after a failure without a retry, which usually starts within five seconds."""

RETRY_SECONDS = 120.0
"""Maximum time after a failure to wait for its retry."""

REMINDER_PERIOD = timedelta(days=1)
"""Age of the failures whose retries can be overdue."""

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of runs that have not ended."""

WITH_PROCESS = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""Statuses of runs that have a process."""


class RunProcess(BaseModel):
    """The process that executes a run.

    Attributes
    ----------
    run_id
        Id of the run. A retry begins with a copy of the tags, and so with the process of the previous run.
    host, pid
        Name of the machine, and the process id.
    started
        Boot id of the machine and start time, which distinguish processes with the same id; empty without `/proc`.
    """

    run_id: str
    host: str
    pid: int
    started: str

    @classmethod
    def current(cls, run_id: str) -> RunProcess:
        """Returns this process, which executes the run."""
        return cls(run_id=run_id, host=socket.gethostname(), pid=os.getpid(), started=_start_of(os.getpid()))

    @property
    def has_ended(self) -> bool:
        """Whether the process ran on this machine and has ended; False for processes of other machines."""
        if self.host != socket.gethostname():
            return False
        if self.started:
            return _start_of(self.pid) != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def _start_of(pid: int) -> str:
    """Returns the machine's boot id and the start of a process in ticks since then; empty if there is no process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name of the program is in parentheses, and may contain spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, start_ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot}:{start_ticks}"  # a zombie has ended


def record_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Records in the tags of a run that this process executes it."""
    instance.add_run_tags(run_id, {PROCESS_TAG: RunProcess.current(run_id).model_dump_json()})


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Returns the unfinished runs whose process on this machine has ended."""
    candidates = [run for run in instance.get_runs(dg.RunsFilter(statuses=list(WITH_PROCESS))) if _lost_process(run)]
    # A process records the result of its run before it ends, so the status is certain only now.
    current = [instance.get_run_by_id(run.run_id) for run in candidates]
    return [run for run in current if run is not None and run.status in WITH_PROCESS]


def _lost_process(run: dg.DagsterRun) -> bool:
    try:
        process = RunProcess.model_validate_json(run.tags.get(PROCESS_TAG, ""))
    except ValidationError:  # the run is about to start, or was started by an older version of this project
        return False
    return process.run_id == run.run_id and process.has_ended


def is_retried(run: dg.DagsterRun) -> bool:
    """Returns whether the run failed and Dagster retries it, now or soon."""
    return run.status is dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"


def awaits_retry(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Returns whether the run failed recently and its retry has not started."""
    if not is_retried(run) or AUTO_RETRY_RUN_ID_TAG in run.tags:
        return False
    record = instance.get_run_record_by_id(run.run_id)
    return record is not None and time.time() - (record.end_time or 0.0) < RETRY_SECONDS


def active_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Returns the unfinished runs, and the failed ones whose retry is about to start."""
    recently = datetime.fromtimestamp(time.time() - RETRY_SECONDS, UTC)
    failed = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE], tags={WILL_RETRY_TAG: "true"}, updated_after=recently
    )
    awaited = [run for run in instance.get_runs(failed) if awaits_retry(instance, run)]
    return [*instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)), *awaited]


def report_overdue_retries(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Reports each run whose retry is overdue as failed again, once, and returns these runs.

    Dagster's daemon misses a failure that it reads between the event and the new status of the run.
    """
    now = time.time()
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=datetime.fromtimestamp(now, UTC) - REMINDER_PERIOD,
    )
    overdue = [
        record.dagster_run
        for record in instance.get_run_records(filters)
        if AUTO_RETRY_RUN_ID_TAG not in record.dagster_run.tags
        and record.dagster_run.tags.get(REMINDER_TAG) != record.dagster_run.run_id
        and now - (record.end_time or now) >= OVERDUE_SECONDS
    ]
    for run in overdue:
        instance.add_run_tags(run.run_id, {REMINDER_TAG: run.run_id})
        instance.report_run_failed(run, "The retry of this run is overdue.")
    return overdue


def short_id(run: dg.DagsterRun) -> str:
    """Returns the first part of the run's id, as the UI shows it."""
    return run.run_id.split("-")[0]


def describe(runs: Sequence[dg.DagsterRun]) -> str:
    """Returns `run 1a2b3c4d` or `runs 1a2b3c4d, 5e6f7a8b`."""
    return f"run{'s' * (len(runs) > 1)} {', '.join(map(short_id, runs))}"

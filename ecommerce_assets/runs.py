"""Which process works on a run, and whether it still lives; whether Dagster retries a run that failed.

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
"""Tag of a run: the process that works on it, as JSON. The UI hides tags that begin so."""

REMINDER_TAG = "ecommerce_assets/reminder"
"""Tag of a run that was reported as failed once more, because its retry was overdue: its id."""

OVERDUE_SECONDS = 20.0
"""A retry usually starts within five seconds."""

RETRY_SECONDS = 120.0
"""So long after a failure the retry is waited for."""

REMINDED_WITHIN = timedelta(days=1)

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of runs that have not ended."""

WITH_PROCESS = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""Statuses of runs that a process works on."""


class RunProcess(BaseModel):
    """The process that works on a run.

    `run_id` is that of the run: a retry starts with the tags of the run before it. `started` tells two processes with
    the same number apart, also after a restart of the machine; it is empty where the operating system has no `/proc`.
    """

    run_id: str
    host: str
    pid: int
    started: str

    @classmethod
    def current(cls, run_id: str) -> RunProcess:
        """This process, which works on the run."""
        return cls(run_id=run_id, host=socket.gethostname(), pid=os.getpid(), started=_start_of(os.getpid()))

    @property
    def is_gone(self) -> bool:
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
    """The machine's boot id and the start of the process in ticks since then; empty where there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name of the program is in parentheses, and may contain spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, start_ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot}:{start_ticks}"  # a zombie has ended


def record_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Record in the run's tags that this process works on it."""
    instance.add_run_tags(run_id, {PROCESS_TAG: RunProcess.current(run_id).model_dump_json()})


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs that have not ended although their process on this machine has."""
    suspects = [run for run in instance.get_runs(dg.RunsFilter(statuses=list(WITH_PROCESS))) if _lost_its_process(run)]
    # A process writes how its run ended before it ends itself: only now is the status certain.
    current = [instance.get_run_by_id(run.run_id) for run in suspects]
    return [run for run in current if run is not None and run.status in WITH_PROCESS]


def _lost_its_process(run: dg.DagsterRun) -> bool:
    try:
        process = RunProcess.model_validate_json(run.tags.get(PROCESS_TAG, ""))
    except ValidationError:  # the run is about to start, or was started by an older version of this project
        return False
    return process.run_id == run.run_id and process.is_gone


def is_retried(run: dg.DagsterRun) -> bool:
    """Whether the run failed and another run takes its place, now or soon."""
    return run.status is dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"


def awaits_retry(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run failed a moment ago and Dagster is about to start the run that takes its place."""
    if not is_retried(run) or AUTO_RETRY_RUN_ID_TAG in run.tags:
        return False
    record = instance.get_run_record_by_id(run.run_id)
    return record is not None and time.time() - (record.end_time or 0.0) < RETRY_SECONDS


def remind_of_retries(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Report runs as failed once more whose retry is overdue; returns them.

    Dagster's daemon misses a failure that it sees in the moment between the event and the new status of the run.
    """
    now = time.time()
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=datetime.fromtimestamp(now, UTC) - REMINDED_WITHIN,
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
    """The id as the UI shows it."""
    return run.run_id.split("-")[0]


def describe(runs: Sequence[dg.DagsterRun]) -> str:
    """`run 1a2b3c4d`, or `runs 1a2b3c4d, 5e6f7a8b`."""
    return f"run{'s' * (len(runs) > 1)} {', '.join(map(short_id, runs))}"

"""Runs whose process has ended, with real processes, and retries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from ecommerce_assets.runs import (
    PROCESS_TAG,
    RunProcess,
    awaits_retry,
    dead_runs,
    is_retried,
    record_process,
    report_overdue_retries,
)
from ecommerce_assets.spark.resource import SparkResource


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def started_run(instance: dg.DagsterInstance, process: RunProcess | None = None, **fields: object) -> dg.DagsterRun:
    run = dg.DagsterRun("refresh", **{"status": dg.DagsterRunStatus.STARTED, **fields})  # type: ignore[arg-type]
    instance.add_run(run)
    if process:
        tag = process.model_copy(update={"run_id": run.run_id}).model_dump_json()
        instance.add_run_tags(run.run_id, {PROCESS_TAG: tag})
    return run


def ended_process() -> RunProcess:
    return RunProcess(run_id="", host=os.uname().nodename, pid=os.getpid(), started="another boot:1")


def test_a_killed_process_has_ended_before_and_after_it_is_reaped() -> None:
    code = (
        "from ecommerce_assets.runs import RunProcess\n"
        "print(RunProcess.current('r').model_dump_json(), flush=True)\n"
        "input()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    process = RunProcess.model_validate_json(child.stdout.readline())
    assert process.pid == child.pid
    assert not process.has_ended
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.has_ended  # a zombie
    child.communicate()
    assert process.has_ended


def test_a_process_with_the_same_id_and_another_start_is_another_process() -> None:
    assert not RunProcess.current("r").has_ended
    assert ended_process().has_ended


def test_without_proc_only_the_id_counts() -> None:
    assert not RunProcess.current("r").model_copy(update={"started": ""}).has_ended
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert ended_process().model_copy(update={"started": "", "pid": ended.pid}).has_ended


def test_processes_of_other_machines_have_not_ended() -> None:
    assert not ended_process().model_copy(update={"host": "another"}).has_ended


def test_dead_runs_are_in_progress_without_a_process(instance: dg.DagsterInstance) -> None:
    dead = started_run(instance, ended_process())
    canceling = started_run(instance, ended_process(), status=dg.DagsterRunStatus.CANCELING)
    alive = started_run(instance)
    record_process(instance, alive.run_id)
    started_run(instance)  # has recorded no process
    for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE):
        started_run(instance, ended_process(), status=status)
    assert {run.run_id for run in dead_runs(instance)} == {dead.run_id, canceling.run_id}


def test_a_retry_is_not_dead_because_of_the_process_of_the_previous_run(instance: dg.DagsterInstance) -> None:
    dead = started_run(instance, ended_process())
    run = instance.get_run_by_id(dead.run_id)
    assert run
    instance.report_run_failed(run)
    started_run(instance, tags=dict(run.tags))
    assert dead_runs(instance) == []


def test_the_spark_resource_records_the_process_of_its_run(instance: dg.DagsterInstance) -> None:
    @dg.op(required_resource_keys={"spark"})
    def check_tag(context) -> None:  # type: ignore[no-untyped-def]
        run = context.instance.get_run_by_id(context.run_id)
        assert run
        assert RunProcess.model_validate_json(run.tags[PROCESS_TAG]) == RunProcess.current(context.run_id)

    @dg.job(resource_defs={"spark": SparkResource.configure_at_launch()}, executor_def=dg.in_process_executor)
    def job() -> None:
        check_tag()

    assert job.execute_in_process(instance=instance).success


RETRIED = {"dagster/will_retry": "true"}


def failed_run(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    run = started_run(instance, tags=tags)
    instance.report_run_failed(run)
    failed = instance.get_run_by_id(run.run_id)
    assert failed
    return failed


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, (False, False)),
        ({"dagster/will_retry": "false"}, (False, False)),
        (RETRIED, (True, True)),
        ({**RETRIED, "dagster/auto_retry_run_id": "x"}, (True, False)),
    ],
)
def test_tags_say_whether_a_failed_run_is_retried(
    instance: dg.DagsterInstance, tags: dict[str, str], expected: tuple[bool, bool]
) -> None:
    run = failed_run(instance, **tags)
    assert (is_retried(run), awaits_retry(instance, run)) == expected


def test_an_overdue_retry_is_reported_once_and_awaited_for_two_minutes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = failed_run(instance, **RETRIED)
    failed_run(instance)
    failed_run(instance, **RETRIED, **{"dagster/auto_retry_run_id": "x"})
    assert report_overdue_retries(instance) == []
    now = time.time()
    monkeypatch.setattr("ecommerce_assets.runs.time.time", lambda: now + 21)
    assert [overdue.run_id for overdue in report_overdue_retries(instance)] == [run.run_id]
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert len(failures) == 2
    monkeypatch.setattr("ecommerce_assets.runs.time.time", lambda: now + 200)
    assert report_overdue_retries(instance) == []
    assert not awaits_retry(instance, run)

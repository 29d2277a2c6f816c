"""Sensors that POST to `ECOMMERCE_ALERT_URL` when a run fails for good, and when a later run makes up for it.

The entry point is `alerts`. If a POST fails, the log of the sensor has a warning.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg
from pydantic import BaseModel

from ecommerce_assets.runs import is_retried
from ecommerce_assets.settings import Settings

TIMEOUT_SECONDS = 10.0
MAX_MESSAGE_LENGTH = 500

ALERT_TAG = "ecommerce_assets/alert"
"""Tag of a failed run that was reported; the value is its id, then `recovered`."""

RECENT_RUNS = 50
"""Number of failed runs that a successful run can make up for."""


class Alert(BaseModel):
    """The body of a POST.

    Attributes
    ----------
    failed_step
        The step that failed; null if the run as a whole failed, and for `recovered`.
    assets
        For `failed`, the assets that the run did not make; for `recovered`, those that the run made.
    message
        One sentence.
    time
        UTC, ISO 8601.
    """

    project: str = "ecommerce_assets"
    status: Literal["failed", "recovered"]
    run_id: str
    job: str
    failed_step: str | None = None
    assets: list[str]
    message: str
    time: str
    data_dir: str


def alerts(settings: Settings) -> list[dg.SensorDefinition]:
    """Returns the sensors, switched on; none if no URL is set."""
    url = settings.alert_url
    if not url:
        return []

    @dg.run_failure_sensor(
        name="alert_failed",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends an alert when a run fails and is not retried.",
    )
    def alert_failed(context: dg.RunFailureSensorContext) -> None:
        run = context.instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
        if is_retried(run) or run.tags.get(ALERT_TAG) == run.run_id:
            return
        context.instance.add_run_tags(run.run_id, {ALERT_TAG: run.run_id})
        missing = missing_assets(context.instance, run)
        step, message = _failed_step(context)
        alert = Alert(status="failed", failed_step=step, assets=missing, message=message, **_run_fields(run, settings))
        send(url, alert, context.log.warning)

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="alert_recovered",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends an alert when a run succeeds whose job or assets failed before.",
    )
    def alert_recovered(context: dg.RunStatusSensorContext) -> None:
        instance, run = context.instance, context.dagster_run
        failed_runs = recovered_runs(instance, run)
        for failed_run in failed_runs:
            instance.add_run_tags(failed_run.run_id, {ALERT_TAG: "recovered"})
        if failed_runs:
            ids = ", ".join(failed_run.run_id for failed_run in failed_runs)
            message = f"The run succeeded after failed runs: {ids}."
            made = sorted(materialized_assets(instance, run))
            alert = Alert(status="recovered", assets=made, message=message, **_run_fields(run, settings))
            send(url, alert, context.log.warning)

    return [alert_failed, alert_recovered]


def _run_fields(run: dg.DagsterRun, settings: Settings) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"run_id": run.run_id, "job": run.job_name, "time": now, "data_dir": settings.data_dir}


def _failed_step(context: dg.RunFailureSensorContext) -> tuple[str | None, str]:
    """Returns the first step that failed, and the message of its error; None and the run's message without one."""
    steps = [event for event in context.get_step_failure_events() if event.step_key]
    if not steps:
        return None, _first_line(context.failure_event.message or "The run failed.")
    error = steps[0].step_failure_data.error
    # Dagster's error of a step wraps the exception that the step raised.
    while error is not None and error.cause is not None:
        error = error.cause
    return steps[0].step_key, _first_line((error and error.message) or context.failure_event.message or "")


def recovered_runs(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterRun]:
    """Returns the reported failed runs that a successful run makes up for.

    It must have made all their missing assets, by any job. A failed run without missing assets needs a successful run
    of its job.
    """
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
    reported = [r for r in instance.get_runs(filters, limit=RECENT_RUNS) if r.tags.get(ALERT_TAG) == r.run_id]
    made = materialized_assets(instance, run) if reported else set()
    recovered = []
    for failed_run in reported:
        missing = missing_assets(instance, failed_run)
        if made.issuperset(missing) if missing else failed_run.job_name == run.job_name:
            recovered.append(failed_run)
    return recovered


def missing_assets(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """Returns the assets that a run was to make and did not, in alphabetical order."""
    planned = _assets(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    return sorted((planned or selected) - materialized_assets(instance, run))


def materialized_assets(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Returns the assets that a run materialized."""
    return _assets(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION)


def _assets(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> set[str]:
    events = (record.dagster_event for record in instance.all_logs(run.run_id, of_type=kind))
    return {event.asset_key.to_user_string() for event in events if event and event.asset_key}


def send(url: str, alert: Alert, warn: Callable[[str], object]) -> None:
    """Sends an alert. Never raises: if it cannot be delivered, `warn` is called with one sentence."""
    request = urllib.request.Request(
        url, json.dumps(alert.model_dump()).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass
    except Exception as error:
        # The URL may contain a password or a token.
        host = re.sub("^.*@", "", request.host or "")
        warn(f"The alert about run {alert.run_id} was not delivered to {host} ({type(error).__name__}: {error}).")


def _first_line(text: str) -> str:
    """Returns the first line, shortened, without the name of the exception's class."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    first = re.sub(r"^[\w.]*(?:Error|Exception|Failure): ", "", lines[0]) if lines else ""
    return first if len(first) <= MAX_MESSAGE_LENGTH else first[: MAX_MESSAGE_LENGTH - 1] + "…"

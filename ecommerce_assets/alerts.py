"""Two sensors that POST to `ECOMMERCE_ALERT_URL`: one when a run fails for good, one when a later run succeeds again.

The entry point is `alerts`. A POST that fails is a warning in the log of the sensor.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import dagster as dg
from pydantic import BaseModel

from ecommerce_assets.runs import is_retried
from ecommerce_assets.settings import Settings

TIMEOUT_SECONDS = 10.0
MESSAGE_CHARACTERS = 500

ALERT_TAG = "ecommerce_assets/alert"
"""Tag of a failed run that was reported: its id, or `recovered` once its assets are made."""

RECENT_RUNS = 50
"""Number of failed runs among which a successful run looks for those that it makes up for."""


class Alert(BaseModel):
    """The body of a POST.

    Attributes
    ----------
    failed_step
        The step that failed, of an asset its name; None where the run as a whole failed, and for `recovered`.
    assets
        For `failed`, the assets that the run did not make; for `recovered`, those of the run.
    message
        One sentence.
    time
        UTC, ISO 8601.
    """

    project: str = "ecommerce_assets"
    status: Literal["failed", "recovered"]
    run_id: str
    job: str
    failed_step: str | None
    assets: list[str]
    message: str
    time: str
    data_dir: str


def alerts(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors, which are on; none where no URL is set."""
    url = settings.alert_url
    if not url:
        return []

    @dg.run_failure_sensor(
        name="alert_failed",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends an alert when a run failed and is not retried.",
    )
    def alert_failed(context: dg.RunFailureSensorContext) -> None:
        run = context.instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
        if is_retried(run) or run.tags.get(ALERT_TAG) == run.run_id:
            return
        context.instance.add_run_tags(run.run_id, {ALERT_TAG: run.run_id})
        post(url, failure(context, run, settings.data_dir), context.log.warning)

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="alert_recovered",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends an alert when a run succeeded whose job or assets failed before.",
    )
    def alert_recovered(context: dg.RunStatusSensorContext) -> None:
        recovered = recovered_runs(context.instance, context.dagster_run)
        for run in recovered:
            context.instance.add_run_tags(run.run_id, {ALERT_TAG: "recovered"})
        if recovered:
            post(
                url,
                recovery_of(context.instance, recovered, context.dagster_run, settings.data_dir),
                context.log.warning,
            )

    return [alert_failed, alert_recovered]


def failure(context: dg.RunFailureSensorContext, run: dg.DagsterRun, data_dir: str) -> Alert:
    """The alert about a failed run."""
    steps = [event for event in context.get_step_failure_events() if event.step_key]
    error = steps[0].step_failure_data.error if steps else None
    # The error of a step wraps the one that our code raised.
    while error is not None and error.cause is not None:
        error = error.cause
    text = error.message if error is not None else context.failure_event.message
    return Alert(
        status="failed",
        run_id=run.run_id,
        job=run.job_name,
        failed_step=steps[0].step_key if steps else None,
        assets=unmade_assets(context.instance, run),
        message=_one_sentence(text or "The run failed."),
        time=_now(),
        data_dir=data_dir,
    )


def recovery_of(
    instance: dg.DagsterInstance, failed: Sequence[dg.DagsterRun], run: dg.DagsterRun, data_dir: str
) -> Alert:
    """The alert about a run that succeeded after others had failed."""
    names = ", ".join(one.run_id for one in failed)
    return Alert(
        status="recovered",
        run_id=run.run_id,
        job=run.job_name,
        failed_step=None,
        assets=sorted(made_assets(instance, run)),
        message=f"The run succeeded after failed runs: {names}.",
        time=_now(),
        data_dir=data_dir,
    )


def recovered_runs(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterRun]:
    """Reported failures all of whose missing assets the run has made, whatever job made them.

    A failed run that lacks no assets needs a successful run of its own job.
    """
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
    failed = [one for one in instance.get_runs(filters, limit=RECENT_RUNS) if one.tags.get(ALERT_TAG) == one.run_id]
    made = made_assets(instance, run) if failed else set()
    found = []
    for one in failed:
        missing = unmade_assets(instance, one)
        if made.issuperset(missing) if missing else one.job_name == run.job_name:
            found.append(one)
    return found


def unmade_assets(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """The assets that a run was to make and did not, in alphabetical order."""
    planned = _assets(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    return sorted((planned or selected) - made_assets(instance, run))


def made_assets(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """The assets that a run materialized."""
    return _assets(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION)


def _assets(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> set[str]:
    events = (record.dagster_event for record in instance.all_logs(run.run_id, of_type=kind))
    return {event.asset_key.to_user_string() for event in events if event and event.asset_key}


def post(url: str, alert: Alert, warn: Callable[[str], object]) -> None:
    """Send an alert; `warn` gets one sentence where it could not be delivered. Never raises."""
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


def _one_sentence(text: str) -> str:
    """The first line, without the name of the exception's class before it, cut off where it is long."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    first = re.sub(r"^[\w.]*(?:Error|Exception|Failure): ", "", lines[0]) if lines else ""
    return first if len(first) <= MESSAGE_CHARACTERS else first[: MESSAGE_CHARACTERS - 1] + "…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

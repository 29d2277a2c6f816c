"""The sensor `recovery`: ends runs whose process has ended, and requests assets that failed runs left outdated.

Dagster itself retries the runs that are ended here (`run_retries` in dagster.yaml). The conditions in automation.py
react to changes and cannot count attempts, so this sensor requests the rest, a limited number of times.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import dagster as dg
from pydantic import BaseModel, ValidationError

from ecommerce_assets.events.arrivals import MAX_ATTEMPTS
from ecommerce_assets.events.sensor import TARGETS as DAILY
from ecommerce_assets.runs import (
    AUTOMATION_CONDITION_TAG,
    UNFINISHED,
    awaits_retry,
    dead_runs,
    describe,
    report_overdue_retries,
    short_id,
)
from ecommerce_assets.settings import Settings

SECONDS_BETWEEN_TICKS = 30
GRACE_SECONDS = 90.0
"""Time in which the sensor `refresh` can request the assets itself."""

RECOVERY_TAG = "ecommerce_assets/recovery"
"""Tag of the runs that this sensor requests; the value is the digest of the outdated assets."""


def recovery(settings: Settings) -> dg.SensorDefinition:
    """Returns the sensor."""

    @dg.sensor(
        name="recovery",
        target=dg.AssetSelection.all() - dg.AssetSelection.assets(*DAILY),
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description="Ends runs whose process has ended, so that Dagster retries them. Requests assets that a failed "
        f"refresh left outdated, until {MAX_ATTEMPTS} runs have failed with the same inputs.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def is not None  # Dagster always sets it
        repairs = [*end_dead_runs(context.instance), *_repeat_overdue_failures(context.instance)]
        for message in repairs:
            context.log.warning(message)
        decision = decide(context.instance, context.repository_def, _Cursor.read(context.cursor), time.time())
        if decision.is_new_problem:
            context.log.warning(decision.message)
        return dg.SensorResult(
            run_requests=decision.requests,
            cursor=decision.cursor.model_dump_json(),
            skip_reason=None if decision.requests else " ".join([*repairs, decision.message]),
        )

    return tick


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Reports runs whose process has ended as failed, or as canceled if requested; returns one message each."""
    messages = []
    for run in dead_runs(instance):
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The process of this run ended while it was being canceled.")
            messages.append(f"The process of run {short_id(run)} has ended: the run is canceled, as requested.")
        else:
            instance.report_run_failed(run, "The process of this run ended without reporting a result.")
            messages.append(f"The process of run {short_id(run)} has ended: the run is reported as failed.")
    return messages


def _repeat_overdue_failures(instance: dg.DagsterInstance) -> list[str]:
    runs = report_overdue_retries(instance)
    return [f"The retry of run {short_id(run)} is overdue: its failure is reported again." for run in runs]


class _Cursor(BaseModel):
    """State between two ticks.

    Attributes
    ----------
    digest
        Digest of the outdated assets at the previous tick.
    since
        Time at which this digest was first seen, in seconds since 1970.
    gave_up
        Whether the log has said that no more runs are requested for it.
    """

    digest: str = ""
    since: float = 0.0
    gave_up: bool = False

    @classmethod
    def read(cls, text: str | None) -> _Cursor:
        """Returns the stored cursor; an empty one if there is none that can be read."""
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()


@dataclass(frozen=True)
class _Decision:
    """The result of a tick: the runs to request, or the reason why none is requested."""

    cursor: _Cursor
    message: str
    requests: Sequence[dg.RunRequest] = ()
    is_new_problem: bool = False


def decide(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, cursor: _Cursor, now: float) -> _Decision:
    """Returns what to do about assets that are older than their inputs.

    Assets are requested only if the run that was meant to make them was requested by a sensor, failed, and is not
    retried by Dagster; or if that run was deleted.

    Parameters
    ----------
    cursor
        The cursor of the previous tick.
    now
        Seconds since 1970.
    """
    if instance.get_runs(dg.RunsFilter(statuses=UNFINISHED), limit=1):
        return _Decision(_Cursor(), "A run is in progress or in the queue.")
    outdated = outdated_assets(instance, repository)
    names = ", ".join(key.to_user_string() for key in outdated.keys)
    runs = [instance.get_run_by_id(run_id) for run_id in outdated.run_ids]
    existing = [run for run in runs if run is not None]
    canceled = [run for run in existing if run.status is dg.DagsterRunStatus.CANCELED]
    failed = [run for run in existing if run.status is dg.DagsterRunStatus.FAILURE and _is_automated(run)]
    if any(awaits_retry(instance, run) for run in failed):
        return _Decision(_Cursor(), f"Dagster is about to retry {describe(failed)}.")
    if canceled:
        return _Decision(_Cursor(), f"{names} are not requested, because {describe(canceled)} was canceled.")
    if not failed and len(existing) == len(runs):
        return _Decision(_Cursor(), "No failed run left outdated assets.")
    if cursor.digest != outdated.digest:
        cursor = _Cursor(digest=outdated.digest, since=now)
    if now - cursor.since < GRACE_SECONDS:
        return _Decision(cursor, f"Outdated: {names}. They are requested soon, unless the sensor refresh does it.")
    requested = instance.get_runs(dg.RunsFilter(tags={RECOVERY_TAG: outdated.digest}))
    attempts = 1 + len([run for run in requested if run.parent_run_id is None])  # the first was the refresh
    if attempts >= MAX_ATTEMPTS:
        last = f"; see {describe(failed)}" if failed else ""
        return _Decision(
            cursor.model_copy(update={"gave_up": True}),
            f"Gave up on {names}: {MAX_ATTEMPTS} attempts failed with the same inputs{last}. "
            "Correct the cause and materialize them in the UI; new events start new attempts.",
            is_new_problem=not cursor.gave_up,
        )
    request = dg.RunRequest(asset_selection=list(outdated.keys), tags={RECOVERY_TAG: outdated.digest})
    return _Decision(cursor, f"Requested again: {names}.", [request])


def _is_automated(run: dg.DagsterRun) -> bool:
    return AUTOMATION_CONDITION_TAG in run.tags or RECOVERY_TAG in run.tags


@dataclass(frozen=True)
class OutdatedAssets:
    """Assets that are older than their inputs and that no check blocks.

    Attributes
    ----------
    keys
        The assets, in topological order.
    run_ids
        The last runs that were meant to make them, without repeats.
    inputs
        Time at which the newest input of each asset was materialized, in seconds since 1970.
    """

    keys: Sequence[dg.AssetKey]
    run_ids: Sequence[str]
    inputs: Mapping[dg.AssetKey, float]

    @cached_property
    def digest(self) -> str:
        """Changes with the assets and with their inputs."""
        listing = "\n".join(f"{key.to_user_string()} {self.inputs[key]}" for key in self.keys)
        return hashlib.sha256(listing.encode()).hexdigest()[:16]


def outdated_assets(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> OutdatedAssets:
    """Returns the assets with an automation condition that are older than their inputs.

    Blocked assets and all assets downstream of them are left out: they wait for new inputs, as the conditions do.
    """
    graph = repository.asset_graph
    keys = graph.toposorted_asset_keys
    entries = {record.asset_entry.asset_key: record.asset_entry for record in instance.get_asset_records(keys)}
    made = {key: entry.last_materialization.timestamp for key, entry in entries.items() if entry.last_materialization}
    inputs: dict[dg.AssetKey, float] = {}
    outdated: list[dg.AssetKey] = []
    blocked: set[dg.AssetKey] = set()
    for key in keys:
        node = graph.get(key)
        checks = [check for check in graph.get_check_keys_for_assets({key}) if graph.get_check_spec(check).blocking]
        failed_at = max(_failure_times(instance, checks), default=0.0)
        if node.automation_condition is None:
            blocked |= {key} if failed_at else set()
            continue
        inputs[key] = max((made.get(parent, 0.0) for parent in node.parent_keys), default=0.0)
        has_outdated_input = bool(node.parent_keys & set(outdated))
        if has_outdated_input or made.get(key, 0.0) < inputs[key]:
            outdated.append(key)
        if node.parent_keys & blocked or (failed_at > inputs[key] and not has_outdated_input):
            blocked.add(key)
    outdated = [key for key in outdated if key not in blocked]
    run_ids = (entries[key].last_run_id for key in outdated if key in entries)
    return OutdatedAssets(outdated, list(dict.fromkeys(filter(None, run_ids))), inputs)


def _failure_times(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> Iterable[float]:
    """Yields the time of the last result of each check that failed, in seconds since 1970."""
    for check in checks:
        record = instance.get_latest_asset_check_evaluation_record(check)
        if record is not None and record.status.value == "FAILED":
            yield record.event.timestamp if record.event else record.create_timestamp

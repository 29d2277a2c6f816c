"""The sensor `recovery`: ends runs whose process is gone, and asks again for assets that a refresh left undone.

Dagster itself retries the runs that are ended here (`run_retries` in dagster.yaml). Conditions (automation.py) react to
changes and cannot count, so what remains after failed runs is requested here, a limited number of times.
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
    remind_of_retries,
    short_id,
)
from ecommerce_assets.settings import Settings

SECONDS_BETWEEN_TICKS = 30
PATIENCE_SECONDS = 90.0
"""Time that the sensor `refresh` has to request assets itself, before this sensor does."""

RECOVERY_TAG = "ecommerce_assets/recovery"
"""Tag of the runs that this sensor requests: what they are to complete."""


def recovery(settings: Settings) -> dg.SensorDefinition:
    """The sensor for these settings."""

    @dg.sensor(
        name="recovery",
        target=dg.AssetSelection.all() - dg.AssetSelection.assets(*DAILY),
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description="Ends runs whose process is gone, so that Dagster retries them. Requests assets that a failed "
        f"refresh left undone, until {MAX_ATTEMPTS} runs failed for the same inputs.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def is not None  # Dagster always passes it
        repairs = [*end_dead_runs(context.instance), *_overdue(context.instance)]
        for sentence in repairs:
            context.log.warning(sentence)
        step = next_step(context.instance, context.repository_def, _Cursor.read(context.cursor), time.time())
        if step.is_new_problem:
            context.log.warning(step.message)
        return dg.SensorResult(
            run_requests=step.requests,
            cursor=step.cursor.model_dump_json(),
            skip_reason=None if step.requests else " ".join([*repairs, step.message]),
        )

    return tick


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report runs whose process is gone as failed, or as canceled where that was requested; a sentence about each."""
    sentences = []
    for run in dead_runs(instance):
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The process of this run ended while it was being canceled.")
            sentences.append(f"The process of run {short_id(run)} is gone: the run is canceled, as requested.")
        else:
            instance.report_run_failed(run, "The process of this run ended without reporting a result.")
            sentences.append(f"The process of run {short_id(run)} is gone: the run is reported as failed.")
    return sentences


def _overdue(instance: dg.DagsterInstance) -> list[str]:
    return [f"The retry of run {short_id(run)} is overdue: Dagster is reminded." for run in remind_of_retries(instance)]


class _Cursor(BaseModel):
    """What was undone at the tick before (a digest), and since when, in seconds since 1970."""

    undone: str = ""
    since: float = 0.0
    gave_up: bool = False

    @classmethod
    def read(cls, text: str | None) -> _Cursor:
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()


@dataclass(frozen=True)
class _Step:
    cursor: _Cursor
    message: str
    requests: Sequence[dg.RunRequest] = ()
    is_new_problem: bool = False


def next_step(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, before: _Cursor, now: float) -> _Step:
    """What the sensor does about assets that are older than their inputs.

    Assets are requested only where a run was meant to make them: it failed, was requested by a sensor and is not
    retried by Dagster; or it was deleted.

    Parameters
    ----------
    before
        The cursor of the previous tick.
    now
        Seconds since 1970.
    """
    if instance.get_runs(dg.RunsFilter(statuses=UNFINISHED), limit=1):
        return _Step(_Cursor(), "A run is in progress or in the queue.")
    undone = undone_assets(instance, repository)
    names = ", ".join(key.to_user_string() for key in undone.keys)
    runs = [instance.get_run_by_id(run_id) for run_id in undone.run_ids]
    existing = [run for run in runs if run is not None]
    canceled = [run for run in existing if run.status is dg.DagsterRunStatus.CANCELED]
    failed = [run for run in existing if run.status is dg.DagsterRunStatus.FAILURE and _is_automated(run)]
    if any(awaits_retry(instance, run) for run in failed):
        return _Step(_Cursor(), f"Dagster is about to retry {describe(failed)}.")
    if canceled:
        return _Step(_Cursor(), f"Not requested: {names}, because {describe(canceled)} was canceled.")
    if not failed and len(existing) == len(runs):
        return _Step(_Cursor(), "Nothing is left undone by a failed run.")
    cursor = before if before.undone == undone.digest else _Cursor(undone=undone.digest, since=now)
    if now - cursor.since < PATIENCE_SECONDS:
        return _Step(cursor, f"Left undone: {names}; requested soon, if the sensor refresh does not do it.")
    requested = instance.get_runs(dg.RunsFilter(tags={RECOVERY_TAG: undone.digest}))
    attempts = 1 + len([run for run in requested if run.parent_run_id is None])  # the first was the refresh
    if attempts >= MAX_ATTEMPTS:
        last = f"; see {describe(failed)}" if failed else ""
        return _Step(
            cursor.model_copy(update={"gave_up": True}),
            f"Gave up on {names}: {MAX_ATTEMPTS} attempts failed with the same inputs{last}. "
            "Correct the cause and materialize them in the UI; new events start new attempts.",
            is_new_problem=not cursor.gave_up,
        )
    request = dg.RunRequest(asset_selection=list(undone.keys), tags={RECOVERY_TAG: undone.digest})
    return _Step(cursor, f"Requested again: {names}.", [request])


def _is_automated(run: dg.DagsterRun) -> bool:
    return AUTOMATION_CONDITION_TAG in run.tags or RECOVERY_TAG in run.tags


@dataclass(frozen=True)
class Undone:
    """Assets that are older than their inputs and that no check blocks.

    Attributes
    ----------
    keys
        The assets, inputs before what is made from them.
    run_ids
        The last runs that were meant to make them, each once; none where no run ever was.
    inputs
        When the newest input of each was materialized, in seconds since 1970.
    """

    keys: Sequence[dg.AssetKey]
    run_ids: Sequence[str]
    inputs: Mapping[dg.AssetKey, float]

    @cached_property
    def digest(self) -> str:
        """Changes with the assets and with their inputs."""
        listing = "\n".join(f"{key.to_user_string()} {self.inputs[key]}" for key in self.keys)
        return hashlib.sha256(listing.encode()).hexdigest()[:16]


def undone_assets(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> Undone:
    """The assets with an automation condition that are older than their inputs, unless a check blocks them.

    What is made from a blocked version is left out too: it waits for new inputs, as the conditions do.
    """
    graph = repository.asset_graph
    keys = graph.toposorted_asset_keys
    entries = {record.asset_entry.asset_key: record.asset_entry for record in instance.get_asset_records(keys)}
    made = {key: entry.last_materialization.timestamp for key, entry in entries.items() if entry.last_materialization}
    inputs: dict[dg.AssetKey, float] = {}
    outdated: list[dg.AssetKey] = []
    waits: set[dg.AssetKey] = set()
    for key in keys:
        node = graph.get(key)
        blocking = [check for check in graph.get_check_keys_for_assets({key}) if graph.get_check_spec(check).blocking]
        failed_at = max(_failures(instance, blocking), default=0.0)
        if node.automation_condition is None:
            waits |= {key} if failed_at else set()
            continue
        inputs[key] = max((made.get(parent, 0.0) for parent in node.parent_keys), default=0.0)
        has_outdated_input = bool(node.parent_keys & set(outdated))
        if has_outdated_input or made.get(key, 0.0) < inputs[key]:
            outdated.append(key)
        if node.parent_keys & waits or (failed_at > inputs[key] and not has_outdated_input):
            waits.add(key)
    undone = [key for key in outdated if key not in waits]
    run_ids = (entries[key].last_run_id for key in undone if key in entries)
    return Undone(undone, list(dict.fromkeys(filter(None, run_ids))), inputs)


def _failures(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> Iterable[float]:
    """When each check failed, in seconds since 1970, if its last result is a failure."""
    for check in checks:
        record = instance.get_latest_asset_check_evaluation_record(check)
        if record is not None and record.status.value == "FAILED":
            yield record.event.timestamp if record.event else record.create_timestamp

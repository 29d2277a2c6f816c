"""The sensor `new_event_partitions`, which requests runs that clean new and changed raw days.

arrivals.py plans the runs. The sensor does not use Spark and opens no raw file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import dagster as dg
from pydantic import ValidationError

from ecommerce_assets.events.arrivals import (
    MAX_ATTEMPTS,
    Cursor,
    Plan,
    RawPartition,
    list_partitions,
    plan,
    range_digest,
    stored_days,
)
from ecommerce_assets.events.checks import check_raw_days
from ecommerce_assets.events.partitions import daily_partitions
from ecommerce_assets.runs import (
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    RUN_KEY_TAG,
    WITH_PROCESS,
    active_runs,
    dead_runs,
    describe,
)
from ecommerce_assets.settings import PREFIX, Settings
from ecommerce_assets.storage.lake import Lake

TARGETS = ("cleaned_events", "rejected_events")
SECONDS_BETWEEN_TICKS = 30
SHOWN_DAYS = 5
EVENTS_PER_TICK = 200
"""Maximum number of events to report, because Dagster stores them slowly in SQLite; the next ticks report the rest."""

RAW_EVENTS = dg.AssetKey("raw_events")
CLEANED_EVENTS = dg.AssetKey("cleaned_events")

log = logging.getLogger(__name__)

Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation


def new_event_partitions(settings: Settings) -> dg.SensorDefinition:
    """Returns the sensor for these settings."""
    cache: dict[Any, Any] = {}  # kept between ticks, because entries of a Delta log do not change

    @dg.sensor(
        name="new_event_partitions",
        target=list(TARGETS),
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description=f"Cleans new and changed days of {settings.data_dir}/raw/events, in one run per range of days. A "
        f"day is complete if its _SUCCESS is newer than its files, or if nothing in it has changed for "
        f"{settings.quiet_seconds} s.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        partitions = list_partitions(settings.data_dir)
        if not partitions:
            # Not reported as removed days: a bucket or disk that is temporarily unavailable looks the same.
            return dg.SkipReason(f"There are no raw events in {settings.data_dir}/raw/events.")
        previous = _cursor(context)
        reported = context.instance.get_materialized_partitions(RAW_EVENTS)
        result = plan(
            partitions,
            previous,
            # Before the versions, so that those of a run that has ended are known.
            _cleaning_runs(context.instance),
            _canceled(context.instance, {day.run for day in previous.days.values() if day.run}),
            stored_days(Lake(settings.data_dir, context.log.warning, cache)),
            _window(settings),
            reported,
            time.time(),
            settings.quiet_seconds,
        )
        requests = [_request(context, days, result.cursor) for days in result.ranges]
        messages = list(_messages(result))
        if requests and not context.cursor:
            messages.insert(0, f"First tick: a run cleans the days in {settings.data_dir}/raw/events.")
            log.info(messages[0])
        if result.running:
            messages += _runs_in_progress(context.instance)
        for message in messages:
            context.log.info(message)
        events = _events(partitions, result, reported)
        return dg.SensorResult(
            run_requests=requests,
            cursor=result.cursor.model_dump_json(exclude_defaults=True),
            asset_events=events,
            skip_reason=None if requests else " ".join(messages) or f"Nothing new: {len(partitions):,} days are known.",
        )

    return tick


def _cursor(context: dg.SensorEvaluationContext) -> Cursor:
    try:
        return Cursor.model_validate_json(context.cursor) if context.cursor else Cursor()
    except ValidationError:
        # Not fatal: stored versions and runs are known without it.
        context.log.warning("The cursor was damaged and is reset. Days that are already cleaned are not cleaned again.")
        return Cursor()


def _window(settings: Settings) -> tuple[str, str]:
    days = daily_partitions(settings)
    return days.get_first_partition_key() or "9999-12-31", days.get_last_partition_key() or "0000-00-00"


def _runs(instance: dg.DagsterInstance, key: str) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(filters=dg.RunsFilter(tags={RUN_KEY_TAG: key}), limit=1)


def _canceled(instance: dg.DagsterInstance, keys: Iterable[str]) -> set[str]:
    canceled = dg.DagsterRunStatus.CANCELED
    return {key for key in keys if any(run.status is canceled for run in _runs(instance, key))}


def _cleaning_runs(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    """First and last day of each active run that cleans events."""
    ranges = []
    for run in active_runs(instance):
        selected = run.asset_selection
        first = run.tags.get(RANGE_START_TAG) or run.tags.get(PARTITION_TAG)
        last = run.tags.get(RANGE_END_TAG) or first
        if first and last and (not selected or CLEANED_EVENTS in selected):
            ranges.append((first, last))
    return ranges


def _request(context: dg.SensorEvaluationContext, days: Sequence[RawPartition], cursor: Cursor) -> dg.RunRequest:
    """The request of a run over a range of days.

    Each attempt has its own key, because Dagster never starts a second run with the same key.
    """
    first, last = days[0].day, days[-1].day
    attempt = max(cursor.days[partition.day].attempts for partition in days)
    while _runs(context.instance, key := f"{first}...{last}:{range_digest(days)}:{attempt}"):
        attempt += 1  # requested before the cursor was lost
    for partition in days:
        cursor.days[partition.day].run = key
    return dg.RunRequest(
        run_key=key,
        asset_selection=[dg.AssetKey(name) for name in TARGETS],  # shown as the target of the run in the UI
        tags={RANGE_START_TAG: first, RANGE_END_TAG: last},
    )


def _events(partitions: Mapping[str, RawPartition], result: Plan, reported: Set[str]) -> list[Event]:
    """Events of raw_events to report: removed, changed and new days, at most `EVENTS_PER_TICK`, and the checks.

    Changed days that do not fit stay in the cursor; new days are recognized in the next tick again.
    """
    requested = {partition.day for days in result.ranges for partition in days}
    changed = sorted({*result.cursor.unreported, *(requested & reported)})
    new = [partitions[day] for day in sorted(set(partitions) - reported - set(result.outside))]
    removed, postponed = result.removed[:EVENTS_PER_TICK], set(result.removed[EVENTS_PER_TICK:])
    result.cursor.removed = [day for day in result.cursor.removed if day not in postponed]
    events: list[Event] = [_removal(day) for day in removed]
    room = EVENTS_PER_TICK - len(events)
    result.cursor.unreported = changed[room:]
    events += [_materialization(partition) for partition in [*(partitions[day] for day in changed[:room]), *new]]
    days_with_data = {day for day, partition in partitions.items() if partition.bytes}
    checks = check_raw_days(list(partitions), days_with_data) if events else []
    return [*checks, *events[:EVENTS_PER_TICK]]


def _materialization(partition: RawPartition) -> dg.AssetMaterialization:
    metadata: dict[str, str | int] = {
        "bytes": partition.bytes,
        "files": len(partition.files),
        "fingerprint": partition.fingerprint,
    }
    if partition.rows is not None:
        metadata["dagster/partition_row_count"] = partition.rows
    return dg.AssetMaterialization("raw_events", partition=partition.day, metadata=metadata)


def _removal(day: str) -> dg.AssetObservation:
    return dg.AssetObservation(
        "raw_events",
        partition=day,
        description="The raw folder of this day was removed or is empty. Its cleaned events are kept.",
        metadata={"removed": True},
    )


def _messages(result: Plan) -> Iterable[str]:
    for days in result.ranges:
        first, last = days[0].day, days[-1].day
        yield f"New or changed: {first}." if first == last else f"New or changed: {first} to {last}."
    if result.incomplete:
        yield f"Not complete yet (no _SUCCESS, and changed recently): {_listed(result.incomplete)}."
    if result.running:
        yield f"Running or queued: {_listed(result.running)}."
    if result.outside:
        yield (
            f"Outside the partitions: {_listed(result.outside)}. A day becomes a partition when it is over; set "
            f"{PREFIX}FIRST_DAY or {PREFIX}LAST_DAY to include other days."
        )
    if result.removed:
        yield f"Removed from the raw folder: {_listed(result.removed)}. Their stored events are kept."
    if result.blocked:
        yield (
            f"Blocked by a check of cleaned_events: {_listed(result.blocked)}. Correct the files and land them again, "
            "or materialize the days manually."
        )
    if result.given_up:
        yield (
            f"Given up after {MAX_ATTEMPTS} failed runs or a canceled one: {_listed(result.given_up)}. Materialize the "
            "days manually, or land them again."
        )


def _runs_in_progress(instance: dg.DagsterInstance) -> Iterable[str]:
    """Messages with the ids of the active runs, to show what a queued run waits for."""
    dead = dead_runs(instance)
    if dead:
        yield (
            f"The process of {describe(dead)} is gone; the sensor recovery ends such a run within a minute, or you can "
            "terminate it in the UI."
        )
    ids = {run.run_id for run in dead}
    running = [run for run in instance.get_runs(dg.RunsFilter(statuses=list(WITH_PROCESS))) if run.run_id not in ids]
    if running:
        yield f"In progress: {describe(running)}."


def _listed(days: Sequence[str]) -> str:
    more = f" and {len(days) - SHOWN_DAYS:,} more" if len(days) > SHOWN_DAYS else ""
    return ", ".join(days[:SHOWN_DAYS]) + more

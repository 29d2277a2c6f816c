"""The sensor `new_event_partitions`: new and changed raw days become runs that clean them.

It only asks for runs and tells Dagster what lies there; what is new stands in arrivals.py, and what follows once a day
is cleaned in ../automation.py. No Spark, and no file is opened.
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
    RunState,
    list_partitions,
    plan,
    range_digest,
    stored_days,
)
from ecommerce_assets.events.checks import judge_raw_days
from ecommerce_assets.events.partitions import daily_partitions
from ecommerce_assets.runs import (
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    RUN_KEY_TAG,
    UNFINISHED,
    WITH_PROCESS,
    awaits_retry,
    dead_runs,
    describe,
)
from ecommerce_assets.settings import PREFIX, Settings
from ecommerce_assets.storage.lake import Lake

TARGETS = ("cleaned_events", "rejected_events")
SECONDS_BETWEEN_TICKS = 30
SHOWN_DAYS = 5
EVENTS_PER_TICK = 200
"""Dagster stores some 50 events a second in SQLite; the days that are left over are told in the ticks that follow."""

RAW_EVENTS = dg.AssetKey("raw_events")
CLEANED_EVENTS = dg.AssetKey("cleaned_events")

log = logging.getLogger(__name__)

Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation


def new_event_partitions(settings: Settings) -> dg.SensorDefinition:
    """The sensor for these settings."""
    cache: dict[Any, Any] = {}  # kept from tick to tick: what is in a Delta log never changes

    @dg.sensor(
        name="new_event_partitions",
        target=list(TARGETS),
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
        description=f"Cleans new and changed days of {settings.data_dir}/raw/events: one run per range of days. A day "
        f"counts once its _SUCCESS is younger than its files, or nothing in it has changed for "
        f"{settings.quiet_seconds} s.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        partitions = list_partitions(settings.data_dir)
        if not partitions:
            # Not "all were removed": a bucket or a disk that is away for a moment looks the same.
            return dg.SkipReason(f"There are no raw events in {settings.data_dir}/raw/events.")
        before = _cursor(context)
        reported = context.instance.get_materialized_partitions(RAW_EVENTS)
        found = plan(
            partitions,
            before,
            stored_days(Lake(settings.data_dir, context.log.warning, cache)),
            _run_states(context.instance, {day.run for day in before.days.values() if day.run}),
            _window(settings),
            reported,
            time.time(),
            settings.quiet_seconds,
            _being_cleaned(context.instance),
        )
        requests = [request for block in found.ranges if (request := _request(context, block, found.cursor))]
        said = list(_sentences(found))
        if requests and not context.cursor:
            said.insert(0, f"First look at {settings.data_dir}/raw/events: a run cleans what is there.")
            log.info(said[0])
        if found.under_way:
            said += _runs_in_the_way(context.instance)
        for sentence in said:
            context.log.info(sentence)
        events = _events(partitions, found, reported)
        return dg.SensorResult(
            run_requests=requests,
            cursor=found.cursor.model_dump_json(exclude_defaults=True),
            asset_events=events,
            skip_reason=None if requests else " ".join(said) or f"Nothing new: {len(partitions):,} days are known.",
        )

    return tick


def _cursor(context: dg.SensorEvaluationContext) -> Cursor:
    try:
        return Cursor.model_validate_json(context.cursor) if context.cursor else Cursor()
    except ValidationError:
        # What is committed and which runs there were is known without it.
        context.log.warning("The cursor is damaged and begun anew; days that are cleaned already are not done again.")
        return Cursor()


def _window(settings: Settings) -> tuple[str, str]:
    days = daily_partitions(settings)
    return days.get_first_partition_key() or "9999-12-31", days.get_last_partition_key() or "0000-00-00"


def _run_states(instance: dg.DagsterInstance, keys: Iterable[str]) -> dict[str, RunState]:
    return {key: _state(instance, runs[0]) for key in keys if (runs := _runs(instance, key))}


def _runs(instance: dg.DagsterInstance, key: str) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(filters=dg.RunsFilter(tags={RUN_KEY_TAG: key}), limit=1)


def _state(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunState:
    if not run.is_finished or awaits_retry(instance, run):
        return RunState.unfinished
    return RunState.canceled if run.status is dg.DagsterRunStatus.CANCELED else RunState.ended


def _being_cleaned(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    """First and last day of each unfinished run that cleans events and was not asked for by this sensor."""
    found = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        selected = run.asset_selection
        first = run.tags.get(RANGE_START_TAG) or run.tags.get(PARTITION_TAG)
        last = run.tags.get(RANGE_END_TAG) or first
        if first and last and RUN_KEY_TAG not in run.tags and (not selected or CLEANED_EVENTS in selected):
            found.append((first, last))
    return found


def _request(
    context: dg.SensorEvaluationContext, block: Sequence[RawPartition], cursor: Cursor
) -> dg.RunRequest | None:
    """A run over the range; None where one that was asked for before the cursor was lost is still under way.

    Dagster never starts a run whose key it has seen, not even where that run failed: each attempt has a key of its own.
    """
    first, last = block[0].day, block[-1].day
    attempt = max(cursor.days[partition.day].attempts for partition in block)
    while runs := _runs(context.instance, key := f"{first}...{last}:{range_digest(block)}:{attempt}"):
        if _state(context.instance, runs[0]) is RunState.unfinished:
            break
        attempt += 1
    for partition in block:
        cursor.days[partition.day].run = key
    if runs:
        return None
    return dg.RunRequest(
        run_key=key,
        asset_selection=[dg.AssetKey(name) for name in TARGETS],  # the Runs page shows it as the run's target
        tags={RANGE_START_TAG: first, RANGE_END_TAG: last},
    )


def _events(partitions: Mapping[str, RawPartition], found: Plan, reported: Set[str]) -> list[Event]:
    """What Dagster is told of the raw days: those of this tick's runs, those that ticks before left over, those that it
    does not know yet, those gone; and what the checks of raw_events say of all of them."""
    wanted = {partition.day for block in found.ranges for partition in block}
    changed = sorted({*found.cursor.untold, *(wanted & reported)})
    unknown = [partitions[day] for day in sorted(set(partitions) - reported - set(found.outside))]
    told, untold = found.removed[:EVENTS_PER_TICK], set(found.removed[EVENTS_PER_TICK:])
    found.cursor.removed = [day for day in found.cursor.removed if day not in untold]
    events: list[Event] = [_removal(day) for day in told]
    room = EVENTS_PER_TICK - len(events)
    found.cursor.untold = changed[room:]
    events += [_materialization(partition) for partition in [*(partitions[day] for day in changed[:room]), *unknown]]
    filled = {day for day, partition in partitions.items() if partition.bytes}
    checked = judge_raw_days(list(partitions), filled) if events else []
    return [*checked, *events[:EVENTS_PER_TICK]]


def _materialization(partition: RawPartition) -> dg.AssetMaterialization:
    about: dict[str, str | int] = {
        "bytes": partition.bytes,
        "files": len(partition.files),
        "fingerprint": partition.fingerprint,
    }
    if partition.rows is not None:
        about["dagster/partition_row_count"] = partition.rows
    return dg.AssetMaterialization("raw_events", partition=partition.day, metadata=about)


def _removal(day: str) -> dg.AssetObservation:
    return dg.AssetObservation(
        "raw_events",
        partition=day,
        description="The raw folder of this day is gone or empty; its cleaned events stay as they are.",
        metadata={"removed": True},
    )


def _sentences(found: Plan) -> Iterable[str]:
    """What a person is told of a tick."""
    for block in found.ranges:
        first, last = block[0].day, block[-1].day
        yield f"New or changed: {first}." if first == last else f"New or changed: {first} to {last}."
    if found.waiting:
        yield f"Still being written, it seems, or not quiet for long enough: {_listed(found.waiting)}."
    if found.under_way:
        yield f"Being cleaned, or in the queue: {_listed(found.under_way)}."
    if found.outside:
        yield (
            f"Outside the days that Dagster knows: {_listed(found.outside)}; a day counts once it is over, earlier "
            f"or later ones where {PREFIX}FIRST_DAY and {PREFIX}LAST_DAY say so."
        )
    if found.removed:
        yield f"Removed from the raw folder: {_listed(found.removed)}; what is stored of them stays."
    if found.blocked:
        yield (
            f"Blocked by a check of cleaned_events: {_listed(found.blocked)}; land them again, corrected, or "
            "materialise them by hand."
        )
    if found.given_up:
        yield (
            f"Given up, after at most {MAX_ATTEMPTS} runs that failed or one that was canceled: "
            f"{_listed(found.given_up)}; materialise them by hand, or land them again."
        )


def _runs_in_the_way(instance: dg.DagsterInstance) -> Iterable[str]:
    """The runs that hold the queue, by id: those whose process is gone, and those whose process works."""
    gone = dead_runs(instance)
    if gone:
        yield (
            f"The process of {describe(gone)} is gone; the sensor recovery ends such a run within a minute, or "
            "terminate it in the UI."
        )
    ids = {run.run_id for run in gone}
    running = [run for run in instance.get_runs(dg.RunsFilter(statuses=list(WITH_PROCESS))) if run.run_id not in ids]
    if running:
        yield f"In progress: {describe(running)}."


def _listed(days: Sequence[str]) -> str:
    more = f" and {len(days) - SHOWN_DAYS:,} more" if len(days) > SHOWN_DAYS else ""
    return ", ".join(days[:SHOWN_DAYS]) + more

"""The assets raw_events (external), cleaned_events and rejected_events. Entry point: `event_assets`."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import dagster as dg
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.events import checks
from ecommerce_assets.events.cleaning import accepted_events, classify, count_by_day, rejected_events
from ecommerce_assets.events.partitions import daily_partitions
from ecommerce_assets.events.plots import CLEANED_EVENTS_PLOTS
from ecommerce_assets.events.raw import LAND_COMMAND, RAW_COLUMNS, ParsedEvents, RawDataError, RawEvents
from ecommerce_assets.events.schema import EVENTS, REJECTED_EVENTS
from ecommerce_assets.owners import OWNERS
from ecommerce_assets.settings import Settings
from ecommerce_assets.spark.connect import persisted
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage.metadata import NO_AUTOMATIC_EVENTS
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset

GROUP = "events"

TABLES = {
    # rejected_events first, so that they are published before the cleaned events of the same day.
    "rejected_events": "Raw events that broke a rule, with the reason and the original values as text.",
    "cleaned_events": "Valid events with typed columns, without exact repeats.",
}
"""Descriptions of the tables that are computed from the raw events, in the order in which they are published."""

CATALOG = {
    "raw_events": StoredAsset(EVENTS, folder="raw/events"),
    "cleaned_events": StoredAsset(EVENTS, checks.CLEANED_EVENTS_CHECKS, plots=CLEANED_EVENTS_PLOTS),
    "rejected_events": StoredAsset(REJECTED_EVENTS, checks.REJECTED_EVENTS_CHECKS),
}
"""Columns, checks and plots of each asset of this package."""

_Classified = tuple[DataFrame, dict[str, dict[str, int]], RawEvents]
"""The classified rows, their counts by day, and their raw files."""

OUT_OPTIONS: dict[str, Any] = {
    "is_required": False,
    "owners": OWNERS,
    "kinds": {"spark", "parquet"},
    "code_version": "3",
}


def event_assets(settings: Settings) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Returns the daily assets of this package."""
    days = daily_partitions(settings)
    raw_events = dg.AssetSpec(
        "raw_events",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"parquet"},
        partitions_def=days,
        description="The event log of the shop, one folder of Parquet files per day. "
        f"`{LAND_COMMAND}` writes event files into these folders.",
    )

    @dg.multi_asset(
        name="clean_events",
        group_name=GROUP,
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        ins={"raw_events": dg.AssetIn(input_manager_key="raw_events_reader")},
        outs={name: dg.AssetOut(description=description, **OUT_OPTIONS) for name, description in TABLES.items()},
    )
    def clean_events(
        context: dg.AssetExecutionContext, spark: SparkResource, raw_events: RawEvents
    ) -> Iterator[dg.Output[Artifact]]:
        spark.working_on("clean_events")
        with ExitStack() as stack:
            try:
                events = raw_events.parsed(spark.scratch("raw_events"), settings.id_type)
                classified, counts, raw = _classified_where_readable(spark.spark_session, events, stack)
            except RawDataError as error:
                raise dg.Failure(str(error), allow_retries=False) from None
            results = _day_results(raw, counts)
            parameters = {"id_type": settings.id_type, "max_rejected_share": settings.max_rejected_share}
            for name, table in (("rejected_events", rejected_events), ("cleaned_events", accepted_events)):
                if name in context.op_execution_context.selected_output_names:
                    artifact = Artifact(
                        table(classified), parameters, days=raw.days, day_results=results, absent_days=raw.absent
                    )
                    is_partial = bool(raw.absent or raw.unreadable)
                    yield dg.Output(artifact, output_name=name, metadata=NO_AUTOMATIC_EVENTS if is_partial else {})
        if raw.unreadable:
            # At the end, after the readable days have been published.
            raise dg.Failure(f"{' '.join(raw.unreadable.values())} The other days were cleaned.", allow_retries=False)

    return [raw_events, clean_events]


def _classified_where_readable(spark: SparkSession, events: ParsedEvents, stack: ExitStack) -> _Classified:
    """The classified events, without the days whose landed files are damaged."""
    try:
        return _classified(spark, events, stack)
    except Exception:
        damaged = events.raw.damaged_days()  # because Spark's error does not name the file clearly
        if not damaged:
            raise
    return _classified(spark, events.without(damaged), stack)


def _classified(spark: SparkSession, events: ParsedEvents, stack: ExitStack) -> _Classified:
    raw = events.raw
    rows_of_day = {day: raw.rows(day) for day in raw.days}
    classified = stack.enter_context(persisted(classify(events.frame(spark), rows_of_day, events.has_event_ids)))
    return classified, count_by_day(classified), raw


def _day_results(raw: RawEvents, counts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {day: {"raw_rows": raw.rows(day), **counts.get(day, {}), RAW_COLUMNS: raw.columns(day)} for day in raw.days}

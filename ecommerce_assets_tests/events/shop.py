"""A data dir that the sensor `new_event_partitions` watches, for tests that evaluate its ticks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from ecommerce_assets.definitions import build_defs
from ecommerce_assets.events.raw import find_raw_events
from ecommerce_assets.settings import load_settings
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.helpers import event, run_graph, write_day
from ecommerce_assets_tests.lookup.shop import publish, seen

CLEANING = ("cleaned_events", "rejected_events")
WINDOW: dict[str, Any] = {"first_day": date(2019, 10, 1), "last_day": date(2019, 12, 29)}


class Shop:
    """A raw folder, a Dagster instance, and the sensor with its cursor."""

    def __init__(self, data_dir: Path | str, instance: dg.DagsterInstance, **settings: Any) -> None:
        self.data_dir, self.instance, self.cursor = data_dir, instance, ""
        self.settings = load_settings(data_dir=str(data_dir), **{**WINDOW, **settings})
        defs = build_defs(self.settings)
        self.sensor: Any = defs.resolve_sensor_def("new_event_partitions")
        self.message = ""
        self.events: Sequence[Any] = ()
        self.checks: dict[str, dg.AssetCheckEvaluation] = {}

    def tick(self) -> list[str]:
        """Evaluates a tick, adds a started run for each request, and returns the requested ranges (`first...last`)."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = self.sensor.evaluate_tick(context)
        self.cursor, self.message = result.cursor or self.cursor, result.skip_message or ""
        for asset_event in result.asset_events:
            self.instance.report_runless_asset_event(asset_event)
        self.checks = {e.check_name: e for e in result.asset_events if isinstance(e, dg.AssetCheckEvaluation)}
        self.events = [e for e in result.asset_events if not isinstance(e, dg.AssetCheckEvaluation)]
        ranges = []
        for request in result.run_requests or ():
            first, last = (request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
            ranges.append(f"{first}...{last}")
            tags = {**request.tags, "dagster/run_key": request.run_key}
            assert not self.runs(**{"dagster/run_key": request.run_key}), "Dagster would not start this run"
            status = dg.DagsterRunStatus.STARTED
            self.instance.add_run(dg.DagsterRun("clean", tags=tags, status=status))
        return ranges

    def runs(self, **tags: str) -> Sequence[dg.DagsterRun]:
        return self.instance.get_runs(filters=dg.RunsFilter(tags=tags))

    def end(self, status: dg.DagsterRunStatus) -> None:
        """Ends the unfinished runs."""
        for run in self.runs():
            if not run.is_finished:
                kinds = {
                    dg.DagsterRunStatus.FAILURE: self.instance.report_run_failed,
                    dg.DagsterRunStatus.CANCELED: self.instance.report_run_canceled,
                }
                kinds[status](run)

    def raw(self, day: str, name: str = "part-0", marked: bool = True, **values: Any) -> Path:
        """Writes a raw file with one event, and `_SUCCESS`."""
        path = write_day(Path(self.data_dir), day, [event(f"{day} 10:00:00", **values)], name)
        if marked:
            (path.parent / "_SUCCESS").touch()
        return path

    def clean(self, first: str, last: str) -> None:
        """Cleans a range of days as a run does, with Spark."""
        run_graph(self.data_dir, first, last, select=CLEANING, raise_on_error=False)

    def publish(self, *days: str) -> None:
        """Publishes a version of cleaned_events that records the raw files of the days, without Spark."""
        inputs = tuple(find_raw_events(str(self.data_dir), days).inputs())
        rows = {day: [seen(f"{day} 10:00", 1, 1)] for day in days}
        publish(Lake(str(self.data_dir)), "cleaned_events", rows, inputs=inputs)

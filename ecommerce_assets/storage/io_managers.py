"""The IO managers: write, check, publish.

Tables, Spark ML models and JSON documents are written to a new folder, the checks run on the written files, and one
commit publishes them (lake.py). A step reads exactly one published version of each input, which is recorded.
"""

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import dagster as dg
import pyarrow as pa
from pydantic import Field, PrivateAttr
from pyspark.sql import DataFrame

from ecommerce_assets.spark.column_lineage import Lineage, made_from, trace
from ecommerce_assets.spark.connect import path_to_write
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import delta, display, metadata
from ecommerce_assets.storage.asset_checks import evaluations, failures
from ecommerce_assets.storage.checks import (
    EMPTY,
    CheckContext,
    Previous,
    measure,
    needs_query,
    run_checks,
    summaries_of,
)
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.inputs import StepInputs, add_published, step_inputs
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.markdown import sections
from ecommerce_assets.storage.reading import (
    MODEL_FOLDER,
    arrow_dataset,
    read_days,
    read_parquet,
    read_table,
    read_version,
)
from ecommerce_assets.storage.retention import GRACE, KEEP, prune
from ecommerce_assets.storage.step_context import check_event, running_step
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset
from ecommerce_assets.storage.stored_table import StoredTable, write_rows
from ecommerce_assets.storage.version import EXPERIMENT, PARTITION_COLUMN, CheckResult, Stats, StoredFile, Version

AS_READ_BY = "as_read_by"
"""Input metadata key: the name of another input; the version that it was computed from is read, not the latest."""

MAX_RETRIES = 3
"""Number of times that a step is computed again because another run extended the same table meanwhile."""

PREVIOUS_DAYS = 7
"""Number of days that a day is compared with: a week, so that they include every day of the week."""

Listener = Callable[[Version, str, TableSpec | None, Callable[[str], object], str | None], object]
"""Receives a version, the data dir, the columns of a table, a function for warnings, and the asset's description."""


class BlockedError(dg.Failure):
    """A blocking check failed; the description has the check, the reason and the folder of the files."""


@dataclass(frozen=True)
class _Step:
    """The step whose output is written, and its new version."""

    context: dg.OutputContext
    lake: Lake
    asset: str
    name: str
    artifact: Artifact
    stored: StoredAsset
    inputs: StepInputs
    previous: Sequence[Previous]

    @property
    def folder(self) -> Folder:
        """The folder of the new version."""
        return self.lake.asset(self.asset) / self.name

    def check_context(self, stats: Stats, **fields: Any) -> CheckContext:
        days = {asset: {day.day: day.stats for day in days} for asset, days in self.inputs.days.items()}
        inputs = {"inputs": self.inputs.inputs, "versions": self.inputs.versions, "days": days}
        return CheckContext(stats, self.artifact.parameters, **{**inputs, "previous": self.previous, **fields})


@dataclass(frozen=True)
class _Written:
    """The written files of a version that is not published yet, and the results of its checks."""

    columns: dict[str, str] | None = None
    lineage: Lineage | None = field(default_factory=dict)
    """None: unavailable."""
    stats: Stats = field(default_factory=Stats)
    days: Mapping[str, Stats] = field(default_factory=dict)
    checks: Sequence[CheckResult] = ()
    check_seconds: float | None = None
    files: tuple[StoredFile, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


class LakeIOManager(dg.ConfigurableIOManager):
    """Writes, checks and publishes outputs, and reads published versions. Subclasses write one kind of value.

    The type of an input decides what the step gets: `Version` the metadata of the version, `Folder` the folder of the
    saved model, `StoredTable` the table to be read with or without Spark, any other type the value.
    """

    kind: ClassVar[Literal["table", "model", "document"]]

    data_dir: str = Field(description="Folder or bucket that holds lake/ and raw/.")
    keep_versions: int = Field(default=KEEP, description="Superseded versions of each asset that stay.")
    lookback_days: int | None = Field(
        default=None, description="Days that are read of a daily asset, counted back from the newest; unset: all."
    )
    own_days_only: bool = Field(default=False, description="Of a daily asset, read only the days that the run wrote.")
    spark: dg.ResourceDependency[SparkResource]
    catalog: dg.ResourceDependency[dict]  # type: ignore[type-arg]
    on_version: dg.ResourceDependency[Any] = None  # type: ignore[assignment]
    """A `Listener` for each version that is published or blocked; None: no listener."""

    _cache: dict[Any, Any] = PrivateAttr(default_factory=dict)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> Iterator[dg.DagsterEvent]:  # type: ignore[override]
        started, created_at = time.monotonic(), datetime.now(UTC)
        step = self._step(context, Artifact.of(obj))
        step.lake.published(step.asset)  # raises OldLayoutError before anything is written
        self.spark.working_on(step.asset)
        try:
            written = self.write(step)
        except BaseException:
            step.folder.remove()
            raise
        # From here on an interrupted run removes no files: readers may already use the version.
        version = Version(
            asset=step.asset,
            version=step.name,
            kind=self.kind,
            folder=step.name,
            run_id=context.run_id,
            code_version=context.asset_spec.code_version,
            created_at=created_at,
            committed_at=created_at,
            seconds=round(time.monotonic() - min(step.inputs.started, started), 3),
            check_seconds=written.check_seconds,
            spark_application_id=self.spark.application_id,
            parameters=dict(step.artifact.parameters),
            inputs=tuple(step.inputs.inputs),
            columns=written.columns,
            column_lineage=written.lineage,
            stats=written.stats,
            days=dict(written.days),
            checks=tuple(written.checks),
            files=written.files,
        )
        failed = {check.partition or "" for check in version.failed_blocking}
        blocked_days = failed & set(version.days)
        if not failed:
            self._publish(step, version, written, step_fails=False)
        elif blocked_days < set(version.days):
            self._publish(step, _of_days(version, set(version.days) - blocked_days), written, step_fails=True)
        if failed:
            yield from self._block(step, version, _of_days(version, blocked_days) if blocked_days else version)
        self._prune(step)

    @abstractmethod
    def write(self, step: _Step) -> _Written:
        """Writes the value to the step's folder, and checks the written files."""

    def _publish(self, step: _Step, version: Version, written: _Written, *, step_fails: bool) -> None:
        context, stored, warn = step.context, step.stored, step.context.log.warning
        lake = step.lake
        stored_days = set(step.artifact.absent_days) & set(_stored_days(step) if step.artifact.absent_days else ())
        if stored.table:
            try:
                version = lake.publish_table(stored.table, version, step.inputs.extended.get(step.asset))
            except delta.OvertakenError as error:
                step.folder.remove()
                raise dg.RetryRequested(MAX_RETRIES) from error
        else:
            version = lake.publish_folder(version)
        self._notify(step, version)
        shown = step.check_context(version.stats, columns=version.columns, document=step.artifact.value)
        total_rows = None
        if version.days:
            all_days = {day.day: day.stats for day in step.lake.days(step.asset)}
            shown = replace(shown, days={step.asset: all_days})
            total_rows = sum(stats.rows or 0 for stats in all_days.values())
        plots, notes = display.draw_plots(stored.plots, shown, warn), display.write_notes(stored.notes, shown, warn)
        texts = {"plots": plots, **notes, **written.texts}
        uri = step.lake.asset(step.asset).uri if stored.table else step.folder.uri
        emits = step_fails or bool(version.days and set(context.asset_partition_keys) - set(version.days))
        metadata.report(
            context,
            version,
            uri,
            stored.table,
            texts,
            step.artifact.numbers,
            emit_days=emits,
            stored_days=stored_days,
            total_rows=total_rows,
        )
        context.log.info(metadata.summary(version, add_published(context, step.asset)))
        if stored.closing:
            context.log.info(stored.closing(step.artifact.value, step.lake.root.uri))

    def _block(self, step: _Step, whole: Version, blocked: Version) -> Iterator[dg.DagsterEvent]:
        """Moves the files to `_blocked/`, reports the checks, and fails the step."""
        context, failed = step.context, blocked.failed_blocking
        folder = step.lake.block(blocked)
        self._notify(step, blocked)
        for check in step.stored.checks:
            for evaluation in evaluations(step.asset, check, whole):
                yield check_event(context, evaluation)
        names = ", ".join(dict.fromkeys(check.name for check in failed))
        others = "; the other days are published" if len(blocked.days) < len(whole.days) else ""
        raise BlockedError(
            description=f"{step.asset} is blocked by {names}: {failures(failed)}{others}. The blocked files are in "
            f"{folder.uri} until the next published version.",
            allow_retries=False,
        )

    def _notify(self, step: _Step, version: Version) -> None:
        if self.on_version is not None:
            description = step.context.asset_spec.description
            self.on_version(version, self.data_dir, step.stored.table, step.context.log.warning, description)

    def _prune(self, step: _Step) -> None:
        # An error here must not fail a step whose version is published.
        log = step.context.log
        try:
            for removal in prune(step.lake, step.asset, self.keep_versions, GRACE):
                log.info(f"Removed {removal}.")
        except Exception as error:
            log.warning(f"Old versions of {step.asset} could not be removed ({error}); the next run tries again.")

    def load_input(self, context: dg.InputContext) -> Any:
        asset = context.asset_key.to_user_string()
        run_id, step_key = running_step(context)
        self.spark.working_on(step_key)
        inputs = step_inputs(run_id, step_key)
        lake = Lake(self.data_dir, context.log.warning, self._cache)
        input_type = context.dagster_type.typing_type
        if context.has_asset_partitions and input_type is not Version:
            days = lake.days(asset, run_id, self.lookback_days, own_days_only=self.own_days_only)
            inputs.add_days(days)
            return read_days(self.spark.spark_session, lake, days)
        reader = (context.definition_metadata or {}).get(AS_READ_BY)
        chosen = reader or asset
        choose = self.catalog[chosen].choose if chosen in self.catalog else None
        version = inputs.latest(lake, chosen, run_id, choose)
        if reader is not None:
            version = lake.ancestor(version, asset)
        inputs.add_version(version)
        if input_type is Version:
            return version
        if input_type is Folder:
            return lake.folder(version) / MODEL_FOLDER
        if input_type is StoredTable:
            return read_table(self.spark.spark_session, lake, version)
        return read_version(self.spark.spark_session, lake, version)

    def _step(self, context: dg.OutputContext, artifact: Artifact) -> _Step:
        asset, lake = context.asset_key.to_user_string(), Lake(self.data_dir, context.log.warning, self._cache)
        inputs = step_inputs(context.run_id, context.step_key)
        if artifact.inputs is not None:
            inputs = inputs.replaced(artifact.inputs)
        old = None if artifact.days else _compared_with(lake, asset, inputs.extended.get(asset))
        previous = [Previous(old.version, old.stats, old.columns, old.parameters, old.inputs)] if old else []
        return _Step(context, lake, asset, lake.new_folder(), artifact, self.catalog[asset], inputs, previous)


class ParquetIOManager(LakeIOManager):
    """Stores Spark DataFrames and Arrow tables as Delta tables; daily assets are partitioned by day."""

    kind = "table"

    def write(self, step: _Step) -> _Written:
        table, days = step.stored.table, step.artifact.days
        assert table is not None, "a table needs its columns in the catalog"
        is_arrow = isinstance(step.artifact.value, pa.Table)
        columns, lineage = _write_rows(step, table) if is_arrow else _write_frame(step, table)
        files = delta.describe_files(step.folder)
        began = time.monotonic()
        spark = self.spark.spark_session
        rows = read_parquet(spark, step.folder, [file.path for file in files], columns, daily=bool(days))
        stats, checks = self._check(step, rows, files, columns)
        newest = max(days, default=None)
        by_day = {day: day_stats for day, day_stats in stats.items() if day is not None}
        return _Written(
            columns=columns,
            lineage=lineage,
            stats=stats[None] if not days else _total(by_day, step.artifact.results),
            days=by_day,
            checks=checks,
            check_seconds=round(time.monotonic() - began, 3),
            files=files,
            texts={"preview": self._preview(step, [file.path for file in files if file.day == newest])},
        )

    def _preview(self, step: _Step, paths: Sequence[str]) -> str:
        """Returns the preview of a table; an error becomes a warning."""

        def read(asset: str, columns: Sequence[str], rows: Any) -> Any:
            return arrow_dataset(step.lake, step.inputs.versions[asset]).to_table(list(columns), rows)

        chosen = step.stored.preview
        choose = None if chosen is None else lambda rows: chosen(rows, read)
        try:
            return metadata.preview(step.folder, paths, choose)
        except Exception as error:
            step.context.log.warning(f"The preview could not be made ({type(error).__name__}: {error}).")
            return ""

    def _check(
        self, step: _Step, rows: DataFrame, files: Sequence[StoredFile], columns: dict[str, str]
    ) -> tuple[dict[str | None, Stats], list[CheckResult]]:
        """Returns the stats and the check results of the table, or of each day, since days are blocked one by one."""
        checks, artifact = step.stored.checks, step.artifact
        parts: list[str | None] = [*sorted(artifact.days)] or [None]
        stored = _stored_days(step) if artifact.days else {}
        stored_columns = next((day.columns for name, day in stored.items() if name not in parts), None)
        whole = step.check_context(delta.footer_stats(files), columns=columns, stored_columns=stored_columns)

        def read(asset: str) -> Any:
            if asset in step.inputs.days:
                return read_days(rows.sparkSession, step.lake, step.inputs.days[asset])
            return read_version(rows.sparkSession, step.lake, step.inputs.versions[asset])

        summaries = [make(rows, whole, read) for make in [*summaries_of(checks), *step.stored.summaries]]
        # No query if the footers have all that the checks need, or if the days have no files.
        has_query = needs_query(checks) or not artifact.days
        measured = measure(rows, checks, summaries, whole.rows) if has_query and (files or not artifact.days) else {}
        stats: dict[str | None, Stats] = {}
        results: list[CheckResult] = []
        for part in parts:
            footers = delta.footer_stats(file for file in files if file.day == part)
            reported = artifact.day_results.get(part, {}) if part else artifact.results
            stats[part] = measured.get(part, EMPTY if has_query else Stats()).model_copy(
                update={"rows": footers.rows, "bytes": footers.bytes, "nulls": footers.nulls, "results": dict(reported)}
            )
            context = replace(whole, stats=stats[part])
            if part:
                earlier = sorted(day for day in stored if day < part)[-PREVIOUS_DAYS:]
                context = replace(context, previous=[stored[day] for day in earlier])
            checked = run_checks(checks, context, part)
            results += checked
            if part and not any(check.blocking and not check.passed for check in checked):
                # Later days of this run are compared with the new day.
                stored[part] = Previous(part, stats[part], columns, artifact.parameters, is_day=True)
        return stats, results


def _write_frame(step: _Step, table: TableSpec) -> tuple[dict[str, str], Lineage | None]:
    """Writes a frame, a daily one by day; returns the types and the lineage of its columns."""
    frame, days = step.artifact.value, step.artifact.days
    if step.artifact.made_from:
        frame = made_from(frame, step.artifact.made_from)
    frame = table.conform(frame, [PARTITION_COLUMN] if days else [])
    lineage = trace(frame, step.lake.asset_of)
    (lineage or {}).pop(PARTITION_COLUMN, None)
    writer = frame.write.option("compression", "zstd")
    (writer.partitionBy(PARTITION_COLUMN) if days else writer).parquet(
        path_to_write(frame.sparkSession, step.folder.uri)
    )
    return {f.name: f.dataType.simpleString() for f in frame.schema.fields if f.name != PARTITION_COLUMN}, lineage


def _write_rows(step: _Step, table: TableSpec) -> tuple[dict[str, str], Lineage | None]:
    """Writes an Arrow table without Spark; returns the Spark types and the lineage of its columns."""
    rows, columns = table.conform_rows(step.artifact.value)
    write_rows(step.folder, rows)
    origins = {name: step.artifact.made_from.get(name, ()) for name in columns}
    return columns, trace(origins, step.lake.asset_of)


class SparkModelIOManager(LakeIOManager):
    """Stores fitted models in Spark ML's layout: plain PySpark loads them from `<version>/model`."""

    kind = "model"

    def write(self, step: _Step) -> _Written:
        step.artifact.value.save((step.folder / MODEL_FOLDER).uri)
        files, stats = _folder_stats(step)
        checks = run_checks(step.stored.checks, step.check_context(stats))
        lineage = trace(step.artifact.made_from, step.lake.asset_of)
        return _Written(columns=dict(step.stored.parts), lineage=lineage, stats=stats, checks=checks, files=files)


class JsonIOManager(LakeIOManager):
    """Stores a dictionary as one JSON document, `<version>/<asset>.json`, with its schema and its Markdown."""

    kind = "document"

    def write(self, step: _Step) -> _Written:
        value, stored = step.artifact.value, step.stored
        document = json.dumps(value, indent=2, default=str)
        card = stored.card(value) if stored.card else ""
        schema = json.dumps(stored.document.model_json_schema(), indent=2) if stored.document else ""
        for suffix, text in {"json": document, "md": card, "schema.json": schema}.items():
            if text:
                step.folder.write_whole(f"{step.asset}.{suffix}", text.encode())
        files, stats = _folder_stats(step)
        checks = run_checks(stored.checks, step.check_context(stats, document=value))
        # The UI opens a dialog that is taller than the window at its end. So the sections of a card are entries, and a
        # document is shown only if nothing else shows what it has.
        texts = sections(card) if card else {} if stored.notes else {"document": f"```json\n{document}\n```"}
        return _Written(stats=stats, checks=checks, files=files, texts=texts)


def _compared_with(lake: Lake, asset: str, extended: int | None) -> Version | None:
    """Returns the newest version that is not an experiment; of a table that the step extends, the one that it read."""
    if extended is not None:
        return next((version for version in lake.undamaged(asset) if int(version.version) <= extended), None)
    newest = lake.latest_or_none(asset)
    if newest is None or not newest.parameters.get(EXPERIMENT):
        return newest
    return next((version for version in lake.undamaged(asset) if not version.parameters.get(EXPERIMENT)), None)


def _of_days(version: Version, days: set[str]) -> Version:
    """Returns a daily version with some of its days."""
    kept = {day: stats for day, stats in version.days.items() if day in days}
    checks = tuple(check for check in version.checks if check.partition in days)
    files = tuple(file for file in version.files if file.day in days)
    stats = _total(kept, version.stats.results)
    return version.model_copy(update={"days": kept, "checks": checks, "stats": stats, "files": files})


def _total(days: Mapping[str, Stats], results: Mapping[str, Any]) -> Stats:
    rows, size = sum(day.rows or 0 for day in days.values()), sum(day.bytes for day in days.values())
    return Stats(rows=rows, bytes=size, results=dict(results))


def _folder_stats(step: _Step) -> tuple[tuple[StoredFile, ...], Stats]:
    files = tuple(StoredFile(path=file.path, bytes=file.bytes) for file in step.folder.data_files())
    return files, Stats(bytes=sum(file.bytes for file in files), results=dict(step.artifact.results))


def _stored_days(step: _Step) -> dict[str, Previous]:
    try:
        days = step.lake.days(step.asset)
    except VersionNotFoundError:
        return {}
    return {
        day.day: Previous(day.day, day.stats, day.version.columns, day.version.parameters, is_day=True) for day in days
    }

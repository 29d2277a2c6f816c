"""The IO managers: Parquet tables, Spark ML models, one JSON document, all on the same versioned, manifested layout.

They write, audit and publish, in that order, and record what each step read. How tables are audited is
auditing.py's business, which version is read is lake.py's decision, what the metadata looks like metadata.py's.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import dagster as dg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import content, metadata, notes, openlineage, pictures
from ecommerce_assets.storage.artifact import Artifact
from ecommerce_assets.storage.asset_spec import AssetSpec
from ecommerce_assets.storage.auditing import audit_days, audit_whole, evidence_of, table_reader
from ecommerce_assets.storage.audits import Evidence, run_audits
from ecommerce_assets.storage.before import stored_days, version_before
from ecommerce_assets.storage.column_lineage import Lineage, check_sources, trace, trace_origins
from ecommerce_assets.storage.filesystem import FileInfo, Folder, spark_path
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import PARTITION_COLUMN, AuditResult, FileEntry, Manifest, Partition
from ecommerce_assets.storage.provenance import StepReads, step_reads
from ecommerce_assets.storage.reading import MODEL_FOLDER, files_by_version, read_chosen
from ecommerce_assets.storage.retention import KEEP, prune
from ecommerce_assets.storage.writers import writing

AS_READ_BY = "as_read_by"
"""Input metadata key: read the version that the named other input was made from, not the latest."""


@dataclass(frozen=True)
class _Written:
    """A version on disk, before its commit."""

    files: list[FileInfo]
    evidence: Evidence
    columns: dict[str, str] | None = None
    lineage: Lineage = field(default_factory=dict)
    rows: int | None = None
    partitions: Mapping[str, Partition] | None = None
    audits: Sequence[AuditResult] = ()
    measures: Mapping[str, Any] | None = None
    audit_seconds: float | None = None
    preview: str | None = None
    card: str | None = None


class VersionedIOManager(dg.IOManager):
    """Write, audit, publish; read exactly one committed version. Subclasses know how to write one kind of content.

    Parameters
    ----------
    catalog
        What is known of each asset, by name.
    lookback_days
        How many days are read of a daily asset, counted back from the newest; None: all.
    keep_versions
        How many superseded versions stay.
    own_days_only
        Of a daily asset, read the days that the run itself wrote and no others.
    """

    format: ClassVar[Literal["parquet", "spark-ml", "json"]]

    def __init__(
        self,
        data_dir: str,
        catalog: Mapping[str, AssetSpec],
        lookback_days: int | None = None,
        keep_versions: int = KEEP,
        own_days_only: bool = False,
    ) -> None:
        self._data_dir, self._catalog = data_dir, catalog
        self._lookback_days, self._keep_versions = lookback_days, keep_versions
        self._own_days_only = own_days_only
        self._parsed: dict[str, Manifest] = {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        artifact, asset = Artifact.of(obj), context.asset_key.to_user_string()
        context.resources.spark.working_on(asset)
        lake = self._lake(context)
        version = lake.new_version()
        folder = lake.folder(asset, version)
        with writing(lake.root / asset, version):
            try:
                manifest, written = self._write_version(context, lake, folder, artifact, version)
            except BaseException:
                lake.remove(asset, version)
                raise
            # Outside: an interrupt just after the commit must not remove what readers may have chosen by then.
            lake.publish(manifest)
        spec = self._catalog[asset]
        openlineage.emit(manifest, self._data_dir, spec.schema, context.log.warning, context.asset_spec.description)
        said = notes.markdown(spec.notes, written.evidence, context.log.warning)
        drawn = self._draw(context, lake, spec, written.evidence)
        shown = metadata.Shown(written.card, drawn, written.preview, said)
        metadata.report(context, folder, manifest, spec.schema, shown)
        context.log.info(metadata.summary(manifest))
        if spec.closing and manifest.publishable:
            context.log.info(spec.closing(artifact.value, lake.root.uri))
        self._prune(context, lake, asset)

    def _write_version(
        self, context: dg.OutputContext, lake: Lake, folder: Folder, artifact: Artifact, version: str
    ) -> tuple[Manifest, _Written]:
        asset, created_at, started = context.asset_key.to_user_string(), datetime.now(UTC), time.monotonic()
        spark = context.resources.spark
        reads = step_reads(context.run_id, context.step_key)
        if artifact.inputs is not None:
            reads = reads.instead(artifact.inputs)
        spec = self._catalog[asset]
        written = self.write(spark, folder, artifact, spec, reads, lake)
        check_sources(written.lineage, self._columns_of)
        # It reads every file, which may take long: the time of commit is taken after it, or a run that commits
        # meanwhile would be the latest although it came first.
        fingerprint = content.fingerprint(folder, written.files)
        manifest = Manifest(
            asset=asset,
            version=version,
            format=self.format,
            run_id=context.run_id,
            code_version=context.asset_spec.code_version,
            created_at=created_at,
            committed_at=datetime.now(UTC),
            seconds=round(time.monotonic() - min(reads.started, started), 3),
            audit_seconds=written.audit_seconds,
            spark_application_id=spark.application_id,
            parameters=dict(artifact.parameters),
            inputs=tuple(reads.inputs),
            columns=written.columns,
            column_lineage=written.lineage,
            rows=written.rows,
            bytes=sum(f.bytes for f in written.files),
            files=tuple(FileEntry(path=f.path, bytes=f.bytes) for f in written.files),
            fingerprint=fingerprint,
            partitions=dict(written.partitions or {}),
            audits=tuple(written.audits),
            facts={**artifact.facts, "measures": dict(written.measures or {})},
        )
        return manifest, written

    def _draw(self, context: dg.OutputContext, lake: Lake, spec: AssetSpec, evidence: Evidence) -> str | None:
        if not spec.pictures:
            return None
        if context.has_asset_partitions:
            asset = context.asset_key.to_user_string()
            try:
                stored = lake.days(asset)
            except VersionNotFoundError:  # all days that were ever written were held back
                return None
            evidence = replace(evidence, days={asset: {day.day: day.manifest for day in stored}})
        return pictures.markdown(spec.pictures, evidence, context.log.warning)

    def _prune(self, context: dg.OutputContext, lake: Lake, asset: str) -> None:
        # Tidying up must never fail what has just been published.
        try:
            for removal in prune(lake, asset, self._keep_versions):
                context.log.info(f"Removed {removal.asset} {removal.version}: {removal.reason}.")
        except Exception as error:
            context.log.warning(f"Old versions of {asset} could not be removed ({error}); the next run tries again.")

    def _columns_of(self, asset: str) -> Iterable[str] | None:
        return self._catalog[asset].column_names if asset in self._catalog else None

    def load_input(self, context: dg.InputContext) -> Any:
        asset = context.asset_key.to_user_string()
        context.resources.spark.working_on(context.step_context.step.key)
        reads = step_reads(context.step_context.run_id, context.step_context.step.key)
        lake = self._lake(context)
        run_id = context.step_context.run_id
        wants_manifest = context.dagster_type.typing_type is Manifest
        if context.has_asset_partitions and not wants_manifest:
            days = lake.days(asset, run_id, self._lookback_days, own_days_only=self._own_days_only)
            reads.add_days(days)
            return read_chosen(context.resources.spark.spark_session, lake, files_by_version(days))
        reader = context.definition_metadata.get(AS_READ_BY) if context.definition_metadata else None
        if reader is None:
            manifest = reads.latest(lake, asset, run_id)
        else:
            manifest = lake.ancestor(reads.latest(lake, reader, run_id), asset)
            newest = lake.latest_or_none(asset)
            if newest is not None and newest.version != manifest.version:
                context.log.info(f"{asset} {manifest.version} is read, which {reader} was made from: not the newest.")
        reads.add_version(manifest)
        if wants_manifest:
            return manifest
        return read_chosen(context.resources.spark.spark_session, lake, [(manifest, manifest.files)])

    def _lake(self, context: dg.OutputContext | dg.InputContext) -> Lake:
        return Lake(self._data_dir, context.log.warning, self._parsed)

    @abstractmethod
    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads, lake: Lake
    ) -> _Written:
        """Write the value below the folder and audit what was written."""


class ParquetIOManager(VersionedIOManager):
    """Spark DataFrames as Parquet; daily assets as one folder per day inside a version."""

    format = "parquet"

    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads, lake: Lake
    ) -> _Written:
        assert spec.schema is not None, "a Parquet table needs a schema in the catalog"
        daily = bool(artifact.days)
        frame = spec.schema.conform(artifact.value, extra=[PARTITION_COLUMN] if daily else [])
        lineage = trace(frame, lake.asset_of)
        lineage.pop(PARTITION_COLUMN, None)
        writer = frame.write.option("compression", "zstd")
        (writer.partitionBy(PARTITION_COLUMN) if daily else writer).parquet(folder.uri)
        files = folder.data_files()
        rows = content.parquet_rows(folder, files)
        columns = {f.name: f.dataType.simpleString() for f in frame.schema.fields if f.name != PARTITION_COLUMN}
        as_written = _read_files(spark.spark_session, folder, files, frame.schema)
        evidence = replace(evidence_of(artifact, reads), columns=columns)
        began = time.monotonic()
        if daily:
            earlier = stored_days(lake, _asset_of(folder))
            audited = audit_days(as_written, artifact, spec, evidence, files, rows, earlier)
        else:
            evidence = replace(evidence, before=version_before(lake, _asset_of(folder)))
            read = table_reader(spark.spark_session, lake, reads, _asset_of(folder), evidence)
            audited = audit_whole(as_written, spec, evidence, read, sum(rows.values()))
            evidence = replace(evidence, measures=audited[2] or {})
        took = round(time.monotonic() - began, 3)
        newest = f"{PARTITION_COLUMN}={max(artifact.days)}/" if daily else ""
        shown = metadata.preview(folder, [f for f in files if f.path.startswith(newest)])
        return _Written(files, evidence, columns, lineage, sum(rows.values()), *audited, took, preview=shown)


class SparkModelIOManager(VersionedIOManager):
    """Fitted Spark ML models, saved so that plain PySpark loads them from `<version>/model`."""

    format = "spark-ml"

    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads, lake: Lake
    ) -> _Written:
        artifact.value.write().save((folder / MODEL_FOLDER).uri)
        evidence = replace(evidence_of(artifact, reads), before=version_before(lake, _asset_of(folder)))
        audits = run_audits(spec.audits, evidence)
        lineage = trace_origins(artifact.made_from, lake.asset_of)
        return _Written(folder.data_files(), evidence, dict(spec.parts), lineage, audits=audits)


class JsonIOManager(VersionedIOManager):
    """A dictionary as one JSON document, `<version>/<asset>.json`, with its schema and its card beside it."""

    format = "json"

    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads, lake: Lake
    ) -> _Written:
        asset = _asset_of(folder)
        document = json.dumps(artifact.value, indent=2, default=str)
        folder.write_whole(f"{asset}.json", document.encode())
        if spec.document:
            schema = json.dumps(spec.document.model_json_schema(), indent=2)
            folder.write_whole(f"{asset}.schema.json", schema.encode())
        card = spec.card(artifact.value) if spec.card else None
        if card:
            folder.write_whole(f"{asset}.md", card.encode())
        before = version_before(lake, asset)
        evidence = replace(evidence_of(artifact, reads), before=before, document=artifact.value)
        audits = run_audits(spec.audits, evidence)
        preview = f"```json\n{document}\n```"
        return _Written(folder.data_files(), evidence, audits=audits, preview=preview, card=card)


def _asset_of(folder: Folder) -> str:
    return folder.uri.rsplit("/", 2)[1]


def _read_files(spark: SparkSession, folder: Folder, files: list[FileInfo], schema: StructType) -> DataFrame:
    if not files:
        return spark.createDataFrame([], schema)
    uris = [spark_path(f"{folder.uri}/{f.path}") for f in files]
    return spark.read.schema(schema).option("basePath", folder.uri).parquet(*uris)

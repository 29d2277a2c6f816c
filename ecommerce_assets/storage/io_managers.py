"""The IO managers: Parquet tables, Spark ML models, one JSON document, all on the same versioned, manifested layout.

They write, audit and publish, in that order, and record what each step read. Which version is read is lake.py's
decision, what the metadata looks like metadata.py's.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pyspark.ml.util import DefaultParamsReader
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage import content, metadata, openlineage
from ecommerce_assets.storage.artifact import Artifact
from ecommerce_assets.storage.audits import Audit, Evidence, measure, run_audits
from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.manifest import AuditResult, FileEntry, Manifest, Partition
from ecommerce_assets.storage.provenance import StepReads, step_reads
from ecommerce_assets.storage.tables import TableSchema

AS_READ_BY = "as_read_by"
"""Input metadata key: read the version that the named other input was made from, not the latest."""

PARTITION_COLUMN = "event_date"
MODEL_FOLDER = "model"


@dataclass(frozen=True)
class AssetSpec:
    """What storage must know of an asset: its table schema (None for models and documents) and its audits."""

    schema: TableSchema | None = None
    audits: Sequence[Audit] = ()


@dataclass(frozen=True)
class _Written:
    """A version on disk, before its commit."""

    files: list[FileInfo]
    columns: dict[str, str] | None = None
    rows: int | None = None
    partitions: Mapping[str, Partition] | None = None
    audits: Sequence[AuditResult] = ()
    measures: Mapping[str, Any] | None = None
    preview: str | None = None


class VersionedIOManager(dg.IOManager):
    """Write, audit, publish; read exactly one committed version. Subclasses know one kind of content each."""

    def __init__(self, data_dir: str, catalog: Mapping[str, AssetSpec], lookback_days: int | None = None) -> None:
        self._data_dir, self._catalog, self._lookback_days = data_dir, catalog, lookback_days

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        started_writing = time.monotonic()
        artifact, asset = Artifact.of(obj), context.asset_key.to_user_string()
        reads = step_reads(context.run_id, context.step_key)
        spark = context.resources.spark
        lake = self._lake(context)
        created_at, version = datetime.now(UTC), lake.new_version()
        folder = lake.folder(asset, version)
        written = self.write(spark, folder, artifact, self._catalog[asset], reads)
        written_at = time.monotonic()
        manifest = Manifest(
            asset=asset,
            version=version,
            run_id=context.run_id,
            code_version=context.asset_spec.code_version,
            created_at=created_at,
            committed_at=datetime.now(UTC),
            seconds=round(written_at - min(reads.started, started_writing), 3),
            spark_application_id=spark.application_id,
            parameters=dict(artifact.parameters),
            inputs=tuple(reads.inputs),
            columns=written.columns,
            rows=written.rows,
            bytes=sum(f.bytes for f in written.files),
            files=tuple(FileEntry(path=f.path, bytes=f.bytes) for f in written.files),
            fingerprint=content.fingerprint(folder, written.files),
            partitions=dict(written.partitions or {}),
            audits=tuple(written.audits),
            facts={**artifact.facts, "measures": dict(written.measures or {})},
        )
        lake.publish(manifest)
        schema = self._catalog[asset].schema
        openlineage.emit(manifest, self._data_dir, schema, context.log.warning, context.asset_spec.description)
        metadata.report(context, folder, manifest, schema, written.preview)
        context.log.info(metadata.summary(manifest))

    def load_input(self, context: dg.InputContext) -> Any:
        asset = context.asset_key.to_user_string()
        reads = step_reads(context.step_context.run_id, context.step_context.step.key)
        lake = self._lake(context)
        run_id = context.step_context.run_id
        wants_manifest = context.dagster_type.typing_type is Manifest
        if context.has_asset_partitions and not wants_manifest:
            days = lake.days(asset, run_id, self._lookback_days)
            reads.add_days(days)
            files: dict[str, tuple[Manifest, list[FileEntry]]] = {}
            for day in days:
                files.setdefault(day.manifest.version, (day.manifest, []))[1].extend(day.manifest.files_of(day.day))
            return self.read(context.resources.spark, lake, list(files.values()))
        reader = context.definition_metadata.get(AS_READ_BY) if context.definition_metadata else None
        if reader is None:
            manifest = reads.latest(lake, asset, run_id)
        else:
            manifest = lake.ancestor(reads.latest(lake, reader, run_id), asset)
        reads.add_version(manifest)
        if wants_manifest:
            return manifest
        return self.read(context.resources.spark, lake, [(manifest, list(manifest.files))])

    def _lake(self, context: dg.OutputContext | dg.InputContext) -> Lake:
        return Lake(self._data_dir, warn=context.log.warning)

    @abstractmethod
    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads
    ) -> _Written:
        """Write the value below the folder and audit what was written."""

    @abstractmethod
    def read(self, spark: SparkResource, lake: Lake, chosen: list[tuple[Manifest, list[FileEntry]]]) -> Any:
        """The value of the chosen files of the chosen versions."""


class ParquetIOManager(VersionedIOManager):
    """Spark DataFrames as Parquet; daily assets as one folder per day inside a version."""

    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads
    ) -> _Written:
        assert spec.schema is not None, "a Parquet table needs a schema in the catalog"
        daily = bool(artifact.days)
        frame = spec.schema.conform(artifact.value, extra=[PARTITION_COLUMN] if daily else [])
        writer = frame.write.option("compression", "zstd")
        (writer.partitionBy(PARTITION_COLUMN) if daily else writer).parquet(folder.uri)
        files = folder.data_files()
        rows = content.parquet_rows(folder, files)
        columns = {f.name: f.dataType.simpleString() for f in frame.schema.fields if f.name != PARTITION_COLUMN}
        as_written = _read_files(spark.spark_session, folder, files, frame.schema)
        return (self._audit_days if daily else self._audit_whole)(
            as_written, artifact, spec, reads, files, rows, columns
        )

    def _audit_whole(
        self,
        as_written: DataFrame,
        artifact: Artifact,
        spec: AssetSpec,
        reads: StepReads,
        files: list[FileInfo],
        rows: dict[str, int],
        columns: dict[str, str],
    ) -> _Written:
        measures = measure(as_written, spec.audits)[None]
        audits = run_audits(spec.audits, _evidence(measures, artifact, reads))
        preview = metadata.preview(as_written)
        return _Written(files, columns, sum(rows.values()), None, audits, measures, preview)

    def _audit_days(
        self,
        as_written: DataFrame,
        artifact: Artifact,
        spec: AssetSpec,
        reads: StepReads,
        files: list[FileInfo],
        rows: dict[str, int],
        columns: dict[str, str],
    ) -> _Written:
        by_day = measure(as_written, spec.audits, by=PARTITION_COLUMN)
        audits, partitions = [], {}
        for day in sorted(artifact.days):
            measures = by_day.get(day, {"rows": 0})
            facts = dict(artifact.day_facts.get(day, {}))
            found = run_audits(spec.audits, _evidence(measures, artifact, reads, facts), day)
            audits.extend(found)
            own = [f for f in files if f.path.startswith(f"{PARTITION_COLUMN}={day}/")]
            partitions[day] = Partition(
                rows=sum(rows[f.path] for f in own),
                bytes=sum(f.bytes for f in own),
                published=not any(a.blocking and not a.passed for a in found),
                facts=facts,
                measures=measures,
            )
        from pyspark.sql import functions as F

        newest = as_written.where(F.col(PARTITION_COLUMN) == max(artifact.days)).drop(PARTITION_COLUMN)
        return _Written(files, columns, sum(rows.values()), partitions, audits, None, metadata.preview(newest))

    def read(self, spark: SparkResource, lake: Lake, chosen: list[tuple[Manifest, list[FileEntry]]]) -> DataFrame:
        frames = []
        for manifest, files in chosen:
            folder = lake.folder(manifest.asset, manifest.version)
            uris = [f"{folder.uri}/{f.path}" for f in files]
            schema = ", ".join(f"`{name}` {kind}" for name, kind in (manifest.columns or {}).items())
            reader = spark.spark_session.read.schema(schema)
            # Files are named one by one and without basePath, so that the day in their path adds no column.
            frames.append(reader.parquet(*uris) if uris else spark.spark_session.createDataFrame([], _struct(schema)))
        return _union(frames)


class SparkModelIOManager(VersionedIOManager):
    """Fitted Spark ML models, saved so that plain PySpark loads them from `<version>/model`."""

    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads
    ) -> _Written:
        artifact.value.write().save((folder / MODEL_FOLDER).uri)
        audits = run_audits(spec.audits, _evidence({}, artifact, reads))
        return _Written(folder.data_files(), audits=audits)

    def read(self, spark: SparkResource, lake: Lake, chosen: list[tuple[Manifest, list[FileEntry]]]) -> Any:
        [(manifest, _)] = chosen
        uri = (lake.folder(manifest.asset, manifest.version) / MODEL_FOLDER).uri
        return DefaultParamsReader.loadParamsInstance(uri, spark.spark_session)


class JsonIOManager(VersionedIOManager):
    """A dictionary as one JSON document, `<version>/<asset>.json`."""

    def write(
        self, spark: SparkResource, folder: Folder, artifact: Artifact, spec: AssetSpec, reads: StepReads
    ) -> _Written:
        asset = folder.uri.rsplit("/", 2)[1]
        document = json.dumps(artifact.value, indent=2, default=str)
        folder.write_whole(f"{asset}.json", document.encode())
        audits = run_audits(spec.audits, _evidence({}, artifact, reads))
        return _Written(folder.data_files(), audits=audits, preview=f"```json\n{document}\n```")

    def read(self, spark: SparkResource, lake: Lake, chosen: list[tuple[Manifest, list[FileEntry]]]) -> Any:
        [(manifest, files)] = chosen
        return json.loads(lake.folder(manifest.asset, manifest.version).read_bytes(files[0].path))


def _evidence(
    measures: Mapping[str, Any], artifact: Artifact, reads: StepReads, day_facts: Mapping[str, Any] | None = None
) -> Evidence:
    return Evidence(
        measures=measures,
        facts={**artifact.facts, **(day_facts or {})},
        parameters=artifact.parameters,
        inputs=reads.manifests,
        days=reads.days,
    )


def _read_files(spark: SparkSession, folder: Folder, files: list[FileInfo], schema: StructType) -> DataFrame:
    if not files:
        return spark.createDataFrame([], schema)
    uris = [f"{folder.uri}/{f.path}" for f in files]
    return spark.read.schema(schema).option("basePath", folder.uri).parquet(*uris)


def _struct(ddl: str) -> StructType:
    parsed = StructType.fromDDL(ddl)
    assert isinstance(parsed, StructType)
    return parsed


def _union(frames: list[DataFrame]) -> DataFrame:
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame)
    return whole

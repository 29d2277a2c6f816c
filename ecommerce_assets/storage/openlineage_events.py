"""A manifest as OpenLineage run events, made of the client's generated classes. Sending is openlineage.py's business.

Importing this imports the OpenLineage client.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    JobFacet,
    OutputDatasetFacet,
    RunFacet,
    base_subset_dataset,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    datasource_dataset,
    documentation_dataset,
    documentation_job,
    error_message_run,
    execution_parameters_run,
    external_query_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    storage_dataset,
)

from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.manifest import PARTITION_COLUMN, AuditResult, FileEntry, Input, Manifest
from ecommerce_assets.storage.tables import TableSchema

NAMESPACE = "ecommerce_assets"
"""Namespace of the jobs, where OPENLINEAGE_NAMESPACE names no other."""
PARENT_JOB = "dagster"
"""Job of the Dagster run. Not Dagster's name for it: that depends on who launched the run, and would split an asset's
history in catalogues that put the parent's name before the job's."""
EXTERNAL = {"raw_events": "raw/events"}
"""Folder of assets that come from outside; all others lie in `lake/<asset>`."""
DATED_DROP = re.compile(r"\d{8}_\d{6}")
"""A name with a time in it is no asset of ours but a table that was computed elsewhere."""


def run_events(
    manifest: Manifest, data_dir: str, schema: TableSchema | None = None, description: str | None = None
) -> list[RunEvent]:
    """START and COMPLETE (FAIL for a version that was held back) of the asset's run, and the same of its audits' run.

    The audits have a run of their own, whose input is the asset, because OpenLineage knows assertions on what a run
    reads, not on what it writes.
    """
    inputs = _inputs(manifest, data_dir)
    facets = _run_facets(manifest)
    run_id = _run_id(manifest)
    job = Job(_namespace(), manifest.asset, _job_facets("ASSET", description))
    # `seconds` begins with the first read, `created_at` with the write.
    started = min(manifest.created_at, manifest.committed_at - timedelta(seconds=manifest.seconds))
    start = RunEvent(
        eventType=RunState.START, eventTime=_time(started), run=Run(run_id, facets), job=job, inputs=inputs
    )
    end = RunEvent(
        eventType=RunState.COMPLETE if manifest.publishable else RunState.FAIL,
        eventTime=_time(manifest.committed_at),
        run=Run(run_id, facets | ({} if manifest.publishable else _error(manifest))),
        job=job,
        inputs=inputs,
        outputs=[_output(manifest, data_dir, schema, description)],
    )
    return [start, end, *_audit_events(manifest, data_dir, run_id)]


def dataset_name(uri: str) -> tuple[str, str]:
    """Namespace and name of the dataset in a folder, by OpenLineage's naming specification.

    >>> dataset_name("s3a://shop/data/lake/user_features")
    ('s3://shop', 'data/lake/user_features')
    """
    scheme, remote, rest = uri.partition("://")
    if not remote or scheme == "file":
        return "file", Folder(uri).path
    scheme = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}.get(scheme, scheme)
    authority, _, path = rest.partition("/")
    return f"{scheme}://{authority}", path if scheme in ("s3", "gs", "wasbs") else f"/{path}"


def _named(data_dir: str, asset: str) -> tuple[str, str]:
    # Without the version, so that the dataset stays the same from version to version.
    folder = "processed/parquet" if DATED_DROP.search(asset) else EXTERNAL.get(asset, "lake")
    return dataset_name(f"{data_dir.rstrip('/')}/{folder}" + ("" if asset in EXTERNAL else f"/{asset}"))


def _namespace() -> str:
    return os.environ.get("OPENLINEAGE_NAMESPACE") or NAMESPACE


def _run_id(manifest: Manifest, part: str = "") -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{manifest.run_id}/{manifest.asset}/{manifest.version}{part}"))


def _time(moment: datetime) -> str:
    return moment.isoformat()


def _job_facets(kind: str, description: str | None = None) -> dict[str, JobFacet]:
    facets: dict[str, JobFacet] = {"jobType": job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", kind)}
    if description:
        facets["documentation"] = documentation_job.DocumentationJobFacet(description)
    return facets


def _run_facets(manifest: Manifest) -> dict[str, RunFacet]:
    facets: dict[str, RunFacet] = {}
    if _is_uuid(manifest.run_id):
        facets["parent"] = _parent(manifest.run_id, PARENT_JOB)
    if manifest.spark_application_id:
        facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(version("pyspark"), "spark")
        facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(manifest.spark_application_id, "spark")
    if manifest.parameters:
        facets["executionParameters"] = execution_parameters_run.ExecutionParametersRunFacet(
            [
                execution_parameters_run.ExecutionParameter(
                    key=name, name=name, value=value if isinstance(value, str) else json.dumps(value, default=str)
                )
                for name, value in manifest.parameters.items()
            ]
        )
    return facets


def _parent(run_id: str, job: str) -> parent_run.ParentRunFacet:
    return parent_run.ParentRunFacet(parent_run.Run(run_id), parent_run.Job(_namespace(), job))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _error(manifest: Manifest) -> dict[str, RunFacet]:
    failed = "; ".join(
        f"{a.name}{f' on {a.partition}' if a.partition else ''}: {a.message}" for a in manifest.failed_blocking
    )
    message = f"{manifest.asset} {manifest.version}: held back by {failed}"
    return {"errorMessage": error_message_run.ErrorMessageRunFacet(message, "PYTHON")}


def _inputs(manifest: Manifest, data_dir: str) -> list[InputDataset]:
    """One for each version that was read; the days of one version, and the files of one outside folder, together."""
    together: dict[tuple[str, str | None], list[Input]] = {}
    for entry in manifest.inputs:
        together.setdefault((entry.asset, entry.version), []).append(entry)
    found = []
    for (asset, read_version), entries in together.items():
        own: dict[str, InputDatasetFacet] = {}
        if files := {file.path: file for entry in entries for file in entry.files}:
            size = sum(file.bytes for file in files.values())
            own["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                size=size, fileCount=len(files)
            )
        if days := sorted({day for entry in entries for day in entry.partitions}):
            own["subset"] = base_subset_dataset.InputSubsetInputDatasetFacet(_days(days))
        namespace, name = _named(data_dir, asset)
        facets = _source(namespace) | (_version(read_version) if read_version else {})
        found.append(InputDataset(namespace, name, own, facets=facets))
    return found


def _output(manifest: Manifest, data_dir: str, schema: TableSchema | None, description: str | None) -> OutputDataset:
    """The dataset as written. Of a version that was held back nothing is said but what it is: nobody can read it."""
    namespace, name = _named(data_dir, manifest.asset)
    facets = _source(namespace) | _schema(manifest, schema)
    if description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description)
    if file_format := _file_format(manifest.files):
        facets["storage"] = storage_dataset.StorageDatasetFacet("default", file_format)
    if not manifest.publishable:
        return OutputDataset(namespace, name, facets=facets)
    facets |= _version(manifest.version) | _column_lineage(manifest, data_dir)
    days = manifest.published_days
    parts = [manifest.partitions[day] for day in days]
    own: dict[str, OutputDatasetFacet] = {
        "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=sum(part.rows for part in parts) if parts else manifest.rows,
            size=sum(part.bytes for part in parts) if parts else manifest.bytes,
            fileCount=sum(len(manifest.files_of(day)) for day in days) if parts else len(manifest.files),
        )
    }
    if days:
        own["subset"] = base_subset_dataset.OutputSubsetOutputDatasetFacet(_days(days))
    return OutputDataset(namespace, name, own, facets=facets)


def _source(namespace: str) -> dict[str, DatasetFacet]:
    return {"dataSource": datasource_dataset.DatasourceDatasetFacet(namespace, namespace)}


def _version(name: str) -> dict[str, DatasetFacet]:
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(name)}


def _days(days: Iterable[str]) -> base_subset_dataset.PartitionSubsetCondition:
    return base_subset_dataset.PartitionSubsetCondition(
        [base_subset_dataset.Partition({PARTITION_COLUMN: day}) for day in days]
    )


def _file_format(files: Sequence[FileEntry]) -> str | None:
    """Models are folders of several formats, which have no name in OpenLineage."""
    endings = {file.path.rpartition(".")[2] for file in files}
    return endings.pop() if endings in ({"parquet"}, {"json"}) else None


def _schema(manifest: Manifest, schema: TableSchema | None) -> dict[str, DatasetFacet]:
    if manifest.columns is None:
        return {}
    described = {column.name: column.description for column in schema.columns} if schema else {}
    fields = [
        schema_dataset.SchemaDatasetFacetFields(name, kind, described.get(name), position, fields=None)
        for position, (name, kind) in enumerate(manifest.columns.items(), start=1)
    ]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields)}


def _column_lineage(manifest: Manifest, data_dir: str) -> dict[str, DatasetFacet]:
    if not manifest.column_lineage:
        return {}
    fields = {}
    for column, sources in manifest.column_lineage.items():
        split = [source.partition(".") for source in sources]
        fields[column] = column_lineage_dataset.Fields(
            [column_lineage_dataset.InputField(*_named(data_dir, asset), field) for asset, _, field in split]
        )
    return {"columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields)}


def _audit_events(manifest: Manifest, data_dir: str, audited_run: str) -> list[RunEvent]:
    if not manifest.audits:
        return []
    run_id = _run_id(manifest, "/audits")
    job = Job(_namespace(), f"{manifest.asset}.audits", _job_facets("TEST"))
    facets: dict[str, RunFacet] = {"parent": _parent(audited_run, manifest.asset)}
    assertions = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(_assertions(manifest.audits))
    namespace, name = _named(data_dir, manifest.asset)
    audited = InputDataset(
        namespace,
        name,
        {"dataQualityAssertions": assertions},
        facets=_source(namespace) | _version(manifest.version),
    )
    when, failed = _time(manifest.committed_at), bool(manifest.failed_blocking)
    return [
        RunEvent(eventType=RunState.START, eventTime=when, run=Run(run_id, facets), job=job),
        RunEvent(
            eventType=RunState.FAIL if failed else RunState.COMPLETE,
            eventTime=when,
            run=Run(run_id, facets | (_error(manifest) if failed else {})),
            job=job,
            inputs=[audited],
        ),
    ]


def _assertions(audits: Sequence[AuditResult]) -> list[data_quality_assertions_dataset.Assertion]:
    """Each audit once where it passed; of a daily asset, an audit that failed once for each day on which it did."""
    failed = [audit for audit in audits if not audit.passed]
    passed = {audit.name: audit for audit in audits if audit.name not in {a.name for a in failed}}
    return [
        data_quality_assertions_dataset.Assertion(
            assertion=audit.name,
            success=audit.passed,
            severity="error" if audit.blocking else "warn",
            name=audit.name,
            actual=audit.message or None,
            params={PARTITION_COLUMN: audit.partition} if audit.partition and not audit.passed else None,
        )
        for audit in (*passed.values(), *failed)
    ]

"""Converts the metadata of a version to OpenLineage run events with `run_events`; sending.py sends them.

Importing this imports the OpenLineage client.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    base_subset_dataset,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    datasource_dataset,
    documentation_dataset,
    error_message_run,
    execution_parameters_run,
    external_query_run,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
)

from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.version import PARTITION_COLUMN, Input, Version

NAMESPACE = "ecommerce_assets"
"""Namespace of the jobs, unless OPENLINEAGE_NAMESPACE is set."""

PARENT_JOB = "dagster"
"""Job of the Dagster run. Dagster's own name depends on how the run was launched; it would split an asset's history in
catalogues that prefix the job's name with its parent's."""

_EXPORT = re.compile(r"\d{8}_\d{6}")
"""Names of precomputed tables contain a time; names of assets do not."""


def run_events(
    version: Version, data_dir: str, table: TableSpec | None = None, description: str | None = None
) -> list[RunEvent]:
    """Returns START and COMPLETE (FAIL for a blocked version) of the asset's run, and the same for its checks' run.

    The checks have a separate run, whose input is the asset, because OpenLineage has assertions on inputs only.
    """
    run_id, failed = _run_id(version), bool(version.failed_blocking)
    inputs = _inputs(version, data_dir)
    job = Job(_namespace(), version.asset, {"jobType": job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", "ASSET")})
    # `seconds` begins with the first read, `created_at` with the write.
    started = min(version.created_at, version.committed_at - timedelta(seconds=version.seconds))
    facets = _run_facets(version)
    events = [
        _event(RunState.START, started, Run(run_id, facets), job, inputs=inputs),
        _event(
            RunState.FAIL if failed else RunState.COMPLETE,
            version.committed_at,
            Run(run_id, facets | _error(version)),
            job,
            inputs=inputs,
            outputs=[_output(version, data_dir, table, description)],
        ),
    ]
    if not version.checks:
        return events
    checks = Job(
        _namespace(), f"{version.asset}.checks", {"jobType": job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", "TEST")}
    )
    parent = {"parent": _parent(run_id, version.asset)}
    checks_id = _run_id(version, "/checks")
    return [
        *events,
        _event(RunState.START, version.committed_at, Run(checks_id, parent), checks),
        _event(
            RunState.FAIL if failed else RunState.COMPLETE,
            version.committed_at,
            Run(checks_id, parent | _error(version)),
            checks,
            inputs=[_checked(version, data_dir)],
        ),
    ]


def dataset_name(uri: str) -> tuple[str, str]:
    """Returns the namespace and name of the dataset in a folder, following OpenLineage's naming specification.

    >>> dataset_name("s3a://shop/data/lake/user_features")
    ('s3://shop', 'data/lake/user_features')
    """
    scheme, remote, rest = uri.partition("://")
    if not remote or scheme == "file":
        return "file", Folder(uri).path
    scheme = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}.get(scheme, scheme)
    authority, _, path = rest.partition("/")
    return f"{scheme}://{authority}", path if scheme in ("s3", "gs", "wasbs") else f"/{path}"


def _dataset_of(data_dir: str, asset: str) -> tuple[str, str]:
    # Without the version, so that the dataset stays the same from version to version.
    if asset == "raw_events":
        return dataset_name(f"{data_dir.rstrip('/')}/raw/events")
    return dataset_name(f"{data_dir.rstrip('/')}/{'processed/parquet' if _EXPORT.search(asset) else 'lake'}/{asset}")


def _namespace() -> str:
    return os.environ.get("OPENLINEAGE_NAMESPACE") or NAMESPACE


def _run_id(version: Version, part: str = "") -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{version.run_id}/{version.asset}/{version.folder}{part}"))


def _event(kind: RunState, at: datetime, run: Run, job: Job, **datasets: Any) -> RunEvent:
    return RunEvent(eventType=kind, eventTime=at.isoformat(), run=run, job=job, **datasets)


def _parent(run_id: str, job: str) -> Any:
    return parent_run.ParentRunFacet(parent_run.Run(run_id), parent_run.Job(_namespace(), job))


def _run_facets(version: Version) -> dict[str, Any]:
    facets: dict[str, Any] = {"parent": _parent(version.run_id, PARENT_JOB)} if _is_uuid(version.run_id) else {}
    if version.spark_application_id:
        facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(version.spark_application_id, "spark")
    if version.parameters:
        values = {k: v if isinstance(v, str) else json.dumps(v, default=str) for k, v in version.parameters.items()}
        parameter = execution_parameters_run.ExecutionParameter
        facets["executionParameters"] = execution_parameters_run.ExecutionParametersRunFacet(
            [parameter(key=name, name=name, value=value) for name, value in values.items()]
        )
    return facets


def _is_uuid(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False


def _error(version: Version) -> dict[str, Any]:
    failed = [f"{c.name}{f' on {c.partition}' if c.partition else ''}: {c.message}" for c in version.failed_blocking]
    message = f"{version.asset} {version.version}: blocked by {'; '.join(failed)}"
    return {"errorMessage": error_message_run.ErrorMessageRunFacet(message, "PYTHON")} if failed else {}


def _inputs(version: Version, data_dir: str) -> list[InputDataset]:
    """Returns one dataset per version that was read; the files of a folder share one."""
    grouped: dict[tuple[str, str | None], list[Input]] = {}
    for entry in version.inputs:
        grouped.setdefault((entry.asset, entry.version), []).append(entry)
    datasets = []
    for (asset, input_version), entries in grouped.items():
        days = sorted({day for entry in entries for day in entry.partitions})
        subset: dict[str, Any] = (
            {"subset": base_subset_dataset.InputSubsetInputDatasetFacet(_days(days))} if days else {}
        )
        namespace, name = _dataset_of(data_dir, asset)
        datasets.append(InputDataset(namespace, name, subset, facets=_source(namespace, input_version)))
    return datasets


def _output(version: Version, data_dir: str, table: TableSpec | None, description: str | None) -> OutputDataset:
    """Returns the written dataset; for a blocked version, which nobody can read, only its columns."""
    namespace, name = _dataset_of(data_dir, version.asset)
    facets = _source(namespace, None if version.failed_blocking else version.version)
    if description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description)
    described = {column.name: column.description for column in table.columns} if table else {}
    if version.columns is not None:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            [
                schema_dataset.SchemaDatasetFacetFields(column, kind, described.get(column), place, fields=None)
                for place, (column, kind) in enumerate(version.columns.items(), start=1)
            ]
        )
    if version.failed_blocking:
        return OutputDataset(namespace, name, facets=facets)
    if version.column_lineage:
        facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
            {
                column: column_lineage_dataset.Fields([_field(data_dir, source) for source in sources])
                for column, sources in version.column_lineage.items()
            }
        )
    output_facets: dict[str, Any] = {
        "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=version.stats.rows, size=version.stats.bytes
        )
    }
    if version.days:
        output_facets["subset"] = base_subset_dataset.OutputSubsetOutputDatasetFacet(_days(sorted(version.days)))
    return OutputDataset(namespace, name, output_facets, facets=facets)


def _field(data_dir: str, source: str) -> column_lineage_dataset.InputField:
    asset, _, column = source.partition(".")
    return column_lineage_dataset.InputField(*_dataset_of(data_dir, asset), column)


def _source(namespace: str, version: str | None) -> dict[str, Any]:
    facets: dict[str, Any] = {"dataSource": datasource_dataset.DatasourceDatasetFacet(namespace, namespace)}
    return facets | ({"version": dataset_version_dataset.DatasetVersionDatasetFacet(version)} if version else {})


def _days(days: Iterable[str]) -> base_subset_dataset.PartitionSubsetCondition:
    return base_subset_dataset.PartitionSubsetCondition(
        [base_subset_dataset.Partition({PARTITION_COLUMN: day}) for day in days]
    )


def _checked(version: Version, data_dir: str) -> InputDataset:
    """Returns the asset with its check results: a passed check once, a failed one for each day on which it failed."""
    failed = [check for check in version.checks if not check.passed]
    passed = {check.name: check for check in version.checks if check.name not in {one.name for one in failed}}
    assertions = [
        data_quality_assertions_dataset.Assertion(
            assertion=check.name,
            success=check.passed,
            severity="error" if check.blocking else "warn",
            name=check.name,
            actual=check.message or None,
            params={PARTITION_COLUMN: check.partition} if check.partition and not check.passed else None,
        )
        for check in (*passed.values(), *failed)
    ]
    namespace, name = _dataset_of(data_dir, version.asset)
    facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions)
    return InputDataset(namespace, name, {"dataQualityAssertions": facet}, facets=_source(namespace, version.version))

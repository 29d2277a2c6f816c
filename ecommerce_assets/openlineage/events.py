"""What is recorded of a version as OpenLineage run events. The entry point is `run_events`; sending.py sends them.

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
"""Namespace of the jobs, where OPENLINEAGE_NAMESPACE names no other."""

PARENT_JOB = "dagster"
"""Job of the Dagster run. Not Dagster's name for it: that depends on who launched the run, and would split an asset's
history in catalogues that put the parent's name before the job's."""

_EXPORT = re.compile(r"\d{8}_\d{6}")
"""A name with a time in it is no asset of ours but a table that was computed elsewhere."""


def run_events(
    made: Version, data_dir: str, table: TableSpec | None = None, description: str | None = None
) -> list[RunEvent]:
    """START and COMPLETE (FAIL for a blocked version) of the asset's run, and the same of its checks' run.

    The checks have a run of their own, whose input is the asset, because OpenLineage knows assertions on what a run
    reads, not on what it writes.
    """
    run_id, failed = _run_id(made), bool(made.failed_blocking)
    inputs = _inputs(made, data_dir)
    job = Job(_namespace(), made.asset, {"jobType": job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", "ASSET")})
    # `seconds` begins with the first read, `created_at` with the write.
    started = min(made.created_at, made.committed_at - timedelta(seconds=made.seconds))
    facets = _run_facets(made)
    events = [
        _event(RunState.START, started, Run(run_id, facets), job, inputs=inputs),
        _event(
            RunState.FAIL if failed else RunState.COMPLETE,
            made.committed_at,
            Run(run_id, facets | _error(made)),
            job,
            inputs=inputs,
            outputs=[_output(made, data_dir, table, description)],
        ),
    ]
    if not made.checks:
        return events
    checks = Job(
        _namespace(), f"{made.asset}.checks", {"jobType": job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", "TEST")}
    )
    own = {"parent": _parent(run_id, made.asset)}
    checks_id = _run_id(made, "/checks")
    return [
        *events,
        _event(RunState.START, made.committed_at, Run(checks_id, own), checks),
        _event(
            RunState.FAIL if failed else RunState.COMPLETE,
            made.committed_at,
            Run(checks_id, own | _error(made)),
            checks,
            inputs=[_checked(made, data_dir)],
        ),
    ]


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


def _dataset_of(data_dir: str, asset: str) -> tuple[str, str]:
    # Without the version, so that the dataset stays the same from version to version.
    if asset == "raw_events":
        return dataset_name(f"{data_dir.rstrip('/')}/raw/events")
    return dataset_name(f"{data_dir.rstrip('/')}/{'processed/parquet' if _EXPORT.search(asset) else 'lake'}/{asset}")


def _namespace() -> str:
    return os.environ.get("OPENLINEAGE_NAMESPACE") or NAMESPACE


def _run_id(made: Version, part: str = "") -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{made.run_id}/{made.asset}/{made.folder}{part}"))


def _event(kind: RunState, at: datetime, run: Run, job: Job, **datasets: Any) -> RunEvent:
    return RunEvent(eventType=kind, eventTime=at.isoformat(), run=run, job=job, **datasets)


def _parent(run_id: str, job: str) -> Any:
    return parent_run.ParentRunFacet(parent_run.Run(run_id), parent_run.Job(_namespace(), job))


def _run_facets(made: Version) -> dict[str, Any]:
    facets: dict[str, Any] = {"parent": _parent(made.run_id, PARENT_JOB)} if _is_uuid(made.run_id) else {}
    if made.spark_application_id:
        facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(made.spark_application_id, "spark")
    if made.parameters:
        values = {k: v if isinstance(v, str) else json.dumps(v, default=str) for k, v in made.parameters.items()}
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


def _error(made: Version) -> dict[str, Any]:
    failed = [f"{c.name}{f' on {c.partition}' if c.partition else ''}: {c.message}" for c in made.failed_blocking]
    message = f"{made.asset} {made.version}: blocked by {'; '.join(failed)}"
    return {"errorMessage": error_message_run.ErrorMessageRunFacet(message, "PYTHON")} if failed else {}


def _inputs(made: Version, data_dir: str) -> list[InputDataset]:
    """One for each version that was read; the days of one version, and the files of one outside folder, together."""
    together: dict[tuple[str, str | None], list[Input]] = {}
    for entry in made.inputs:
        together.setdefault((entry.asset, entry.version), []).append(entry)
    found = []
    for (asset, version), entries in together.items():
        days = sorted({day for entry in entries for day in entry.partitions})
        own: dict[str, Any] = {"subset": base_subset_dataset.InputSubsetInputDatasetFacet(_days(days))} if days else {}
        namespace, name = _dataset_of(data_dir, asset)
        found.append(InputDataset(namespace, name, own, facets=_source(namespace, version)))
    return found


def _output(made: Version, data_dir: str, table: TableSpec | None, description: str | None) -> OutputDataset:
    """The dataset as written. Of a blocked version only its columns: nobody can read it."""
    namespace, name = _dataset_of(data_dir, made.asset)
    facets = _source(namespace, None if made.failed_blocking else made.version)
    if description:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description)
    described = {column.name: column.description for column in table.columns} if table else {}
    if made.columns is not None:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            [
                schema_dataset.SchemaDatasetFacetFields(column, kind, described.get(column), place, fields=None)
                for place, (column, kind) in enumerate(made.columns.items(), start=1)
            ]
        )
    if made.failed_blocking:
        return OutputDataset(namespace, name, facets=facets)
    if made.column_lineage:
        facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
            {
                column: column_lineage_dataset.Fields([_field(data_dir, source) for source in sources])
                for column, sources in made.column_lineage.items()
            }
        )
    own: dict[str, Any] = {
        "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=made.stats.rows, size=made.stats.bytes
        )
    }
    if made.days:
        own["subset"] = base_subset_dataset.OutputSubsetOutputDatasetFacet(_days(sorted(made.days)))
    return OutputDataset(namespace, name, own, facets=facets)


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


def _checked(made: Version, data_dir: str) -> InputDataset:
    """Each check once where it passed; of a daily asset, a check that failed once for each day on which it did."""
    failed = [check for check in made.checks if not check.passed]
    passed = {check.name: check for check in made.checks if check.name not in {one.name for one in failed}}
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
    namespace, name = _dataset_of(data_dir, made.asset)
    facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions)
    return InputDataset(namespace, name, {"dataQualityAssertions": facet}, facets=_source(namespace, made.version))

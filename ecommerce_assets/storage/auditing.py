"""Tables as written, judged before anyone can read them: measured once by Spark, then audited, whole or day by day.

What an audit is stands in audits.py; what becomes of a version whose audits fail is the business of lake.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.spark.at_once import at_once
from ecommerce_assets.storage.artifact import Artifact
from ecommerce_assets.storage.asset_spec import AssetSpec
from ecommerce_assets.storage.audits import Evidence, Read, measure, probe, probes_of, run_audits
from ecommerce_assets.storage.before import Before, days_before
from ecommerce_assets.storage.filesystem import FileInfo
from ecommerce_assets.storage.lake import Day, Lake
from ecommerce_assets.storage.manifest import PARTITION_COLUMN, AuditResult, FileEntry, Manifest, Partition
from ecommerce_assets.storage.provenance import StepReads
from ecommerce_assets.storage.reading import files_by_version, read_chosen

Audited = tuple[Mapping[str, Partition] | None, list[AuditResult], Mapping[str, Any] | None]
"""Partitions, audit results, measures."""


def audit_whole(as_written: DataFrame, spec: AssetSpec, evidence: Evidence, read: Read, rows: int) -> Audited:
    """An undivided table: everything is about its `rows` rows; `read` reads what it is compared with."""
    looks = [*probes_of(spec.audits), *spec.described_by]
    questions: list[Callable[[], dict[str, Any]]] = [
        lambda: measure(as_written, spec.audits, rows=rows)[None],
        *(partial(probe, as_written, [look], evidence, read) for look in looks),
    ]
    answers = at_once(as_written.sparkSession, questions)
    measures = {name: value for answer in answers for name, value in answer.items()}
    audits = run_audits(spec.audits, replace(evidence, measures=measures))
    return None, audits, measures


def audit_days(
    as_written: DataFrame,
    artifact: Artifact,
    spec: AssetSpec,
    evidence: Evidence,
    files: list[FileInfo],
    rows: Mapping[str, int],
    earlier: dict[str, Before],
) -> Audited:
    """A daily table: each day by itself, so that a bad day holds back that day alone.

    Parameters
    ----------
    rows
        Of each file, by path.
    earlier
        The days that readers see now, by day; good days of this version are added.
    """
    # Mostly nothing is rejected: to have Spark find that there are no rows takes it as long as a day of them.
    by_day = measure(as_written, spec.audits, by=PARTITION_COLUMN) if files else {}
    audits: list[AuditResult] = []
    partitions = {}
    for day in sorted(artifact.days):
        measures = by_day.get(day, {"rows": 0})
        facts = dict(artifact.day_facts.get(day, {}))
        own_facts = {**artifact.facts, **facts}
        before = days_before(earlier, day)
        found = run_audits(spec.audits, replace(evidence, measures=measures, facts=own_facts, before=before), day)
        audits.extend(found)
        own = [f for f in files if f.path.startswith(f"{PARTITION_COLUMN}={day}/")]
        partitions[day] = Partition(
            rows=sum(rows[f.path] for f in own),
            bytes=sum(f.bytes for f in own),
            published=not any(a.blocking and not a.passed for a in found),
            facts=facts,
            measures=measures,
        )
        if partitions[day].published:
            # What comes after it in this run is compared with the day as it will be.
            earlier[day] = Before(day, partitions[day].rows, evidence.columns, measures, facts, daily=True)
    return partitions, audits, None


def evidence_of(artifact: Artifact, reads: StepReads) -> Evidence:
    """What is known before anything is measured."""
    return Evidence({}, artifact.facts, artifact.parameters, reads.manifests, reads.days)


def table_reader(spark: SparkSession, lake: Lake, reads: StepReads, own: str, evidence: Evidence) -> Read:
    """Reads other tables in the versions that the step itself read, whatever was committed since; by its own name, the
    version before."""

    def read(asset: str) -> DataFrame:
        chosen: Sequence[tuple[Manifest, Sequence[FileEntry]]]
        if asset == own:
            before = lake.version(own, evidence.before[-1].name)
            chosen = [(before, before.files)]
        elif asset in reads.days:
            chosen = files_by_version([Day(day, manifest) for day, manifest in reads.days[asset].items()])
        else:
            chosen = [(manifest, manifest.files) for manifest in reads.manifests[asset]]
        frame: DataFrame = read_chosen(spark, lake, chosen)
        return frame

    return read

"""Audits: what must hold of a version before readers see it. They look at the files as written, not at the plan.

The IO managers run them between write and commit and keep the results in the manifest; the asset checks in checks.py
only report those. What is audited in which table stands with the asset; audits that many tables share stand in
table_audits.py, list_audits.py and drift_audits.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecommerce_assets.storage.before import Before
from ecommerce_assets.storage.manifest import AuditResult, Manifest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ONE_IN = "one_in_so_many_rows"
"""In a measure's SQL: of so many rows one makes a sample of about `SAMPLED_ROWS`."""

SAMPLED_ROWS = 20_000
"""Enough for quantiles to a hundredth: their standard error is a third of that."""


@dataclass(frozen=True)
class Evidence:
    """What an audit may look at.

    Attributes
    ----------
    measures
        Values of the audits' SQL aggregates over the rows as written (of one day, for daily assets), and `rows`.
    facts
        What the asset said about its content.
    parameters
        What the asset was made with.
    inputs
        Manifests of what was read, by asset; daily assets have one for each version that served a day.
    days
        The days that were read of each daily input.
    columns
        Tables only: the columns as written, with their Spark types.
    before
        The version that serves readers while this one is written, or none. For a day of a daily asset: the up to seven
        stored days directly before it, the last of them last.
    document
        Documents only: what was written.
    """

    measures: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)
    days: Mapping[str, Mapping[str, Manifest]] = field(default_factory=dict)
    columns: Mapping[str, str] | None = None
    before: Sequence[Before] = ()
    document: Any = None

    def upstream(self, asset: str, measure: str) -> float:
        """Sum of a measure over what was read of an upstream asset, as its own audits found it."""
        return float(sum(part.get(measure) or 0 for part in self._measured(asset)))

    def upstream_knows(self, asset: str, measure: str) -> bool:
        """Whether all that was read was measured so: a version of before a measure was thought of says nothing."""
        parts = [part for part in self._measured(asset) if part.get("rows") != 0]
        return all(measure in part for part in parts) and (bool(parts) or asset in self.inputs)

    def rows_of(self, asset: str) -> int:
        """Rows of the undivided table that was read."""
        return sum(manifest.rows or 0 for manifest in self.inputs.get(asset, ()))

    def states(self, fact: str) -> bool:
        """Whether this version, or one that it was made from, states a fact."""
        made_from = [manifest.facts for manifests in self.inputs.values() for manifest in manifests]
        return any(facts.get(fact) is not None for facts in [self.facts, *made_from])

    def _measured(self, asset: str) -> list[Mapping[str, Any]]:
        if asset in self.days:
            return [manifest.partitions[day].measures for day, manifest in self.days[asset].items()]
        return [manifest.facts.get("measures", {}) for manifest in self.inputs.get(asset, ())]


@dataclass(frozen=True)
class Finding:
    """What a judge has to say where it is more than what is wrong.

    Attributes
    ----------
    message
        What is wrong, in one sentence; empty where nothing is.
    figures
        What was found, for people, also where nothing is wrong; a few short values by name.
    """

    message: str = ""
    figures: Mapping[str, str | int | float] = field(default_factory=dict)


Judge = Callable[[Evidence], "str | Finding | None"]
"""Says in one sentence what is wrong, or None where nothing is."""

Read = Callable[[str], "DataFrame"]
"""Another table, by its name, in exactly the version that the step read; by the audited table's own name, the version
before it, where `before` says that there is one."""

Probe = Callable[["DataFrame", Evidence, Read], "DataFrame"]
"""From the rows as written, the evidence so far (without measures) and the other tables that the step read: a frame of
one row, whose columns are further measures."""


@dataclass(frozen=True)
class Audit:
    """One thing that must hold.

    Parameters
    ----------
    measures
        SQL aggregates that the judge needs, by name; all audits of a table share one pass over its rows. No distinct
        counts, for Spark then keeps all the others by value, and no sets, for then it compiles none of them; those
        belong in a probe.
    blocking
        True: a version (a day, for daily assets) that fails is never visible. False: a warning.
    softened_by
        Name of a fact: where the version, or one that it was made from, states it, a failure is a warning only.
    probe
        A pass of its own, for what no aggregate over single rows can tell; audits that name the same one share it.
        Undivided tables only.
    """

    name: str
    description: str
    judge: Judge
    measures: Mapping[str, str] = field(default_factory=dict)
    blocking: bool = True
    softened_by: str | None = None
    probe: Probe | None = None


def run_audits(audits: Sequence[Audit], evidence: Evidence, partition: str | None = None) -> list[AuditResult]:
    """Judge the evidence by every audit, in order."""
    results = []
    for audit in audits:
        said = audit.judge(evidence)
        found = said if isinstance(said, Finding) else Finding(said or "")
        results.append(
            AuditResult(
                name=audit.name,
                blocking=audit.blocking and not (audit.softened_by and evidence.states(audit.softened_by)),
                passed=not found.message,
                message=found.message,
                partition=partition,
                figures=dict(found.figures),
            )
        )
    return results


def measure(
    frame: DataFrame, audits: Sequence[Audit], by: str | None = None, rows: int = 0
) -> dict[str | None, dict[str, Any]]:
    """All measures of all audits in one pass over the rows; by the values of column `by` where one is given.

    Parameters
    ----------
    rows
        About how many there are; it decides how many of them make a sample.
    """
    from pyspark.sql import functions as F

    one_in = str(max(1, rows // SAMPLED_ROWS))
    expressions = {"rows": "count(*)"} | {name: sql for audit in audits for name, sql in audit.measures.items()}
    columns = [F.expr(sql.replace(ONE_IN, one_in)).alias(name) for name, sql in expressions.items()]
    grouped = frame.groupBy(by).agg(*columns) if by else frame.agg(*columns)
    found = {}
    for row in grouped.collect():
        values = row.asDict(recursive=True)
        found[str(values.pop(by)) if by else None] = values
    return found


def probes_of(audits: Sequence[Audit]) -> list[Probe]:
    """The probes of the audits, each once."""
    return list(dict.fromkeys(audit.probe for audit in audits if audit.probe))


def probe(frame: DataFrame, probes: Sequence[Probe], evidence: Evidence, read: Read) -> dict[str, Any]:
    """The measures of all probes; what is null counts as 0."""
    found: dict[str, Any] = {}
    for look in probes:
        [row] = look(frame, evidence, read).collect()
        found |= {name: value or 0 for name, value in row.asDict(recursive=True).items()}
    return found


def rule(name: str, description: str, broken: str, *, blocking: bool = True, softened_by: str | None = None) -> Audit:
    """An audit of single rows: `broken` is an SQL condition that no row may meet."""
    column = f"{name}_broken"
    return Audit(
        name=name,
        description=description,
        measures={column: f"count_if({broken})"},
        judge=lambda e: counted(e, column, f"break the rule: {description}"),
        blocking=blocking,
        softened_by=softened_by,
    )


def one_of(name: str, column: str, values: Sequence[str]) -> Audit:
    """An audit that a text column holds nothing but these values."""
    return rule(name, f"{column} is one of {', '.join(values)}.", f"{column} not in ({quoted(values)})")


def quoted(values: Sequence[str]) -> str:
    """Texts as an SQL list."""
    return ", ".join(f"'{value}'" for value in values)


def counted(evidence: Evidence, name: str, what: str) -> str | None:
    """How many rows are so, as a measure counted them; None where there are none."""
    count = evidence.measures.get(name) or 0
    return f"{count:,} of {evidence.measures['rows']:,} rows {what}" if count else None

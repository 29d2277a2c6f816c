"""Audits: what must hold of a version before readers see it. They look at the files as written, not at the plan.

The IO managers run them between write and commit and keep the results in the manifest; the asset checks in checks.py
only report those. What is audited in which table stands with the asset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecommerce_assets.storage.manifest import AuditResult, Manifest
from ecommerce_assets.storage.tables import TableSchema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


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
    """

    measures: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)
    days: Mapping[str, Mapping[str, Manifest]] = field(default_factory=dict)

    def upstream(self, asset: str, measure: str) -> float:
        """Sum of a measure over what was read of an upstream asset, as its own audits found it."""
        if asset in self.days:
            parts = [m.partitions[day].measures.get(measure) for day, m in self.days[asset].items()]
        else:
            parts = [m.facts.get("measures", {}).get(measure) for m in self.inputs.get(asset, ())]
        return float(sum(part for part in parts if part is not None))

    def states(self, fact: str) -> bool:
        """Whether this version, or one that it was made from, states a fact."""
        made_from = [manifest.facts for manifests in self.inputs.values() for manifest in manifests]
        return any(facts.get(fact) is not None for facts in [self.facts, *made_from])


Judge = Callable[[Evidence], str | None]
"""Says in one sentence what is wrong, or None where nothing is."""


@dataclass(frozen=True)
class Audit:
    """One thing that must hold.

    Parameters
    ----------
    measures
        SQL aggregates that the judge needs, by name; all audits of a table share one pass over its rows.
    grouped_by, group_measures
        A column, and SQL aggregates over the rows of each of its values, by name; the judge sees for each name its sum
        over the values. One more pass, for what would otherwise need every key of a large table in a hash table.
    blocking
        True: a version (a day, for daily assets) that fails is never visible. False: a warning.
    softened_by
        Name of a fact: where the version, or one that it was made from, states it, a failure is a warning only.
    """

    name: str
    description: str
    judge: Judge
    measures: Mapping[str, str] = field(default_factory=dict)
    blocking: bool = True
    softened_by: str | None = None
    grouped_by: str | None = None
    group_measures: Mapping[str, str] = field(default_factory=dict)


def run_audits(audits: Sequence[Audit], evidence: Evidence, partition: str | None = None) -> list[AuditResult]:
    """Judge the evidence by every audit, in order."""
    results = []
    for audit in audits:
        message = audit.judge(evidence)
        results.append(
            AuditResult(
                name=audit.name,
                blocking=audit.blocking and not (audit.softened_by and evidence.states(audit.softened_by)),
                passed=message is None,
                message=message or "",
                partition=partition,
            )
        )
    return results


def measure(frame: DataFrame, audits: Sequence[Audit], by: str | None = None) -> dict[str | None, dict[str, Any]]:
    """All measures of all audits in one pass over the rows; by the values of column `by` where one is given.

    What audits measure group by group comes on top, for tables that are measured as a whole.
    """
    from pyspark.sql import functions as F

    expressions = {"rows": "count(*)"} | {name: sql for audit in audits for name, sql in audit.measures.items()}
    columns = [F.expr(sql).alias(name) for name, sql in expressions.items()]
    grouped = frame.groupBy(by).agg(*columns) if by else frame.agg(*columns)
    found = {}
    for row in grouped.collect():
        values = row.asDict()
        found[str(values.pop(by)) if by else None] = values
    for audit in audits:
        if audit.grouped_by and not by:
            groups = frame.groupBy(audit.grouped_by).agg(*[F.expr(q).alias(n) for n, q in audit.group_measures.items()])
            sums = groups.agg(*[F.sum(name).alias(name) for name in audit.group_measures]).collect()[0].asDict()
            found[None] |= {name: value or 0 for name, value in sums.items()}
    return found


RANKS_PER_WORD = 62
LONGEST_LIST = 4 * RANKS_PER_WORD
"""Ranks that `ranks_audit` can tell apart."""


def ranks_audit(column: str) -> Audit:
    """In place of `unique_key` where the key is `column` and a `rank`: each list's ranks are 1, 2, 3 … without a gap.

    The ranks that a list has are collected as bits, which is a tenth of the work of counting distinct pairs.
    """
    words = []
    for first in range(1, LONGEST_LIST, RANKS_PER_WORD):
        last = first + RANKS_PER_WORD - 1
        words.append(f"bit_or(if(rank between {first} and {last}, shiftleft(1L, rank - {first}), 0L))")
    different = " + ".join(f"bit_count({word})" for word in words)
    return Audit(
        name="unique_key",
        description=f"There is one row per {column}, rank, and ranks go from 1 without a gap.",
        judge=lambda e: _broken_lists_message(e, column),
        grouped_by=column,
        group_measures={"broken_lists": f"if({different} = count(*) and max(rank) = count(*), 0, 1)"},
    )


def table_audits(schema: TableSchema, nulls_softened_by: str | None = None) -> list[Audit]:
    """What follows from a table's schema alone: keys are unique (and so not null), required columns hold no null."""
    audits = []
    if schema.required:
        nulls = " or ".join(f"{name} is null" for name in schema.required)
        audits.append(
            Audit(
                name="no_nulls",
                description=f"{', '.join(schema.required)} are never null.",
                measures={"null_rows": f"count_if({nulls})"},
                judge=lambda e: _count_message(e, "null_rows", "have a null in a required column"),
                softened_by=nulls_softened_by,
            )
        )
    if schema.keys[1:] == ["rank"]:
        audits.append(ranks_audit(schema.keys[0]))
    elif schema.keys:
        keys = ", ".join(schema.keys)
        audits.append(
            Audit(
                name="unique_key",
                description=f"There is one row per {keys}.",
                measures={"distinct_keys": f"count(distinct {keys})"},
                judge=lambda e: _duplicate_message(e, keys),
            )
        )
    return audits


def rule(name: str, description: str, broken: str, *, blocking: bool = True) -> Audit:
    """An audit of single rows: `broken` is an SQL condition that no row may meet."""
    column = f"{name}_broken"
    return Audit(
        name=name,
        description=description,
        measures={column: f"count_if({broken})"},
        judge=lambda e: _count_message(e, column, f"break the rule: {description}"),
        blocking=blocking,
    )


def _count_message(evidence: Evidence, name: str, what: str) -> str | None:
    count = evidence.measures.get(name) or 0
    return f"{count:,} of {evidence.measures['rows']:,} rows {what}" if count else None


def _broken_lists_message(evidence: Evidence, column: str) -> str | None:
    broken = evidence.measures["broken_lists"]
    return f"{broken:,} lists of a {column} have a rank twice or leave one out" if broken else None


def _duplicate_message(evidence: Evidence, keys: str) -> str | None:
    rows, distinct = evidence.measures["rows"], evidence.measures.get("distinct_keys") or 0
    return f"{rows - distinct:,} of {rows:,} rows repeat a {keys}" if distinct != rows else None

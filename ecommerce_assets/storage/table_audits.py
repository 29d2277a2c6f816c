"""Audits that follow from a table's schema alone: keys, nulls, and that columns and rows are much as they were.

What a table's values must be stands with the asset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecommerce_assets.storage.audits import Audit, Evidence, Probe, Read, counted
from ecommerce_assets.storage.drift_audits import row_count_stable, schema_unchanged
from ecommerce_assets.storage.tables import TableSchema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def table_audits(
    schema: TableSchema, nulls_softened_by: str | None = None, *, keys: bool = True, steady: bool = True
) -> list[Audit]:
    """Keys are unique (and so not null), required columns hold no null; columns and number of rows are as before.

    Parameters
    ----------
    keys
        False: the table's keys are audited otherwise.
    steady
        False: the number of rows may be any.
    """
    audits = []
    if schema.required:
        nulls = " or ".join(f"{name} is null" for name in schema.required)
        audits.append(
            Audit(
                name="no_nulls",
                description=f"{', '.join(schema.required)} are never null.",
                measures={"null_rows": f"count_if({nulls})"},
                judge=lambda e: counted(e, "null_rows", "have a null in a required column"),
                softened_by=nulls_softened_by,
            )
        )
    if schema.keys and keys:
        names = ", ".join(schema.keys)
        audits.append(
            Audit(
                name="unique_key",
                description=f"There is one row per {names}.",
                probe=_distinct(names),
                judge=lambda e: _duplicates(e, names),
            )
        )
    return [*audits, schema_unchanged(), *([row_count_stable()] if steady else [])]


def _distinct(keys: str) -> Probe:
    def count(rows: DataFrame, _: Evidence, __: Read) -> DataFrame:
        return rows.selectExpr(f"count(distinct {keys}) as distinct_keys")

    return count


def _duplicates(evidence: Evidence, keys: str) -> str | None:
    rows, distinct = evidence.measures["rows"], evidence.measures.get("distinct_keys") or 0
    return f"{rows - distinct:,} of {rows:,} rows repeat a {keys}" if distinct != rows else None

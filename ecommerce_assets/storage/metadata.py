"""Dagster metadata of a materialisation, made in one place from the manifest.

The UI shows the entries in the order in which they are added: what people look for comes first, what leads back to the
data next, what only machines read last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.manifest import AuditResult, Input, Manifest
from ecommerce_assets.storage.markdown import behind_a_link, markdown_table, widest_row
from ecommerce_assets.storage.tables import TableSchema

PREVIEW_ROWS = 10
ROOM = 60
"""Characters of a table's row for which the UI's column of values has room."""
NO_RAW_DATA = "none written: there is no raw data, or a file of it cannot be read (then the run's log names it)"
LARGE = 100_000
"""Numbers from here on are rounded to tenths, smaller ones to six digits."""
FEW = 3
"""A list of more numbers than this is told in a line."""

AFTER_FACTS = ("card", "pictures", "preview", "document")
"""Texts that come behind the numbers; all others are a few words and come before them."""


@dataclass(frozen=True)
class Shown:
    """What people see of a version, as Markdown: a document's card, pictures, first rows (or the document), notes."""

    card: str | None = None
    pictures: str | None = None
    preview: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def column_schema(schema: TableSchema, columns: Mapping[str, str]) -> dg.TableSchema:
    """The table's columns with types as stored, descriptions and constraints, as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=columns.get(column.name, column.type),
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable and not column.key, unique=column.key and len(schema.keys) == 1
                ),
            )
            for column in schema.columns
        ]
    )


def preview(folder: Folder, files: Sequence[FileInfo]) -> str | None:
    """The first rows of Parquet files as a Markdown table, without a Spark job; None where there is no file."""
    first: list[pa.RecordBatch] = []
    for file in files:
        with folder.open(file.path) as source:
            first += islice(pq.ParquetFile(source).iter_batches(PREVIEW_ROWS), 1)
        if sum(batch.num_rows for batch in first) >= PREVIEW_ROWS:
            break
    if not files:
        return None
    if not first:
        return "no rows"
    rows = pa.Table.from_batches(first).slice(0, PREVIEW_ROWS)
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in rows.schema.types]
    text = markdown_table(rows.column_names, [row.values() for row in rows.to_pylist()], numbers)
    return text if widest_row(text) <= ROOM else behind_a_link(text)


@dataclass(frozen=True)
class _Part:
    """What one event is about: a version, or one day of it."""

    rows: Mapping[str, int]
    bytes: int
    facts: Mapping[str, Any]
    inputs: Sequence[Input]
    failed: Sequence[AuditResult]


def report(
    context: dg.OutputContext, folder: Folder, manifest: Manifest, schema: TableSchema | None, shown: Shown
) -> None:
    """Attach the metadata of a written version to its materialisation event, or to each day's event."""
    texts = _markdown(shown, "document" if schema is None else "preview")
    if not manifest.partitions and not context.has_asset_partitions:
        context.add_output_metadata(_entries(folder, manifest, _whole(manifest), schema, texts))
        return
    newest = max(manifest.partitions)
    for day in context.asset_partition_keys:
        own: dict[str, Any] = {"rows": NO_RAW_DATA}
        if day in manifest.partitions:
            part = _of_day(manifest, day)
            own = _entries(folder, manifest, part, schema, texts if day == newest else {})
        context.step_context.add_asset_metadata(own, asset_key=context.asset_key, partition_key=day)


def _whole(manifest: Manifest) -> _Part:
    rows = {} if manifest.rows is None else {"dagster/row_count": manifest.rows}
    return _Part(rows, manifest.bytes, _facts(manifest), manifest.inputs, manifest.failed_blocking)


def _of_day(manifest: Manifest, day: str) -> _Part:
    own = manifest.partitions[day]
    return _Part(
        rows={"dagster/partition_row_count": own.rows},
        bytes=own.bytes,
        facts={**own.facts, **_facts(manifest)},
        inputs=[entry for entry in manifest.inputs if not entry.partitions or day in entry.partitions],
        failed=[result for result in manifest.failed_blocking if result.partition == day],
    )


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {name: value for name, value in manifest.facts.items() if name != "measures"}


def _entries(
    folder: Folder, manifest: Manifest, part: _Part, schema: TableSchema | None, texts: Mapping[str, Any]
) -> dict[str, Any]:
    """All entries, in the order in which they are read."""
    facts = {name: _shown(value) for name, value in part.facts.items()}
    lists = {name: value for name, value in facts.items() if isinstance(value, dg.JsonMetadataValue)}
    found: dict[str, Any] = {}
    if part.failed:
        found["held back by"] = "; ".join(f"{result.name}: {result.message}" for result in part.failed)
    found |= {name: text for name, text in texts.items() if name not in AFTER_FACTS}
    found |= part.rows
    found |= {name: value for name, value in facts.items() if name not in lists}
    found |= {name: texts[name] for name in AFTER_FACTS if name in texts}
    if manifest.parameters:
        found["parameters"] = dg.MetadataValue.json(manifest.parameters)
    found |= lists
    if manifest.columns is not None:
        found["column lineage"] = dg.MetadataValue.md(_lineage_table(manifest))
    found |= {
        "inputs": dg.MetadataValue.md(_inputs_table(part.inputs)),
        "version": manifest.version,
        "bytes": part.bytes,
        "seconds": manifest.seconds,
        "Spark application": manifest.spark_application_id or "none",
        "dagster/uri": dg.MetadataValue.path(folder.uri),
        "dagster/size_bytes": part.bytes,
    }
    if schema is not None and manifest.columns is not None:
        found["dagster/column_schema"] = column_schema(schema, manifest.columns)
        found["dagster/column_lineage"] = _column_lineage(manifest)
    return found


def _markdown(shown: Shown, first_rows: str) -> dict[str, Any]:
    texts = {**shown.notes, "card": shown.card, "pictures": shown.pictures, first_rows: shown.preview}
    return {name: dg.MetadataValue.md(text) for name, text in texts.items() if text}


def summary(manifest: Manifest) -> str:
    """One line for the log."""
    rows = "" if manifest.rows is None else f"{manifest.rows:,} rows, "
    days = f"{len(manifest.partitions):,} day{'s' * (len(manifest.partitions) > 1)}, " if manifest.partitions else ""
    state = "published" if manifest.publishable else "HELD BACK"
    withheld = sorted(set(manifest.partitions) - set(manifest.published_days)) if manifest.publishable else []
    but = f" without {', '.join(withheld)}, held back" if withheld else ""
    return f"{manifest.asset}: {days}{rows}{manifest.seconds:.1f} s, {state}{but} as {manifest.version}"


def _inputs_table(inputs: Sequence[Input]) -> str:
    """One line for each version that was read; raw files, which have none, in one line."""
    files: dict[str, list[Input]] = {}
    rows = []
    for entry in inputs:
        if entry.version is None:
            files.setdefault(entry.asset, []).append(entry)
        else:
            rows.append((entry.asset, entry.version + _days(entry.partitions)))
    for asset, parts in files.items():
        count = sum(len(part.files) for part in parts)
        days = [day for part in parts for day in part.partitions]
        rows.append((asset, f"{count:,} file{'' if count == 1 else 's'}" + _days(days)))
    return markdown_table(("input", "version"), rows)


def _days(days: Sequence[str]) -> str:
    if not days:
        return ""
    return f", {days[0]}" if len(days) == 1 else f", {len(days):,} days from {min(days)} to {max(days)}"


def _column_lineage(manifest: Manifest) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(s.partition(".")[0]), s.partition(".")[2]) for s in sources]
            for column, sources in manifest.column_lineage.items()
        }
    )


def _lineage_table(manifest: Manifest) -> str:
    """The same for people: the open-source UI has no view of column lineage."""
    rows = [(column, ", ".join(sources) or "no column") for column, sources in manifest.column_lineage.items()]
    return markdown_table(("column", "computed from"), rows)


def _shown(value: Any) -> Any:
    rounded = _rounded(value)
    if isinstance(rounded, dict | list):
        return dg.MetadataValue.json(rounded)
    return dg.MetadataValue.null() if rounded is None else rounded


def _rounded(value: Any) -> Any:
    """The manifest has every digit; people want some, and a list of numbers in a line rather than a page."""
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_rounded(part) for part in value]
        one_line = len(parts) > FEW and all(isinstance(part, int | float) for part in parts)
        return ", ".join(map(str, parts)) if one_line else parts
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 1) if abs(value) >= LARGE else float(f"{value:.6g}")
    return value

"""Dagster metadata of a materialisation, made in one place from the version's own metadata.

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

from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.markdown import behind_a_link, markdown_table, widest_row
from ecommerce_assets.storage.version import Input, Stats, Version

PREVIEW_ROWS = 10
ROOM = 60
"""Characters of a table's row for which the UI's column of values has room."""
NO_RAW_DATA = "none written: there is no raw data, or a file of it cannot be read (see the run's log)"
LARGE = 100_000
"""Numbers from here on are rounded to tenths, smaller ones to six digits."""
FEW = 3
"""A list of more numbers than this is shown in a line."""

AFTER_RESULTS = ("card", "plots", "preview", "document")
"""Texts that come behind the numbers; all others are a few words and come before them."""


@dataclass(frozen=True)
class Texts:
    """What people see of a version, as Markdown: a document's card, plots, first rows (or the document), notes."""

    card: str | None = None
    plots: str | None = None
    preview: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def entries(self, first_rows: str) -> dict[str, Any]:
        """By name; the preview is called `first_rows`."""
        texts = {**self.notes, "card": self.card, "plots": self.plots, first_rows: self.preview}
        return {name: dg.MetadataValue.md(text) for name, text in texts.items() if text}


def column_schema(table: TableSpec, columns: Mapping[str, str]) -> dg.TableSchema:
    """The table's columns with types as stored, descriptions and constraints, as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=columns.get(column.name, column.type),
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable and not column.key, unique=column.key and len(table.keys) == 1
                ),
            )
            for column in table.columns
        ]
    )


def preview(table: Folder, paths: Sequence[str]) -> str | None:
    """The first rows of Parquet files as a Markdown table, without a Spark job; None where there is no file."""
    first: list[pa.RecordBatch] = []
    for path in paths:
        with table.open(path) as source:
            parquet = pq.ParquetFile(source, page_checksum_verification=True)
            first += islice(parquet.iter_batches(PREVIEW_ROWS), 1)
        if sum(batch.num_rows for batch in first) >= PREVIEW_ROWS:
            break
    if not paths:
        return None
    if not first:
        return "no rows"
    rows = pa.Table.from_batches(first).slice(0, PREVIEW_ROWS)
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in rows.schema.types]
    text = markdown_table(rows.column_names, [row.values() for row in rows.to_pylist()], numbers)
    return text if widest_row(text) <= ROOM else behind_a_link(text)


def report(
    context: dg.OutputContext,
    version: Version,
    uri: str,
    table: TableSpec | None,
    texts: Texts,
    *,
    emit_days: bool,
) -> None:
    """Attach the metadata of a published version to its materialisation event, or to each day's event.

    `emit_days`: the step is about to fail because of other days, so the days' events are emitted here.
    """
    shown = texts.entries("document" if table is None else "preview")
    if not version.days and not context.has_asset_partitions:
        context.add_output_metadata(_entries(version, version.stats, version.inputs, uri, table, shown))
        return
    newest = max(version.days)
    for day in context.asset_partition_keys:
        own: dict[str, Any] = {"rows": NO_RAW_DATA}
        if day in version.days:
            read = [entry for entry in version.inputs if not entry.partitions or day in entry.partitions]
            own = _entries(version, version.days[day], read, uri, table, shown if day == newest else {})
        if not emit_days:
            context.step_context.add_asset_metadata(own, asset_key=context.asset_key, partition_key=day)
        elif day in version.days:
            context.log_event(dg.AssetMaterialization(context.asset_key, metadata=own, partition=day))


def _entries(
    version: Version,
    stats: Stats,
    inputs: Sequence[Input],
    uri: str,
    table: TableSpec | None,
    texts: Mapping[str, Any],
) -> dict[str, Any]:
    """All entries, in the order in which they are read."""
    results = {name: _shown(value) for name, value in stats.results.items()}
    lists = {name: value for name, value in results.items() if isinstance(value, dg.JsonMetadataValue)}
    found: dict[str, Any] = {name: text for name, text in texts.items() if name not in AFTER_RESULTS}
    if stats.rows is not None:
        found["dagster/partition_row_count" if version.days else "dagster/row_count"] = stats.rows
    found |= {name: value for name, value in results.items() if name not in lists}
    found |= {name: texts[name] for name in AFTER_RESULTS if name in texts}
    if version.parameters:
        found["parameters"] = dg.MetadataValue.json(version.parameters)
    found |= lists
    if version.columns is not None and version.column_lineage is not None:
        found["column lineage"] = dg.MetadataValue.md(_lineage_table(version))
    found |= {
        "inputs": dg.MetadataValue.md(_inputs_table(inputs)),
        "version": version.version,
        "bytes": stats.bytes,
        "seconds": version.seconds,
        "Spark application": version.spark_application_id or "none",
        "dagster/uri": dg.MetadataValue.path(uri),
        "dagster/size_bytes": stats.bytes,
    }
    if table is not None and version.columns is not None:
        found["dagster/column_schema"] = column_schema(table, version.columns)
        if version.column_lineage is not None:
            found["dagster/column_lineage"] = _column_lineage(version)
    return found


def summary(version: Version) -> str:
    """One line for the log."""
    rows = "" if version.stats.rows is None else f"{version.stats.rows:,} rows, "
    days = f"{len(version.days):,} day{'s' * (len(version.days) > 1)}, " if version.days else ""
    return f"{version.asset}: {days}{rows}{version.seconds:.1f} s, published as version {version.version}"


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


def _column_lineage(version: Version) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(s.partition(".")[0]), s.partition(".")[2]) for s in sources]
            for column, sources in (version.column_lineage or {}).items()
        }
    )


def _lineage_table(version: Version) -> str:
    """The same for people: the open-source UI has no view of column lineage."""
    rows = [(column, ", ".join(sources) or "no column") for column, sources in (version.column_lineage or {}).items()]
    return markdown_table(("column", "computed from"), rows)


def _shown(value: Any) -> Any:
    rounded = _rounded(value)
    if isinstance(rounded, dict | list):
        return dg.MetadataValue.json(rounded)
    return dg.MetadataValue.null() if rounded is None else rounded


def _rounded(value: Any) -> Any:
    """The version has every digit; people want some, and a list of numbers in a line rather than a page."""
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_rounded(part) for part in value]
        one_line = len(parts) > FEW and all(isinstance(part, int | float) for part in parts)
        return ", ".join(map(str, parts)) if one_line else parts
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 1) if abs(value) >= LARGE else float(f"{value:.6g}")
    return value

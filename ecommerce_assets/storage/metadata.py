"""Dagster metadata of a materialisation, made in one place from the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.storage.filesystem import FileInfo, Folder
from ecommerce_assets.storage.manifest import Manifest
from ecommerce_assets.storage.tables import TableSchema

PREVIEW_ROWS = 10
NO_RAW_DATA = "no raw data"


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
    return str(pa.Table.from_batches(first).slice(0, PREVIEW_ROWS).to_pandas().to_markdown(index=False))


def report(
    context: dg.OutputContext, folder: Folder, manifest: Manifest, schema: TableSchema | None, shown: Shown
) -> None:
    """Attach the metadata of a written version to its materialisation event, or to each day's event."""
    common: dict[str, Any] = {
        "version": manifest.version,
        "dagster/uri": dg.MetadataValue.path(folder.uri),
        "inputs": dg.MetadataValue.md(_inputs_table(manifest)),
        "bytes": manifest.bytes,
        "seconds": manifest.seconds,
        "Spark application": manifest.spark_application_id or "none",
    }
    if not manifest.publishable:
        common = {"held back by": "; ".join(f"{a.name}: {a.message}" for a in manifest.failed_blocking)} | common
    if manifest.parameters:
        common["parameters"] = dg.MetadataValue.json(manifest.parameters)
    common |= {name: _shown(value) for name, value in manifest.facts.items() if name != "measures"}
    if schema is not None and manifest.columns is not None:
        common["dagster/column_schema"] = column_schema(schema, manifest.columns)
        common["dagster/column_lineage"] = _column_lineage(manifest)
        common["column lineage"] = dg.MetadataValue.md(_lineage_table(manifest))
    if not manifest.partitions and not context.has_asset_partitions:
        if manifest.rows is not None:
            common["dagster/row_count"] = manifest.rows
        context.add_output_metadata(common | _markdown(shown))
        return
    newest = max(manifest.partitions)
    for day in context.asset_partition_keys:
        covered = day in manifest.partitions
        own: dict[str, Any] = {**common, **_day_metadata(manifest, day)} if covered else {"rows": NO_RAW_DATA}
        if day == newest:
            own |= _markdown(shown)
        context.step_context.add_asset_metadata(own, asset_key=context.asset_key, partition_key=day)


def _markdown(shown: Shown) -> dict[str, Any]:
    texts = {**shown.notes, "card": shown.card, "pictures": shown.pictures, "preview": shown.preview}
    return {name: dg.MetadataValue.md(text) for name, text in texts.items() if text}


def summary(manifest: Manifest) -> str:
    """One line for the log."""
    rows = "" if manifest.rows is None else f"{manifest.rows:,} rows, "
    days = f"{len(manifest.partitions):,} days, " if manifest.partitions else ""
    state = "published" if manifest.publishable else "HELD BACK"
    withheld = sorted(set(manifest.partitions) - set(manifest.published_days)) if manifest.publishable else []
    but = f" without {', '.join(withheld)}, held back" if withheld else ""
    return f"{manifest.asset}: {days}{rows}{manifest.seconds:.1f} s, {state}{but} as {manifest.version}"


def _day_metadata(manifest: Manifest, day: str) -> dict[str, Any]:
    partition = manifest.partitions[day]
    failed = [a for a in manifest.failed_blocking if a.partition == day]
    held_back = {"held back by": "; ".join(f"{a.name}: {a.message}" for a in failed)} if failed else {}
    facts = {name: _shown(value) for name, value in partition.facts.items()}
    return {**held_back, "dagster/partition_row_count": partition.rows, "bytes": partition.bytes, **facts}


def _inputs_table(manifest: Manifest) -> str:
    lines = ["| input | version | days |", "|---|---|---|"]
    for entry in manifest.inputs:
        days = (
            f"{min(entry.partitions)} … {max(entry.partitions)} ({len(entry.partitions)})" if entry.partitions else ""
        )
        lines.append(f"| {entry.asset} | {entry.version or f'{len(entry.files)} files'} | {days} |")
    return "\n".join(lines)


def _column_lineage(manifest: Manifest) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(s.partition(".")[0]), s.partition(".")[2]) for s in sources]
            for column, sources in manifest.column_lineage.items()
        }
    )


def _lineage_table(manifest: Manifest) -> str:
    """The same for people: the open-source UI has no view of column lineage."""
    lines = [f"| {column} | {', '.join(sources)} |" for column, sources in manifest.column_lineage.items()]
    return "\n".join(["| column | computed from |", "|---|---|", *lines])


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping | list | tuple):
        return dg.MetadataValue.json(value)
    return dg.MetadataValue.null() if value is None else value

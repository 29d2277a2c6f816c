"""Dagster metadata of a materialisation, from the version's metadata. The entry point is `report`.

The UI keeps the order of the entries: plots and texts first, then numbers, then the origin of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_assets.spark.column_lineage import UNAVAILABLE
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.markdown import markdown_table, with_room
from ecommerce_assets.storage.step_context import add_day_metadata
from ecommerce_assets.storage.version import Input, Stats, Version, plain

PREVIEW_ROWS = 8
ROWS_TO_CHOOSE_FROM = 1_000
"""Number of rows from which a table's own preview is chosen."""
NO_RAW_DATA = "none written, because there is no raw data; the stored day stays"
LARGE = 100_000
"""Numbers from this on are rounded to tenths, smaller ones to six significant digits."""
CODE_VERSION_TAG = "dagster/code_version"
NO_AUTOMATIC_EVENTS = {"__source_asset_observation__": True}
"""Metadata of an output for which Dagster emits no events. Otherwise it emits one for each day of the run's range, also
for days without data. Dagster has no public option for it; a test notices if this changes."""
FEW = 3
"""Longer lists of numbers are shown in one line."""


def column_schema(table: TableSpec, columns: Mapping[str, str]) -> dg.TableSchema:
    """Returns the table's columns with stored types, descriptions and constraints for Dagster."""
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


def preview(folder: Folder, paths: Sequence[str], choose: Callable[[pa.Table], pa.Table] | None = None) -> str:
    """Returns a few rows of Parquet files as a Markdown table, without Spark; empty if there are no files.

    Parameters
    ----------
    choose
        Returns the rows to show from the first `ROWS_TO_CHOOSE_FROM`; None: the first `PREVIEW_ROWS`.
    """
    wanted = ROWS_TO_CHOOSE_FROM if choose else PREVIEW_ROWS
    batches: list[pa.RecordBatch] = []
    for path in paths:
        with folder.open(path) as source:
            batches += islice(pq.ParquetFile(source, page_checksum_verification=True).iter_batches(wanted), 1)
        if sum(batch.num_rows for batch in batches) >= wanted:
            break
    if not batches:
        return "no rows" if paths else ""
    rows = pa.Table.from_batches(batches).slice(0, wanted)
    if choose:
        rows = choose(rows)
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in rows.schema.types]
    return markdown_table(rows.column_names, [row.values() for row in rows.to_pylist()], numbers)


def report(
    context: dg.OutputContext,
    version: Version,
    uri: str,
    table: TableSpec | None,
    texts: Mapping[str, str],
    numbers: Mapping[str, float] | None = None,
    *,
    emit_days: bool,
    stored_days: Collection[str] = (),
    total_rows: int | None = None,
) -> None:
    """Adds the metadata of a published version to its materialisation event, or to each day's event.

    Parameters
    ----------
    texts
        Markdown by name, such as plots and notes. Empty ones are omitted.
    numbers
        Numbers that the UI plots over time. Not for daily tables.
    emit_days
        Whether to emit the days' events here, because Dagster would emit none (the step is about to fail because of
        other days) or one for each day of the run, also for days without data.
    stored_days
        Days of the run without raw data that are stored; their event says so.
    total_rows
        Daily tables only: number of rows of all stored days. The newest day's event has it, and the texts.
    """
    if not version.days and not context.has_asset_partitions:
        entries = _entries(version, version.stats, version.inputs, uri, table, texts, numbers or {})
        context.add_output_metadata(entries)
        return
    newest = max(version.days)
    tags = {CODE_VERSION_TAG: version.code_version} if version.code_version else {}
    for day in context.asset_partition_keys:
        entries = {"rows": NO_RAW_DATA}
        if day in version.days:
            read = [entry for entry in version.inputs if not entry.partitions or day in entry.partitions]
            entries = _entries(version, version.days[day], read, uri, table, texts if day == newest else {})
            if day == newest and total_rows is not None:
                entries["dagster/row_count"] = total_rows
        if not emit_days:
            add_day_metadata(context, entries, day)
        elif day in version.days or day in stored_days:
            event = dg.AssetMaterialization(context.asset_key, metadata=entries, partition=day, tags=tags)
            context.log_event(event)


def _entries(
    version: Version,
    stats: Stats,
    inputs: Sequence[Input],
    uri: str,
    table: TableSpec | None,
    texts: Mapping[str, str],
    numbers: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns all entries, in the order of the UI."""
    entries: dict[str, Any] = {name: _markdown(text) for name, text in texts.items() if text}
    entries |= {name: _rounded(value) for name, value in numbers.items()}
    if stats.rows is not None:
        entries["dagster/partition_row_count" if version.days else "dagster/row_count"] = stats.rows
    entries |= {name: _shown(value) for name, value in stats.results.items() if not _is_nested(value)}
    nested = {name: _rounded(value) for name, value in stats.results.items() if value and _is_nested(value)}
    if nested:
        entries["other results"] = dg.MetadataValue.json(nested)
    if version.parameters:
        entries["parameters"] = dg.MetadataValue.json(version.parameters)
    lineage = version.column_lineage or {}
    if lineage:
        # For people: the open-source UI has no view of dagster/column_lineage.
        entries["column lineage"] = _markdown(_lineage_table(lineage))
    elif version.column_lineage is None:
        entries["column lineage"] = UNAVAILABLE
    entries |= {
        "inputs": _markdown(_inputs_table(inputs)),
        "version": version.version,
        "seconds": version.seconds,
        "Spark application": version.spark_application_id or "none",
        "dagster/uri": dg.MetadataValue.path(uri),
        "dagster/size_bytes": stats.bytes,
    }
    if table is not None and version.columns is not None:
        entries["dagster/column_schema"] = column_schema(table, version.columns)
        entries["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(dg.AssetKey(s.partition(".")[0]), s.partition(".")[2]) for s in sources]
                for column, sources in lineage.items()
            }
        )
    return entries


def summary(version: Version, position: str) -> str:
    """Returns one line for the log; `position` is the asset's number in the run, such as `3 of 14`."""
    name = f"{version.asset} ({position})" if position else version.asset
    rows = "" if version.stats.rows is None else f"{version.stats.rows:,} rows, "
    days = f"{len(version.days):,} day{'s' * (len(version.days) > 1)}, " if version.days else ""
    return f"{name}: {days}{rows}{version.seconds:.1f} s, published as version {version.version}"


def _inputs_table(inputs: Sequence[Input]) -> str:
    """Returns a table with one line per version that was read; files of one source share a line."""
    lines: dict[tuple[str, str | None], list[Input]] = {}
    for entry in sorted(inputs, key=lambda entry: entry.version is None):
        lines.setdefault((entry.asset, entry.version), []).append(entry)
    rows = []
    for (asset, version), entries in lines.items():
        count, days = sum(len(entry.files) for entry in entries), [d for entry in entries for d in entry.partitions]
        what = version or f"{count:,} file{'s' * (count != 1)}"
        if days:
            what += f", {days[0]}" if len(days) == 1 else f", {len(days):,} days from {min(days)} to {max(days)}"
        rows.append((asset, what))
    return markdown_table(("input", "version"), rows)


def _lineage_table(lineage: Mapping[str, Sequence[str]]) -> str:
    """Returns a row for each set of sources with the columns that are computed from them; sources by asset."""
    computed: dict[tuple[str, ...], list[str]] = {}
    for column, sources in lineage.items():
        computed.setdefault(tuple(sorted(sources)), []).append(column)
    rows = []
    for sources, columns in computed.items():
        by_asset: dict[str, list[str]] = {}
        for source in sources:
            asset, _, name = source.partition(".")
            by_asset.setdefault(asset, []).append(name)
        text = "; ".join(f"{asset}: {', '.join(names)}" for asset, names in by_asset.items())
        rows.append((", ".join(columns), text or "no column"))
    return markdown_table(("columns", "computed from"), rows)


def _markdown(text: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(with_room(text))


def _is_nested(value: Any) -> bool:
    """Returns whether a result is null, or neither a number nor a text nor a list of these."""
    return value is None or isinstance(value, Mapping) or (isinstance(value, list) and any(map(_is_nested, value)))


def _shown(value: Any) -> Any:
    rounded = _rounded(value)
    if isinstance(rounded, list):
        return dg.MetadataValue.json(rounded)
    return rounded


def _rounded(value: Any) -> Any:
    """Returns the value with fewer digits; a list of numbers becomes one line."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_rounded(part) for part in value]
        one_line = len(parts) > FEW and all(isinstance(part, int | float) for part in parts)
        return ", ".join(map(str, parts)) if one_line else parts
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 1) if abs(value) >= LARGE else float(f"{value:.6g}")
    return value

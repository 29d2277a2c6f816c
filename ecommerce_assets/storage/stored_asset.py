"""`StoredAsset`: how an asset is stored, checked and shown. `Artifact`: an asset's output and its metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ecommerce_assets.spark.column_lineage import Origins
from ecommerce_assets.storage.checks import Check, Summary
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.display import Note, Plot, Preview
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Input, Version

Choice = Callable[[Lake, str], Version]
"""Returns the version to read for a run id. A version that the run itself wrote comes first."""


@dataclass(frozen=True)
class StoredAsset:
    """How an asset is stored, checked and shown.

    Attributes
    ----------
    table
        Columns of a table; None for models and documents.
    checks
        Rules that each version must satisfy.
    parts
        Models only: Spark types of the parts that other columns are computed from, by name. They count as its columns.
    summaries
        For plots and documents: more summaries of the rows. Not for daily tables.
    document
        Documents only: the pydantic model of the content; its JSON Schema is written too.
    card
        Documents only: returns the content as Markdown, which is written and shown.
    closing
        Documents only: returns a last log line from the document and the URI of the lake.
    plots, notes
        Shown in the UI.
    preview
        Tables only: the rows that the UI shows; None: the first ones.
    choose
        Chooses the version that readers get; None: the newest.
    folder
        External assets only: their folder in the data dir.
    """

    table: TableSpec | None = None
    checks: Sequence[Check] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    summaries: Sequence[Summary] = ()
    document: type[BaseModel] | None = None
    card: Callable[[Mapping[str, Any]], str] | None = None
    closing: Callable[[Mapping[str, Any], str], str] | None = None
    plots: Sequence[Plot] = ()
    notes: Sequence[Note] = ()
    preview: Preview | None = None
    choose: Choice | None = None
    folder: str | None = None

    @property
    def column_names(self) -> list[str]:
        """A table's columns or a model's parts; empty for a document."""
        return self.table.names if self.table else list(self.parts)


@dataclass(frozen=True)
class Artifact:
    """A value, and what is recorded with it.

    Attributes
    ----------
    value
        A DataFrame or an Arrow table, a model (Spark ML's, or any that saves itself in that layout), or a dictionary of
        JSON values.
    parameters
        Parameters of the version.
    results
        Results that are recorded in the stats and shown in the UI.
    days
        Daily assets only: the days that the value replaces, also those without rows.
    day_results
        Daily assets only: results by day.
    absent_days
        Daily assets only: requested days without raw data, whose stored rows stay.
    numbers
        Numbers that the UI plots over time; shown, not stored. Not for daily assets.
    made_from
        Models and Arrow tables: the source columns of each part or column. For a DataFrame only those that its plan
        does not contain, see `column_lineage.made_from`.
    inputs
        The inputs if they differ from those that the step read; None: they do not.
    """

    value: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    days: tuple[str, ...] = ()
    day_results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent_days: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    made_from: Origins = field(default_factory=dict)
    inputs: Sequence[Input] | None = None

    @classmethod
    def of(cls, value: Any) -> Artifact:
        """Returns the value if it is an artifact, else an artifact with only the value."""
        return value if isinstance(value, cls) else cls(value)

"""What storage knows of an asset (StoredAsset), and what an asset hands to its IO manager (Artifact)."""

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
"""Chooses a version for a run, by its id, of which the newest version that it wrote itself comes first."""


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
        Models only: the parts that others are computed from, with their Spark types. They count as its columns.
    summaries
        Undivided tables only: further summaries of the rows, for plots and documents.
    document
        Documents only: the model of the content; its JSON Schema is written beside it.
    card
        Documents only: the same for people, in Markdown; written beside it, and shown.
    closing
        Documents only: what the log says at the end, of the document and the folder that holds the assets.
    plots, notes
        What the UI shows of a version.
    preview
        Tables only: the rows that the UI shows; None: the first ones.
    choose
        Which version readers get; None: the newest.
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
        """What others can be computed from: a table's columns, a model's parts; nothing of a document."""
        return self.table.names if self.table else list(self.parts)


@dataclass(frozen=True)
class Artifact:
    """A value, and what is recorded with it.

    Attributes
    ----------
    value
        A DataFrame, a model (Spark ML's, or any that saves itself in that layout), or a dictionary of JSON values.
    parameters
        What it was made with.
    results
        What the asset reports about it; recorded in the stats and shown in the UI.
    days
        Daily assets only: the days that the value covers, also those without rows. Days that were asked for and are not
        covered keep what is stored.
    day_results
        Daily assets only: results by day.
    absent_days
        Daily assets only: days that were asked for and have no data; the events of those that are stored say so.
    numbers
        What the UI plots over time; shown, not stored. Not for daily assets.
    made_from
        Models only: for each part the columns that it was fitted on. (The lineage of a table comes from its plan.)
    inputs
        What it was made from, where that differs from what the step was handed.
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
        """The value itself where it is an artifact already, else one with nothing more to say."""
        return value if isinstance(value, cls) else cls(value)

"""What storage is told of each asset before anything is stored: its columns, its audits, and what is shown of it.

Which asset has what stands in its room and is put together in definitions.py; what storage does with it is the business
of io_managers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ecommerce_assets.storage.audits import Audit, Probe
from ecommerce_assets.storage.notes import Note
from ecommerce_assets.storage.pictures import Picture
from ecommerce_assets.storage.tables import TableSchema


@dataclass(frozen=True)
class AssetSpec:
    """What storage must know of an asset.

    Attributes
    ----------
    schema
        Columns of a table; None for models and documents.
    audits
        What must hold of it.
    parts
        Models only: the parts that others are computed from, with their Spark types. They count as its columns.
    described_by
        Undivided tables only: passes over the rows as written whose results are told and not judged. They stand among
        the measures.
    document
        Documents only: what they hold; its JSON Schema is written beside them.
    card
        Documents only: the same for people, in Markdown; written beside them, and shown.
    closing
        Documents only: what the log says at the end, of the document and the folder that holds the assets.
    pictures
        What the UI shows of it.
    notes
        What the UI says of it, in a few lines each.
    """

    schema: TableSchema | None = None
    audits: Sequence[Audit] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    described_by: Sequence[Probe] = ()
    document: type[BaseModel] | None = None
    card: Callable[[Mapping[str, Any]], str] | None = None
    closing: Callable[[Mapping[str, Any], str], str] | None = None
    pictures: Sequence[Picture] = ()
    notes: Sequence[Note] = ()

    @property
    def column_names(self) -> list[str]:
        """What others can be computed from: a table's columns, a model's parts; nothing of a document."""
        return self.schema.names if self.schema else list(self.parts)

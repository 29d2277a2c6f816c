"""What an asset hands to its IO manager when there is more to say than the value itself.

What becomes of it is the business of io_managers.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecommerce_assets.storage.column_lineage import Origins
from ecommerce_assets.storage.manifest import Input


@dataclass(frozen=True)
class Artifact:
    """A value and what belongs beside it in the manifest.

    Attributes
    ----------
    value
        A DataFrame, a Spark ML model, or a JSON-able dictionary.
    parameters
        What it was made with.
    facts
        Numbers about it that were found while making it; they also show in the UI.
    days
        Daily assets only: the days that this value covers, rows or not. Days asked for but not covered keep what is
        stored.
    day_facts
        Daily assets only: facts by day.
    made_from
        Models only: for each part that others are computed from, the columns that it was fitted on. (A table's lineage
        is read off its plan.)
    inputs
        What it was really made from, where that is not what the step was handed.
    """

    value: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    days: tuple[str, ...] = ()
    day_facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    made_from: Origins = field(default_factory=dict)
    inputs: Sequence[Input] | None = None

    @classmethod
    def of(cls, value: Any) -> Artifact:
        """The value itself where it is an artifact already, else one with nothing more to say."""
        return value if isinstance(value, cls) else cls(value)

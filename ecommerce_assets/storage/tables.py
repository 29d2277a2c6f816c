"""What a stored table looks like: its columns, their Spark types, what they mean, which are keys.

Written once per table and used for the frame that is written, the documentation in the UI and the audits.
No reading or writing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    type
        A Spark SQL type name such as `bigint`; `id` stands for the type of the shop's ids.
    constant
        A label that no source column is the source of: column lineage is empty for it, and for no other.
    """

    name: str
    type: str
    description: str
    nullable: bool = True
    key: bool = False
    constant: bool = False


@dataclass(frozen=True)
class TableSchema:
    """The columns of one table, in the order in which they are stored."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, *columns: Column) -> TableSchema:
        """From columns one by one."""
        return cls(tuple(columns))

    @property
    def names(self) -> list[str]:
        """The columns, in order."""
        return [column.name for column in self.columns]

    @property
    def keys(self) -> list[str]:
        """Columns that together name one row; empty where the table has no key."""
        return [column.name for column in self.columns if column.key]

    @property
    def required(self) -> list[str]:
        """Columns that are never null."""
        return [column.name for column in self.columns if column.key or not column.nullable]

    def with_id_type(self, id_type: str) -> TableSchema:
        """The same table with `id` columns of the given Spark type (`bigint` or `string`)."""
        return TableSchema(tuple(replace(c, type=id_type) if c.type == "id" else c for c in self.columns))

    def conform(self, frame: DataFrame, extra: Sequence[str] = ()) -> DataFrame:
        """The frame with exactly these columns (then `extra`), in this order; `id` columns keep their type.

        Raises ValueError naming the columns that the frame lacks: a table is never stored with a hole in it.
        """
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise ValueError(f"the frame lacks the columns {', '.join(missing)}; it has {', '.join(frame.columns)}")
        selected = [frame[c.name] if c.type == "id" else frame[c.name].cast(c.type) for c in self.columns]
        # Without the metadata that column_lineage marks them with: it would end up in the footers of the files.
        named = [column.alias(c.name, metadata={}) for column, c in zip(selected, self.columns, strict=True)]
        return frame.select(*named, *[frame[name] for name in extra])

"""The columns of a stored table, for the written frame, the Delta schema, the UI and the checks. Use `TableSpec`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import deltalake
    import pyarrow as pa
    from pyspark.sql import DataFrame

PARTITION_COLUMN = "event_date"
"""Partition column of the daily tables and of the raw events, with Hive folders `event_date=YYYY-MM-DD`."""

_DELTA_TYPES = {"bigint": "long", "int": "integer"}
"""Delta's names of types whose Spark SQL names differ."""


@dataclass(frozen=True)
class ColumnSpec:
    """One column.

    Attributes
    ----------
    type
        A Spark SQL type such as `bigint`; `id`: the type of the shop's ids.
    constant
        A label without a source column: only such columns may have an empty column lineage.
    """

    name: str
    type: str
    description: str
    nullable: bool = True
    key: bool = False
    constant: bool = False


_DAY = ColumnSpec(PARTITION_COLUMN, "date", "The day, UTC.", nullable=False)


@dataclass(frozen=True)
class TableSpec:
    """The columns of one table, in the order in which they are stored."""

    columns: tuple[ColumnSpec, ...]

    @classmethod
    def of(cls, *columns: ColumnSpec) -> TableSpec:
        """Returns a table with these columns."""
        return cls(tuple(columns))

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def keys(self) -> list[str]:
        """Columns that together identify one row; empty without a key."""
        return [column.name for column in self.columns if column.key]

    @property
    def required(self) -> list[str]:
        """Columns that are never null."""
        return [column.name for column in self.columns if column.key or not column.nullable]

    @property
    def ddl(self) -> str:
        """The columns and their Spark types as a DDL string for Spark."""
        return ", ".join(f"{column.name} {column.type}" for column in self.columns)

    def with_id_type(self, id_type: str) -> TableSpec:
        """Returns the same table with `id` columns of the given Spark type (`bigint` or `string`)."""
        return TableSpec(tuple(replace(c, type=id_type) if c.type == "id" else c for c in self.columns))

    def conform(self, frame: DataFrame, extra: Sequence[str] = ()) -> DataFrame:
        """Returns the frame with exactly these columns, then `extra`, in this order; `id` columns keep their type.

        Raises ValueError if the frame lacks columns.
        """
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise ValueError(f"The frame lacks the columns {', '.join(missing)}; it has {', '.join(frame.columns)}.")
        kinds = {c.name: frame.schema[c.name].dataType if c.type == "id" else c.type for c in self.columns}
        # A cast, also to the same type, drops the metadata that column_lineage adds, which would be written to the
        # footers of the files. (Spark 4.0 ignores an alias with empty metadata.)
        named = [frame[name].cast(kind).alias(name) for name, kind in kinds.items()]
        return frame.select(*named, *[frame[name] for name in extra])

    def conform_rows(self, rows: pa.Table) -> tuple[pa.Table, dict[str, str]]:
        """Returns an Arrow table with exactly these columns, and their Spark types; `id` columns keep their type.

        Raises KeyError if the rows lack columns.
        """
        import pyarrow as pa

        def kind(column: ColumnSpec) -> str:
            is_number = pa.types.is_integer(rows.schema.field(column.name).type)
            return column.type if column.type != "id" else "bigint" if is_number else "string"

        types = {column.name: kind(column) for column in self.columns}
        schema = pa.schema(self.delta_schema(types, daily=False).to_arrow())
        return rows.select(self.names).cast(pa.schema([(field.name, field.type) for field in schema])), types

    def delta_schema(self, types: dict[str, str], daily: bool) -> deltalake.Schema:
        """Returns the Delta schema, with descriptions as comments.

        Parameters
        ----------
        types
            Written Spark types by column.
        daily
            Whether to add the partition column.
        """
        import deltalake
        from deltalake.schema import PrimitiveType

        columns = [*self.columns, _DAY] if daily else self.columns
        return deltalake.Schema(
            [
                deltalake.Field(
                    c.name,
                    PrimitiveType(_DELTA_TYPES.get(kind := types.get(c.name, c.type), kind)),
                    nullable=c.nullable and not c.key,
                    metadata={"comment": c.description},
                )
                for c in columns
            ]
        )

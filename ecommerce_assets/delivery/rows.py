"""The rows of a published version (`PublishedRows`), and the result of a delivery (`Delivery`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import arrow_dataset
from ecommerce_assets.storage.version import Version

if TYPE_CHECKING:
    import pyarrow as pa

KEYS: dict[str, tuple[str, ...]] = {
    "recommendations": ("user_id", "rank"),
    "similar_products": ("product_id", "rank"),
    "product_pairs": ("product_id", "kind", "rank"),
    "segmented_users": ("user_id",),
    "customer_groups": ("user_id",),
}
"""Delivered tables, each with the columns by which readers look up rows."""

VERSION_COLUMN = "version"
"""Last column of every delivered table: the version that the row is from."""

BATCH_ROWS = 1 << 16


class DeliveryError(click.ClickException, RuntimeError):
    """A delivery failed; readers of the target see the previous delivery."""

    @classmethod
    def at(cls, target: str, reason: str) -> DeliveryError:
        """Returns the error for a target that could not be written to."""
        return cls(
            f"Cannot deliver to {target}: {reason}. Readers still see the previous delivery, if any; solve this and "
            "deliver again."
        )


class DeliveredTable(NamedTuple):
    """The version of a table in a target, and the number of its rows as counted there."""

    version: str
    rows: int


@dataclass(frozen=True)
class Delivery:
    """What a target has after a delivery.

    Attributes
    ----------
    target
        Address of the target, without a password.
    tables
        The delivered tables, by asset.
    changed
        False if the target had these versions already.
    delivered_at
        Time at which the newest of the tables was delivered, UTC.
    """

    target: str
    tables: Mapping[str, DeliveredTable]
    changed: bool
    delivered_at: datetime

    def document(self) -> dict[str, Any]:
        """Returns target, time and tables as JSON values."""
        return {
            "target": self.target,
            "delivered_at": self.delivered_at.isoformat(),
            "tables": {asset: {"version": t.version, "rows": t.rows} for asset, t in self.tables.items()},
        }


@dataclass(frozen=True)
class PublishedRows:
    """The rows of one published version of a table, read in batches.

    Attributes
    ----------
    may_replace_newer
        Whether the rows are delivered to a target that has those of a newer version.
    """

    lake: Lake
    version: Version
    may_replace_newer: bool = True

    @property
    def asset(self) -> str:
        """The name of the table."""
        return self.version.asset

    @property
    def name(self) -> str:
        """Unique name of these rows, by the version's folder: Delta versions start from 0 in every data dir."""
        return f"{self.asset}_{self.version.folder}"

    @property
    def rows(self) -> int:
        """Number of rows in the stats of the version."""
        return self.version.stats.rows or 0

    def reader(self) -> pa.RecordBatchReader:
        """Returns a reader of the rows with the column `version`, which uses bounded memory."""
        import pyarrow as pa

        dataset = arrow_dataset(self.lake, self.version)
        scanner = dataset.scanner(batch_size=BATCH_ROWS, batch_readahead=1, fragment_readahead=1)
        schema = dataset.schema.append(pa.field(VERSION_COLUMN, pa.string(), nullable=False))

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in scanner.to_batches():
                version = pa.repeat(self.version.version, batch.num_rows)
                yield pa.RecordBatch.from_arrays([*batch.columns, version], schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def check_not_older(self, delivered: str, target: str) -> None:
        """Raises DeliveryError if the target has the rows `delivered` of a newer version, which must stay."""
        for newer in () if self.may_replace_newer else self.lake.published(self.asset):
            is_delivered = PublishedRows(self.lake, newer).name == delivered
            if is_delivered and int(newer.version) > int(self.version.version) and not self.lake.damage(newer):
                raise DeliveryError(
                    f"{target} has {self.asset} {newer.version} of another delivery, which is newer than "
                    f"{self.version.version}: deliver again, to deliver the newest versions."
                )

    def check_count(self, counted: int, target: str) -> None:
        """Raises DeliveryError if the target has another number of rows than were published."""
        if counted != self.rows:
            raise DeliveryError(
                f"{target} has {counted:,} rows of {self.asset} {self.version.version}, which has {self.rows:,}: "
                "deliver again. Readers see the previous delivery."
            )

"""`Tables`: chooses versions of the stored tables that belong together, and queries them with DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from ecommerce_assets.events.parsing import parse_id
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.reading import arrow_dataset
from ecommerce_assets.storage.version import Input, Version

if TYPE_CHECKING:
    import pyarrow.dataset as ds

Row = dict[str, Any]
"""Values by column."""


class UnknownIdError(LookupError):
    """No user or product has this id; the message has the tables that were searched."""


class Tables:
    """The tables of a lake, in versions that belong together.

    Attributes
    ----------
    used
        The versions that were chosen, by asset.
    notes
        One sentence for each table that is missing, and for each that has another version than the one needed.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.used: dict[str, Version] = {}
        self.notes: list[str] = []
        self._database = duckdb.connect()

    def newest(self, asset: str) -> Version | None:
        """Returns the newest published version; None, and adds a note with the reason, if there is none."""
        try:
            return self._use(self.lake.latest(asset))
        except VersionNotFoundError as error:
            self.notes.append(str(error))
            return None

    def ancestor(self, reader: Version | None, asset: str) -> Version | None:
        """Returns the version of `asset` that `reader` was made from; the newest version if `reader` is None.

        If that version was removed, it returns the newest one and adds a note.
        """
        if reader is None:
            return self.newest(asset)
        try:
            return self.exact_ancestor(reader, asset)
        except VersionNotFoundError:
            newest = self.newest(asset)
            if newest is not None:
                self.notes.append(
                    f"{reader.asset} was made from a version of {asset} that was removed: "
                    f"the newest, {newest.version}, is used instead."
                )
            return newest

    def exact_ancestor(self, reader: Version, asset: str) -> Version:
        """Returns the version of `asset` that `reader` was made from. Raises VersionNotFoundError if it was removed."""
        return self._use(self.lake.ancestor(reader, asset))

    def with_same_events(self, other: Version, asset: str) -> Version | None:
        """Returns the newest version of `asset` that was made from the same events as `other`.

        If there is none, it returns the newest version and adds a note. If nothing is published, it returns None.
        """
        newest, events = self.lake.latest_or_none(asset), self._events_version(other)
        if newest is None:
            return None
        same = next((each for each in self.lake.undamaged(asset) if self._events_version(each) == events), None)
        if same is None:
            self.notes.append(
                f"{asset} {newest.version} was made from other events than {other.asset} {other.version}: "
                "materialise both again."
            )
        return self._use(same or newest)

    def _events_version(self, version: Version) -> int | None:
        """Returns the newest version of cleaned_events that a version was made from; None if it is not recorded."""
        inputs = _event_inputs(self.lake, version)
        return max((int(each.version) for each in inputs if each.version), default=None)

    def dataset(self, version: Version) -> ds.Dataset:
        """Returns the rows of a table without daily partitions."""
        return arrow_dataset(self.lake, version)

    def _use(self, version: Version) -> Version:
        self.used[version.asset] = version
        return version

    def rows(self, table: Version | None, sql: str, *values: Any) -> list[Row]:
        """Returns the rows of a query on a table without daily partitions; no rows if `table` is None.

        Parameters
        ----------
        sql
            A query with `from {table}`.
        values
            Values of its `?`.
        """
        if table is None:
            return []
        return self.rows_of_files(table, [file.path for file in self.lake.files(table)], sql, *values)

    def row(self, table: Version | None, sql: str, *values: Any) -> Row | None:
        """Returns the first row of `rows`; None if there is none."""
        return next(iter(self.rows(table, sql, *values)), None)

    def rows_of_files(self, version: Version, paths: Sequence[str], sql: str, *values: Any) -> list[Row]:
        """Returns the rows of a query on these files of a table; no rows if there are no files."""
        if not paths:
            return []
        self._database.register("selected", arrow_dataset(self.lake, version, paths))
        result = self._database.execute(sql.replace("{table}", "selected"), list(values))
        columns = [column[0] for column in result.description or ()]
        return [dict(zip(columns, map(_in_utc, row), strict=True)) for row in result.fetchall()]

    def product_table(self, reader: Version | None) -> Version | None:
        """Returns the table with name, category, brand and price of the products of `reader`; None if there is none.

        It is product_eligibility; in a data dir of an earlier release it is product_features, which has no names.
        """
        has_eligibility = "product_eligibility" in self.lake.assets()
        return self.ancestor(reader, "product_eligibility" if has_eligibility else "product_features")

    def describe_products(self, table: Version | None, ids: Iterable[Any]) -> dict[Any, Row]:
        """Returns name, category, brand and price of products, by id; `table` is the result of `product_table`."""
        product_ids = sorted(set(ids) - {None})
        if not product_ids or table is None:
            return {}
        has_names = table.asset == "product_eligibility"
        name, price = ("name", "price") if has_names else ("null as name", "avg_price as price")
        placeholders = ", ".join("?" * len(product_ids))
        sql = f"select product_id, {name}, category, brand, {price} from {{table}} where product_id in ({placeholders})"
        return {row["product_id"]: row for row in self.rows(table, sql, *product_ids)}


def utc(column: str) -> str:
    """Returns SQL for a time column in UTC without its time zone, which DuckDB can read only with an extension."""
    return f"make_timestamp(epoch_us({column})) as {column}"


def _in_utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def parse_stored_id(text: str, column: str, tables: Iterable[Version | None]) -> int | str:
    """Returns an id in the type that `column` has in the first of these tables; see `parse_id`.

    Raises UnknownIdError if the shop's ids are numbers and the text is not.
    """
    stored = next((table.columns[column] for table in tables if table is not None and table.columns), "string")
    parsed = parse_id(text, stored)
    if parsed is None:
        raise UnknownIdError(f"{column} must be a whole number of at most 64 bits, got {text!r}.")
    return parsed


def version_times(used: Iterable[Version]) -> dict[str, Row]:
    """Returns version and committed_at of each version, by asset."""
    return {v.asset: {"version": v.version, "committed_at": v.committed_at} for v in used}


def source_days(lake: Lake, version: Version) -> tuple[str, str] | None:
    """Returns the first and last day of the events that a version was made from; None if they are not recorded."""
    days = {day for each in _event_inputs(lake, version) for day in each.partitions}
    return (min(days), max(days)) if days else None


def _event_inputs(lake: Lake, version: Version) -> list[Input]:
    return [each for _, each in lake.ancestry(version) if each.asset == "cleaned_events"]

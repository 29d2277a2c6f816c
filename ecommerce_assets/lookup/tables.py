"""The tables behind an answer: chooses versions that belong together, and queries their files with DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from ecommerce_assets.events.parsing import parse_id
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.reading import arrow_dataset
from ecommerce_assets.storage.version import Version

if TYPE_CHECKING:
    import pyarrow.dataset as ds

Row = dict[str, Any]
"""Values by column."""


class UnknownIdError(LookupError):
    """No user or product has this id; the message has the tables that were searched."""


class Tables:
    """Tables of one lake in versions that belong together.

    Attributes
    ----------
    used
        The versions that were chosen, by asset.
    notes
        A sentence for each table that is missing, or in another version than the answer needs.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.used: dict[str, Version] = {}
        self.notes: list[str] = []
        self._database = duckdb.connect()

    def newest(self, asset: str) -> Version | None:
        """Returns the version that serves readers; None, with a note that says why, if there is none."""
        try:
            return self._use(self.lake.latest(asset))
        except VersionNotFoundError as error:
            self.notes.append(str(error))
            return None

    def behind(self, reader: Version | None, asset: str) -> Version | None:
        """Returns the version of `asset` that `reader` was made from; the newest without a reader.

        If that version was removed, the newest is used and a note says so.
        """
        if reader is None:
            return self.newest(asset)
        try:
            return self.exactly_behind(reader, asset)
        except VersionNotFoundError:
            newest = self.newest(asset)
            if newest is not None:
                self.notes.append(
                    f"{asset} {newest.version} is not the version that {reader.asset} was made from, which was removed."
                )
            return newest

    def exactly_behind(self, reader: Version, asset: str) -> Version:
        """Returns the version of `asset` that `reader` was made from. Raises VersionNotFoundError if it was removed."""
        return self._use(self.lake.ancestor(reader, asset))

    def beside(self, other: Version, asset: str) -> Version | None:
        """Returns the newest version of `asset` that was made from the same events as `other`.

        If there is none, it returns the newest version, and a note says so. If nothing is published, it returns None.
        """
        newest, events = self.lake.latest_or_none(asset), self._events_behind(other)
        if newest is None:
            return None
        same = next((each for each in self.lake.undamaged(asset) if self._events_behind(each) == events), None)
        if same is None:
            self.notes.append(
                f"{asset} {newest.version} was made from other events than {other.asset} {other.version}: "
                "materialise both again."
            )
        return self._use(same or newest)

    def _events_behind(self, version: Version) -> int | None:
        """Returns the newest version of cleaned_events that a version was made from; None if that is not known."""
        inputs = (read for _, read in self.lake.ancestry(version) if read.asset == "cleaned_events")
        return max((int(read.version) for read in inputs if read.version), default=None)

    def dataset(self, version: Version) -> ds.Dataset:
        """Returns the rows of a table that is not daily."""
        return arrow_dataset(self.lake, version)

    def _use(self, version: Version) -> Version:
        self.used[version.asset] = version
        return version

    def rows(self, table: Version | None, sql: str, *values: Any) -> list[Row]:
        """Returns the result of a query on a table that is not daily; empty without a table. `{table}` is its name."""
        if table is None:
            return []
        return self.rows_of(table, [file.path for file in self.lake.files(table)], sql, *values)

    def rows_of(self, version: Version, paths: Sequence[str], sql: str, *values: Any) -> list[Row]:
        """Returns the result of a query on these files of a table; empty without files."""
        if not paths:
            return []
        self._database.register("looked_up", arrow_dataset(self.lake, version, paths))
        result = self._database.execute(sql.replace("{table}", "looked_up"), list(values))
        columns = [column[0] for column in result.description or ()]
        return [dict(zip(columns, map(_in_utc, row), strict=True)) for row in result.fetchall()]

    def about_products(self, reader: Version | None) -> Version | None:
        """Returns the table that describes the products of `reader`; None if there is none.

        It is product_eligibility. A data dir of an earlier release has only product_features, which has no names.
        """
        has_eligibility = "product_eligibility" in self.lake.assets()
        return self.behind(reader, "product_eligibility" if has_eligibility else "product_features")

    def products(self, table: Version | None, ids: Iterable[Any]) -> dict[Any, Row]:
        """Returns name, category, brand and price of products, by id; `table` is a result of `about_products`."""
        wanted = sorted(set(ids) - {None})
        if not wanted or table is None:
            return {}
        has_names = table.asset == "product_eligibility"
        name, price = ("name", "price") if has_names else ("null as name", "avg_price as price")
        marks = ", ".join("?" * len(wanted))
        sql = f"select product_id, {name}, category, brand, {price} from {{table}} where product_id in ({marks})"
        return {row["product_id"]: row for row in self.rows(table, sql, *wanted)}


def utc(column: str) -> str:
    """Returns SQL for a time column without a zone: for times with a zone, DuckDB needs a further library."""
    return f"make_timestamp(epoch_us({column})) as {column}"


def _in_utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def typed(text: str, column: str, tables: Iterable[Version | None]) -> int | str:
    """Returns an id in the type of the first of these tables; see `parse_id`.

    Raises UnknownIdError if the ids of the shop are numbers and the text is not.
    """
    stored = next((table.columns[column] for table in tables if table is not None and table.columns), "string")
    if (found := parse_id(text, stored)) is None:
        raise UnknownIdError(f"{column} {text!r} cannot be: in this shop it is a whole number of at most 64 bits.")
    return found


def versions(used: Iterable[Version]) -> dict[str, Row]:
    """Returns version and time of the versions that an answer comes from, by asset."""
    return {m.asset: {"version": m.version, "committed_at": m.committed_at} for m in used}


def source_days(lake: Lake, version: Version) -> tuple[str, str] | None:
    """Returns the first and last day of the events that a version was made from; None if they are not known."""
    days = {day for _, read in lake.ancestry(version) if read.asset == "cleaned_events" for day in read.partitions}
    return (min(days), max(days)) if days else None

"""Landed days beside the days that are partitions: which ones no run will read, and the setting that changes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from ecommerce_assets.settings import PREFIX


@dataclass(frozen=True)
class Window:
    """The days that are partitions: from the first one to the last one, or, where there is no last one, to yesterday.

    `today` is the day in UTC; it becomes a partition when it is over.
    """

    first: date
    last: date | None
    today: date

    def settings_for(self, days: Sequence[date]) -> dict[str, date]:
        """The environment variables to change so that all the days that are over are partitions."""
        over = [day for day in days if day < self.today]
        changes = {}
        if over and min(over) < self.first:
            changes[f"{PREFIX}FIRST_DAY"] = min(over)
        if over and self.last and max(over) > self.last:
            changes[f"{PREFIX}LAST_DAY"] = max(over)
        return changes

    def remarks(self, rows_by_day: Sequence[tuple[date, int]]) -> Iterator[str]:
        """A sentence for each kind of day that is no partition."""
        changes = self.settings_for([day for day, _ in rows_by_day])
        before = [(day, rows) for day, rows in rows_by_day if day < self.first and day < self.today]
        after = [(day, rows) for day, rows in rows_by_day if self.last and self.last < day < self.today]
        ahead = [(day, rows) for day, rows in rows_by_day if day > self.today]
        for name, found, end in (
            ("FIRST_DAY", before, f"before the first partition, {self.first}"),
            ("LAST_DAY", after, f"after the last partition, {self.last}"),
        ):
            if found:
                variable = f"{PREFIX}{name}"
                yield f"{_said(found)} {end}: set {variable}={changes[variable]}, for `dagster dev` too."
        if any(day == self.today for day, _ in rows_by_day):
            yield f"{self.today} is today (UTC): it becomes a partition when the day is over."
        if ahead:
            yield f"{_said(ahead)} in the future: look at the times, or wait until then."


def _said(days: Sequence[tuple[date, int]]) -> str:
    rows = sum(rows for _, rows in days)
    counted = f"{rows:,} row{'s' if rows != 1 else ''}"
    if len(days) == 1:
        return f"{days[0][0]} ({counted}) lies"
    return f"{len(days):,} days ({days[0][0]} to {days[-1][0]}, {counted}) lie"

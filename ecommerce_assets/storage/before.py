"""What stood there before a version was written: the version that serves readers, or the days before a day.

Read from manifests alone, without Spark. What is compared with it, and how, stands in drift_audits.py and with the
assets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import Input, Manifest

DAYS_BEFORE = 7
"""So many days are compared with: a week, so that every day of the week is among them."""


@dataclass(frozen=True)
class Before:
    """What a manifest says of one version, or of one day.

    Attributes
    ----------
    name
        The version, or the day where it is about one.
    measures
        What its audits counted.
    """

    name: str
    rows: int = 0
    columns: Mapping[str, str] | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Input] = ()
    daily: bool = False

    @classmethod
    def of_version(cls, manifest: Manifest) -> Before:
        """From the manifest of an undivided version."""
        measures, rows = manifest.facts.get("measures", {}), manifest.rows or 0
        return cls(
            manifest.version, rows, manifest.columns, measures, manifest.facts, manifest.parameters, manifest.inputs
        )

    @classmethod
    def of_day(cls, day: str, manifest: Manifest) -> Before:
        """One day of a daily version."""
        stored = manifest.partitions[day]
        return cls(day, stored.rows, manifest.columns, stored.measures, stored.facts, manifest.parameters, daily=True)


def version_before(lake: Lake, asset: str) -> list[Before]:
    """The version that serves readers now; none where there is none."""
    serving = lake.latest_or_none(asset)
    return [Before.of_version(serving)] if serving else []


def stored_days(lake: Lake, asset: str) -> dict[str, Before]:
    """All days that readers see now, by day."""
    try:
        return {day.day: Before.of_day(day.day, day.manifest) for day in lake.days(asset)}
    except VersionNotFoundError:
        return {}


def days_before(known: Mapping[str, Before], day: str) -> list[Before]:
    """The up to seven known days that come directly before a day, the last of them last."""
    return [known[earlier] for earlier in sorted(d for d in known if d < day)[-DAYS_BEFORE:]]

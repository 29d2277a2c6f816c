"""The checks of cleaned_events, rejected_events and raw_events.

Those of raw_events only warn, because the files come from outside; they need no Spark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from datetime import date, timedelta

import dagster as dg

from ecommerce_assets.events.raw import RAW_COLUMNS, day_of_path, days_there
from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, REJECTED_EVENTS
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome, no_nulls, one_of, rule
from ecommerce_assets.storage.drift import (
    changed_columns,
    mean_stable,
    row_count_stable,
    schema_unchanged,
    shares_stable,
)
from ecommerce_assets.storage.filesystem import Folder

SHOWN_DAYS = 20
"""Days that a check of the raw files names at most."""


def _conserved(context: CheckContext) -> Outcome | str:
    results, rows = context.results, context.rows
    raw, rejected, repeats = (int(results.get(name, 0)) for name in ("raw_rows", "rejected", "repeats"))
    sums = f"{rows:,} accepted + {rejected:,} rejected + {repeats:,} repeats"
    if raw == rows + rejected + repeats:
        return Outcome(checked=f"{raw:,} raw rows = {sums}")
    return f"{raw:,} raw rows became {sums}"


def _few_rejected(context: CheckContext) -> Outcome | str:
    raw, rejected = int(context.results.get("raw_rows", 0)), int(context.results.get("rejected", 0))
    allowed = context.parameters["max_rejected_share"]
    if rejected <= allowed * raw and (context.rows or not raw):
        return Outcome(checked=f"{rejected:,} of {raw:,} raw rows were rejected; {allowed:.0%} are allowed")
    reasons = {n.removeprefix("rejected: "): c for n, c in context.results.items() if n.startswith("rejected: ")}
    first = max(reasons, key=lambda reason: reasons[reason])
    return (
        f"{rejected:,} of {raw:,} raw rows were rejected, most for: {first} ({reasons[first]:,}); "
        f"{allowed:.0%} are allowed"
    )


def _raw_columns_unchanged(context: CheckContext) -> Outcome:
    previous = next((day for day in reversed(context.previous) if day.stats.results.get(RAW_COLUMNS)), None)
    now = context.results.get(RAW_COLUMNS)
    if previous is None or not now:
        return Outcome(checked="nothing to compare with: there is no previous day")
    changed = changed_columns(previous.stats.results[RAW_COLUMNS], now, f"the raw files of {previous.name}")
    return Outcome(changed or "", checked=f"{len(now)} columns, the same as in the raw files of {previous.name}")


def _all_kept(context: CheckContext) -> Outcome:
    rows, rejected = context.rows, int(context.results.get("rejected", 0))
    counts = f"{rejected:,} rows were rejected and {rows:,} written"
    return Outcome("" if rows == rejected else counts, checked=counts)


CLEANED_EVENTS_CHECKS = (
    no_nulls(EVENTS),
    schema_unchanged(),
    row_count_stable(),
    one_of("known_event_types", "event_type", EVENT_TYPES),
    rule("valid_prices", "price is a number from zero up.", "isnan(price) or price < 0 or abs(price) = double('inf')"),
    rule("in_its_day", "event_time is in the partition's day.", "to_date(event_time) <> to_date(event_date)"),
    Check(
        name="rows_conserved",
        description="Raw rows = accepted + rejected + dropped as exact repeats.",
        test=_conserved,
        # Not for this check: what the tables made from these events must add up to.
        numbers={
            "purchase_value": "sum(if(event_type = 'purchase', price, 0))",
            "interactions": "count_if(event_type <> 'remove_from_cart')",
        },
    ),
    Check(
        name="few_rejected",
        # More than a few bad rows is a broken delivery.
        description="Of a day's raw rows at most the share ECOMMERCE_MAX_REJECTED_SHARE is rejected.",
        test=_few_rejected,
    ),
    Check(
        name="raw_columns_unchanged",
        description="The raw files of a day have the columns and types of the previous day.",
        test=_raw_columns_unchanged,
        blocking=False,
    ),
    shares_stable("event_type", EVENT_TYPES),
    mean_stable("price"),
)

REJECTED_EVENTS_CHECKS = (
    no_nulls(REJECTED_EVENTS),
    schema_unchanged(),
    Check("rejected_rows_kept", "Every rejected row is written.", test=_all_kept),
)


def raw_events_checks(data_dir: str) -> dg.AssetChecksDefinition:
    """Two warnings about the raw folder as it lies there: days without a file that holds anything, and missing days.

    Dagster's command `asset materialize` leaves out the checks of assets that it cannot materialise; the UI runs these,
    and the sensor reports the same.
    """
    specs = [
        dg.AssetCheckSpec(
            "files_there", asset="raw_events", description="Every day's folder holds files with content."
        ),
        dg.AssetCheckSpec("no_day_missing", asset="raw_events", description="No day is missing between two others."),
    ]

    @dg.multi_asset_check(specs=specs, name="raw_events_checks")
    def look() -> Iterator[dg.AssetCheckResult]:
        folder = Folder(data_dir) / "raw" / "events"
        filled = {day_of_path(file.path) for file in folder.data_files() if file.bytes}
        for told in judge_raw_days(days_there(folder), filled):
            yield dg.AssetCheckResult(
                passed=told.passed,
                check_name=told.check_name,
                asset_key=told.asset_key,
                severity=told.severity,
                description=told.description,
            )

    return look


def judge_raw_days(days: Sequence[str], filled: Set[str]) -> list[dg.AssetCheckEvaluation]:
    """What the two checks find: of the days there, those without a file that holds anything, and those between.

    The sensor reports them whenever days arrive; it has listed the folder anyway.
    """
    empty = [day for day in days if day not in filled]
    return [
        _told("files_there", empty, days, "days without a file that holds anything"),
        _told("no_day_missing", missing_days(days), days, "missing days"),
    ]


def missing_days(days: Sequence[str]) -> list[str]:
    """The days (`YYYY-MM-DD`) between the first and the last that are not among them; names that are no day are not."""
    there = set()
    for day in days:
        try:
            there.add(date.fromisoformat(day))
        except ValueError:
            continue
    if not there:
        return []
    first, last = min(there), max(there)
    every = (first + timedelta(days=n) for n in range((last - first).days))
    return [str(day) for day in every if day not in there]


def _told(name: str, odd: Sequence[str], days: Sequence[str], what: str) -> dg.AssetCheckEvaluation:
    shown = ", ".join(odd[:SHOWN_DAYS]) + (" …" if len(odd) > SHOWN_DAYS else "")
    between = f"{min(days)} to {max(days)}, " if days else ""
    return dg.AssetCheckEvaluation(
        passed=not odd,
        check_name=name,
        asset_key=dg.AssetKey("raw_events"),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{what} ({len(odd):,}): {shown}" if odd else f"{len(days):,} days, {between}no {what}",
    )

"""Checks of cleaned_events, rejected_events and raw_events. Those of raw_events only warn, and do not use Spark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from datetime import date, timedelta

import dagster as dg

from ecommerce_assets.events.raw import RAW_COLUMNS, day_of_path, is_day, list_days
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
from ecommerce_assets.storage.markdown import percent

SHOWN_DAYS = 20
"""Maximum number of days that a check of the raw folder names."""


def _conserved(context: CheckContext) -> Outcome | str:
    results, rows = context.results, context.rows
    raw, rejected, repeats = (int(results.get(name, 0)) for name in ("raw_rows", "rejected", "repeats"))
    sums = f"{rows:,} accepted + {rejected:,} rejected + {repeats:,} repeats"
    if raw == rows + rejected + repeats:
        return Outcome(checked=f"{raw:,} raw rows = {sums}")
    return f"{raw:,} raw rows, but {sums}"


def _few_rejected(context: CheckContext) -> Outcome | str:
    raw, rejected = int(context.results.get("raw_rows", 0)), int(context.results.get("rejected", 0))
    allowed = context.parameters["max_rejected_share"]
    if rejected <= allowed * raw and (context.rows or not raw):
        return Outcome(checked=f"{rejected:,} of {raw:,} raw rows were rejected; {percent(allowed)} are allowed")
    reasons = {n.removeprefix("rejected: "): c for n, c in context.results.items() if n.startswith("rejected: ")}
    main = max(reasons, key=lambda reason: reasons[reason])
    return (
        f"{rejected:,} of {raw:,} raw rows were rejected; most frequent reason: {main} ({reasons[main]:,}), "
        f"maximum share: {percent(allowed)}"
    )


def _raw_columns_unchanged(context: CheckContext) -> Outcome:
    previous = next((day for day in reversed(context.previous) if day.stats.results.get(RAW_COLUMNS)), None)
    now = context.results.get(RAW_COLUMNS)
    if previous is None or not now:
        return Outcome(checked="nothing to compare with: there is no previous day")
    changed = changed_columns(previous.stats.results[RAW_COLUMNS], now, f"the raw files of {previous.name}")
    return Outcome(changed or "", checked=f"{len(now)} columns, the same as in the raw files of {previous.name}")


def _all_rejected_written(context: CheckContext) -> Outcome:
    rows, rejected = context.rows, int(context.results.get("rejected", 0))
    return Outcome(
        "" if rows == rejected else f"{rejected:,} rows were rejected, but {rows:,} were written",
        checked=f"{rejected:,} rows were rejected and written",
    )


CLEANED_EVENTS_CHECKS = (
    no_nulls(EVENTS),
    schema_unchanged(),
    row_count_stable(),
    one_of("known_event_types", "event_type", EVENT_TYPES),
    rule("valid_prices", "price is finite and at least 0.", "isnan(price) or price < 0 or abs(price) = double('inf')"),
    rule(
        "event_on_partition_day", "event_time is in the partition's day.", "to_date(event_time) <> to_date(event_date)"
    ),
    Check(
        name="rows_conserved",
        description="Raw rows = accepted + rejected + exact repeats.",
        test=_conserved,
        # For checks of other tables, which are computed from these events and must add up to these numbers.
        numbers={
            "purchase_value": "sum(if(event_type = 'purchase', price, 0))",
            "interactions": "count_if(event_type <> 'remove_from_cart')",
        },
    ),
    Check(
        name="few_rejected",
        description="At most ECOMMERCE_MAX_REJECTED_SHARE of the raw rows of a day are rejected.",
        test=_few_rejected,
    ),
    Check(
        name="raw_columns_unchanged",
        description="The raw files have the same columns and types as those of the previous day.",
        test=_raw_columns_unchanged,
        blocking=False,
    ),
    shares_stable("event_type", EVENT_TYPES),
    mean_stable("price"),
)

REJECTED_EVENTS_CHECKS = (
    no_nulls(REJECTED_EVENTS),
    schema_unchanged(),
    Check("rejected_rows_kept", "Every rejected row is written.", test=_all_rejected_written),
)


def raw_events_checks(data_dir: str) -> dg.AssetChecksDefinition:
    """Returns two checks of the raw folder, which warn about days without data and about missing days.

    The UI runs them; `dagster asset materialize` does not run checks of external assets. The sensor reports the same
    checks when days arrive.
    """
    specs = [
        dg.AssetCheckSpec(
            "days_have_files", asset="raw_events", description="The folder of every day has a file that is not empty."
        ),
        dg.AssetCheckSpec(
            "no_missing_days", asset="raw_events", description="Every day from the first to the last has a folder."
        ),
    ]

    @dg.multi_asset_check(specs=specs, name="raw_events_checks")
    def check_folder() -> Iterator[dg.AssetCheckResult]:
        folder = Folder(data_dir) / "raw" / "events"
        days_with_data = {day_of_path(file.path) for file in folder.data_files() if file.bytes}
        for evaluation in check_raw_days(list_days(folder), days_with_data):
            yield dg.AssetCheckResult(
                passed=evaluation.passed,
                check_name=evaluation.check_name,
                asset_key=evaluation.asset_key,
                severity=evaluation.severity,
                description=evaluation.description,
            )

    return check_folder


def check_raw_days(days: Sequence[str], days_with_data: Set[str]) -> list[dg.AssetCheckEvaluation]:
    """Returns the evaluations of the two checks of raw_events.

    Parameters
    ----------
    days
        Days that have a folder (`YYYY-MM-DD`).
    days_with_data
        Days that have a file that is not empty.
    """
    empty = [day for day in days if day not in days_with_data]
    return [
        _evaluation("days_have_files", empty, days, "days without data"),
        _evaluation("no_missing_days", missing_days(days), days, "missing days"),
    ]


def missing_days(days: Sequence[str]) -> list[str]:
    """Returns the missing days (`YYYY-MM-DD`) between the first and the last day; ignores names that are not days."""
    existing = {date.fromisoformat(day) for day in days if is_day(day)}
    if not existing:
        return []
    first, last = min(existing), max(existing)
    every = (first + timedelta(days=n) for n in range((last - first).days))
    return [str(day) for day in every if day not in existing]


def _evaluation(name: str, failed: Sequence[str], days: Sequence[str], label: str) -> dg.AssetCheckEvaluation:
    shown = ", ".join(failed[:SHOWN_DAYS]) + (" …" if len(failed) > SHOWN_DAYS else "")
    between = f"{min(days)} to {max(days)}, " if days else ""
    return dg.AssetCheckEvaluation(
        passed=not failed,
        check_name=name,
        asset_key=dg.AssetKey("raw_events"),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{label} ({len(failed):,}): {shown}" if failed else f"{len(days):,} days, {between}no {label}",
    )

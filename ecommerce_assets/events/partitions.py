"""The days of the event log as Dagster partitions. Where a day's files lie is raw.py's business."""

from datetime import timedelta

import dagster as dg

from ecommerce_assets.settings import Settings

DAY_FORMAT = "%Y-%m-%d"


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """One partition per day, UTC, from the first to the last day of the settings, or on with the calendar."""
    # Dagster leaves the end date itself out; the setting names the last day that counts.
    end = settings.end_day + timedelta(days=1) if settings.end_day else None
    return dg.DailyPartitionsDefinition(
        start_date=settings.first_day.isoformat(),
        end_date=end.isoformat() if end else None,
        fmt=DAY_FORMAT,
    )

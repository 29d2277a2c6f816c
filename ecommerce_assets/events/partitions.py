"""The days of the event log as Dagster partitions. Where a day's files lie is raw.py's business."""

import dagster as dg

from ecommerce_assets.settings import Settings

DAY_FORMAT = "%Y-%m-%d"


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """One partition per day, UTC, from the first to the last day of the settings, or on with the calendar."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.first_day.strftime(DAY_FORMAT),
        end_date=settings.end_day.strftime(DAY_FORMAT) if settings.end_day else None,
        # Dagster leaves the end date itself out; the setting names the last day that counts.
        end_offset=1 if settings.end_day else 0,
        fmt=DAY_FORMAT,
    )

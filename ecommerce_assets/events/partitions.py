"""The days of the event log as Dagster partitions."""

from datetime import timedelta

import dagster as dg

from ecommerce_assets.settings import Settings

DAY_FORMAT = "%Y-%m-%d"


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Returns one partition per day (UTC) from the first to the last day of the settings, by default to yesterday."""
    # Dagster excludes the end date, the setting is the last day.
    end = settings.end_day + timedelta(days=1) if settings.end_day else None
    return dg.DailyPartitionsDefinition(
        start_date=settings.first_day.isoformat(),
        end_date=end.isoformat() if end else None,
        fmt=DAY_FORMAT,
    )

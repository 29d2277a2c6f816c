"""The plot of cleaned_events: events, revenue and rejected share by day, from the stats of the stored days."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from ecommerce_assets.plotting import BLUE, FAINT, GREEN, ORANGE, grid, panels, percent_axis, short_axis, title
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def events_per_day(context: CheckContext) -> Figure | None:
    """Returns bar charts of accepted events, revenue and rejected share by day; None if no day is stored."""
    stored = dict(sorted(context.days["cleaned_events"].items()))
    if not stored:
        return None
    days = [date.fromisoformat(day) for day in stored]
    raw = [int(p.results.get("raw_rows", 0)) for p in stored.values()]
    rejected = [int(p.results.get("rejected", 0)) for p in stored.values()]
    revenue = [float(p.numbers.get("purchase_value") or 0) for p in stored.values()]
    figure, (top, middle, bottom) = panels(rows=3, height=5.4, sharex=True, height_ratios=[3, 3, 2])
    top.bar(days, [p.rows or 0 for p in stored.values()], color=BLUE, width=0.85)
    title(top, "Accepted events per day")
    middle.bar(days, revenue, color=GREEN, width=0.85)
    title(middle, "Revenue per day (price of all purchases)")
    bottom.bar(days, [r / n if n else 0 for r, n in zip(rejected, raw, strict=True)], color=ORANGE, width=0.85)
    title(bottom, f"Rejected share of raw rows ({sum(rejected):,} of {sum(raw):,} rows)")
    for axes in (top, middle, bottom):
        grid(axes)
        axes.margins(x=0.01)
    short_axis(top)
    short_axis(middle)
    percent_axis(bottom)
    _date_axis(bottom)
    return figure


def _date_axis(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.tick_params(axis="x", colors=FAINT)


CLEANED_EVENTS_PLOTS = (
    Plot(
        "Events, revenue and rejected rows per day",
        "All stored days. A day without a bar is not stored.",
        events_per_day,
    ),
)

"""The plot of the stored days."""

from __future__ import annotations

from ecommerce_assets.events.plots import events_per_day
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import png
from ecommerce_assets.storage.version import Stats


def stored(days: dict[str, Stats]) -> CheckContext:
    return CheckContext(Stats(), days={"cleaned_events": days})


def day(rows: int, raw: int, rejected: int, revenue: float) -> Stats:
    return Stats(rows=rows, results={"raw_rows": raw, "rejected": rejected}, numbers={"purchase_value": revenue})


def test_each_stored_day_has_a_bar() -> None:
    figure = events_per_day(stored({"2019-10-01": day(90, 100, 10, 5.5), "2019-10-03": day(0, 0, 0, 0.0)}))
    assert figure is not None
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]  # type: ignore[attr-defined]
    assert heights == [[90, 0], [5.5, 0.0], [0.1, 0]]
    assert "10 of 100 rows" in figure.axes[2].get_title(loc="left")
    assert len(png(figure)) < 100_000


def test_without_days_there_is_no_plot() -> None:
    assert events_per_day(stored({})) is None

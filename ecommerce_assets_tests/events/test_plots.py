"""The picture of the stored days."""

from __future__ import annotations

from ecommerce_assets.events.plots import events_per_day
from ecommerce_assets.storage.audits import Evidence
from ecommerce_assets.storage.manifest import Manifest, Partition
from ecommerce_assets.storage.pictures import png


def stored(days: dict[str, Partition]) -> Evidence:
    """Days as readers see them, each from a version of its own, of which nothing else is looked at."""
    manifests = {name: Manifest.model_construct(partitions={name: partition}) for name, partition in days.items()}
    return Evidence({}, days={"cleaned_events": manifests})


def day(rows: int, raw: int, rejected: int, revenue: float) -> Partition:
    return Partition(
        rows=rows,
        bytes=1,
        published=True,
        facts={"raw_rows": raw, "rejected": rejected},
        measures={"purchase_value": revenue},
    )


def test_a_bar_for_each_day() -> None:
    figure = events_per_day(stored({"2019-10-01": day(90, 100, 10, 5.5), "2019-10-03": day(0, 0, 0, 0.0)}))
    assert figure is not None
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]  # type: ignore[attr-defined]
    assert heights == [[90, 0], [5.5, 0.0], [0.1, 0]]
    assert "10 of 100 rows" in figure.axes[2].get_title(loc="left")
    assert len(png(figure)) < 100_000


def test_nothing_to_show() -> None:
    assert events_per_day(Evidence({}, days={"cleaned_events": {}})) is None

"""Growth of seconds with the number of events: series by stage, exponents between sizes, and a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

Results = Mapping[int, Mapping[str, Mapping[str, Any]]]
"""Results by number of events, then by part."""

WHOLE = "whole process"
COLLECTIONS = ("kernels",)
"""Parts that run several systems, so that the seconds of their process mean nothing."""
MIN_SECONDS = 1e-3
"""Shorter times are not measurable, and do not fit on a logarithmic axis."""


def series(results: Results) -> dict[tuple[str, str], dict[int, float]]:
    """Returns seconds by events for each part and stage; the whole process of a part is last."""
    seconds_by_events: dict[tuple[str, str], dict[int, float]] = {}
    parts = list(dict.fromkeys(part for size in results.values() for part in size))
    for part in parts:
        for events in sorted(results):
            for stage, seconds in results[events].get(part, {}).get("stages", {}).items():
                seconds_by_events.setdefault((part, stage), {})[events] = seconds
        for events in sorted(results):
            if part not in COLLECTIONS and "seconds" in results[events].get(part, {}):
                seconds_by_events.setdefault((part, WHOLE), {})[events] = results[events][part]["seconds"]
    return seconds_by_events


def exponents(seconds: Mapping[int, float]) -> list[float]:
    """Returns for each size and the next b, if seconds grow as events to the power of b.

    Examples
    --------
    >>> exponents({1_000: 2.0, 10_000: 20.0, 100_000: 2_000.0})
    [1.0, 2.0]
    """
    points = [(events, taken) for events, taken in sorted(seconds.items()) if taken >= MIN_SECONDS]
    return [
        round(math.log(more_taken / taken) / math.log(more_events / events), 2)
        for (events, taken), (more_events, more_taken) in pairwise(points)
    ]


def extrapolate(results: Results, part: str, events: int) -> tuple[float, float] | None:
    """Returns extrapolated seconds of a part that did not run at a size, and the exponent; None if that is impossible.

    The exponent is that between the two largest smaller sizes at which the part ran.

    Examples
    --------
    >>> extrapolate({n: {"reference": {"seconds": s}} for n, s in ((1_000, 2.0), (2_000, 4.0))}, "reference", 8_000)
    (16.0, 1.0)
    """
    below = {
        size: parts[part]["seconds"]
        for size, parts in sorted(results.items())
        if size < events and "seconds" in parts.get(part, {})
    }
    if len(below) < 2:
        return None
    largest = dict(list(below.items())[-2:])
    exponent = exponents(largest)[0]
    size, seconds = list(largest.items())[-1]
    return seconds * (events / size) ** exponent, exponent


def plot(results: Results, path: Path) -> None:
    """Plots seconds by events on logarithmic axes: our stages, those of other systems, and whole processes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = series(results)
    ours = {stage: points for (part, stage), points in lines.items() if part == "graph"}
    others = {f"{part}: {stage}": points for (part, stage), points in lines.items() if part != "graph"}
    wholes = {f"{part}": points for (part, stage), points in lines.items() if stage == WHOLE}
    figure, panels = pyplot.subplots(1, 3, figsize=(21, 11), sharey=True, layout="constrained")
    for panel, title, chosen in zip(
        panels, ("the graph, by asset", "the others, by stage", "whole processes"), (ours, others, wholes), strict=True
    ):
        for number, (label, points) in enumerate(chosen.items()):
            kept = {events: taken for events, taken in points.items() if taken >= MIN_SECONDS}
            grown = ", ".join(f"{b:.2f}" for b in exponents(kept))
            style = ("-", "--", ":")[number // 10 % 3]
            name = f"{label}  ({grown})" if grown else label
            panel.plot(list(kept), list(kept.values()), style, marker="o", color=f"C{number % 10}", label=name)
        panel.set(xscale="log", yscale="log", xlabel="events", title=title)
        panel.grid(which="both", alpha=0.2)
        if chosen:
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08), "ncols": 2}
            panel.legend(fontsize=9, title="stage (growth exponents)", **below)
    panels[0].set_ylabel("seconds")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

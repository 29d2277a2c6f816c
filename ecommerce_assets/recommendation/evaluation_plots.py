"""What the UI shows of als_evaluation: the lists against popularity, for whom they pay, and what of the catalogue they
show.

The numbers are those of evaluation.py; how pictures look is plotting.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ecommerce_assets.plotting import BLUE, FAINT, GREEN, GREY, INK, ORANGE, grid, panels, percent_axis, title
from ecommerce_assets.recommendation.judging import (
    BASELINE,
    SLICES,
    SYSTEMS,
)
from ecommerce_assets.recommendation.metrics import RANKING_METRICS
from ecommerce_assets.recommendation.notes import METRIC_NAMES
from ecommerce_assets.recommendation.verdict import DIFFERENCE
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"als": "ALS alone", "published": "published", BASELINE: "popularity", "touched": "what users did before"}
COLOURS = {"als": BLUE, "published": GREEN, BASELINE: GREY, "touched": ORANGE}


def against_popularity(context: CheckContext) -> Figure | None:
    """Every ranking metric of the three systems, with 95 % intervals."""
    metrics: Mapping[str, Any] = context.results.get("metrics", {})
    told = [metric for metric in RANKING_METRICS if metric in metrics]
    if not told:
        return None
    figure, axes = panels(columns=len(told), height=3.2)
    for own, metric in zip(axes, told, strict=True):
        for place, system in enumerate(SYSTEMS):
            value, lower, upper = metrics[metric][system]
            own.bar(place, value, color=COLOURS[system], width=0.72)
            own.errorbar(place, value, [[value - lower], [upper - value]], color=INK, capsize=3, linewidth=1.1)
            own.annotate(
                f"{value:.3f}", (place, upper), ha="center", va="bottom", xytext=(0, 3), textcoords="offset points"
            )
        title(own, f"{METRIC_NAMES[metric]} at {context.parameters['k']}")
        own.set_xticks(range(len(SYSTEMS)), ["ALS\nalone", "pub-\nlished", "popu-\nlarity"], fontsize=9)
        own.margins(y=0.14)
        own.set_ylim(bottom=0)
        grid(own)
        own.tick_params(axis="y", labelsize=8.5)
    return figure


def by_slice(context: CheckContext) -> Figure | None:
    """The NDCG of the published lists less that of popularity, by slice of users, with 95 % intervals."""
    slices = context.results.get("ndcg_by_slice", {})
    shown = [(told, slices[name]) for name, told in SLICES.items() if name in slices]
    if not shown:
        return None
    figure, (axes,) = panels(height=1.1 + 0.3 * len(shown))
    for row, (_, own) in enumerate(shown):
        value, lower, upper = own[DIFFERENCE]
        colour = GREEN if lower > 0 else ORANGE if upper < 0 else GREY
        axes.errorbar(
            value, row, xerr=[[value - lower], [upper - value]], fmt="o", color=colour, capsize=3, markersize=6
        )
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{name}  ({own['users']:,})" for name, own in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    title(axes, f"NDCG at {context.parameters['k']}: published lists less popularity, by group of users")
    grid(axes, "x")
    return figure


def catalogue(context: CheckContext) -> Figure | None:
    """How much of the catalogue each system shows to anyone, and how the shows fall to popular and rare products."""
    shares, coverage = context.results.get("shown_by_popularity"), context.results.get("metrics", {}).get("coverage")
    if not shares or not coverage:
        return None
    figure, (left, right) = panels(columns=2, height=3.4, width_ratios=[2, 3])
    _coverage(left, coverage)
    groups = len(shares["touched"])
    for name in ("touched", *SYSTEMS):
        right.plot(
            range(1, groups + 1),
            shares[name],
            color=COLOURS[name],
            label=NAMES[name],
            marker="o",
            markersize=4,
            linestyle="--" if name == "touched" else "-",
        )
    title(right, "Share of what is shown, by popularity of the product")
    right.set_xlabel("tenth of the catalogue, the most popular first")
    right.set_xticks(range(1, groups + 1))
    right.set_ylim(bottom=0)
    right.legend()
    grid(right)
    percent_axis(right)
    return figure


def _coverage(axes: Axes, coverage: Mapping[str, Any]) -> None:
    for row, system in enumerate(SYSTEMS):
        share = coverage[system][0]
        axes.barh(row, share, color=COLOURS[system], height=0.6)
        axes.annotate(f"{share:.1%}", (share, row), va="center", xytext=(4, 0), textcoords="offset points")
    axes.set_yticks(range(len(SYSTEMS)), [NAMES[system] for system in SYSTEMS])
    axes.set_ylim(len(SYSTEMS) - 0.5, -0.5)
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    title(axes, "Products shown to anyone")
    grid(axes, "x")
    percent_axis(axes, "x")


ALS_EVALUATION_PLOTS = (
    Plot(
        "ALS against popularity",
        "Trained on the past, judged on what users did afterwards; the lines are 95 % bootstrap intervals over users.",
        against_popularity,
    ),
    Plot(
        "For whom it pays",
        "Right of zero the published lists are better than popularity; in brackets the number of users. Green and "
        "orange: the 95 % interval leaves zero out.",
        by_slice,
    ),
    Plot(
        "Coverage and popularity bias",
        "A line above the dashed one on the left shows the popular more often than users choose them by themselves.",
        catalogue,
    ),
)

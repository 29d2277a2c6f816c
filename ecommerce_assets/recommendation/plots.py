"""Plots of als_model and als_evaluation, drawn from the results in their stats: `ALS_MODEL_PLOTS` and
`ALS_EVALUATION_PLOTS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ecommerce_assets.plotting import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    grid,
    panels,
    percent_axis,
    short_axis,
    short_number,
    title,
)
from ecommerce_assets.recommendation.evaluation_checks import DIFFERENCE, METRIC, number
from ecommerce_assets.recommendation.scoring import SLICES
from ecommerce_assets.recommendation.systems import ALS_LIST, POPULARITY, PUBLISHED, SYSTEMS, TITLES
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Plot
from ecommerce_assets.storage.markdown import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAIN = (PUBLISHED, ALS_LIST, POPULARITY)
COLOURS = {PUBLISHED: GREEN, ALS_LIST: BLUE, POPULARITY: GREY}


def objective_by_iteration(context: CheckContext) -> Figure | None:
    """Draws the objective after each iteration; None if the engine does not report it."""
    values: list[float] = context.results.get("objective") or []
    if len(values) < 2:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, [axes] = panels(height=3.4)
    axes.plot(range(1, len(values) + 1), values, color=BLUE, marker="o", markersize=5, linewidth=2)
    title(axes, f"ALS objective by iteration: {values[0]:,.0f} to {values[-1]:,.0f}")
    grid(axes)
    axes.margins(x=0.04, y=0.15)
    axes.set_xlabel("Iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=15))
    short_axis(axes)
    fall = 1 - values[-1] / values[-2]
    axes.set_title(f"the last iteration lowered it by {percent(fall, 2)}", loc="right", fontsize=10, color=FAINT, pad=8)
    for n in (1, len(values)):
        point = (n, values[n - 1])
        axes.annotate(short_number(values[n - 1]), point, (0, 8), textcoords="offset points", ha="center", color=INK)
    return figure


def all_systems(context: CheckContext) -> Figure | None:
    """Draws NDCG and hit rate of every system with 95 % intervals, the highest NDCG first."""
    metrics: Mapping[str, Any] = context.results.get("metrics", {})
    if METRIC not in metrics:
        return None
    best, k = context.results["best_baseline"], context.parameters["k"]
    order = sorted(SYSTEMS, key=lambda system: -metrics[METRIC][system][0])
    colours = [GREEN if system == PUBLISHED else ORANGE if system == best else GREY for system in order]
    figure, (left, right) = panels(columns=2, height=1.0 + 0.3 * len(order), sharey=True)
    for axes, metric, name, write in ((left, METRIC, "NDCG", number), (right, "hit_rate", "Hit rate", percent)):
        _bars(axes, [metrics[metric][system] for system in order], colours, write)
        title(axes, f"{name} at {k}")
    names = [f"{TITLES[system]} (best baseline)" if system == best else TITLES[system] for system in order]
    left.set_yticks(range(len(order)), names)
    for label, system in zip(left.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if system in (PUBLISHED, best) else "normal")
    return figure


def _bars(axes: Axes, intervals: Sequence[Sequence[float]], colours: Sequence[str], write: Any) -> None:
    """Draws horizontal bars with intervals, the first one at the top."""
    for row, ((value, lower, upper), colour) in enumerate(zip(intervals, colours, strict=True)):
        axes.barh(row, value, color=colour, height=0.7)
        axes.errorbar(value, row, xerr=[[value - lower], [upper - value]], color=INK, capsize=2.5, linewidth=1)
        axes.annotate(write(value), (upper, row), va="center", xytext=(5, 0), textcoords="offset points", fontsize=8.5)
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.set_xlim(0, 1.3 * max(upper for _, _, upper in intervals) or 1)
    grid(axes, "x")
    axes.tick_params(labelbottom=False)  # each bar has its value


def by_slice(context: CheckContext) -> Figure | None:
    """Draws the NDCG of the published lists less that of the best baseline by slice of users, with 95 % intervals."""
    slices = context.results.get("ndcg_by_slice", {})
    shown = [(name, slices[part]) for part, name in SLICES.items() if DIFFERENCE in slices.get(part, {})]
    if not shown:
        return None
    figure, (axes,) = panels(height=1.3 + 0.3 * len(shown))
    for row, (_, values) in enumerate(shown):
        value, lower, upper = values[DIFFERENCE]
        enough = values["users"] >= context.parameters["min_holdout_users"]
        colour = GREEN if enough and lower > 0 else ORANGE if enough and upper < 0 else GREY
        axes.errorbar(
            value, row, xerr=[[value - lower], [upper - value]], fmt="o", color=colour, capsize=3, markersize=6
        )
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{name}  ({values['users']:,})" for name, values in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    title(axes, f"NDCG at {context.parameters['k']}: published lists less best baseline")
    axes.set_xlabel(f"best baseline: {TITLES[context.results['best_baseline']]}")
    grid(axes, "x")
    return figure


def catalogue(context: CheckContext) -> Figure | None:
    """Draws the coverage of the main systems, and the share of their entries by the popularity of the product."""
    shares, coverage = context.results.get("shown_by_popularity"), context.results.get("metrics", {}).get("coverage")
    if not shares or not coverage:
        return None
    figure, (left, right) = panels(columns=2, height=3.2, width_ratios=[2, 3])
    for row, system in enumerate(MAIN):
        share = coverage[system][0]
        left.barh(row, share, color=COLOURS[system], height=0.6)
        left.annotate(percent(share), (share, row), va="center", xytext=(4, 0), textcoords="offset points")
    left.set_yticks(range(len(MAIN)), [TITLES[system] for system in MAIN])
    left.set_ylim(len(MAIN) - 0.5, -0.5)
    left.set_xlim(0, 1.25 * max(coverage[system][0] for system in MAIN) or 1)
    title(left, "Products shown to anyone")
    grid(left, "x")
    percent_axis(left, "x")
    tenths = range(1, len(shares["touched"]) + 1)
    right.plot(tenths, shares["touched"], color=INK, linestyle="--", label="users' own choices", marker=".")
    for system in MAIN:
        right.plot(tenths, shares[system], color=COLOURS[system], label=TITLES[system], marker="o", markersize=4)
    title(right, "Share of the entries by popularity of the product")
    right.set_xlabel("tenth of the catalogue, the most popular first")
    right.set_xticks(tenths)
    right.set_ylim(bottom=0)
    right.legend()
    grid(right)
    percent_axis(right)
    return figure


ALS_MODEL_PLOTS = (
    Plot(
        "ALS objective by iteration",
        "The objective (confidence-weighted squared error plus regularisation) after each iteration. A flat line means "
        "that the fit has converged. The axis does not begin at zero.",
        objective_by_iteration,
    ),
)

ALS_EVALUATION_PLOTS = (
    Plot(
        "All systems",
        "Trained on the events before the cutoff, scored on those after it, with 95 % bootstrap intervals over users.",
        all_systems,
    ),
    Plot(
        "Difference to the best baseline by slice of users",
        "To the right of zero, the published lists are better than the best baseline. Numbers of users are in "
        "brackets. Green or orange: the 95 % interval does not contain zero, and there are enough users to compare.",
        by_slice,
    ),
    Plot(
        "Coverage and popularity bias",
        "A system whose line is above the dashed one on the left shows popular products more often than users choose "
        "them.",
        catalogue,
    ),
)

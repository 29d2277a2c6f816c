"""What the UI shows of als_model: how the fit converged.

Drawn from the results in the stats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecommerce_assets.plotting import BLUE, FAINT, INK, grid, panels, short_axis, short_number, title
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def objective_by_iteration(context: CheckContext) -> Figure | None:
    """The objective at the end of each iteration; None where the engine does not report it."""
    found: list[float] = context.results.get("objective") or []
    if len(found) < 2:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, [axes] = panels(height=3.4)
    iterations = range(1, len(found) + 1)
    axes.plot(iterations, found, color=BLUE, marker="o", markersize=5, linewidth=2)
    title(axes, f"ALS objective by iteration: {found[0]:,.0f} to {found[-1]:,.0f}")
    grid(axes)
    axes.margins(x=0.04, y=0.15)
    axes.set_xlabel("Iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=15))
    short_axis(axes)
    fall = 1 - found[-1] / found[-2]
    axes.set_title(f"the last iteration lowered it by {fall:.2%}", loc="right", fontsize=10, color=FAINT, pad=8)
    for at in (0, len(found) - 1):
        axes.annotate(
            short_number(found[at]), (at + 1, found[at]), (0, 8), textcoords="offset points", ha="center", color=INK
        )
    return figure


ALS_MODEL_PLOTS = (
    Plot(
        "ALS objective by iteration",
        "What ALS minimises (confidence-weighted squared error plus regularisation) at the end of each iteration. A "
        "line that has become flat has converged; the axis does not begin at zero.",
        objective_by_iteration,
    ),
)

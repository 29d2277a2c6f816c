"""The style of all plots: colours, sizes, axes and labels. `panels` makes a figure.

Matplotlib is imported inside the functions, because only a run that draws plots needs it. Figures are made without
pyplot, which keeps global state and is not thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID, CARD = "#1f2933", "#6b7785", "#e4e8ed", "#ffffff"
"""Text, secondary text, grid lines, background. The background is white in both themes of the UI, so that a plot can be
pasted into a slide."""

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#9aa5b1"
"""From the palette of Okabe and Ito, which is safe for colour-blind readers (Color Universal Design, 2008)."""

SEQUENTIAL, DIVERGING = "Blues", "RdBu_r"
"""Colour maps for amounts of at least zero, and for values on both sides of zero."""

WIDTH = 8.2
"""In inches: 820 pixels at `DPI`. The UI's dialog has room for 840 in a window of 1,100 pixels."""

DPI = 100

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # part of Matplotlib, so plots look the same on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": CARD,
    "figure.facecolor": CARD,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.frameon": False,
}


def panels(columns: int = 1, rows: int = 1, height: float = 3.6, **options: Any) -> tuple[Figure, list[Axes]]:
    """Returns an empty figure of the standard width and its axes, row by row.

    Parameters
    ----------
    height
        Height of the figure in inches.
    options
        Arguments of `Figure.subplots`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def title(axes: Axes, text: str) -> None:
    """Sets the title of one panel."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)


def grid(axes: Axes, axis: str = "y") -> None:
    """Draws light grid lines for one axis and removes the ticks."""
    axes.grid(visible=True, axis=axis)
    axes.tick_params(length=0)


def short_number(number: float) -> str:
    """Returns a number for a label: 950, 12.3k, 4.5M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def short_count(number: float) -> str:
    """Returns a whole number for a cell of a heat map: all digits below 10,000, else as `short_number`."""
    return f"{number:,.0f}" if number < 10_000 else short_number(number)


def short_axis(axes: Axes, axis: str = "y") -> None:
    """Labels the ticks with `short_number`."""
    from matplotlib.ticker import FuncFormatter

    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def percent_axis(axes: Axes, axis: str = "y") -> None:
    """Labels the ticks, which are shares, with percentages."""
    from matplotlib.ticker import PercentFormatter

    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))

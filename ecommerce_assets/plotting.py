"""The house style of all pictures: card, colours, sizes. The plots.py of each room draws them.

Matplotlib is imported by those who draw, when they draw: it takes half a second that only a run needs. Figures are made
without pyplot, which keeps global state and is not safe in threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID, CARD = "#1f2933", "#6b7785", "#e4e8ed", "#ffffff"
"""Text, secondary text, lines behind the data, background. The card is white in both themes of the UI: a picture that
is pasted into a slide has to bring its background along."""

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#9aa5b1"
"""Of Okabe and Ito's colours, which people with any colour vision tell apart (Color Universal Design, 2008)."""

SEQUENTIAL, DIVERGING = "Blues", "RdBu_r"
"""Colour maps of amounts from zero up, and of values on both sides of zero."""

WIDTH = 8.2
"""In inches: 820 pixels at `DPI`. The UI's dialog has room for 840 in a window of 1,100 pixels."""

DPI = 100

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same picture everywhere
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
    """An empty figure of the house's width and its axes, row by row.

    Parameters
    ----------
    height
        Of the whole figure, in inches.
    options
        As for `Figure.subplots`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        made = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(made.flat)


def title(axes: Axes, text: str) -> None:
    """The heading of one panel."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)


def grid(axes: Axes, axis: str = "y") -> None:
    """Light lines behind the data, along one axis, and no ticks."""
    axes.grid(visible=True, axis=axis)
    axes.tick_params(length=0)


def short(number: float) -> str:
    """A number for a label: 950, 12.3k, 4.5M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def short_count(number: float) -> str:
    """Returns a whole number for a cell of a heat map: all its digits below 10,000, as `short` from there on."""
    return f"{number:,.0f}" if number < 10_000 else short(number)


def short_axis(axes: Axes, axis: str = "y") -> None:
    """Ticks as `short` numbers."""
    from matplotlib.ticker import FuncFormatter

    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def percent_label(share: float) -> str:
    """A share for a label: 34%, 3.4%."""
    return f"{share:.1%}" if 0 < abs(share) < 0.1 else f"{share:.0%}"


def percent_axis(axes: Axes, axis: str = "y") -> None:
    """Ticks of shares as percentages."""
    from matplotlib.ticker import PercentFormatter

    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1.0, decimals=None))

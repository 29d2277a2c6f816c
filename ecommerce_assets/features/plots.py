"""Plots of user_features (recency, frequency, monetary value) and product_features (category funnel).

They are drawn from the summaries in the stats of a version (summaries.py), without reading the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ecommerce_assets.features.summaries import (
    ALL_CATEGORIES,
    FREQUENCY,
    LARGEST_CATEGORIES,
    MONETARY,
    RECENCY,
    RFM_CELLS,
    UNKNOWN,
    Bins,
)
from ecommerce_assets.plotting import (
    BLUE,
    CARD,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SEQUENTIAL,
    grid,
    panels,
    percent_axis,
    short_axis,
    short_count,
    short_number,
    title,
)
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Plot
from ecommerce_assets.storage.markdown import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAME_LENGTH = 28
"""Characters of a category's name in a plot."""


def recency_and_frequency(context: CheckContext) -> Figure | None:
    """Returns a heat map of the number of users by recency and frequency; None without users."""
    from matplotlib.colors import LogNorm

    cells = [c for c in _cells(context) if c["monetary"] is None]
    known = [c for c in cells if UNKNOWN not in (c["recency"], c["frequency"])]
    if not known:
        return None
    # Without the empty bins at the far ends: three months of events have no recency of a year.
    columns, rows = (1 + max(c[bins.feature] for c in known) for bins in (RECENCY, FREQUENCY))
    counts = [[0.0] * columns for _ in range(rows)]
    for cell in known:
        counts[cell["frequency"]][cell["recency"]] = cell["users"]
    most = max(c["users"] for c in known)
    figure, [axes] = panels(height=4.2)
    # Starts below 1, so that a cell with one user is not as white as an empty one.
    shades = LogNorm(0.5, max(most, 2))
    image = axes.imshow(
        [[n or float("nan") for n in row] for row in counts],
        cmap=SEQUENTIAL,
        norm=shades,
        aspect="auto",
        origin="lower",
    )
    for row, line in enumerate(counts):
        for column, users in enumerate(line):
            if users:
                colour = CARD if shades(users) > 0.6 else INK
                axes.text(column, row, short_count(users), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(columns), [RECENCY.label(n) for n in range(columns)])
    axes.set_yticks(range(rows), [FREQUENCY.label(n) for n in range(rows)])
    axes.set_xlabel("Recency: days since the last event")
    axes.set_ylabel("Frequency: days with an event")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    total = sum(c["users"] for c in known)
    unknown = sum(c["users"] for c in cells) - total
    title(axes, f"{total:,} user{'s' if total > 1 else ''}" + (f"; {unknown:,} with unknown values" if unknown else ""))
    _legend(figure.colorbar(image, ax=axes, aspect=24, pad=0.01))
    return figure


def _legend(bar: Any) -> None:
    bar.set_label("Users (logarithmic)", color=FAINT, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, which="both", labelsize=8)
    short_axis(bar.ax)
    bar.ax.yaxis.set_minor_formatter("")


def rfm_distributions(context: CheckContext) -> Figure | None:
    """Returns bar charts of the share of users by bin of recency, frequency and monetary value; None without users."""
    cells = _cells(context)
    if not cells:
        return None
    all_bins = (RECENCY, FREQUENCY, MONETARY)
    counts = [_counts(bins, cells) for bins in all_bins]
    figure, axes = panels(columns=3, height=3.8, width_ratios=[max(len(c), 5) for c in counts])
    for panel, bins, users, heading, colour in zip(
        axes,
        all_bins,
        counts,
        ("Recency (days)", "Frequency (days)", "Monetary (sum of purchases)"),
        (BLUE, GREEN, ORANGE),
        strict=True,
    ):
        _distribution(panel, bins, users, colour)
        title(panel, heading)
    axes[0].set_ylabel("Share of users")
    return figure


def _counts(bins: Bins, cells: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Users by bin, up to the last bin with a user, and then those in `UNKNOWN` if there are any."""
    users: Counter[int] = Counter()
    for cell in cells:
        if cell[bins.feature] is not None:
            users[cell[bins.feature]] += cell["users"]
    counts = {number: users[number] for number in range(max(users) + 1)}
    return {**counts, UNKNOWN: users[UNKNOWN]} if users[UNKNOWN] else counts


def _distribution(axes: Axes, bins: Bins, users: Mapping[int, int], colour: str) -> None:
    total, places = sum(users.values()), range(len(users))
    colours = [GREY if number == UNKNOWN else colour for number in users]
    axes.bar(places, [count / total for count in users.values()], color=colours, width=0.85)
    labels = ["unknown" if n == UNKNOWN else _money_label(n) if bins is MONETARY else bins.label(n) for n in users]
    axes.set_xticks(places, labels, rotation=90 if len(users) > 6 else 0, fontsize=9)
    axes.set_xlim(-0.7, max(len(users), 3) - 0.3)
    grid(axes)
    percent_axis(axes)


def _money_label(number: int) -> str:
    if number == 0:
        return "0"
    return (
        f"> {short_number(MONETARY.ends[-1])}"
        if number == len(MONETARY.ends)
        else f"≤ {short_number(MONETARY.ends[number])}"
    )


def category_conversion(context: CheckContext) -> Figure | None:
    """Returns a bar chart of views, and carts and purchases per view, by category; None without views."""
    rows = _funnel(context)
    if not any(row["views"] for row in rows):
        return None
    places = list(range(len(rows)))
    figure, (left, right) = panels(columns=2, height=1.4 + 0.44 * len(rows), sharey=True, width_ratios=[2, 3])
    bars = left.barh(places, [row["views"] for row in rows], color=GREY, height=0.7)
    left.bar_label(bars, [short_number(row["views"]) for row in rows], padding=3, fontsize=9)
    left.margins(x=0.15)
    left.set_yticks(places, [_short_name(row["category"]) for row in rows])
    left.invert_yaxis()
    title(left, "Views")
    most = 0.0
    for offset, name, colour in ((-0.19, "carts", BLUE), (0.19, "purchases", GREEN)):
        shares = [row[name] / row["views"] if row["views"] else 0.0 for row in rows]
        most = max(most, *shares)
        drawn = right.barh([n + offset for n in places], shares, height=0.34, color=colour, label=name.capitalize())
        none = "no views" if name == "carts" else ""
        labels = [percent(s) if row["views"] else none for s, row in zip(shares, rows, strict=True)]
        right.bar_label(drawn, labels, padding=3, fontsize=9)
    right.set_xlim(0, 1.15 * most or 1)
    title(right, "Carts and purchases per 100 views")
    for axes in (left, right):
        grid(axes, "x")
        axes.tick_params(axis="x", labelcolor=FAINT)
    short_axis(left, "x")
    percent_axis(right, "x")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    return figure


def _funnel(context: CheckContext) -> list[dict[str, Any]]:
    """The most viewed categories, then all others in one row."""
    rows = [dict(row) for row in context.stats.summaries.get(LARGEST_CATEGORIES) or ()]
    total = context.stats.summaries.get(ALL_CATEGORIES) or {}
    others = total.get("categories", 0) - len(rows)
    if others > 0:
        rest = {name: total[name] - sum(row[name] for row in rows) for name in ("views", "carts", "purchases")}
        rows.append({"category": f"{others:,} other{'s' if others > 1 else ''}", **rest})
    return rows


def _cells(context: CheckContext) -> Sequence[Mapping[str, Any]]:
    return context.stats.summaries.get(RFM_CELLS) or ()


def _short_name(name: str | None) -> str:
    name = name or "unknown"
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"


USER_FEATURES_PLOTS = (
    Plot(
        "Users by recency and frequency",
        "Number of users by days since their last event and number of days with an event. Loyal users are at the top "
        "left, users who came once and left at the bottom right.",
        recency_and_frequency,
    ),
    Plot(
        "Recency, frequency and monetary value",
        "Share of users by days since the last event, number of days with an event, and sum of purchases.",
        rfm_distributions,
    ),
)

PRODUCT_FEATURES_PLOTS = (
    Plot(
        "Views, carts and purchases by category",
        "Views of the most viewed categories, and carts and purchases per 100 views. Purchases can outnumber carts, "
        "because users can buy without the cart.",
        category_conversion,
    ),
)

"""Plots and notes of segmented_users and segmentation_by_k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ecommerce_assets.plotting import (
    BLUE,
    CARD,
    DIVERGING,
    FAINT,
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
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note, Plot
from ecommerce_assets.storage.markdown import number_table, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR_LIMIT = 2.0
"""Number of standard deviations with the darkest colour; larger values have the same colour."""

MAX_SEGMENTS_SHOWN = 15
"""Maximum number of segments in a plot: the largest ones."""


def _number(value: float) -> str:
    return short_number(value) if abs(value) >= 1000 else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


NO_VIEWS = (
    "The events have no views, so conversion_rate is 0 for all users, and no segment is named Active_Buyers, which "
    "needs a conversion_rate above 0.1."
)

COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "recency": ("Days since\nlast visit", _number),
    "frequency": ("Days\nactive", _number),
    "monetary": ("Money\nspent", _number),
    "conversion_rate": ("Purchases\nper view", percent),
    "cart_abandonment": ("Carts\nabandoned", percent),
    "unique_products": ("Products\nseen", _number),
    "unique_categories": ("Categories\nseen", _number),
    "avg_price": ("Average\nprice", _number),
}
"""Label of each feature, and the function that formats its mean."""


def segment_profiles(context: CheckContext) -> Figure | None:
    """Returns a heat map: the difference of each segment from all users, by feature."""
    segments = _by_size(context)
    if not segments:
        return None
    differences = [[s["difference"][name] for name in COLUMNS] for s in segments]
    figure, [axes] = panels(height=1.7 + 0.42 * len(segments))
    cells = axes.imshow(differences, cmap=DIVERGING, vmin=-COLOUR_LIMIT, vmax=COLOUR_LIMIT, aspect="auto")
    for row, segment in enumerate(segments):
        for column, (name, (_, text_of)) in enumerate(COLUMNS.items()):
            colour = CARD if abs(differences[row][column]) > 0.65 * COLOUR_LIMIT else INK
            axes.text(column, row, text_of(segment["mean"][name]), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(COLUMNS)), [label for label, _ in COLUMNS.values()], fontsize=9)
    axes.set_yticks(range(len(segments)), [f"{n}  {percent(s['share'])}" for n, s in _named(segments)])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xticks([n - 0.5 for n in range(1, len(COLUMNS))], minor=True)
    axes.set_yticks([n - 0.5 for n in range(1, len(segments))], minor=True)
    axes.grid(visible=True, which="minor", color=CARD, linewidth=2)
    axes.grid(visible=False, which="major")
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(cells, ax=axes, shrink=0.9 if len(segments) > 2 else 1.0, aspect=16, pad=0.01)
    bar.set_ticks([-COLOUR_LIMIT, 0, COLOUR_LIMIT], labels=["far below\naverage", "average", "far above\naverage"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)
    return figure


def size_and_revenue(context: CheckContext) -> Figure | None:
    """Returns paired bars: each segment's share of the users and of the revenue."""
    segments = _by_size(context)
    if not segments:
        return None
    parts = [Part(name, s["users"], s["share"], s["revenue_share"]) for name, s in _named(segments)]
    revenue = sum(s["revenue"] for s in context.results["segments"])
    users = sum(s["users"] for s in context.results["segments"])
    return share_bars(parts, f"{users:,} users, {f'{short_number(revenue)} revenue' if revenue else 'no revenue'}")


class Part(NamedTuple):
    """A group of users, with its shares in all users and in the revenue."""

    name: str
    users: int
    share: float
    revenue_share: float


def share_bars(parts: Sequence[Part], heading: str, of: str = "users") -> Figure:
    """Returns paired bars: the share of each part in the users (or in `of`, such as buyers) and in the revenue."""
    figure, [axes] = panels(height=1.5 + 0.55 * len(parts))
    for offset, values, colour, label in (
        (-0.2, [part.share for part in parts], BLUE, f"Share of {of}"),
        (0.2, [part.revenue_share for part in parts], ORANGE, "Share of revenue"),
    ):
        bars = axes.barh([n + offset for n in range(len(parts))], values, height=0.36, color=colour, label=label)
        axes.bar_label(bars, [percent(value) for value in values], padding=3, fontsize=9)
    axes.set_yticks(range(len(parts)), [f"{part.name}\n{part.users:,} users" for part in parts])
    axes.invert_yaxis()
    title(axes, heading)
    grid(axes, "x")
    percent_axis(axes, "x")
    axes.set_xlim(0, 1.12 * max(max(part.share, part.revenue_share) for part in parts))
    axes.tick_params(axis="x", labelcolor=FAINT)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def quality_by_k(context: CheckContext) -> Figure | None:
    """Returns the silhouette and the cost by k, with a mark at the k in use."""
    in_use, by_k = context.document["k_in_use"], context.document["by_k"]
    figure, (left, right) = panels(columns=2, height=3.4)
    for axes, key, colour, heading in (
        (left, "silhouette", BLUE, "Silhouette (more is better)"),
        (right, "cost", ORANGE, "Cost within the clusters"),
    ):
        points = [(entry["k"], entry[key]) for entry in by_k if entry[key] is not None]
        axes.axvline(in_use, color=GREY, linewidth=1, linestyle="--")
        axes.plot(*zip(*points, strict=True) if points else ([], []), color=colour, marker="o", markersize=5)
        for k, value in points:
            if k == in_use:
                axes.plot([k], [value], color=colour, marker="o", markersize=11)
        axes.set_xticks([entry["k"] for entry in by_k])
        axes.set_xlabel("Number of clusters, k")
        axes.text(in_use, 1.0, " in use", transform=axes.get_xaxis_transform(), va="top", color=FAINT, fontsize=9)
        title(axes, heading)
        grid(axes)
        axes.margins(y=0.18)
    right.set_ylim(bottom=0)
    short_axis(right)
    return figure


def _by_k_table(context: CheckContext) -> str:
    in_use, rows = context.document["k_in_use"], []
    for entry in context.document["by_k"]:
        quality = "none" if entry["silhouette"] is None else f"{entry['silhouette']:.3f}"
        mark = " (in use)" if entry["k"] == in_use else ""
        rows.append((f"{entry['k']}{mark}", quality, f"{entry['cost']:,.0f}", str(entry["clusters"])))
    return number_table(("k", "silhouette", "cost", "clusters found"), rows)


def _segments_table(context: CheckContext) -> str | None:
    segments = _by_size(context, most=None)
    rows = [(name, f"{s['users']:,}", percent(s["share"]), percent(s["revenue_share"])) for name, s in _named(segments)]
    return number_table(("segment", "users", "share", "revenue"), rows) if rows else None


def _descriptions(context: CheckContext) -> str | None:
    lines = [f"- **{name}**: {s['description']}" for name, s in _named(_by_size(context))]
    return "\n".join(lines if context.results["has_views"] else [*lines, "", NO_VIEWS]) if lines else None


def _by_size(context: CheckContext, most: int | None = MAX_SEGMENTS_SHOWN) -> list[Mapping[str, Any]]:
    return sorted(context.results["segments"], key=lambda s: (-s["users"], s["segment_id"]))[:most]


def _named(segments: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the name of each segment, with its number if several segments have that name."""
    times = Counter(s["segment"] for s in segments)
    return [(s["segment"] + (f" #{s['segment_id']}" if times[s["segment"]] > 1 else ""), s) for s in segments]


SEGMENTED_USERS_NOTES = (Note("segments at a glance", _segments_table), Note("segments in words", _descriptions))

SEGMENTED_USERS_PLOTS = (
    Plot(
        "Differences between the segments",
        "Numbers: means of the segment. Colours: difference from the mean of all users, in standard deviations "
        "(darkest from 2 on). Carts abandoned are negative if users buy without a cart.",
        segment_profiles,
    ),
    Plot(
        "Users and revenue by segment", "Share of each segment in the users and in the money spent.", size_and_revenue
    ),
)

SEGMENTATION_BY_K_NOTES = (Note("quality by k", _by_k_table),)

SEGMENTATION_BY_K_PLOTS = (
    Plot(
        "Quality by k",
        "Silhouette: how clearly users belong to their cluster, from -1 to 1. Cost: sum of squared distances to the "
        "centres. It falls with each k; a good k is where it stops falling fast.",
        quality_by_k,
    ),
)

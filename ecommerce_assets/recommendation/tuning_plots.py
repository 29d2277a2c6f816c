"""What the UI shows of als_tuning: how the search went, and which parameters matter.

Drawn from the document of tuning_document.py; how pictures look is plotting.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ecommerce_assets.plotting import BLUE, FAINT, INK, ORANGE, grid, panels, title
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {True: BLUE, False: ORANGE}
NAMES = {True: "nonnegative", False: "unconstrained"}


def _judged(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [t for t in document["trials"] if t["ndcg"]]


def trials_in_order(context: CheckContext) -> Figure | None:
    """NDCG of each trial with its interval, the best so far, and the default parameters and popularity beside them."""
    document = context.document
    trials = _judged(document)
    if not trials:
        return None
    figure, [axes] = panels(height=4.2)
    for kind, colour in COLOURS.items():
        own = [t for t in trials if t["params"]["nonnegative"] == kind]
        if own:
            numbers, values = [t["number"] for t in own], [t["ndcg"][0] for t in own]
            axes.vlines(
                numbers, [t["ndcg"][1] for t in own], [t["ndcg"][2] for t in own], color=colour, alpha=0.25, lw=3
            )
            axes.scatter(numbers, values, color=colour, s=30, zorder=3, label=NAMES[kind])
    best_so_far: list[float] = []
    for trial in trials:
        best_so_far.append(max([trial["ndcg"][0], *best_so_far[-1:]]))
    axes.step([t["number"] for t in trials], best_so_far, where="post", color=INK, lw=1.5, label="best so far")
    if document["default"]:
        value = document["default"]["ndcg"][0]
        axes.axhline(value, color=FAINT, lw=1, ls="--", zorder=1, label=f"default parameters ({value:.4f})")
    _mark_best(axes, document)
    title(axes, f"NDCG at {document['k']} of {len(trials)} trials, {document['holdout_users']:,} users")
    grid(axes)
    axes.set_xlabel("trial")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _mark_best(axes: Axes, document: Mapping[str, Any]) -> None:
    number, value = document["trial"], document["ndcg"][0]
    axes.scatter([number], [value], s=150, facecolors="none", edgecolors=INK, linewidths=1.5, zorder=4)
    axes.annotate(
        f"best: {value:.4f}",
        (number, value),
        xytext=(0, 11),
        textcoords="offset points",
        ha="center",
        fontweight="bold",
    )


def by_parameter(context: CheckContext) -> Figure | None:
    """NDCG against each parameter, coloured by the constraint."""
    document = context.document
    trials = _judged(document)
    if not trials:
        return None
    figure, four = panels(columns=4, height=3.4, sharey=True)
    for axes, name in zip(four, ("rank", "regParam", "alpha", "nonnegative"), strict=True):
        for kind, colour in COLOURS.items():
            own = [t for t in trials if t["params"]["nonnegative"] == kind]
            xs = [int(not kind) if name == "nonnegative" else t["params"][name] for t in own]
            axes.scatter(xs, [t["ndcg"][0] for t in own], color=colour, s=26, alpha=0.8, label=NAMES[kind])
        for mark, face, label in ((document["trial"], "none", "best"), (0, INK, "default")):
            at = next((t for t in trials if t["number"] == mark), None)
            if at:
                x = int(not at["params"][name]) if name == "nonnegative" else at["params"][name]
                shape: dict[str, Any] = {"s": 130, "facecolors": face, "edgecolors": INK, "linewidths": 1.5}
                if mark == 0:
                    shape = {"marker": "x", "s": 60, "color": INK, "linewidths": 1.8}
                axes.scatter([x], [at["ndcg"][0]], zorder=4, label=label, **shape)
        share = document["importance"].get(name)
        title(axes, name if share is None else f"{name}: {share:.0%}")
        grid(axes)
        _scale(axes, name)
    four[0].set_ylabel(f"NDCG at {document['k']}")
    handles, labels = four[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _scale(axes: Axes, name: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if name == "nonnegative":
        axes.set_xticks([0, 1], ["yes", "no"])
        axes.set_xlim(-0.6, 1.6)
        return
    axes.set_xscale("log")
    if name == "rank":
        axes.set_xticks([8, 16, 32, 64, 128])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


ALS_TUNING_PLOTS = (
    Plot(
        "The search, trial by trial",
        "NDCG of the published lists on the validation holdout, with 95 % intervals. Intervals of two trials overlap "
        "more than their difference does, for the users are the same: the table has the differences.",
        trials_in_order,
    ),
    Plot(
        "What each parameter does",
        "All trials against each parameter. The percentage is its share in what the best quarter of the trials "
        "have in common: a rough guide.",
        by_parameter,
    ),
)

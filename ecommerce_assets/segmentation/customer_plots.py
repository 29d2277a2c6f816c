"""Plots and notes of customer_groups, segment_history and customer_value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ecommerce_assets.plotting import BLUE, CARD, FAINT, GREY, INK, ORANGE, SEQUENTIAL, grid, panels, short_count, title
from ecommerce_assets.segmentation.checks import EXPECTED_PURCHASES, EXPECTED_VALUE
from ecommerce_assets.segmentation.customer_groups import CELLS, GROUP_NAMES, GROUPS, PROSPECTS, SCORES, Group
from ecommerce_assets.segmentation.customer_value import HORIZON_DAYS, describe_comparison
from ecommerce_assets.segmentation.plots import Part, share_bars
from ecommerce_assets.segmentation.segment_history import moved_users, moves_of
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note, Plot
from ecommerce_assets.storage.markdown import number_table, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORE_VALUES = range(1, 6)


def size_and_revenue(context: CheckContext) -> Figure | None:
    """Returns paired bars: each group's share of the buyers and of the revenue."""
    buyers = [part for part in _parts(context) if part.name != PROSPECTS]
    if not buyers:
        return None
    count, users = sum(part.users for part in buyers), sum(part.users for part in _parts(context))
    shares = [Part(part.name, part.users, part.users / count, part.revenue_share) for part in buyers]
    return share_bars(shares, f"{count:,} buyers of {users:,} users", of="buyers")


def scores_and_groups(context: CheckContext) -> Figure | None:
    """Returns a heat map: buyers by r_score and f_score, with the borders of the groups."""
    users = Counter[tuple[int, int]]()
    for cell in _cells(context):
        if cell["r_score"] is not None:
            users[cell["r_score"], cell["f_score"]] += cell["users"]
    if not users:
        return None
    figure, [axes] = panels(height=5.4)
    counts = [[users[r, f] for f in SCORE_VALUES] for r in reversed(SCORE_VALUES)]
    text_colour = _draw_counts(axes, counts, extent=(0.5, 5.5, 0.5, 5.5))
    for r in SCORE_VALUES:
        for f in SCORE_VALUES:
            n = users[r, f]
            axes.text(f, r - 0.18, f"{n:,}", ha="center", va="center", color=text_colour(n), fontsize=9)
    for group in GROUPS:
        _outline(axes, group)
        colour = text_colour(users[group.highest_r, group.lowest_f])
        left, top = group.lowest_f - 0.45, group.highest_r + 0.42
        axes.text(left, top, group.name, va="top", color=colour, fontsize=9, fontweight="bold")
    axes.set_xticks(SCORE_VALUES)
    axes.set_yticks(SCORE_VALUES)
    axes.set_xlabel("f_score: purchase days, 5 = most")
    axes.set_ylabel("r_score: last purchase, 5 = most recent")
    title(axes, f"{users.total():,} buyers")
    return figure


def _draw_counts(axes: Axes, counts: list[list[int]], **options: Any) -> Callable[[int], str]:
    """Draws a heat map of counts, and returns a function from a count to the colour of text on its cell."""
    largest = max(max(row) for row in counts)
    axes.imshow(counts, cmap=SEQUENTIAL, vmin=0, vmax=1.2 * largest, aspect="auto", **options)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return lambda count: CARD if count > 0.7 * largest else INK


def _outline(axes: Axes, group: Group) -> None:
    from matplotlib.patches import Rectangle

    width, height = group.highest_f - group.lowest_f + 1, group.highest_r - group.lowest_r + 1
    corner = (group.lowest_f - 0.5, group.lowest_r - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=GREY, linewidth=2))


def movement(context: CheckContext) -> Figure | None:
    """Returns a heat map: users who moved, by the group that they left and the group that they joined."""
    moves = moves_of(context.stats, "since")
    between = {pair: users for pair, users in moves.items() if None not in pair and pair[0] != pair[1]}
    if not between:
        return None
    sources = [name for name in GROUP_NAMES if any(pair[0] == name for pair in between)]
    targets = [name for name in GROUP_NAMES if any(pair[1] == name for pair in between)]
    figure, [axes] = panels(height=2.4 + 0.36 * len(sources))
    counts = [[between.get((source, target), 0) for target in targets] for source in sources]
    text_colour = _draw_counts(axes, counts)
    for row, line in enumerate(counts):
        for column, users in enumerate(line):
            if users:
                text = short_count(users)
                axes.text(column, row, text, ha="center", va="center", color=text_colour(users), fontsize=9)
    axes.set_xticks(range(len(targets)), targets, rotation=35, ha="right")
    axes.set_yticks(range(len(sources)), sources)
    axes.set_ylabel("from", color=FAINT)
    axes.set_xlabel("to", color=FAINT)
    dates = context.parameters
    title(axes, f"{sum(between.values()):,} users moved from {dates['since']} to {dates['date']}")
    return figure


def _groups_table(context: CheckContext) -> str | None:
    rows = [(p.name, f"{p.users:,}", percent(p.share), percent(p.revenue_share)) for p in _parts(context)]
    return number_table(("group", "users", "share", "revenue"), rows) if rows else None


def _bounds_table(context: CheckContext) -> str | None:
    bounds = context.parameters["bounds"]
    rows = [(f"{score} by {column}", *(f"{b:,.6g}" for b in bounds[column])) for score, column in SCORES.items()]
    return number_table(("score", "1st bound", "2nd", "3rd", "4th"), rows) if any(bounds.values()) else None


def _movement_note(context: CheckContext) -> str | None:
    dates, sentences = context.parameters, []
    if dates["previous_date"] is None:
        return "This is the first date of the history. Movement is shown from the second date on."
    for since in ("previous", "since"):
        day = dates["previous_date" if since == "previous" else "since"]
        if since == "previous" or day != dates["previous_date"]:
            moved, both = moved_users(context.stats, since)
            share = f" ({percent(moved / both)})" if both else ""
            sentences.append(f"{moved:,} of {both:,} users{share} moved since {day}.")
    moves = Counter({pair: n for pair, n in moves_of(context.stats, "since").items() if pair[0] != pair[1]})
    rows = [(source or "(new)", target or "(gone)", f"{users:,}") for (source, target), users in moves.most_common()]
    return " ".join(sentences) + ("\n\n" + number_table(("from", "to", "users"), rows) if rows else "")


def _parts(context: CheckContext) -> list[Part]:
    """Returns the groups in the order of `GROUP_NAMES`."""
    users, revenue = Counter[str](), Counter[str]()
    for cell in _cells(context):
        users[cell["customer_group"] or "unknown"] += cell["users"]
        revenue[cell["customer_group"] or "unknown"] += cell["revenue"]
    total, money = users.total(), revenue.total()
    names = [name for name in (*GROUP_NAMES, "unknown") if users[name]]
    return [Part(name, users[name], users[name] / total, revenue[name] / money if money else 0.0) for name in names]


def _cells(context: CheckContext) -> Sequence[Mapping[str, Any]]:
    return context.stats.summaries.get(CELLS) or ()


def purchases_in_holdout(context: CheckContext) -> Figure | None:
    """Returns grouped bars: purchase days per buyer in the holdout, by purchase days before it."""
    holdout = context.results["holdout"]
    if holdout is None:
        return None
    groups = holdout["by_past"]
    figure, [axes] = panels(height=3.8)
    for offset, key, colour, label in (
        (-0.27, "actual", GREY, "Actual"),
        (0.0, "model", BLUE, "Model"),
        (0.27, "same_as_before", ORANGE, "Same as before"),
    ):
        means = [group[key] / group["buyers"] for group in groups]
        bars = axes.bar([n + offset for n in range(len(groups))], means, width=0.25, color=colour, label=label)
        axes.bar_label(bars, [f"{mean:.2f}" for mean in means], padding=2, fontsize=8)
    buyers = [f"{group['buyers']:,} {'buyer' if group['buyers'] == 1 else 'buyers'}" for group in groups]
    axes.set_xticks(
        range(len(groups)), [f"{group['purchase_days']}\n{n}" for group, n in zip(groups, buyers, strict=True)]
    )
    axes.set_xlabel("Purchase days before the holdout")
    title(axes, f"Purchase days per buyer in the {holdout['days']} days after {holdout['cutoff']}")
    grid(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _value_note(context: CheckContext) -> str:
    results = context.results
    if results["reason"] is not None:
        return f"No predictions. {results['reason']}"
    holdout, rows, sentences = results["holdout"], [], []
    for name, key in (("purchase days", "purchases"), ("value", "value")):
        compared = holdout[key]
        actual = compared["actual"]
        sums = [f"{sum_:,.0f}{_off_by(sum_, actual)}" for sum_ in (compared["model"], compared["same_as_before"])]
        errors = [f"{compared[error]:,.2f}" for error in ("model_error", "same_as_before_error")]
        rows += [(name, f"{actual:,.0f}", *sums), (f"error per buyer, {name}", "", *errors)]
        sentences.append(f"- {name}: {describe_comparison(compared)}")
    fitted = results["fitted_buyers"]
    sample = "" if fitted == results["buyers"] else f" (of a random sample of {fitted:,} buyers)"
    return "\n".join(
        [
            f"In the {HORIZON_DAYS} days after {results['reference_date'][:10]} the {context.rows:,} buyers are "
            f"expected to buy on **{context.number(EXPECTED_PURCHASES):,.0f} purchase days**, and to spend "
            f"**{context.number(EXPECTED_VALUE):,.0f}**.",
            "",
            f"Tested on the {holdout['days']} days after {holdout['cutoff']}, with the {holdout['buyers']:,} buyers "
            f"who bought before them{sample}:",
            "",
            number_table(("", "actual", "model", "same as before"), rows),
            "",
            *sentences,
        ]
    )


def _off_by(predicted: float, actual: float) -> str:
    return f" ({predicted / actual - 1:+.0%})".replace("%", " %") if actual else ""


CUSTOMER_GROUPS_NOTES = (Note("groups at a glance", _groups_table), Note("bounds of the scores", _bounds_table))

CUSTOMER_GROUPS_PLOTS = (
    Plot("Buyers and revenue by group", "Share of each group in the buyers and in the money spent.", size_and_revenue),
    Plot(
        "Groups by recency and frequency of purchases",
        "Number of buyers by r_score and f_score, which define the group.",
        scores_and_groups,
    ),
)

SEGMENT_HISTORY_NOTES = (Note("movement between groups", _movement_note),)

SEGMENT_HISTORY_PLOTS = (
    Plot(
        "Movement between groups",
        "Number of users by the group that they left and the group that they are in now.",
        movement,
    ),
)

CUSTOMER_VALUE_NOTES = (Note("value of the buyers", _value_note),)

CUSTOMER_VALUE_PLOTS = (
    Plot(
        "Test of the predicted purchases",
        "Purchase days of the buyers in the holdout, which the model was not fitted to. Same as before: each buyer "
        "keeps the past rate of repeat purchase days. Closer to actual is better.",
        purchases_in_holdout,
    ),
)

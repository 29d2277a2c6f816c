"""backtest: are the published lists better than what is simple at several points in time, not only at the last one?

`backtest` is the entry point. It repeats als_evaluation at several cutoffs (rolling origin: Tashman, "Out-of-sample
tests of forecasting accuracy", 2000). The checks, notes and plots of its document are at the end of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.plotting import BLUE, GREEN, GREY, ORANGE, grid, panels, title
from ecommerce_assets.progress import Say
from ecommerce_assets.recommendation.als import AfterIteration, Engine, log_iterations
from ecommerce_assets.recommendation.evaluation import Evaluated, evaluate_holdout
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import categories_of
from ecommerce_assets.recommendation.holdout import HOLDOUT_SHARE, fits_in_process, holdout_cutoff, prepare
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.metrics import Floats
from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.recommendation.scores import Interval, Scores, bootstrap_means, interval
from ecommerce_assets.recommendation.systems import (
    ALS_LIST,
    BASELINES,
    BEST_BASELINE,
    PUBLISHED,
    SYSTEMS,
    TITLES,
    difference,
)
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome
from ecommerce_assets.storage.display import Note, Plot
from ecommerce_assets.storage.markdown import number_table
from ecommerce_assets.storage.stored_table import StoredTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_CUTOFFS, MOST_CUTOFFS = 3, 6

WINDOWS_SHARE = 0.4
"""Share of the events that is split into windows: the first cutoff has at least the other 60 % to train on."""

METRICS = ("ndcg", "hit_rate")

TO_BASELINE, TO_ALS = difference(PUBLISHED, BEST_BASELINE), difference(PUBLISHED, ALS_LIST)


@dataclass(frozen=True)
class Window:
    """A time in which lists are scored that were made with what was before it.

    Attributes
    ----------
    cutoff
        Its first second.
    end
        The first second after it; None: it lasts to the end of the events.
    """

    cutoff: datetime
    end: datetime | None

    def past(self, events: DataFrame) -> DataFrame:
        """The events before the window."""
        return events.where(F.col("event_time") < timestamp(self.cutoff))

    def until_end(self, events: DataFrame) -> DataFrame:
        """The events before the window and in it."""
        return events if self.end is None else events.where(F.col("event_time") < timestamp(self.end))

    def document(self) -> dict[str, str | None]:
        """JSON values."""
        return {"cutoff": self.cutoff.isoformat(), "end": self.end.isoformat() if self.end else None}


def rolling_windows(events: DataFrame, count: int) -> list[Window]:
    """Consecutive windows of about equal numbers of events, up to the end of the events, the earliest first.

    All windows together have 40 % of the events, and each has a fifth at most. There are fewer than `count` where
    single seconds have so many events that cutoffs coincide.
    """
    share = min(HOLDOUT_SHARE, WINDOWS_SHARE / count)
    cutoffs = {holdout_cutoff(events, share * number) for number in range(1, count + 1)} - {None}
    begins = sorted(cutoff for cutoff in cutoffs if cutoff)
    return [Window(begin, end) for begin, end in pairwise([*begins, None]) if begin]


def backtest(
    events: DataFrame,
    product_features: StoredTable,
    parameters: Parameters,
    cutoffs: int,
    engine: Engine = Engine.auto,
    say: Say = print,
) -> dict[str, Any]:
    """The metrics of all systems at each cutoff and their means; the document of `describe_backtest`.

    Parameters
    ----------
    cutoffs
        Number of windows.
    events, product_features, parameters, engine
        As in `evaluate`.
    say
        Called with the progress of each fit and the result of each cutoff.
    """
    als, segmentation, lists = parameters.als_model, parameters.segmentation_model, parameters.recommendations
    exclude, k, ranker = lists.exclude, lists.k, lists.ranker
    windows, categories = rolling_windows(events, cutoffs), categories_of(product_features)
    in_process = fits_in_process(events.sparkSession, events.count(), engine)
    scored: list[tuple[Window, Evaluated | None]] = []
    for number, window in enumerate(windows, 1):
        of_all = f"cutoff {number} of {len(windows)}"

        def log(split: str, of_all: str = of_all) -> AfterIteration:
            return log_iterations(say, f"backtest, {of_all}, {split}", als)

        inner_cutoff = holdout_cutoff(window.past(events)) if ranker == Ranker.blend else None
        until_end = window.until_end(events)
        with prepare(until_end, window.cutoff, inner_cutoff, segmentation, in_process) as prepared:
            evaluated = None
            if prepared.outer is not None:
                evaluated = evaluate_holdout(prepared, categories, als, exclude, k, ranker, engine, log)
        if evaluated is None or not evaluated.scores[exclude].users:
            say(f"backtest, {of_all}: no user interacted from {window.cutoff:%Y-%m-%d %H:%M:%S} UTC on.")
            evaluated = None
        else:
            scores, best = evaluated.scores[exclude], evaluated.best_baseline(exclude)
            say(
                f"backtest, {of_all}, {window.cutoff:%Y-%m-%d %H:%M:%S} UTC: {scores.users:,} users; NDCG of the "
                f"published lists {scores.mean(PUBLISHED, 'ndcg'):.4f}, {TITLES[best]} {scores.mean(best, 'ndcg'):.4f}."
            )
        scored.append((window, evaluated))
    return {**describe_backtest(scored, exclude), **lists.as_dict()}


def describe_backtest(scored: Sequence[tuple[Window, Evaluated | None]], exclude: Exclude) -> dict[str, Any]:
    """The document.

    Keys: `cutoffs` (each with `cutoff` and `end` of its window, `users` and `best_baseline`), `mean` over the scored
    ones, and its `best_baseline`, the one with the highest mean NDCG. Each cutoff and the mean have `ndcg` and
    `hit_rate`: by system or difference, [value, lower, upper] with the bootstrap 95 % interval. At each cutoff the
    difference is that to its best baseline. For the mean the windows count as independent.
    """
    rows: list[dict[str, Any]] = []
    means: dict[str, list[Mapping[str, Floats]]] = {metric: [] for metric in METRICS}
    for window, evaluated in scored:
        row: dict[str, Any] = {**window.document(), "users": 0, "best_baseline": None, **{m: {} for m in METRICS}}
        if evaluated is not None:
            scores, best = evaluated.scores[exclude], evaluated.best_baseline(exclude)
            row |= {"users": scores.users, "best_baseline": best}
            for metric in METRICS:
                means[metric].append(_means(scores, best, metric))
                row[metric] = {name: interval(values) for name, values in means[metric][-1].items()}
        rows.append(row)
    mean = {
        metric: {name: interval(np.mean([of[name] for of in parts], axis=0)) for name in parts[0]} if parts else {}
        for metric, parts in means.items()
    }
    of_mean = max(BASELINES, key=lambda system: mean["ndcg"][system][0]) if mean["ndcg"] else None
    return {"cutoffs": rows, "mean": mean, "best_baseline": of_mean}


def _means(scores: Scores, best: str, metric: str) -> dict[str, Floats]:
    """Of each system and difference, the mean over the users and over those of each bootstrap round."""
    means = {system: bootstrap_means(scores, system, metric) for system in SYSTEMS}
    return {**means, TO_BASELINE: means[PUBLISHED] - means[best], TO_ALS: means[PUBLISHED] - means[ALS_LIST]}


def with_interval(values: Interval, sign: str = "") -> str:
    """For people, such as `0.123 (0.110 to 0.134)`."""
    value, lower, upper = values
    return f"{value:{sign}.3f} ({lower:{sign}.3f} to {upper:{sign}.3f})"


def _scored(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in document["cutoffs"] if row["users"]]


def _windows_scored(context: CheckContext) -> Outcome | str:
    count = len(_scored(context.document))
    if count >= FEWEST_CUTOFFS:
        return Outcome(checked=f"{count} windows were scored")
    return f"{count} windows could be scored, and a backtest needs {FEWEST_CUTOFFS}. Land more days of events"


def _enough_users(context: CheckContext) -> Outcome | str:
    least, scored = context.parameters["min_holdout_users"], _scored(context.document)
    small = [f"{row['users']:,} from {row['cutoff']} on" for row in scored if row["users"] < least]
    if small:
        return f"a comparison needs {least:,} users (ECOMMERCE_MIN_HOLDOUT_USERS), got {', '.join(small)}"
    return Outcome(checked=f"from {min((row['users'] for row in scored), default=0):,} users on, {least:,} needed")


def _not_worse(than: str) -> Check:
    compared = difference(PUBLISHED, than)

    def test(context: CheckContext) -> Outcome:
        document = context.document
        if not document["mean"]["ndcg"]:
            return Outcome(checked="nothing to compare: no window was scored")
        mean = document["mean"]["ndcg"][compared]
        values = {f"mean of {compared}": with_interval(mean, "+")}
        worse = [row["cutoff"] for row in _scored(document) if row["ndcg"][compared][2] < 0]
        sentence = f"the mean of NDCG {compared} is {with_interval(mean, '+')}"
        if mean[2] >= 0 and not worse:
            return Outcome(values=values, checked=sentence)
        at = f", and it is below zero at {', '.join(worse)}" if worse else ""
        return Outcome(f"{sentence}{at}", values)

    return Check(
        f"not_worse_than_{than.replace(' ', '_')}",
        f"The interval of NDCG {compared} is not below zero: at no cutoff, and not for the mean.",
        test,
        blocking=False,
    )


BACKTEST_CHECKS = (
    Check("windows_scored", f"At least {FEWEST_CUTOFFS} windows were scored.", _windows_scored),
    Check("enough_users", "Every scored window has enough users for a comparison.", _enough_users, blocking=False),
    _not_worse(BEST_BASELINE),
    _not_worse(ALS_LIST),
)


def _day(row: Mapping[str, Any]) -> str:
    return str(row["cutoff"])[:10]


def _ndcg_by_cutoff(context: CheckContext) -> str | None:
    """One row per system, the best first."""
    rows, mean = _scored(context.document), context.document["mean"]["ndcg"]
    if not rows:
        return None
    systems = sorted(SYSTEMS, key=lambda system: -mean[system][0])
    body = [
        (TITLES[system], *(f"{row['ndcg'][system][0]:.3f}" for row in rows), f"{mean[system][0]:.3f}")
        for system in systems
    ]
    return number_table((f"NDCG at {context.document['k']}", *map(_day, rows), "mean"), body)


def _published_by_cutoff(context: CheckContext) -> str | None:
    """One row per cutoff: users, the best baseline, and how much better the published lists are."""
    rows, document = _scored(context.document), context.document
    if not rows:
        return None
    body = [
        (
            _day(row),
            f"{row['users']:,}",
            TITLES[row["best_baseline"]],
            *(with_interval(row["ndcg"][name], "+") for name in (TO_BASELINE, TO_ALS)),
        )
        for row in rows
    ]
    mean = [with_interval(document["mean"]["ndcg"][name], "+") for name in (TO_BASELINE, TO_ALS)]
    body.append(("mean", "", TITLES[document["best_baseline"]], *mean))
    return number_table(("cutoff", "users", "best baseline", "published - best baseline", "published - ALS"), body)


BACKTEST_NOTES = (
    Note("published lists by cutoff", _published_by_cutoff),
    Note("NDCG by cutoff", _ndcg_by_cutoff),
)


def ndcg_by_cutoff(context: CheckContext) -> Figure | None:
    """One line per system; the published lists, ALS and the best baselines in colour, the others grey."""
    rows = _scored(context.document)
    if not rows:
        return None
    best = {row["best_baseline"] for row in rows}
    colours = {PUBLISHED: GREEN, ALS_LIST: BLUE, **dict.fromkeys(best, ORANGE)}
    styles = dict(zip((system for system in BASELINES if system in best), ("-", "--", ":", "-."), strict=False))
    figure, [axes] = panels(height=4.2)
    places = range(len(rows))
    for system in sorted(SYSTEMS, key=lambda system: system in colours):
        values = [row["ndcg"][system][0] for row in rows]
        if system not in colours:
            axes.plot(places, values, color=GREY, linewidth=1, alpha=0.7)
            continue
        label = f"{TITLES[system]} (best baseline)" if system in best else TITLES[system]
        style = styles.get(system, "-")
        axes.plot(places, values, color=colours[system], linewidth=2, marker="o", ls=style, label=label)
    lower, upper = ([row["ndcg"][PUBLISHED][end] for row in rows] for end in (1, 2))
    axes.fill_between(places, lower, upper, color=GREEN, alpha=0.15, linewidth=0)
    axes.plot([], [], color=GREY, linewidth=1, label="other systems")
    title(axes, f"NDCG at {context.document['k']} by cutoff")
    grid(axes)
    axes.set_ylim(bottom=0)
    axes.set_xticks(list(places), [f"{_day(row)}\n{row['users']:,} users" for row in rows])
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


BACKTEST_PLOTS = (
    Plot(
        "NDCG by cutoff",
        "At each cutoff every system is trained on all that is before it and scored on the window up to the next one. "
        "The band is the 95 % interval of the published lists.",
        ndcg_by_cutoff,
    ),
)

"""Repeats als_evaluation at several cutoffs: `backtest`.

Rolling origin: Tashman, "Out-of-sample tests of forecasting accuracy" (2000). The checks, notes and plots of the
document are at the end of the file.
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
from ecommerce_assets.progress import Log
from ecommerce_assets.recommendation.als import AfterIteration, log_iterations
from ecommerce_assets.recommendation.evaluation import Evaluated, evaluate_holdout
from ecommerce_assets.recommendation.evaluation_checks import number, signed, with_interval
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import categories_of
from ecommerce_assets.recommendation.holdout import (
    HOLDOUT_SHARE,
    fits_in_process,
    holdout_cutoff,
    holdout_cutoffs,
    prepare_holdouts,
)
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.metrics import Floats
from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.recommendation.scores import Scores, bootstrap_means, interval
from ecommerce_assets.recommendation.systems import (
    ALS_LIST,
    BASELINES,
    BEST_BASELINE,
    PUBLISHED,
    SYSTEMS,
    TITLES,
    difference,
)
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome
from ecommerce_assets.storage.display import Note, Plot
from ecommerce_assets.storage.markdown import number_table
from ecommerce_assets.storage.stored_table import StoredTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_CUTOFFS, MAX_CUTOFFS = 3, 6

WINDOWS_SHARE = 0.4
"""Share of the events that is split into windows; at the first cutoff, models are trained on the other 60 %."""

METRICS = ("ndcg", "hit_rate")

TO_BASELINE, TO_ALS = difference(PUBLISHED, BEST_BASELINE), difference(PUBLISHED, ALS_LIST)


@dataclass(frozen=True)
class Window:
    """A time span whose events score the lists that were made from the events before it.

    Attributes
    ----------
    cutoff
        First second of the window.
    end
        First second after the window; None: the window has all later events.
    """

    cutoff: datetime
    end: datetime | None

    def past(self, events: DataFrame) -> DataFrame:
        """Returns the events before the window."""
        return events.where(F.col("event_time") < timestamp(self.cutoff))

    def until_end(self, events: DataFrame) -> DataFrame:
        """Returns the events before the window and in it."""
        return events if self.end is None else events.where(F.col("event_time") < timestamp(self.end))

    def document(self) -> dict[str, str | None]:
        """Returns `cutoff` and `end` as JSON values."""
        return {"cutoff": self.cutoff.isoformat(), "end": self.end.isoformat() if self.end else None}


def rolling_windows(events: DataFrame, count: int) -> list[Window]:
    """Returns consecutive windows of about equal numbers of events, the earliest first; the last one has all the rest.

    Together the windows have at most 40 % of the events, and each at most a fifth. There are fewer than `count` windows
    if single seconds have so many events that cutoffs coincide.
    """
    share = min(HOLDOUT_SHARE, WINDOWS_SHARE / count)
    cutoffs = holdout_cutoffs(events, [share * n for n in range(1, count + 1)])
    begins = sorted({cutoff for cutoff in cutoffs if cutoff})
    return [Window(begin, end) for begin, end in pairwise([*begins, None]) if begin]


def backtest(
    events: DataFrame,
    product_features: StoredTable,
    parameters: Parameters,
    cutoffs: int,
    engine: Engine = Engine.auto,
    log: Log = print,
) -> dict[str, Any]:
    """Returns the document of `describe_backtest`: the metrics of all systems at each cutoff, and their means.

    Parameters
    ----------
    events, product_features, parameters, engine
        As in `evaluate`.
    cutoffs
        Number of windows; see `rolling_windows`.
    log
        Called with the progress of each fit and the result of each cutoff.
    """
    als, segmentation, lists = parameters.als_model, parameters.segmentation_model, parameters.recommendations
    exclude = lists.exclude
    windows, categories = rolling_windows(events, cutoffs), categories_of(product_features)
    in_process = fits_in_process(events.sparkSession, events.count(), engine)
    scored: list[tuple[Window, Evaluated | None]] = []
    for place, window in enumerate(windows, 1):
        prefix = f"backtest, cutoff {place} of {len(windows)}"

        def log_fit(split: str, prefix: str = prefix) -> AfterIteration:
            return log_iterations(log, f"{prefix}, {split}", als)

        inner_cutoff = holdout_cutoff(window.past(events)) if lists.ranker == Ranker.blend else None
        until_end = window.until_end(events)
        with prepare_holdouts(until_end, window.cutoff, inner_cutoff, segmentation, in_process) as holdouts:
            evaluated = None
            if holdouts.outer is not None:
                evaluated = evaluate_holdout(holdouts, categories, als, lists, engine, log_fit)
        prefix = f"{prefix}, {window.cutoff:%Y-%m-%d %H:%M:%S} UTC"
        if evaluated is None or not evaluated.scores[exclude].users:
            log(f"{prefix}: no user has an interaction in the window that counts.")
            evaluated = None
        else:
            scores, best = evaluated.scores[exclude], evaluated.best_baseline(exclude)
            log(
                f"{prefix}: {scores.users:,} users; NDCG of the published lists {scores.mean(PUBLISHED, 'ndcg'):.4f}, "
                f"{TITLES[best]} {scores.mean(best, 'ndcg'):.4f}."
            )
        scored.append((window, evaluated))
    return {**describe_backtest(scored, exclude), **lists.as_dict()}


def describe_backtest(scored: Sequence[tuple[Window, Evaluated | None]], exclude: Exclude) -> dict[str, Any]:
    """Returns the document of backtest.

    Keys: `cutoffs` (each with `cutoff` and `end` of its window, `users` and `best_baseline`), `mean` over the scored
    windows, and `best_baseline`, the baseline with the highest mean NDCG. Each cutoff and the mean have `ndcg` and
    `hit_rate`: by system or difference, [value, lower, upper] with the bootstrap 95 % interval. The difference at each
    cutoff is that to its own best baseline. The interval of the mean treats the windows as independent.
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
    """Returns for each system and difference the mean over the users, then over those of each bootstrap round."""
    means = {system: bootstrap_means(scores, system, metric) for system in SYSTEMS}
    return {**means, TO_BASELINE: means[PUBLISHED] - means[best], TO_ALS: means[PUBLISHED] - means[ALS_LIST]}


def _scored(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in document["cutoffs"] if row["users"]]


def _windows_scored(context: CheckContext) -> Outcome | str:
    count = len(_scored(context.document))
    if count >= MIN_CUTOFFS:
        return Outcome(checked=f"{count} windows were scored")
    return f"only {count} windows could be scored, a backtest needs {MIN_CUTOFFS}. Land more days of events"


def _enough_users(context: CheckContext) -> Outcome | str:
    least, scored = context.parameters["min_holdout_users"], _scored(context.document)
    small = [f"{row['users']:,} at {row['cutoff']}" for row in scored if row["users"] < least]
    if small:
        return f"a comparison needs {least:,} users (ECOMMERCE_MIN_HOLDOUT_USERS), got {', '.join(small)}"
    return Outcome(checked=f"at least {min((row['users'] for row in scored), default=0):,} users, {least:,} are needed")


def _not_worse(than: str) -> Check:
    compared = difference(PUBLISHED, than)

    def test(context: CheckContext) -> Outcome:
        document = context.document
        if not document["mean"]["ndcg"]:
            return Outcome(checked="nothing to compare: no window was scored")
        mean = document["mean"]["ndcg"][compared]
        values = {f"mean of {compared}": with_interval(mean, signed)}
        worse = [row["cutoff"] for row in _scored(document) if row["ndcg"][compared][2] < 0]
        sentence = f"the mean of NDCG {compared} is {with_interval(mean, signed)}"
        if mean[2] >= 0 and not worse:
            return Outcome(values=values, checked=sentence)
        at = f", and it is below zero at {', '.join(worse)}" if worse else ""
        return Outcome(f"{sentence}{at}", values)

    return Check(
        f"not_worse_than_{than.replace(' ', '_')}",
        f"Neither at a cutoff nor for the mean is the whole interval of NDCG {compared} below zero.",
        test,
        blocking=False,
    )


BACKTEST_CHECKS = (
    Check("windows_scored", f"At least {MIN_CUTOFFS} windows were scored.", _windows_scored),
    Check("enough_users", "Every scored window has enough users for a comparison.", _enough_users, blocking=False),
    _not_worse(BEST_BASELINE),
    _not_worse(ALS_LIST),
)


def _day(row: Mapping[str, Any]) -> str:
    return str(row["cutoff"])[:10]


def _ndcg_by_cutoff(context: CheckContext) -> str | None:
    """Returns a table with one row per system, the best first."""
    rows, mean = _scored(context.document), context.document["mean"]["ndcg"]
    if not rows:
        return None
    systems = sorted(SYSTEMS, key=lambda system: -mean[system][0])
    body = [
        (TITLES[system], *(number(values["ndcg"][system][0]) for values in rows), number(mean[system][0]))
        for system in systems
    ]
    return number_table((f"NDCG at {context.document['k']}", *map(_day, rows), "mean"), body)


def _published_by_cutoff(context: CheckContext) -> str | None:
    """Returns a table with one row per cutoff: users, best baseline, and the differences of the published lists."""
    rows, document = _scored(context.document), context.document
    if not rows:
        return None
    body = [
        (
            _day(row),
            f"{row['users']:,}",
            TITLES[row["best_baseline"]],
            *(with_interval(row["ndcg"][name], signed) for name in (TO_BASELINE, TO_ALS)),
        )
        for row in rows
    ]
    mean = [with_interval(document["mean"]["ndcg"][name], signed) for name in (TO_BASELINE, TO_ALS)]
    body.append(("mean", "", TITLES[document["best_baseline"]], *mean))
    return number_table(("cutoff", "users", "best baseline", "published - best baseline", "published - ALS"), body)


BACKTEST_NOTES = (
    Note("published lists by cutoff", _published_by_cutoff),
    Note("NDCG by cutoff", _ndcg_by_cutoff),
)


def ndcg_by_cutoff(context: CheckContext) -> Figure | None:
    """Draws a line per system; the published lists, ALS and the best baselines in colour, the others in grey."""
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
        "At each cutoff, every system is trained on all earlier events and scored on the events up to the next cutoff. "
        "The band is the 95 % interval of the published lists.",
        ndcg_by_cutoff,
    ),
)

"""The document of als_tuning (`describe_tuning`), and its table, checks and plots for the UI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecommerce_assets.plotting import BLUE, FAINT, INK, ORANGE, grid, panels, title
from ecommerce_assets.recommendation.evaluation_checks import signed, with_interval
from ecommerce_assets.recommendation.metrics import Floats
from ecommerce_assets.recommendation.scores import Interval, bootstrap_means, interval
from ecommerce_assets.recommendation.systems import ALS_LIST, POPULARITY
from ecommerce_assets.recommendation.tuning import METRIC, SEARCHED, Trial, Tuning, best_of
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome
from ecommerce_assets.storage.display import Plot
from ecommerce_assets.storage.markdown import markdown_table, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SHOWN_TRIALS = 10
"""Number of trials in the table, because the UI opens a dialog that is taller than the window at its end."""


def describe_tuning(tuning: Tuning) -> dict[str, Any]:
    """Returns the document of als_tuning.

    Keys: `params` (of the best trial; null if none succeeded), `trial` (its number), `ndcg`, `gain` (its NDCG less
    that of the defaults), `default` and `popularity` (their NDCG), `nonnegative` and `half_life` (NDCG of the best
    trial with the constraint, or with a half-life, less that of the best one without), `succeeded` and `failed`
    (counts), `windows` (each with `cutoff`, `end` and `users`), `holdout_users` (their sum), `test_cutoff`, `holdout`
    (the reason, if there are no trials) and `trials` (each with `number`, `params`, `ndcg`, `gain`, `coverage`,
    `seconds`, `error`).

    Every NDCG and difference is [value, lower, upper] with the bootstrap 95 % interval; differences are paired. The
    interval of the best trial ignores that it was chosen as the best of many: als_evaluation evaluates it on what users
    did later.
    """
    scored = [trial for trial in tuning.trials if trial.scores]
    ndcg = {trial.number: _ndcg(trial) for trial in scored}

    def compare(one: Trial | None, other: Trial | None) -> Interval | None:
        return interval(ndcg[one.number] - ndcg[other.number]) if one and other else None

    def gain_of(condition: Callable[[Trial], bool]) -> Interval | None:
        best_with = best_of([trial for trial in scored if condition(trial)])
        return compare(best_with, best_of([trial for trial in scored if not condition(trial)]))

    best, default = best_of(scored), next((trial for trial in scored if trial.number == 0), None)
    return {
        "params": best.params if best else None,
        "trial": best.number if best else None,
        "ndcg": interval(ndcg[best.number]) if best else None,
        "gain": compare(best, default),
        "default": interval(ndcg[0]) if default else None,
        "popularity": interval(_ndcg(scored[0], POPULARITY)) if scored else None,
        "nonnegative": gain_of(lambda trial: trial.parameters.nonnegative),
        "half_life": gain_of(lambda trial: trial.parameters.halfLife is not None),
        "succeeded": len(scored),
        "failed": len(tuning.trials) - len(scored),
        "windows": [{**window.document(), "users": users} for window, users in tuning.windows],
        "holdout_users": sum(users for _, users in tuning.windows),
        "test_cutoff": tuning.test_cutoff,
        **({"holdout": tuning.reason} if tuning.reason else {}),
        "trials": [
            {
                "number": trial.number,
                "params": trial.params,
                "ndcg": interval(ndcg[trial.number]) if trial.scores else None,
                "gain": compare(trial, default) if trial.scores else None,
                "coverage": _coverage(trial) if trial.scores else None,
                "seconds": trial.seconds,
                "error": trial.error,
            }
            for trial in tuning.trials
        ],
    }


def _ndcg(trial: Trial, system: str = ALS_LIST) -> Floats:
    """Returns the mean NDCG over the windows, then that of each bootstrap round."""
    return np.asarray(np.mean([bootstrap_means(scores, system, METRIC) for scores in trial.scores], axis=0))


def _coverage(trial: Trial) -> float:
    """Returns the share of products that are shown to any user, the mean over the windows."""
    return float(np.mean([np.mean(scores.shown[scores.systems.index(ALS_LIST)] > 0) for scores in trial.scores]))


def trials_table(document: Mapping[str, Any]) -> str:
    """Returns a Markdown table of the best trials and the default, the best first, failed ones last.

    If it lacks some trials, a sentence before it has the number of all.
    """
    header = ("trial", *SEARCHED, "NDCG (95 %)", "gain over the default (95 %)", "coverage", "seconds")
    rows = []
    trials = sorted(document["trials"], key=lambda t: -t["ndcg"][0] if t["ndcg"] else math.inf)
    for place, trial in enumerate(trials):
        if place >= SHOWN_TRIALS and trial["number"] > 0:
            continue
        number, params = trial["number"], trial["params"]
        mark = " (best)" if number == document["trial"] else " (default)" if number == 0 else ""
        shown = [params["rank"], f"{params['regParam']:.4g}", f"{params['alpha']:.4g}"]
        shown += [
            "yes" if params["nonnegative"] else "no",
            "none" if params["halfLife"] is None else params["halfLife"],
        ]
        if trial["ndcg"]:
            gain = with_interval(trial["gain"], signed) if trial["gain"] and number else ""
            results = [with_interval(trial["ndcg"]), gain, percent(trial["coverage"])]
        else:
            results = [f"failed: {trial['error']}", "", ""]
        rows.append([f"{number}{mark}", *shown, *results, trial["seconds"]])
    table = markdown_table(header, rows, [True, True, True, True, False, True, False, False, True, True])
    if len(rows) == len(trials):
        return table
    return (
        f"The best {SHOWN_TRIALS} of {len(trials):,} trials, and the default. The document has all trials.\n\n{table}"
    )


def _trials_succeeded(context: CheckContext) -> Outcome | str:
    document = context.document
    if document["succeeded"]:
        return Outcome(checked=f"{document['succeeded']:,} of {len(document['trials']):,} trials were scored")
    if "holdout" in document:
        return f"no trial could be scored, holdout: {document['holdout']}"
    return f"all {document['failed']:,} trials failed, the first with {document['trials'][0]['error']}"


def _no_trial_failed(context: CheckContext) -> Outcome | str:
    failed = [trial for trial in context.document["trials"] if trial["error"]]
    trials = len(context.document["trials"])
    if not failed:
        return Outcome(checked=f"0 of {trials:,} trials failed")
    first = failed[0]
    return f"{len(failed):,} of {trials:,} trials failed, trial {first['number']} with {first['error']}"


def _gain_clear(context: CheckContext) -> Outcome:
    document, least = context.document, context.parameters["min_holdout_users"]
    users, gain = document["holdout_users"], document["gain"]
    if users < least:
        return Outcome(f"a comparison needs {least:,} holdout users (ECOMMERCE_MIN_HOLDOUT_USERS), got {users:,}")
    if gain is None:
        return Outcome("the default parameters could not be scored, so the gain over them is unknown")
    values = {"holdout users": users, "ndcg": f"{document['ndcg'][0]:.4f}", "gain": with_interval(gain, signed)}
    if gain[1] > 0:
        return Outcome(values=values, checked=f"the best trial has a gain in NDCG of {values['gain']}, {users:,} users")
    return Outcome(
        f"the best trial may not be better than the defaults: gain in NDCG {values['gain']}, {users:,} users", values
    )


TUNING_CHECKS = (
    Check("trials_succeeded", "At least one trial was scored.", _trials_succeeded),
    Check("no_trial_failed", "No trial failed.", _no_trial_failed, blocking=False),
    Check(
        "gain_clear",
        "There are enough users, and the whole interval of the gain over the default parameters is above zero.",
        _gain_clear,
        blocking=False,
    ),
)

COLOURS, NAMES = {True: BLUE, False: ORANGE}, {True: "nonnegative", False: "unconstrained"}


def _by_kind(trials: Sequence[dict[str, Any]]) -> dict[bool, list[dict[str, Any]]]:
    kinds = {kind: [trial for trial in trials if trial["params"]["nonnegative"] == kind] for kind in (True, False)}
    return {kind: members for kind, members in kinds.items() if members}


def _scored(context: CheckContext) -> list[dict[str, Any]]:
    return [trial for trial in context.document["trials"] if trial["ndcg"]]


def trials_in_order(context: CheckContext) -> Figure | None:
    """Draws the NDCG of each trial with its interval, and the best so far; the default and popularity as lines."""
    document, trials = context.document, _scored(context)
    if not trials:
        return None
    figure, [axes] = panels(height=4.2)
    for kind, members in _by_kind(trials).items():
        numbers = [trial["number"] for trial in members]
        values, lower, upper = zip(*(trial["ndcg"] for trial in members), strict=True)
        axes.vlines(numbers, lower, upper, color=COLOURS[kind], alpha=0.25, lw=3)
        axes.scatter(numbers, values, color=COLOURS[kind], s=30, zorder=3, label=NAMES[kind])
    best = np.maximum.accumulate([trial["ndcg"][0] for trial in trials])
    axes.step([trial["number"] for trial in trials], best, where="post", color=INK, lw=1.5, label="best so far")
    for name, line in (("default", "--"), ("popularity", ":")):
        if document[name]:
            value = document[name][0]
            axes.axhline(value, color=FAINT, lw=1, ls=line, zorder=1, label=f"{name} ({value:.4f})")
    number, value = document["trial"], document["ndcg"][0]
    axes.scatter([number], [value], s=150, facecolors="none", edgecolors=INK, linewidths=1.5, zorder=4)
    title(axes, f"NDCG of {len(trials)} trials, {document['holdout_users']:,} users; best: trial {number}, {value:.4f}")
    grid(axes)
    axes.set_xlabel("trial")
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def _place(name: str, params: Mapping[str, Any], half_lives: Sequence[float]) -> float:
    """Returns the place of a trial on the axis of a parameter."""
    if name == "nonnegative":
        return 0.0 if params[name] else 1.0
    if name == "halfLife":
        return 0.0 if params[name] is None else 1.0 + half_lives.index(params[name])
    return float(params[name])


def by_parameter(context: CheckContext) -> Figure | None:
    """Draws the NDCG of all trials against each parameter."""
    document, trials = context.document, _scored(context)
    if not trials:
        return None
    half_lives = sorted({trial["params"]["halfLife"] for trial in trials} - {None})
    figure, axes = panels(columns=len(SEARCHED), height=3.4, sharey=True)
    best = next(trial for trial in trials if trial["number"] == document["trial"])
    for each, name in zip(axes, SEARCHED, strict=True):
        for kind, members in _by_kind(trials).items():
            places = [_place(name, trial["params"], half_lives) for trial in members]
            values = [trial["ndcg"][0] for trial in members]
            each.scatter(places, values, color=COLOURS[kind], s=26, alpha=0.8, label=NAMES[kind])
        ring: dict[str, Any] = {"s": 130, "facecolors": "none", "edgecolors": INK, "linewidths": 1.5, "label": "best"}
        each.scatter([_place(name, best["params"], half_lives)], [best["ndcg"][0]], zorder=4, **ring)
        title(each, name)
        grid(each)
        _scale(each, name, half_lives)
    axes[0].set_ylabel("NDCG")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _scale(axes: Axes, name: str, half_lives: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    labels = {"nonnegative": ["yes", "no"], "halfLife": ["none", *(f"{days:g}" for days in half_lives)]}
    if name in labels:
        axes.set_xticks(range(len(labels[name])), labels[name])
        axes.set_xlim(-0.6, len(labels[name]) - 0.4)
        return
    axes.set_xscale("log")
    if name == "rank":
        axes.set_xticks([8, 32, 128])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


ALS_TUNING_PLOTS = (
    Plot(
        "The search, trial by trial",
        "NDCG of the lists of the ranker als on the validation windows, with 95 % intervals. Two intervals may overlap "
        "although the paired difference is clear: see the table for the differences.",
        trials_in_order,
    ),
    Plot("NDCG by parameter", "All trials against each parameter; halfLife in days.", by_parameter),
)

"""What is told of a tuning: one document with every trial, intervals and verdicts, and a table for the UI.

The trials come from tuning.py; the pictures of the document are the business of tuning_plots.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecommerce_assets.recommendation.judging import BASELINE, SYSTEMS
from ecommerce_assets.recommendation.metrics import Floats, bootstrap_sums, mean_and_interval
from ecommerce_assets.recommendation.tuning_trials import BUCKETS, METRIC, SYSTEM, Found, Trial, best_of
from ecommerce_assets.storage.markdown import markdown_table

PAYS, COSTS, WITHIN_NOISE = "it pays", "it costs", "within noise"

Interval = list[float]
"""Value, lower and upper end."""


def describe_tuning(found: Found, about: Mapping[str, Any]) -> dict[str, Any]:
    """The document.

    Keys: `params` (of the best trial, by Spark's names; null where none succeeded), `trial` (its number), `ndcg` and
    `gain` (its NDCG, and what that is above the default's), `default` (number and NDCG of the trial with the default
    parameters), `popularity` (its NDCG for the same users), `nonnegativity` (`nonnegative` and `unconstrained`: how
    many trials of each kind, number and NDCG of the best; `difference` between the two; `verdict`: it pays, it costs,
    within noise; `at_defaults`: the difference that it makes to the default parameters),
    `importance` (by parameter, its share in what the best quarter of them have in common; Watanabe et al., IJCAI 2023),
    `succeeded` and `failed` (counts), `trials` (each with `number`, `params`, `ndcg`, `gain`, `metrics` by system,
    `seconds`, `error`), and what `about` says: `validation_cutoff`, `test_cutoff`, `holdout_users`, `k`, `exclude`, and
    `holdout`, why there is none.

    Every NDCG and difference is [value, lower, upper], with the bootstrap 95 % interval; all differences are between
    the same users. The interval of the best trial does not know that it is the best of many: als_evaluation says what
    it is worth on what users did later.
    """
    trials = list(found.trials)
    judged = [t for t in trials if t.scores]
    best, default = best_of(trials), next((t for t in judged if t.number == 0), None)
    compare = _Comparison(judged)
    popularity = compare.of(judged[0], BASELINE) if judged else None
    return {
        "params": best.params if best else None,
        "trial": best.number if best else None,
        "ndcg": compare.of(best) if best else None,
        "gain": compare.between(best, default),
        "default": {"trial": 0, "ndcg": compare.of(default)} if default else None,
        "popularity": popularity,
        "nonnegativity": _nonnegativity(judged, compare),
        "importance": dict(found.importance),
        "succeeded": len(judged),
        "failed": len(trials) - len(judged),
        **about,
        "trials": [_row(trial, default, compare) for trial in trials],
    }


def _row(trial: Trial, default: Trial | None, compare: _Comparison) -> dict[str, Any]:
    scores = trial.scores
    return {
        "number": trial.number,
        "params": trial.params,
        "ndcg": compare.of(trial) if scores else None,
        "gain": compare.between(trial, default),
        "metrics": {s: dict(scores.metrics[s]) for s in SYSTEMS if s != BASELINE} if scores else None,
        "seconds": trial.seconds,
        "error": trial.error,
    }


class _Comparison:
    """NDCGs and their differences from one bootstrap of the buckets, so that all are about the same users."""

    def __init__(self, judged: Sequence[Trial]) -> None:
        self._column: dict[tuple[int, str], int] = {}
        columns: list[Floats] = []
        for trial in judged:
            assert trial.scores is not None
            columns = columns or [trial.scores.users]
            for system in (SYSTEM, BASELINE):
                self._column[trial.number, system] = len(columns)
                columns.append(trial.scores.sums[system])
        if columns:
            every = np.ones(BUCKETS, dtype=np.int64)
            self._sums = bootstrap_sums(every, {"all": every > 0}, np.column_stack(columns))["all"][:, 1:]

    def of(self, trial: Trial, system: str = SYSTEM) -> Interval:
        return self._interval(self._sums[:, self._column[trial.number, system]])

    def between(self, one: Trial | None, other: Trial | None) -> Interval | None:
        if one is None or other is None or not (one.scores and other.scores):
            return None
        return self._interval(
            self._sums[:, self._column[one.number, SYSTEM]] - self._sums[:, self._column[other.number, SYSTEM]]
        )

    def _interval(self, sums: Floats) -> Interval:
        return list(mean_and_interval(self._sums[:, 0], sums))


def _nonnegativity(judged: Sequence[Trial], compare: _Comparison) -> dict[str, Any]:
    """The best trial with the constraint beside the best without."""
    kinds = [[t for t in judged if t.parameters.nonnegative == kind] for kind in (True, False)]
    difference = compare.between(*(best_of(own) for own in kinds))
    verdict = None
    if difference:
        verdict = PAYS if difference[1] > 0 else COSTS if difference[2] < 0 else WITHIN_NOISE
    first, second = (next((t for t in judged if t.number == number), None) for number in (0, 1))
    described: dict[str, Any] = {}
    for name, own in zip(("nonnegative", "unconstrained"), kinds, strict=True):
        best = best_of(own)
        described[name] = {"trials": len(own), "trial": best.number, "ndcg": compare.of(best)} if best else None
    at_defaults = compare.between(first, second)
    return {**described, "difference": difference, "verdict": verdict, "at_defaults": at_defaults}


def trials_table(document: Mapping[str, Any]) -> str:
    """All trials as a Markdown table, the best first, failed ones last."""
    header = ("trial", "rank", "regParam", "alpha", "nonnegative", "NDCG (95 %)", "above the default (95 %)")
    rows = []
    for t in sorted(document["trials"], key=lambda t: -t["ndcg"][0] if t["ndcg"] else math.inf):
        p = t["params"]
        mark = " (best)" if t["number"] == document["trial"] else " (default)" if t["number"] == 0 else ""
        shown = [f"{t['number']}{mark}", p["rank"], f"{p['regParam']:.4g}", f"{p['alpha']:.4g}"]
        shown += ["yes" if p["nonnegative"] else "no"]
        if t["ndcg"]:
            alone = f"{t['metrics']['als'][METRIC]:.4f}"
            shown += [_between(t["ndcg"]), _between(t["gain"], "+") if t["number"] else "", alone]
        else:
            shown += [f"failed: {t['error']}", "", ""]
        rows.append([*shown, t["seconds"]])
    numbers = [True, True, True, True, False, False, False, False, True]
    return markdown_table((*header, "NDCG of ALS alone", "seconds"), rows, numbers)


def _between(interval: Interval | None, sign: str = "") -> str:
    return f"{interval[0]:{sign}.4f} ({interval[1]:{sign}.4f} to {interval[2]:{sign}.4f})" if interval else ""

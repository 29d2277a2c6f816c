"""als_tuning: which rank, regParam and alpha serve users best, and whether keeping the factors nonnegative pays.

Every candidate is judged as als_evaluation judges the published model, but on a holdout that lies wholly before that of
als_evaluation: what was chosen by one is judged by the other, on what users did later. The pictures are the business of
tuning_plots.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.recommendation.als import (
    AlsParameters,
    Engine,
    choose_engine,
    collect_pairs,
    fit_als,
    fit_local,
    model_of,
)
from ecommerce_assets.recommendation.evaluation import NO_HOLDOUT, NOTHING_TO_JUDGE
from ecommerce_assets.recommendation.holdout import Holdout, holdout_cutoff, judged_pairs, prepared_holdout
from ecommerce_assets.recommendation.judging import BASELINE, SYSTEMS, Judged
from ecommerce_assets.recommendation.metrics import Floats, bootstrap_sums, mean_and_interval, ranking_metrics
from ecommerce_assets.recommendation.recommend import Exclude
from ecommerce_assets.segmentation.pipeline import SegmentationParameters

if TYPE_CHECKING:
    import optuna
    from pyspark.ml.recommendation import ALSModel

METRIC, SYSTEM = "ndcg", "published"
"""What is made as large as it gets: the NDCG of the lists that customers would see, fallback and all."""

RANKS, REG_PARAMS, ALPHAS = (8, 128), (0.001, 1.0), (0.1, 40.0)
"""Where is searched, each on a logarithmic scale."""

SEARCHED = ("rank", "regParam", "alpha", "nonnegative")

BUCKETS = 200
"""Of users. Trials are compared on the same users, so their differences are resampled by bucket: the error of an
interval's width is 1 / sqrt(2 · 200), a twentieth."""

BEST_SHARE, LEAST_FOR_IMPORTANCE = 0.25, 10
"""Of the trials: those that are asked what they have in common, and how many trials that takes."""

PAYS, COSTS, WITHIN_NOISE = "it pays", "it costs", "within noise"

Say = Callable[[str], object]
Interval = list[float]
"""Value, lower and upper end."""


@dataclass(frozen=True)
class Scores:
    """How good one model was.

    Attributes
    ----------
    users
        (BUCKETS,) number of users in each bucket.
    sums
        By system, (BUCKETS,) sum of the users' NDCG.
    metrics
        By system, by metric: mean over all users.
    """

    users: Floats
    sums: Mapping[str, Floats]
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def value(self) -> float:
        """What is compared."""
        return self.metrics[SYSTEM][METRIC]

    @classmethod
    def of(cls, found: Judged) -> Scores:
        """From a judgement with `BUCKETS` buckets."""
        weights = found.users.astype(np.float64)
        sums, metrics = {}, {}
        for system in SYSTEMS:
            measured = ranking_metrics(found.hits[system], found.wanted)
            metrics[system] = {name: float(np.average(own, weights=weights)) for name, own in measured.items()}
            sums[system] = _by_bucket(found, weights * measured[METRIC])
        return cls(_by_bucket(found, weights), sums, metrics)


def _by_bucket(found: Judged, values: Floats) -> Floats:
    return np.bincount(found.buckets, values, BUCKETS).astype(np.float64)


@dataclass(frozen=True)
class Trial:
    """One candidate: its scores, or why there are none."""

    number: int
    parameters: AlsParameters
    seconds: float
    scores: Scores | None = None
    error: str | None = None

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that are searched."""
        return {name: value for name, value in self.parameters.as_dict().items() if name in SEARCHED}

    def __str__(self) -> str:
        return f"trial {self.number} ({told(self.params)})"


@dataclass(frozen=True)
class Found:
    """All trials, and the share that each parameter has in what the best have in common (empty: too few trials)."""

    trials: Sequence[Trial]
    importance: Mapping[str, float] = field(default_factory=dict)


def told(params: Mapping[str, Any]) -> str:
    """Parameters in a sentence."""
    constraint = "nonnegative" if params["nonnegative"] else "unconstrained"
    return f"rank {params['rank']}, regParam {params['regParam']:.3g}, alpha {params['alpha']:.3g}, {constraint}"


def tune(
    events: DataFrame,
    segmentation: SegmentationParameters,
    exclude: Exclude,
    k: int,
    trials: int,
    timeout_seconds: int | None = None,
    seed: int = 42,
    say: Say = print,
) -> dict[str, Any]:
    """Try candidates on the validation holdout; the document that `describe_tuning` describes.

    Parameters
    ----------
    events
        cleaned_events.
    segmentation, exclude, k
        As in the published recommendations.
    trials, timeout_seconds, seed
        As in `search`.
    say
        Called with one sentence for each trial.
    """
    test_cutoff = holdout_cutoff(events)
    before_test = events.where(F.col("event_time") < timestamp(test_cutoff)) if test_cutoff else events.limit(0)
    validation_cutoff = holdout_cutoff(before_test)
    about = {
        "validation_cutoff": validation_cutoff.isoformat() if validation_cutoff else None,
        "test_cutoff": test_cutoff.isoformat() if test_cutoff else None,
        "k": k,
        "exclude": str(exclude),
        "holdout_users": 0,
    }
    if validation_cutoff is None:
        return describe_tuning(Found([]), {**about, "holdout": NO_HOLDOUT})
    with validation(before_test, validation_cutoff, segmentation, exclude) as holdout:
        if holdout is None:
            return describe_tuning(Found([]), {**about, "holdout": NOTHING_TO_JUDGE})
        say(
            f"{holdout.user_count:,} users are judged by what they did from {validation_cutoff:%Y-%m-%d %H:%M:%S} UTC "
            f"on, before {test_cutoff:%Y-%m-%d %H:%M:%S}, from where on als_evaluation judges."
        )
        fit = _fitter(holdout.interactions, say)

        def judge(parameters: AlsParameters) -> Scores:
            return Scores.of(holdout.judge(fit(parameters), k, BUCKETS))

        found = search(judge, trials, timeout_seconds, seed, say)
        return describe_tuning(found, {**about, "holdout_users": holdout.user_count})


@contextmanager
def validation(
    before_test: DataFrame, cutoff: datetime, segmentation: SegmentationParameters, exclude: Exclude
) -> Iterator[Holdout | None]:
    """The holdout of the events that lie before als_evaluation's own."""
    past = before_test.where(F.col("event_time") < timestamp(cutoff))
    with (
        judged_pairs(before_test, cutoff) as pairs,
        prepared_holdout(pairs, past, segmentation, exclude) as holdout,
    ):
        yield holdout


def _fitter(interactions: DataFrame, say: Say) -> Callable[[AlsParameters], ALSModel]:
    """What fits the trials; the local engine is given the pairs once for all."""
    choice = choose_engine(interactions, AlsParameters(rank=RANKS[1]))
    say(choice.reason)
    if choice.engine == Engine.mllib:
        return lambda parameters: fit_als(interactions, parameters, Engine.mllib)
    pairs, spark = collect_pairs(interactions), interactions.sparkSession
    return lambda parameters: model_of(spark, fit_local(pairs, parameters), parameters)


def search(
    judge: Callable[[AlsParameters], Scores],
    trials: int,
    timeout_seconds: int | None = None,
    seed: int = 42,
    say: Say = print,
) -> Found:
    """Trials by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), which learns from those before.

    The first is the defaults, the second the defaults without the constraint. What a trial raises is told and counted
    and ends that trial alone.

    Parameters
    ----------
    judge
        How good a candidate is.
    timeout_seconds
        No further trial begins after so long.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it is told here, with what Optuna does not know
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    defaults = AlsParameters()
    for known in (defaults, replace(defaults, nonnegative=False)):
        study.enqueue_trial({name: getattr(known, name) for name in SEARCHED})
    made: list[Trial] = []
    started = time.monotonic()
    while len(made) < trials:
        asked = study.ask()
        trial = _tried(judge, asked.number, _suggested(asked, defaults))
        made.append(trial)
        if trial.scores:
            study.tell(asked, trial.scores.value)
        else:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        spent = time.monotonic() - started
        say(_progress(made, trials, spent, timeout_seconds))
        if timeout_seconds is not None and spent >= timeout_seconds and len(made) < trials:
            say(f"No more trials: {timeout_seconds:,} seconds are over.")
            break
    return Found(made, _importance(study))


def _suggested(asked: optuna.Trial, defaults: AlsParameters) -> AlsParameters:
    return replace(
        defaults,
        rank=asked.suggest_int("rank", *RANKS, log=True),
        regParam=asked.suggest_float("regParam", *REG_PARAMS, log=True),
        alpha=asked.suggest_float("alpha", *ALPHAS, log=True),
        nonnegative=asked.suggest_categorical("nonnegative", [True, False]),
    )


def _tried(judge: Callable[[AlsParameters], Scores], number: int, parameters: AlsParameters) -> Trial:
    started = time.monotonic()
    error, scores = None, None
    try:
        scores = judge(parameters)
        if not math.isfinite(scores.value):
            error, scores = f"its {METRIC} is {scores.value}", None
    except Exception as problem:
        error = f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}"
    return Trial(number, parameters, round(time.monotonic() - started, 2), scores, error)


def _importance(study: optuna.Study) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])) < LEAST_FOR_IMPORTANCE:
        return {}
    # Beside the whole space, not beside all trials: those crowd where it is good, which hides what brought them there.
    found = get_param_importances(
        study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE, evaluate_on_local=False)
    )
    return {name: float(share) for name, share in found.items() if math.isfinite(share)}


def _progress(made: Sequence[Trial], trials: int, spent: float, timeout_seconds: int | None) -> str:
    last, best = made[-1], best_of(made)
    result = f"NDCG {last.scores.value:.4f}" if last.scores else f"FAILED, {last.error}"
    so_far = f"best so far {best.scores.value:.4f}, trial {best.number}" if best and best.scores else "none so far"
    left = spent / len(made) * (trials - len(made))
    if timeout_seconds is not None:
        left = max(0.0, min(left, timeout_seconds - spent))
    done = f"{len(made):,} of {trials:,} trials ({len(made) / trials:.0%})"
    coming = f"{_duration(left)} left" if left else f"{_duration(spent)} in all"
    return f"{done}: {last}: {result}, {last.seconds:.1f} s; {so_far}; {coming}."


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest NDCG, the earliest of equal ones; None where none succeeded."""
    return max((t for t in trials if t.scores), key=lambda t: t.scores.value if t.scores else 0.0, default=None)


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
        "trials": [
            {
                "number": t.number,
                "params": t.params,
                "ndcg": compare.of(t) if t.scores else None,
                "gain": compare.between(t, default),
                "metrics": {s: dict(t.scores.metrics[s]) for s in SYSTEMS if s != BASELINE} if t.scores else None,
                "seconds": t.seconds,
                "error": t.error,
            }
            for t in trials
        ],
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
    lines = [
        "| trial | rank | regParam | alpha | nonnegative | NDCG (95 %) | above the default (95 %) | NDCG of ALS alone "
        "| seconds |",
        "|---:|---:|---:|---:|---|---|---|---:|---:|",
    ]
    for t in sorted(document["trials"], key=lambda t: -t["ndcg"][0] if t["ndcg"] else math.inf):
        p = t["params"]
        mark = " **best**" if t["number"] == document["trial"] else " default" if t["number"] == 0 else ""
        shown = [f"{t['number']}{mark}", p["rank"], f"{p['regParam']:.4g}", f"{p['alpha']:.4g}"]
        shown += ["yes" if p["nonnegative"] else "no"]
        if t["ndcg"]:
            alone = f"{t['metrics']['als'][METRIC]:.4f}"
            shown += [_between(t["ndcg"]), _between(t["gain"], "+") if t["number"] else "", alone]
        else:
            shown += [f"failed: {t['error']}".replace("|", "/"), "", ""]
        lines.append(f"| {' | '.join(str(cell) for cell in [*shown, t['seconds']])} |")
    return "\n".join(lines)


def _between(interval: Interval | None, sign: str = "") -> str:
    return f"{interval[0]:{sign}.4f} ({interval[1]:{sign}.4f} to {interval[2]:{sign}.4f})" if interval else ""

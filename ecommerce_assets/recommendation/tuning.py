"""Searches the parameters of ALS with the highest NDCG: `tune`.

Trials are scored on validation windows that end before the cutoff of als_evaluation, which therefore evaluates the
chosen parameters on what users did later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.progress import Log, Progress
from ecommerce_assets.recommendation.als import bytes_of_fit
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.backtest import Window, rolling_windows
from ecommerce_assets.recommendation.evaluation import NO_HOLDOUT, NOTHING_RELEVANT
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.holdout import BYTES_PER_EVENT, fits_in_process, holdout_cutoff, prepare_holdouts
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.popularity import Popularity
from ecommerce_assets.recommendation.scores import Scores
from ecommerce_assets.recommendation.scoring import Past, score
from ecommerce_assets.recommendation.systems import ALS_LIST
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.spark.engine import Engine

if TYPE_CHECKING:
    import optuna

METRIC = "ndcg"
"""The metric that is maximised: its mean over the users, for the lists of the ranker `als`."""

RANKS, REG_PARAMS, ALPHAS = (8, 256), (0.001, 1.0), (0.1, 40.0)
"""Ranges of the search, on a logarithmic scale."""

HALF_LIVES: tuple[float | None, ...] = (None, 7.0, 14.0, 30.0, 60.0, 120.0)
"""Half-lives that are tried, in days; None: all ratings keep their weight."""

SEARCHED = ("rank", "regParam", "alpha", "nonnegative", "halfLife")
"""Parameters that are searched."""

DEFAULTS = AlsParameters()
FIRST_TRIALS = (DEFAULTS, replace(DEFAULTS, nonnegative=False), replace(DEFAULTS, halfLife=30.0))
"""The defaults, then the defaults without the constraint, then with a half-life."""

LARGEST = AlsParameters(rank=RANKS[1])
"""Parameters with the highest rank."""


@dataclass(frozen=True)
class Trial:
    """A set of parameters with its scores in each window, or with an error."""

    number: int
    parameters: AlsParameters
    seconds: float
    scores: Sequence[Scores] = ()
    error: str | None = None

    @property
    def value(self) -> float:
        """The mean of `METRIC` over the windows."""
        return float(np.mean([scores.mean(ALS_LIST, METRIC) for scores in self.scores]))

    @property
    def params(self) -> dict[str, Any]:
        """The values of the `SEARCHED` parameters."""
        return {name: value for name, value in self.parameters.as_dict().items() if name in SEARCHED}


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Returns the trial with the highest value, the earliest of equal ones; None if no trial succeeded."""
    return max((trial for trial in trials if trial.scores), key=lambda trial: trial.value, default=None)


def in_words(params: dict[str, Any]) -> str:
    """Returns the searched parameters for a sentence."""
    constraint = "nonnegative" if params["nonnegative"] else "unconstrained"
    half_life = f"half-life {params['halfLife']:g} days" if params["halfLife"] else "no half-life"
    numbers = f"rank {params['rank']}, regParam {params['regParam']:.3g}, alpha {params['alpha']:.3g}"
    return f"{numbers}, {constraint}, {half_life}"


@dataclass(frozen=True)
class Tuning:
    """The result of `tune`.

    Attributes
    ----------
    trials
        The trials in order.
    windows
        The validation windows, with the number of users that each trial was scored on.
    test_cutoff
        The cutoff of als_evaluation; None if it has none.
    reason
        Why there are no trials; None if there are.
    """

    trials: Sequence[Trial] = ()
    windows: Sequence[tuple[Window, int]] = ()
    test_cutoff: str | None = None
    reason: str | None = None


def tune(
    events: DataFrame,
    segmentation: SegmentationParameters,
    exclude: Exclude,
    k: int,
    trials: int,
    timeout_seconds: int | None = None,
    seed: int = 42,
    cutoffs: int = 1,
    log: Log = print,
) -> Tuning:
    """Returns the trials of a search on the events before the cutoff of als_evaluation.

    Parameters
    ----------
    events
        cleaned_events.
    segmentation, exclude, k
        As in the published recommendations.
    trials, timeout_seconds, seed, log
        As in `search`.
    cutoffs
        Number of validation windows; see `rolling_windows`. The value of a trial is the mean over them.
    """
    test_cutoff = holdout_cutoff(events)
    if test_cutoff is None:
        return Tuning(reason=NO_HOLDOUT)
    at = test_cutoff.isoformat()
    before_test = events.where(F.col("event_time") < timestamp(test_cutoff))
    windows = rolling_windows(before_test, cutoffs)
    if not windows:
        return Tuning(test_cutoff=at, reason=NO_HOLDOUT)
    in_process = _windows_fit_in_process(before_test, len(windows))
    with ExitStack() as stack:
        pasts: list[tuple[Window, Past]] = []
        for window in windows:
            prepared = prepare_holdouts(window.until_end(before_test), window.cutoff, None, segmentation, in_process)
            holdout = stack.enter_context(prepared).outer
            if holdout is not None:
                pasts.append((window, Past.of(holdout, no_categories(), LARGEST, recommenders=(Als, Popularity))))

        def score_in_windows(parameters: AlsParameters) -> list[Scores]:
            scores = [score(past.fit(parameters), {exclude: None}, k)[0][exclude] for _, past in pasts]
            if not all(each.users for each in scores):
                raise ValueError(f"No user can be scored, holdout: {NOTHING_RELEVANT}.")
            return scores

        if not pasts:
            return Tuning(test_cutoff=at, reason=NOTHING_RELEVANT)
        results = search(score_in_windows, trials, timeout_seconds, seed, log)
    users = next(([scores.users for scores in trial.scores] for trial in results if trial.scores), [0] * len(pasts))
    scored = [(replace(w, end=w.end or test_cutoff), count) for (w, _), count in zip(pasts, users, strict=True)]
    return Tuning(results, scored, at)


def _windows_fit_in_process(events: DataFrame, windows: int) -> bool:
    """Returns whether the holdouts of all windows, and a fit of the largest model, fit in this process."""
    ids = (F.approx_count_distinct(name) for name in ("user_id", "product_id"))
    [[count, users, products]] = events.agg(F.count("*"), *ids).collect()
    others = (windows - 1) * count * BYTES_PER_EVENT
    of_fit = bytes_of_fit(count, users + products, LARGEST.rank)
    return fits_in_process(events.sparkSession, count, Engine.auto, others + of_fit)


def no_categories() -> pa.Table:
    """Returns a table of categories without rows: ALS and popularity do not use them."""
    return pa.schema({"product_id": pa.int64(), "category_id": pa.int64(), "category": pa.string()}).empty_table()


def search(
    score: Callable[[AlsParameters], Sequence[Scores]],
    trials: int,
    timeout_seconds: int | None = None,
    seed: int = 42,
    log: Log = print,
) -> list[Trial]:
    """Returns trials of a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011).

    The first trials are `FIRST_TRIALS`. A trial that raises an error counts as failed, and the search continues.

    Parameters
    ----------
    score
        Returns the scores of a model with these parameters, one for each window.
    trials
        Number of trials.
    timeout_seconds
        No trial begins after this time; None: no limit.
    seed
        Seed of the search.
    log
        Called with the progress.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for first in FIRST_TRIALS:
        study.enqueue_trial({name: getattr(first, name) for name in SEARCHED})
    results: list[Trial] = []
    progress, started = Progress(log, "als_tuning", trials, "trial"), time.monotonic()
    while len(results) < trials:
        suggestion = study.ask()
        trial = _run_trial(score, suggestion.number, _suggested_parameters(suggestion))
        results.append(trial)
        if trial.scores:
            study.tell(suggestion, trial.value)
        else:
            study.tell(suggestion, state=optuna.trial.TrialState.FAIL)
        progress.step(len(results), _note(trial, best_of(results)))
        is_timeout = timeout_seconds is not None and time.monotonic() - started >= timeout_seconds
        if is_timeout and len(results) < trials:
            log(f"als_tuning: stopped after {len(results):,} trials, because {timeout_seconds} seconds have passed.")
            break
    return results


def _suggested_parameters(suggestion: optuna.Trial) -> AlsParameters:
    suggested = {
        "rank": suggestion.suggest_int("rank", *RANKS, log=True),
        "regParam": suggestion.suggest_float("regParam", *REG_PARAMS, log=True),
        "alpha": suggestion.suggest_float("alpha", *ALPHAS, log=True),
        "nonnegative": suggestion.suggest_categorical("nonnegative", [True, False]),
        "halfLife": suggestion.suggest_categorical("halfLife", HALF_LIVES),
    }
    return AlsParameters.of({**DEFAULTS.as_dict(), **suggested})


def _run_trial(score: Callable[[AlsParameters], Sequence[Scores]], number: int, parameters: AlsParameters) -> Trial:
    started = time.monotonic()
    error = None
    trial = Trial(number, parameters, 0.0)
    try:
        trial = replace(trial, scores=score(parameters))
        if not math.isfinite(trial.value):
            error = f"its {METRIC} is {trial.value}"
    except Exception as exception:
        error = f"{type(exception).__name__}: {str(exception).strip().partition(chr(10))[0]}"
    return replace(
        trial, seconds=round(time.monotonic() - started, 2), scores=() if error else trial.scores, error=error
    )


def _note(last: Trial, best: Trial | None) -> str:
    result = f"NDCG {last.value:.4f}" if last.scores else f"failed, {last.error}"
    so_far = f"; best: trial {best.number}, {best.value:.4f}" if best else ""
    return f"trial {last.number} ({in_words(last.params)}): {result}{so_far}"

"""als_tuning: which rank, regParam and alpha serve users best, and whether keeping the factors nonnegative pays.

Every candidate is judged as als_evaluation judges the published model, but on a holdout that lies wholly before that of
als_evaluation: what was chosen by one is judged by the other, on what users did later. What is told
of all trials is the business of tuning_document.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.progress import Say, duration
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
from ecommerce_assets.recommendation.recommend import Exclude
from ecommerce_assets.recommendation.tuning_document import describe_tuning
from ecommerce_assets.recommendation.tuning_trials import BUCKETS, METRIC, SEARCHED, Found, Scores, Trial, best_of
from ecommerce_assets.segmentation.pipeline import SegmentationParameters

if TYPE_CHECKING:
    import optuna
    from pyspark.ml.recommendation import ALSModel

RANKS, REG_PARAMS, ALPHAS = (8, 128), (0.001, 1.0), (0.1, 40.0)
"""Where is searched, each on a logarithmic scale."""

BEST_SHARE, LEAST_FOR_IMPORTANCE = 0.25, 10
"""Of the trials: those that are asked what they have in common, and how many trials that takes."""


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
    cutoff = holdout_cutoff(before_test)
    about = {
        "validation_cutoff": cutoff.isoformat() if cutoff else None,
        "test_cutoff": test_cutoff.isoformat() if test_cutoff else None,
        "k": k,
        "exclude": str(exclude),
        "holdout_users": 0,
    }
    if cutoff is None:
        return describe_tuning(Found([]), {**about, "holdout": NO_HOLDOUT})
    with validation(before_test, cutoff, segmentation, exclude) as holdout:
        if holdout is None:
            return describe_tuning(Found([]), {**about, "holdout": NOTHING_TO_JUDGE})
        say(
            f"{holdout.user_count:,} users are judged by what they did from {cutoff:%Y-%m-%d %H:%M:%S} UTC "
            f"on, before {test_cutoff:%Y-%m-%d %H:%M:%S}, from where on als_evaluation judges."
        )
        found = search(_judge(holdout, k, say), trials, timeout_seconds, seed, say)
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


def _judge(holdout: Holdout, k: int, say: Say) -> Callable[[AlsParameters], Scores]:
    fit = _fitter(holdout.interactions, say)
    return lambda parameters: Scores.of(holdout.judge(fit(parameters), k, BUCKETS))


def _fitter(interactions: DataFrame, say: Say) -> Callable[[AlsParameters], ALSModel]:
    """What fits the trials; the local engine is given the pairs once for all."""
    choice = choose_engine(interactions, AlsParameters(rank=RANKS[1]))
    say(choice.reason)
    if choice.engine != Engine.local:
        return lambda parameters: fit_als(interactions, parameters, choice.engine)
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
    coming = f"about {duration(left)} left" if left else f"{duration(spent)} in all"
    return f"{done}: {last}: {result}, {last.seconds:.1f} s; {so_far}; {coming}."

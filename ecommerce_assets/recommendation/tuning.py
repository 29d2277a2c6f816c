"""Searches the parameters of ALS with the highest NDCG: `tune`.

Trials are scored on validation windows that end before the cutoff of als_evaluation, which therefore evaluates the
chosen parameters on what users did later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.progress import Log, Progress
from ecommerce_assets.recommendation.als import choose_engine, fit_als, fit_local
from ecommerce_assets.recommendation.als_model import AlsModel, LocalModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.backtest import Window, rolling_windows
from ecommerce_assets.recommendation.evaluation import NO_HOLDOUT, NOTHING_RELEVANT
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fallback import Fallback
from ecommerce_assets.recommendation.fitting import item_factors, stats_by_spark
from ecommerce_assets.recommendation.holdout import Holdout, holdout_cutoff, prepare_holdouts
from ecommerce_assets.recommendation.interactions import collect_pairs, latest_interaction
from ecommerce_assets.recommendation.lists import ListMaker
from ecommerce_assets.recommendation.products import INDEXED, Products, products_of
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import ProductStats, Ragged, Recommender, Training
from ecommerce_assets.recommendation.recommenders.popularity import Popularity
from ecommerce_assets.recommendation.scores import Scores
from ecommerce_assets.recommendation.scoring import Systems, score_als, with_factors
from ecommerce_assets.recommendation.systems import ALS_LIST
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.stored_table import StoredTable

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
    with ExitStack() as stack:
        validations = [stack.enter_context(validation(before_test, window, segmentation)) for window in windows]
        usable = [(window, each) for window, each in zip(windows, validations, strict=True) if each is not None]

        def score(parameters: AlsParameters) -> list[Scores]:
            return [each.score(parameters, exclude, k) for _, each in usable]

        if not usable:
            return Tuning(test_cutoff=at, reason=NOTHING_RELEVANT)
        log(usable[-1][1].engine_reason)
        results = search(score, trials, timeout_seconds, seed, log)
    users = next(([scores.users for scores in trial.scores] for trial in results if trial.scores), [0] * len(usable))
    scored = [(replace(w, end=w.end or test_cutoff), count) for (w, _), count in zip(usable, users, strict=True)]
    return Tuning(results, scored, at)


@dataclass(frozen=True)
class Validation:
    """The parts of the evaluation on one window that are the same for every trial.

    Attributes
    ----------
    holdout
        The users of the window, and the interactions before it.
    products, stats, fallback, popularity
        Computed from the interactions before the window.
    reference
        Time of the latest of these interactions, in microseconds since 1970.
    fit
        Fits a model to these interactions.
    engine_reason
        Why the engine was chosen, in a sentence.
    """

    holdout: Holdout
    products: Products
    stats: ProductStats
    fallback: Fallback
    popularity: Popularity
    reference: int
    fit: Callable[[AlsParameters], AlsModel]
    engine_reason: str

    @classmethod
    def of(cls, holdout: Holdout) -> Validation:
        """Prepares the parts; chooses the engine for the memory of the highest rank of the search."""
        products = products_of(holdout.products.select(*INDEXED).toArrow())
        stats = stats_by_spark(holdout.interactions, holdout.segments, products, no_categories())
        popularity = Popularity.fit(_training(stats, np.zeros((len(stats), 1), np.float32)))
        choice = choose_engine(StoredTable(holdout.interactions), AlsParameters(rank=RANKS[1]))
        return cls(
            holdout,
            products,
            stats,
            Fallback.of(stats),
            popularity,
            latest_interaction(holdout.interactions),
            _fitter(StoredTable(holdout.interactions), choice.engine),
            choice.reason,
        )

    def score(self, parameters: AlsParameters, exclude: Exclude, k: int) -> Scores:
        """Returns the scores of the lists of one model, and of popularity.

        Raises ValueError if no user can be scored.
        """
        model = self.fit(parameters)
        training = _training(self.stats, item_factors(model.products, self.products))
        recommenders: dict[str, Recommender] = {Als.name: Als.fit(training), Popularity.name: self.popularity}
        maker = ListMaker(training, recommenders, self.fallback)
        users = with_factors(self.holdout, model.user_frame(self.holdout.pairs.sparkSession))
        scores = score_als(Systems(self.products, maker, self.reference, users), exclude, k)
        if not scores.users:
            raise ValueError(f"No user can be scored, holdout: {NOTHING_RELEVANT}.")
        return scores


def no_categories() -> pa.Table:
    """Returns a table of categories without rows; only recommenders that are not scored here use categories."""
    return pa.schema({"product_id": pa.int64(), "category_id": pa.int64(), "category": pa.string()}).empty_table()


def _training(stats: ProductStats, factors: Any) -> Training:
    """Returns a training without neighbours, which only recommenders that are not scored here use."""
    none = Ragged(np.zeros(len(stats) + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return Training(stats, none, factors)


def _fitter(interactions: StoredTable, engine: Engine) -> Callable[[AlsParameters], AlsModel]:
    """Returns the function that fits the trials; the local engine collects the pairs again if the half-life changes."""
    if engine != Engine.local:
        return lambda parameters: fit_als(interactions, parameters, engine)

    @lru_cache(maxsize=1)
    def pairs(half_life: float | None) -> pa.Table:
        return collect_pairs(interactions, half_life=half_life)

    return lambda parameters: LocalModel(*fit_local(pairs(parameters.halfLife), parameters))


@contextmanager
def validation(
    before_test: DataFrame, window: Window, segmentation: SegmentationParameters
) -> Iterator[Validation | None]:
    """Yields the validation of a window; None if there are no interactions before it or in it."""
    with prepare_holdouts(window.until_end(before_test), window.cutoff, None, segmentation) as holdouts:
        yield Validation.of(holdouts.outer) if isinstance(holdouts.outer, Holdout) else None


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

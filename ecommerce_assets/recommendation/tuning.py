"""als_tuning: searches the parameters of ALS that serve users best.

`tune` is the entry point. Trials are scored on validation windows that end before the cutoff of als_evaluation, so the
parameters that are chosen by one are evaluated by the other, on what users did later.
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
from ecommerce_assets.recommendation.als import (
    AlsParameters,
    Engine,
    choose_engine,
    fit_als,
    fit_local,
)
from ecommerce_assets.recommendation.als_model import AlsModel, LocalModel
from ecommerce_assets.recommendation.backtest import Window, rolling_windows
from ecommerce_assets.recommendation.evaluation import NO_HOLDOUT, NOTHING_RELEVANT
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fallback import Fallback
from ecommerce_assets.recommendation.fitting import item_factors, stats_by_spark
from ecommerce_assets.recommendation.holdout import Holdout, holdout_cutoff, prepare
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
from ecommerce_assets.storage.stored_table import StoredTable

if TYPE_CHECKING:
    import optuna

METRIC = "ndcg"
"""Its mean over the users, for the lists of the ranker `als`, is maximised."""

RANKS, REG_PARAMS, ALPHAS = (8, 256), (0.001, 1.0), (0.1, 40.0)
"""Ranges of the search, on a logarithmic scale."""

HALF_LIVES: tuple[float | None, ...] = (None, 7.0, 14.0, 30.0, 60.0, 120.0)
"""Choices of the search, in days; None: ratings do not age."""

SEARCHED = ("rank", "regParam", "alpha", "nonnegative", "halfLife")

DEFAULTS = AlsParameters()
FIRST_TRIALS = (DEFAULTS, replace(DEFAULTS, nonnegative=False), replace(DEFAULTS, halfLife=30.0))
"""The defaults, and what each of the two choices changes in them."""


@dataclass(frozen=True)
class Trial:
    """One choice of parameters: its scores in each window, or the error instead of them."""

    number: int
    parameters: AlsParameters
    seconds: float
    scores: Sequence[Scores] = ()
    error: str | None = None

    @property
    def value(self) -> float:
        """The mean over the windows of the metric that is maximised."""
        return float(np.mean([scores.mean(ALS_LIST, METRIC) for scores in self.scores]))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that are searched."""
        return {name: value for name, value in self.parameters.as_dict().items() if name in SEARCHED}


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest value, the earliest of equal ones; None where none succeeded."""
    return max((trial for trial in trials if trial.scores), key=lambda trial: trial.value, default=None)


def in_words(params: dict[str, Any]) -> str:
    """Parameters for a sentence."""
    constraint = "nonnegative" if params["nonnegative"] else "unconstrained"
    half_life = f"half-life {params['halfLife']:g} days" if params["halfLife"] else "no half-life"
    numbers = f"rank {params['rank']}, regParam {params['regParam']:.3g}, alpha {params['alpha']:.3g}"
    return f"{numbers}, {constraint}, {half_life}"


@dataclass(frozen=True)
class Tuning:
    """What a tuning gives.

    Attributes
    ----------
    trials
        In order.
    windows
        The validation windows, and the number of users that each trial was scored on in each.
    test_cutoff
        The cutoff of als_evaluation; None without one.
    reason
        Why there are no trials; None where there are.
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
    say: Log = print,
) -> Tuning:
    """Searches on the events before the cutoff of als_evaluation.

    Parameters
    ----------
    events
        cleaned_events.
    segmentation, exclude, k
        As in the published recommendations.
    trials, timeout_seconds, seed
        As in `search`.
    cutoffs
        Number of validation windows; see `rolling_windows`. A trial's value is the mean over them.
    say
        Called with the progress.
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
        usable = [(w, each) for w, each in zip(windows, validations, strict=True) if each is not None]

        def score(parameters: AlsParameters) -> list[Scores]:
            return [each.score(parameters, exclude, k) for _, each in usable]

        if not usable:
            return Tuning(test_cutoff=at, reason=NOTHING_RELEVANT)
        say(usable[-1][1].engine_reason)
        made = search(score, trials, timeout_seconds, seed, say)
    users = next(([scores.users for scores in trial.scores] for trial in made if trial.scores), [0] * len(usable))
    scored = [(replace(w, end=w.end or test_cutoff), count) for (w, _), count in zip(usable, users, strict=True)]
    return Tuning(made, scored, at)


@dataclass(frozen=True)
class Validation:
    """All that is the same for every trial in one window.

    Attributes
    ----------
    holdout
        The users, and the interactions before the window.
    products, stats, fallback, popularity
        Of these interactions.
    reference
        The latest interaction, in microseconds since 1970.
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
        """With the engine that has the memory for the highest rank of the search."""
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
        """The scores of the lists of one model, and of popularity."""
        model = self.fit(parameters)
        training = _training(self.stats, item_factors(model.products, self.products))
        recommenders: dict[str, Recommender] = {Als.name: Als.fit(training), Popularity.name: self.popularity}
        maker = ListMaker(training, recommenders, self.fallback)
        users = with_factors(self.holdout, model.user_frame(self.holdout.pairs.sparkSession))
        scores = score_als(Systems(self.products, maker, self.reference, users), exclude, k)
        if not scores.users:
            raise ValueError(f"No user can be scored: {NOTHING_RELEVANT}.")
        return scores


def no_categories() -> pa.Table:
    """Categories of no products: they matter to other recommenders only."""
    return pa.schema({"product_id": pa.int64(), "category_id": pa.int64(), "category": pa.string()}).empty_table()


def _training(stats: ProductStats, factors: Any) -> Training:
    """Without neighbours, which only other recommenders read."""
    none = Ragged(np.zeros(len(stats) + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return Training(stats, none, factors)


def _fitter(interactions: StoredTable, engine: Engine) -> Callable[[AlsParameters], AlsModel]:
    """Fits the trials; for the local engine the pairs are collected when the half-life changes."""
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
    """The holdout of a window; None where nothing is before it or in it."""
    with prepare(window.until_end(before_test), window.cutoff, None, segmentation) as prepared:
        yield Validation.of(prepared.outer) if isinstance(prepared.outer, Holdout) else None


def search(
    score: Callable[[AlsParameters], Sequence[Scores]],
    trials: int,
    timeout_seconds: int | None = None,
    seed: int = 42,
    say: Log = print,
) -> list[Trial]:
    """Trials by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), which learns from earlier ones.

    The first are `FIRST_TRIALS`. A trial that raises an error counts as failed, and the search goes on.

    Parameters
    ----------
    score
        Returns the scores of a model with these parameters, one for each window.
    timeout_seconds
        No trial begins after this time.
    say
        Called with the progress.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for first in FIRST_TRIALS:
        study.enqueue_trial({name: getattr(first, name) for name in SEARCHED})
    made: list[Trial] = []
    progress, started = Progress(say, "als_tuning", trials, "trial"), time.monotonic()
    while len(made) < trials:
        asked = study.ask()
        trial = _run_trial(score, asked.number, _suggest(asked))
        made.append(trial)
        if trial.scores:
            study.tell(asked, trial.value)
        else:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        progress.step(len(made), _note(trial, best_of(made)))
        is_over = timeout_seconds is not None and time.monotonic() - started >= timeout_seconds
        if is_over and len(made) < trials:
            say(f"als_tuning: stopped after {len(made):,} trials, because {timeout_seconds} seconds have passed.")
            break
    return made


def _suggest(asked: optuna.Trial) -> AlsParameters:
    suggested = {
        "rank": asked.suggest_int("rank", *RANKS, log=True),
        "regParam": asked.suggest_float("regParam", *REG_PARAMS, log=True),
        "alpha": asked.suggest_float("alpha", *ALPHAS, log=True),
        "nonnegative": asked.suggest_categorical("nonnegative", [True, False]),
        "halfLife": asked.suggest_categorical("halfLife", HALF_LIVES),
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
    except Exception as problem:
        error = f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}"
    return replace(
        trial, seconds=round(time.monotonic() - started, 2), scores=() if error else trial.scores, error=error
    )


def _note(last: Trial, best: Trial | None) -> str:
    result = f"NDCG {last.value:.4f}" if last.scores else f"failed, {last.error}"
    so_far = f"; best: trial {best.number}, {best.value:.4f}" if best else ""
    return f"trial {last.number} ({in_words(last.params)}): {result}{so_far}"

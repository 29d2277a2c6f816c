"""Computes als_evaluation, which compares the published lists with baselines on what users did next: `evaluate`.

It trains on the events before a cutoff and scores on those after it, with the same features, segments, engines and
lists as the published tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.bootstrap import bootstrap, mean_and_interval
from ecommerce_assets.progress import Log
from ecommerce_assets.recommendation.als import AfterIteration, choose_engine, fit_local, fit_mllib, log_iterations
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.blend import Blend, import_in_background
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import categories_of
from ecommerce_assets.recommendation.holdout import (
    HOLDOUT_SHARE,
    Holdouts,
    fits_in_process,
    nested_cutoffs,
    prepare_holdouts,
)
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.local_als import predictions
from ecommerce_assets.recommendation.metrics import Floats, novelty
from ecommerce_assets.recommendation.parameters import ListParameters, Parameters
from ecommerce_assets.recommendation.recommenders.base import ProductStats
from ecommerce_assets.recommendation.scores import USER_METRICS, Scores, bootstrap_means, interval
from ecommerce_assets.recommendation.scoring import Past, score, training_examples
from ecommerce_assets.recommendation.systems import (
    ALS_ALONE,
    ALS_LIST,
    BASELINES,
    BEST_BASELINE,
    COMPARED,
    POPULARITY,
    PUBLISHED,
    SYSTEMS,
    difference,
)
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.markdown import percent
from ecommerce_assets.storage.stored_table import StoredTable

ALS_EVALUATION = TableSpec.of(
    ColumnSpec(
        "metric",
        "string",
        "rmse, precision, recall, ndcg, map, hit_rate, serendipity, served, coverage, novelty or diversity.",
        key=True,
        constant=True,
    ),
    ColumnSpec("k", "int", "Length of the list; null for rmse.", constant=True),
    ColumnSpec(
        "system",
        "string",
        f"{PUBLISHED}; {ALS_LIST} (the ranker als); {ALS_ALONE} (without fallback); the baselines, completed with "
        f"popular products: {', '.join(BASELINES)}; or a difference such as {difference(PUBLISHED, BEST_BASELINE)}.",
        key=True,
        constant=True,
    ),
    ColumnSpec(
        "slice",
        "string",
        "all; events: none, few (1-4), some (5-19) or many (20+) before the cutoff; segment: computed from the events "
        "before the cutoff; served by: recommenders (at least one knows the user) or fallback (none does).",
        key=True,
    ),
    ColumnSpec(
        "exclude",
        "string",
        "Products of the user's history that are neither recommended nor relevant: purchased, seen or none.",
        key=True,
        constant=True,
    ),
    ColumnSpec("value", "double", "Mean over the users of the slice (coverage: of the catalogue).", nullable=False),
    ColumnSpec("lower", "double", "Lower end of the bootstrap 95 % interval; null if the metric has none."),
    ColumnSpec("upper", "double", "Upper end of the bootstrap 95 % interval; null if the metric has none."),
    ColumnSpec("users", "bigint", "Number of users in the slice.", nullable=False),
)

SCORED_BY = ("event_time", "event_type", "product_id", "category_id", "price", "user_id")
"""Columns of cleaned_events that the recommendations and the segments are computed from."""

NO_HOLDOUT = f"none: there are no events, or more than {percent(HOLDOUT_SHARE, 0)} of them are in the last second"
NOTHING_RELEVANT = (
    "none: there are no interactions before the cutoff, or none after it with a product that could be recommended"
)
POPULARITY_GROUPS = 10


class MetricRow(NamedTuple):
    """A row of als_evaluation, in the order of its columns."""

    metric: str
    k: int | None
    system: str
    slice: str
    exclude: str
    value: float
    lower: float | None
    upper: float | None
    users: int


@dataclass(frozen=True)
class Evaluation:
    """The rows of als_evaluation and its results (see `summarise`)."""

    rows: list[MetricRow] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def table(self) -> pa.Table:
        """Returns the rows of als_evaluation."""
        columns = zip(*self.rows, strict=True) if self.rows else [[] for _ in MetricRow._fields]
        return pa.table(dict(zip(MetricRow._fields, map(list, columns), strict=True)))


def evaluate(
    events: DataFrame,
    product_features: StoredTable,
    parameters: Parameters,
    engine: Engine = Engine.auto,
    log: Log | None = None,
    promoted: Parameters | None = None,
) -> Evaluation:
    """Returns the rmse on a random split, and the metrics of all systems on a temporal holdout.

    Parameters
    ----------
    events
        cleaned_events.
    product_features
        `product_id`, `category_id`, `category`.
    parameters
        Parameters of the models, which are fitted on the events before the cutoff, and of the lists. The exclusions
        `purchased` and `seen` are always evaluated.
    engine
        The engine that fitted the model.
    log
        Called with the progress of each fit.
    promoted
        Parameters to compare with, for the same users; None: `parameters` are the promoted ones.
    """
    als, segmentation, lists = parameters.als_model, parameters.segmentation_model, parameters.recommendations
    exclude, ranker = lists.exclude, lists.ranker

    def log_fit(split: str) -> AfterIteration | None:
        return log_iterations(log, f"als_evaluation, {split}", als) if log else None

    if ranker == Ranker.blend:
        import_in_background()
    cutoffs = nested_cutoffs(events)
    cutoff, inner_cutoff = cutoffs.outer, cutoffs.inner if ranker == Ranker.blend else None
    in_process = fits_in_process(events.sparkSession, cutoffs.events, engine)
    categories = categories_of(product_features)
    with prepare_holdouts(events, cutoff, inner_cutoff, segmentation, in_process) as holdouts:
        rows, results = rmse(holdouts.pairs, als, engine, log_fit("random split"))
        if cutoff is None:
            return Evaluation(rows, {**results, "holdout": NO_HOLDOUT})
        results |= {"cutoff": cutoff.isoformat(), "holdout_users": 0}
        if holdouts.outer is None:
            return Evaluation(rows, {**results, "holdout": NOTHING_RELEVANT})
        evaluated = evaluate_holdout(holdouts, categories, als, lists, engine, log_fit)
        compared = {}
        if promoted is not None and evaluated.scores[exclude].users:
            with ExitStack() as stack:
                if promoted.segmentation_model != segmentation:
                    holdouts = stack.enter_context(
                        prepare_holdouts(events, cutoff, inner_cutoff, promoted.segmentation_model, in_process)
                    )
                # With the same length and exclusion of the lists, so that the metrics are comparable.
                other_lists = replace(lists, ranker=promoted.recommendations.ranker)
                other = evaluate_holdout(holdouts, categories, promoted.als_model, other_lists, engine, log_fit)
            compared = {"compared": compare_with_promoted(evaluated, other, exclude, parameters.changes(promoted))}
    if not evaluated.scores[exclude].users:
        return Evaluation(rows, {**results, "holdout": NOTHING_RELEVANT})
    for excluded, scores in evaluated.scores.items():
        rows += metric_rows(evaluated, excluded, lists.k) if scores.users else []
    return Evaluation(rows, {**results, **summarise(evaluated, exclude, rows), **compared})


def compare_with_promoted(
    evaluated: Evaluated, promoted: Evaluated, exclude: Exclude, changes: Mapping[str, tuple[Any, Any]]
) -> dict[str, Any]:
    """Compares the published lists of an experiment with those of the promoted parameters, for the same users.

    Returns
    -------
    dict
        `changes`: the promoted value and the experiment's by parameter; `ndcg` and `hit_rate`: `promoted` and
        `difference`, each [value, lower, upper] with the paired bootstrap 95 % interval.
    """
    document: dict[str, Any] = {"changes": {name: list(values) for name, values in changes.items()}}
    for metric in ("ndcg", "hit_rate"):
        tried, baseline = (bootstrap_means(each.scores[exclude], PUBLISHED, metric) for each in (evaluated, promoted))
        document[metric] = {"promoted": interval(baseline), "difference": interval(tried - baseline)}
    return document


@dataclass(frozen=True)
class Evaluated:
    """The result of `evaluate_holdout`.

    Attributes
    ----------
    scores
        Scores of all systems, by exclusion.
    products
        Stats of the products before the cutoff.
    blend
        Weights for the published lists, trained on the events after the cutoff; None for the ranker `als`.
    training_users
        Number of users that these weights were trained on.
    """

    scores: Mapping[Exclude, Scores]
    products: ProductStats
    blend: Blend | None = None
    training_users: int = 0

    def best_baseline(self, exclude: Exclude) -> str:
        """Returns the baseline with the highest NDCG over all users, the first of equal ones."""
        scores = self.scores[exclude]
        return max(BASELINES, key=lambda system: scores.mean(system, "ndcg"))


def evaluate_holdout(
    holdouts: Holdouts,
    categories: pa.Table,
    als: AlsParameters,
    lists: ListParameters,
    engine: Engine,
    log_fit: Callable[[str], AfterIteration | None] = lambda _: None,
) -> Evaluated:
    """Returns the scores of all systems on the outer holdout.

    The blend that is scored is trained on the inner holdout. The blend for the published lists is then trained on the
    outer one, because their recommenders are fitted on all events.

    Parameters
    ----------
    categories
        Categories of the products, as of `categories_of`.
    als, lists, engine
        Parameters of the model and of the lists, and the engine that fits the model.
    log_fit
        Returns for the name of a split the callback of its fit.
    """
    is_blended = lists.ranker == Ranker.blend
    excludes = list(dict.fromkeys((lists.exclude, Exclude.purchased, Exclude.seen)))
    blends: dict[Exclude, Blend | None] = dict.fromkeys(excludes, Blend() if is_blended else None)
    if is_blended and holdouts.inner is not None:
        inner = Past.of(holdouts.inner, categories, als, engine).fit(als, log_fit("inner split"))
        blends = {excluded: examples.fit() for excluded, examples in training_examples(inner, excludes).items()}
    assert holdouts.outer is not None
    systems = Past.of(holdouts.outer, categories, als, engine).fit(als, log_fit("temporal holdout"))
    scores, examples = score(systems, blends, lists.k, lists.exclude if is_blended else None)
    stats = systems.maker.training.products
    return Evaluated(scores, stats, examples.fit(), examples.users) if examples else Evaluated(scores, stats)


def rmse(
    pairs: DataFrame | pa.Table,
    parameters: AlsParameters,
    engine: Engine = Engine.auto,
    after_iteration: AfterIteration | None = None,
) -> tuple[list[MetricRow], dict[str, Any]]:
    """Returns the row of the root mean squared error against `rating` on a fifth of the pairs, and the results.

    It is only meant for comparisons over time, because implicit ALS predicts a preference near 0 to 1 and ratings go up
    to 10. Pairs whose user or product is not in the training part are left out and counted; a half-life is ignored.

    Parameters
    ----------
    pairs
        `user_idx`, `product_idx`, `rating`, `train`.
    """
    parameters = replace(parameters, halfLife=None)
    if isinstance(pairs, pa.Table):
        known, left_out, known_users, error = _rmse_local(pairs, parameters, after_iteration)
    elif choose_engine(StoredTable(pairs), parameters, engine).engine == Engine.local:
        known, left_out, known_users, error = _rmse_local(pairs.toArrow(), parameters, after_iteration)
    else:
        known, left_out, known_users, error = _rmse_by_spark(pairs, parameters)
    results = {"rmse": error, "rmse_pairs": known, "rmse_pairs_left_out": left_out}
    if error is None:
        return [], results
    return [MetricRow("rmse", None, "als", "all", str(Exclude.none), error, None, None, known_users)], results


def _rmse_local(
    table: pa.Table, parameters: AlsParameters, after_iteration: AfterIteration | None
) -> tuple[int, int, int, float | None]:
    """Returns the number of scored pairs, of pairs that are left out, of users with scored pairs, and the error."""
    train, test = table.filter(table.column("train")), table.filter(pc.invert(table.column("train")))
    del table  # frees its memory for the fit
    if not train.num_rows or not test.num_rows:
        return 0, test.num_rows, 0, None
    users, products = fit_local(train, parameters, after_iteration)
    user_idx, product_idx, rating = (test.column(name).to_numpy() for name in ("user_idx", "product_idx", "rating"))
    known, predicted = predictions(users, products, user_idx, product_idx)
    if not known.any():
        return 0, len(known), 0, None
    error = float(np.sqrt(np.mean((rating[known].astype(np.float64) - predicted) ** 2)))
    return int(known.sum()), int((~known).sum()), len(np.unique(user_idx[known])), error


def _rmse_by_spark(split: DataFrame, parameters: AlsParameters) -> tuple[int, int, int, float | None]:
    """Returns the same as `_rmse_local`, for a model of MLlib."""
    train, test = split.where("train"), split.where("not train")
    held_out = test.count()
    if not held_out or train.isEmpty():
        return 0, held_out, 0, None
    squared = F.pow(F.col("rating") - F.col("prediction"), 2)
    predicted = fit_mllib(train, parameters).model.transform(test)
    known, users, mean = predicted.agg(F.count("*"), F.count_distinct("user_idx"), F.avg(squared)).collect()[0]
    return known, held_out - known, users, math.sqrt(mean) if known else None


def metric_rows(evaluated: Evaluated, exclude: Exclude, k: int) -> list[MetricRow]:
    """Returns the rows of als_evaluation for one exclusion."""
    scores, best = evaluated.scores[exclude], evaluated.best_baseline(exclude)
    rows: list[MetricRow] = []
    for part in sorted(scores.sums):
        sums = bootstrap(scores.sums[part])
        users = int(sums[0, 0])

        def add(
            metric: str, system: str, values: Floats, part: str = part, sums: Floats = sums, n: int = users
        ) -> None:
            rows.append(MetricRow(metric, k, system, part, str(exclude), *mean_and_interval(sums[:, 0], values), n))

        for metric in USER_METRICS:
            column = {system: sums[:, scores.column(system, metric)] for system in SYSTEMS}
            column[BEST_BASELINE] = column[best]
            for system in SYSTEMS:
                add(metric, system, column[system])
            for one, other in COMPARED:
                add(metric, difference(one, other), column[one] - column[other])
    return rows + _catalogue_rows(evaluated, exclude, k)


def _catalogue_rows(evaluated: Evaluated, exclude: Exclude, k: int) -> list[MetricRow]:
    """Returns the rows of coverage (share of the products shown to any user), novelty and diversity."""
    scores, stats = evaluated.scores[exclude], evaluated.products
    novelty_of = novelty(stats.users / max(stats.total_users, 1))
    rows: list[MetricRow] = []

    def add(metric: str, system: str, value: float, users: int) -> None:
        rows.append(MetricRow(metric, k, system, "all", str(exclude), value, None, None, users))

    for number, system in enumerate(SYSTEMS):
        shown = scores.shown[number]
        add("coverage", system, float(np.count_nonzero(shown) / max(len(stats), 1)), scores.users)
        counts = (shown > 0) & np.isfinite(novelty_of)
        served = round(scores.mean(system, "served") * scores.users)
        if counts.any():
            add("novelty", system, float(np.average(novelty_of[counts], weights=shown[counts])), served)
        total, lists = scores.diversity[number]
        if lists:
            add("diversity", system, float(total / lists), int(lists))
    return rows


def summarise(evaluated: Evaluated, exclude: Exclude, rows: list[MetricRow]) -> dict[str, Any]:
    """Returns the results that other assets, the checks, the plots and the training metadata read."""
    scores = evaluated.scores[exclude]
    metrics: dict[str, dict[str, list[float | None]]] = {}
    by_slice: dict[str, dict[str, Any]] = {}
    by_exclude: dict[str, dict[str, list[float | None]]] = {}
    for row in rows:
        interval = [row.value, row.lower, row.upper]
        if row.exclude == exclude and row.slice == "all":
            metrics.setdefault(row.metric, {})[row.system] = interval
        if row.exclude == exclude and row.metric == "ndcg":
            by_slice.setdefault(row.slice, {"users": row.users})[row.system] = interval
        if row.metric == "ndcg" and row.slice == "all":
            by_exclude.setdefault(row.exclude, {})[row.system] = interval
    blend = evaluated.blend
    return {
        "holdout_users": scores.users,
        "best_baseline": evaluated.best_baseline(exclude),
        "metrics": metrics,
        "ndcg_by_slice": by_slice,
        "ndcg_by_exclude": by_exclude,
        "best_baselines": {
            str(each): evaluated.best_baseline(each) for each, scores in evaluated.scores.items() if scores.users
        },
        "ndcg_by_bucket": scores.sums["all"][:, [0, scores.column(PUBLISHED, "ndcg")]].round(6).tolist(),
        "users_per_source": dict(scores.users_per_source),
        "shown_by_popularity": _shown_by_popularity(scores, evaluated.products),
        "blend": None if blend is None else {**blend.document(), "training_users": evaluated.training_users},
    }


def _shown_by_popularity(scores: Scores, stats: ProductStats) -> dict[str, list[float]]:
    """Returns by system the share of its entries in each tenth of the catalogue, the most popular tenth first.

    `touched` is the share of the user-product pairs before the cutoff: a system that shows popular products more often
    than users choose them has a popularity bias (Abdollahpouri et al., "The Unfairness of Popularity Bias in
    Recommendation", RMSE 2019).
    """
    counts = {system: scores.shown[number].astype(np.float64) for number, system in enumerate(SYSTEMS)}
    shown = {**{system: counts[system] for system in (PUBLISHED, ALS_LIST, POPULARITY)}, "touched": stats.users}
    order = np.lexsort((np.arange(len(stats)), -stats.users))
    edges = np.linspace(0, len(stats), POPULARITY_GROUPS + 1).round().astype(int)
    shares = {}
    for name, values in shown.items():
        sums = np.diff(np.concatenate([[0], np.cumsum(values[order])])[edges])
        shares[name] = [round(float(part), 6) for part in sums / max(values.sum(), 1e-12)]
    return shares

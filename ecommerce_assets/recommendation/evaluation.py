"""als_evaluation: are the published lists better than what is simple, on what users did next?

`evaluate` is the entry point. It trains on the past and scores on the future, with the same features, segments, engines
and lists as the published tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.bootstrap import bootstrap, mean_and_interval
from ecommerce_assets.progress import Log
from ecommerce_assets.recommendation.als import (
    AfterIteration,
    AlsParameters,
    Engine,
    choose_engine,
    fit_local,
    fit_mllib,
    log_iterations,
)
from ecommerce_assets.recommendation.blend import Blend, import_in_background
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import categories_of
from ecommerce_assets.recommendation.holdout import HOLDOUT_SHARE, Prepared, fits_in_process, nested_cutoffs, prepare
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.local_als import predictions
from ecommerce_assets.recommendation.metrics import Floats, novelty
from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.recommendation.recommenders.base import ProductStats
from ecommerce_assets.recommendation.scores import USER_METRICS, Scores, bootstrap_means, interval
from ecommerce_assets.recommendation.scoring import fit_systems, score, training_examples
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
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.spark.connect import frame_of
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
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
        f"{PUBLISHED}; {ALS_LIST} (the ranker als); {ALS_ALONE} (without fallback); the baselines, completed with what "
        f"is popular: {', '.join(BASELINES)}; or a difference such as {difference(PUBLISHED, BEST_BASELINE)}.",
        key=True,
        constant=True,
    ),
    ColumnSpec(
        "slice",
        "string",
        "all; events: none, few (1-4), some (5-19), many (20+) before the cutoff; segment: by the past alone; served "
        "by: recommenders (at least one knows the user), fallback (none does).",
        key=True,
    ),
    ColumnSpec(
        "exclude",
        "string",
        "Products of the past that are neither recommended nor relevant: purchased, seen, or none.",
        key=True,
        constant=True,
    ),
    ColumnSpec("value", "double", "Mean over the users of the slice (coverage: of the catalogue).", nullable=False),
    ColumnSpec("lower", "double", "Lower end of the bootstrap 95 % interval; null where there is none."),
    ColumnSpec("upper", "double", "Upper end of the bootstrap 95 % interval; null where there is none."),
    ColumnSpec("users", "bigint", "Number of users in the slice.", nullable=False),
)

SCORED_BY = ("event_time", "event_type", "product_id", "category_id", "price", "user_id")
"""Columns of cleaned_events that the recommendations and the segments are made from."""

ARROW_TYPES: dict[str, pa.DataType] = {
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
}
"""Spark's types by name, as Arrow's."""

NO_HOLDOUT = f"none: the last second alone has more than {HOLDOUT_SHARE:.0%} of the events"
NOTHING_RELEVANT = (
    "none: no user interacted after the cutoff with a product that could be recommended, or nothing is before it"
)
POPULARITY_GROUPS = 10


@dataclass(frozen=True)
class Evaluation:
    """The rows of the table, in the order of its columns; other results; and the weights for the published lists."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def frame(self, events: DataFrame) -> DataFrame:
        """The table; `events` are those that it was made from."""
        # As Arrow, which Java reads by itself: for rows of Python's own it starts further Python workers.
        schema = pa.schema([(c.name, ARROW_TYPES[c.type]) for c in ALS_EVALUATION.columns])
        rows = [dict(zip(schema.names, row, strict=True)) for row in self.rows]
        made = frame_of(events.sparkSession, pa.Table.from_pylist(rows, schema), ALS_EVALUATION.ddl)
        scored_by = [(events, name) for name in SCORED_BY]
        return made_from(made, {c.name: scored_by for c in ALS_EVALUATION.columns if not c.constant})


def evaluate(
    events: DataFrame,
    product_features: StoredTable,
    parameters: Parameters,
    engine: Engine = Engine.auto,
    say: Log | None = None,
    promoted: Parameters | None = None,
) -> Evaluation:
    """rmse on a random split, and the metrics of all systems on a temporal holdout.

    Parameters
    ----------
    events
        cleaned_events.
    product_features
        `product_id`, `category_id`, `category`.
    parameters
        Of the models, which are fitted again on the past alone, and of the lists; the exclusions `purchased` and `seen`
        are evaluated in any case.
    engine
        What fitted the model.
    say
        Called with the progress of each fit.
    promoted
        Parameters to compare with, for the same users; None: those above are the promoted ones.
    """
    als, segmentation, lists = parameters.als_model, parameters.segmentation_model, parameters.recommendations
    exclude, k, ranker = lists.exclude, lists.k, lists.ranker

    def log(split: str) -> AfterIteration | None:
        return log_iterations(say, f"als_evaluation, {split}", als) if say else None

    if ranker == Ranker.blend:
        import_in_background()
    cutoffs = nested_cutoffs(events)
    cutoff, inner_cutoff = cutoffs.outer, cutoffs.inner if ranker == Ranker.blend else None
    in_process = fits_in_process(events.sparkSession, cutoffs.events, engine)
    known = categories_of(product_features)
    with prepare(events, cutoff, inner_cutoff, segmentation, in_process) as prepared:
        rows, results = rmse(prepared.pairs, als, engine, log("random split"))
        if cutoff is None:
            return Evaluation(rows, {**results, "holdout": NO_HOLDOUT})
        results |= {"cutoff": cutoff.isoformat(), "holdout_users": 0}
        if prepared.outer is None:
            return Evaluation(rows, {**results, "holdout": NOTHING_RELEVANT})
        evaluated = evaluate_holdout(prepared, known, als, exclude, k, ranker, engine, log)
        compared = {}
        if promoted is not None and evaluated.scores[exclude].users:
            with ExitStack() as stack:
                if promoted.segmentation_model != segmentation:
                    again = prepare(events, cutoff, inner_cutoff, promoted.segmentation_model, in_process)
                    prepared = stack.enter_context(again)
                # Lists of the same length and exclusion, so that the metrics mean the same.
                other = evaluate_holdout(
                    prepared, known, promoted.als_model, exclude, k, promoted.recommendations.ranker, engine, log
                )
            compared = {"compared": compare_with_promoted(evaluated, other, exclude, parameters.changes(promoted))}
    if not evaluated.scores[exclude].users:
        return Evaluation(rows, {**results, "holdout": NOTHING_RELEVANT})
    for each, scores in evaluated.scores.items():
        rows += metric_rows(evaluated, each, k) if scores.users else []
    return Evaluation(rows, {**results, **summarise(evaluated, exclude, rows), **compared})


def compare_with_promoted(
    evaluated: Evaluated, promoted: Evaluated, exclude: Exclude, changes: Mapping[str, tuple[Any, Any]]
) -> dict[str, Any]:
    """The published lists of two parameter sets, for the same users.

    Returns
    -------
    dict
        `changes`: the promoted and the tried value by parameter; `ndcg` and `hit_rate`: `promoted` and `difference`,
        each [value, lower, upper] with the paired bootstrap 95 % interval.
    """
    document: dict[str, Any] = {"changes": {name: list(values) for name, values in changes.items()}}
    for metric in ("ndcg", "hit_rate"):
        ours, theirs = (bootstrap_means(each.scores[exclude], PUBLISHED, metric) for each in (evaluated, promoted))
        document[metric] = {"promoted": interval(theirs), "difference": interval(ours - theirs)}
    return document


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation of a holdout gives.

    Attributes
    ----------
    scores
        By exclusion.
    products
        Stats of the products before the cutoff.
    blend
        The weights for the published lists, trained on what came after the cutoff; None: the ranker is als.
    training_users
        Number of users that these weights were trained on.
    """

    scores: Mapping[Exclude, Scores]
    products: ProductStats
    blend: Blend | None = None
    training_users: int = 0

    def best_baseline(self, exclude: Exclude) -> str:
        """The baseline with the highest NDCG over all users; the first of equal ones."""
        scores = self.scores[exclude]
        return max(BASELINES, key=lambda system: scores.mean(system, "ndcg"))


def evaluate_holdout(
    prepared: Prepared,
    categories: pa.Table,
    als: AlsParameters,
    exclude: Exclude,
    k: int,
    ranker: Ranker,
    engine: Engine,
    log: Callable[[str], AfterIteration | None] = lambda _: None,
) -> Evaluated:
    """Scores all systems on the outer holdout.

    The blend that is scored is trained on the inner holdout alone. The blend for the published lists is then trained on
    the outer one, because their recommenders are fitted on everything.
    """
    excludes = list(dict.fromkeys((exclude, Exclude.purchased, Exclude.seen)))
    blends: dict[Exclude, Blend | None] = dict.fromkeys(excludes, Blend() if ranker == Ranker.blend else None)
    if ranker == Ranker.blend and prepared.inner is not None:
        inner = fit_systems(prepared.inner, categories, als, engine, log("inner split"))
        blends = {each: examples.fit() for each, examples in training_examples(inner, excludes).items()}
    assert prepared.outer is not None
    systems = fit_systems(prepared.outer, categories, als, engine, log("temporal holdout"))
    published = exclude if ranker == Ranker.blend else None
    scores, examples = score(systems, blends, k, published)
    stats = systems.maker.training.products
    return Evaluated(scores, stats, examples.fit(), examples.users) if examples else Evaluated(scores, stats)


def rmse(
    pairs: DataFrame | pa.Table,
    parameters: AlsParameters,
    engine: Engine = Engine.auto,
    after_iteration: AfterIteration | None = None,
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Root mean squared error of the prediction against `rating` on a fifth of the pairs, after training on the rest.

    Kept because people compare it over time: what implicit ALS predicts is a preference near 0 to 1, the rating goes up
    to 10. Pairs whose user or product the training part lacks are left out and counted; a half-life is ignored.
    """
    parameters = replace(parameters, halfLife=None)
    if isinstance(pairs, pa.Table):
        known, left_out, known_users, error = _rmse_local(pairs, parameters, after_iteration)
    elif choose_engine(StoredTable(pairs), parameters, engine).engine == Engine.local:
        known, left_out, known_users, error = _rmse_local(pairs.toArrow(), parameters, after_iteration)
    else:
        known, left_out, known_users, error = _rmse_by_spark(pairs, parameters)
    results = {"rmse": error, "rmse_pairs": known, "rmse_pairs_left_out": left_out}
    return [
        ("rmse", None, "als", "all", str(Exclude.none), error, None, None, known_users)
    ] if error is not None else [], results


def _rmse_local(
    table: pa.Table, parameters: AlsParameters, after_iteration: AfterIteration | None
) -> tuple[int, int, int, float | None]:
    """Known pairs, those left out, users of the known ones, and the error: in this process, from collected pairs."""
    train, test = table.filter(table.column("train")), table.filter(pc.invert(table.column("train")))
    del table  # not beside the fit
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
    """The same of MLlib, from the predictions of its model."""
    train, test = split.where("train"), split.where("not train")
    held_out = test.count()
    if not held_out or train.isEmpty():
        return 0, held_out, 0, None
    squared = F.pow(F.col("rating") - F.col("prediction"), 2)
    predicted = fit_mllib(train, parameters).model.transform(test)
    known, users, mean = predicted.agg(F.count("*"), F.count_distinct("user_idx"), F.avg(squared)).collect()[0]
    return known, held_out - known, users, math.sqrt(mean) if known else None


def metric_rows(evaluated: Evaluated, exclude: Exclude, k: int) -> list[tuple[Any, ...]]:
    """The rows of one exclusion."""
    scores, best = evaluated.scores[exclude], evaluated.best_baseline(exclude)
    rows: list[tuple[Any, ...]] = []
    for part in sorted(scores.sums):
        sums = bootstrap(scores.sums[part])
        users = int(sums[0, 0])

        def add(
            metric: str, system: str, values: Floats, part: str = part, sums: Floats = sums, n: int = users
        ) -> None:
            rows.append((metric, k, system, part, str(exclude), *mean_and_interval(sums[:, 0], values), n))

        for metric in USER_METRICS:
            column = {system: sums[:, scores.column(system, metric)] for system in SYSTEMS}
            column[BEST_BASELINE] = column[best]
            for system in SYSTEMS:
                add(metric, system, column[system])
            for one, other in COMPARED:
                add(metric, difference(one, other), column[one] - column[other])
    return rows + _catalogue_rows(evaluated, exclude, k)


def _catalogue_rows(evaluated: Evaluated, exclude: Exclude, k: int) -> list[tuple[Any, ...]]:
    """Coverage (share of the products that are shown to any user), novelty of what is shown, diversity of the lists."""
    scores, stats = evaluated.scores[exclude], evaluated.products
    novelty_of = novelty(stats.users / max(stats.total_users, 1))
    rows: list[tuple[Any, ...]] = []

    def add(metric: str, system: str, value: float, users: int) -> None:
        rows.append((metric, k, system, "all", str(exclude), value, None, None, users))

    for number, system in enumerate(SYSTEMS):
        shown = scores.shown[number]
        add("coverage", system, float(np.count_nonzero(shown) / max(len(stats), 1)), scores.users)
        weighed = (shown > 0) & np.isfinite(novelty_of)
        served = round(scores.mean(system, "served") * scores.users)
        if weighed.any():
            add("novelty", system, float(np.average(novelty_of[weighed], weights=shown[weighed])), served)
        total, lists = scores.diversity[number]
        if lists:
            add("diversity", system, float(total / lists), int(lists))
    return rows


def summarise(evaluated: Evaluated, exclude: Exclude, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """What other assets, the checks, the plots and the training metadata read of the evaluation."""
    scores = evaluated.scores[exclude]
    metrics: dict[str, dict[str, list[float | None]]] = {}
    by_slice: dict[str, dict[str, Any]] = {}
    by_exclude: dict[str, dict[str, list[float | None]]] = {}
    for metric, _, system, part, excluded, value, lower, upper, users in rows:
        interval = [value, lower, upper]
        if excluded == exclude and part == "all":
            metrics.setdefault(metric, {})[system] = interval
        if excluded == exclude and metric == "ndcg":
            by_slice.setdefault(part, {"users": users})[system] = interval
        if metric == "ndcg" and part == "all":
            by_exclude.setdefault(excluded, {})[system] = interval
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
    """By system, the share of what is shown that falls to each tenth of the catalogue, the most popular tenth first.

    `touched` is the share of what users did before, each user and product once: a system that shows the popular more
    often than users choose them has a popularity bias (Abdollahpouri et al., "The Unfairness of Popularity Bias in
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

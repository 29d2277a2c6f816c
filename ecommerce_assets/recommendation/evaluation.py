"""als_evaluation: does the recommender beat popularity on what its users did next?

Trains on the past, judges on the future, with the same features, segments, engines and lists as the published tables.
The split is holdout.py's business, what is offered and what of it was relevant judging.py's, the metrics themselves
metrics.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import timestamp
from ecommerce_assets.progress import Say
from ecommerce_assets.recommendation.als import (
    AfterIteration,
    AlsParameters,
    Engine,
    choose_engine,
    collect_pairs,
    fit_als,
    fit_local,
    log_iterations,
)
from ecommerce_assets.recommendation.fallback import PopularityList
from ecommerce_assets.recommendation.holdout import (
    HOLDOUT_SHARE,
    Holdout,
    Pairs,
    holdout_cutoff,
    judged_pairs,
    prepared_holdout,
)
from ecommerce_assets.recommendation.judging import ARROW_TYPES, BASELINE, SYSTEMS, Judged
from ecommerce_assets.recommendation.local_als import predictions
from ecommerce_assets.recommendation.metrics import (
    RANKING_METRICS,
    Floats,
    bootstrap_sums,
    mean_and_interval,
    novelty,
    ranking_metrics,
)
from ecommerce_assets.recommendation.recommend import Exclude
from ecommerce_assets.segmentation.pipeline import SegmentationParameters
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

ALS_EVALUATION = TableSpec.of(
    ColumnSpec(
        "metric",
        "string",
        "rmse, precision, recall, ndcg, map, hit_rate, coverage, novelty or served.",
        key=True,
        constant=True,
    ),
    ColumnSpec("k", "int", "Length of the list; null for rmse.", constant=True),
    ColumnSpec(
        "system",
        "string",
        "als (the model alone), published (with its fallback), popularity, or a difference: als - popularity, "
        "published - popularity.",
        key=True,
        constant=True,
    ),
    ColumnSpec(
        "slice",
        "string",
        "all; events: none, few (1-4), some (5-19), many (20+) before the cut-off; segment: by the past alone; served "
        "by: als (at least one entry of the published list), fallback (whom the model cannot serve).",
        key=True,
    ),
    ColumnSpec("value", "double", "Mean over the users of the slice (coverage: of the catalogue).", nullable=False),
    ColumnSpec("lower", "double", "Lower end of the bootstrap 95 % interval; null where there is none."),
    ColumnSpec("upper", "double", "Upper end of the bootstrap 95 % interval; null where there is none."),
    ColumnSpec("users", "bigint", "Users whom the value is about.", nullable=False),
)

JUDGED_BY = ("event_time", "event_type", "product_id", "category_id", "price", "user_id")
"""Columns of cleaned_events that the recommendations and the segments are made from."""

NO_HOLDOUT = f"none: the last second alone holds more than {HOLDOUT_SHARE:.0%} of the events"
NOTHING_TO_JUDGE = (
    "none: nobody did anything after the cut-off that could be recommended, or anything before it to learn from"
)
POPULARITY_GROUPS = 10


@dataclass(frozen=True)
class Evaluation:
    """The rows of the table, in its columns' order, and what else was found."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    def frame(self, events: DataFrame) -> DataFrame:
        """The table; `events` are those that were judged by."""
        # As Arrow, which Java reads by itself: for rows of Python's own it starts further Python workers.
        schema = pa.schema([(c.name, ARROW_TYPES[c.type]) for c in ALS_EVALUATION.columns])
        rows = [dict(zip(schema.names, row, strict=True)) for row in self.rows]
        made = events.sparkSession.createDataFrame(pa.Table.from_pylist(rows, schema))
        judged_by = [(events, name) for name in JUDGED_BY]
        return made_from(made, {c.name: judged_by for c in ALS_EVALUATION.columns if not c.constant})


def evaluate(
    events: DataFrame,
    als: AlsParameters,
    segmentation: SegmentationParameters,
    exclude: Exclude,
    k: int,
    engine: Engine = Engine.auto,
    say: Say | None = None,
) -> Evaluation:
    """rmse on a random split, and the ranking metrics on a temporal holdout.

    Parameters
    ----------
    events
        cleaned_events.
    als, segmentation
        Parameters of the published models; both are fitted anew on the past alone.
    exclude, k
        As in the published recommendations.
    engine
        What fitted the published model.
    say
        Is told how far each of the two fits is.
    """

    def log(split: str) -> AfterIteration | None:
        return log_iterations(say, f"als_evaluation, {split}", als) if say else None

    cutoff = holdout_cutoff(events)
    with judged_pairs(events, cutoff) as pairs:
        error, error_results = rmse(pairs, als, engine, log("random split"))
        if cutoff is None:
            return Evaluation(error, {**error_results, "holdout": NO_HOLDOUT})
        past = events.where(F.col("event_time") < timestamp(cutoff))
        with prepared_holdout(pairs, past, segmentation, exclude) as holdout:
            ranking, ranking_results = rank_and_judge(holdout, als, k, engine, log("temporal holdout"))
    return Evaluation(error + ranking, {**error_results, "cutoff": cutoff.isoformat(), **ranking_results})


def rmse(
    pairs: Pairs,
    parameters: AlsParameters,
    engine: Engine = Engine.auto,
    after_iteration: AfterIteration | None = None,
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Root mean squared error of the prediction against `rating` on a fifth of the pairs, after training on the rest.

    Kept because people compare it over time: what implicit ALS predicts is a preference near 0 to 1, the rating goes up
    to 10. Pairs whose user or product the training part lacks are left out and counted.
    """
    split = pairs.of_both.where("rating is not null").select("user_idx", "product_idx", "rating", "train")
    chosen = choose_engine(split, parameters, engine).engine
    if chosen == Engine.local:
        known, left_out, known_users, error = _rmse_local(split, parameters, after_iteration)
    else:
        known, left_out, known_users, error = _rmse_by_spark(split, parameters, chosen)
    results = {"rmse": error, "rmse_pairs": known, "rmse_pairs_left_out": left_out}
    return [("rmse", None, "als", "all", error, None, None, known_users)] if error is not None else [], results


def _rmse_local(
    split: DataFrame, parameters: AlsParameters, after_iteration: AfterIteration | None
) -> tuple[int, int, int, float | None]:
    """Known pairs, those left out, users of the known ones, and the error: in this process, from collected pairs."""
    table = collect_pairs(split, "train")
    train, test = table.filter(table.column("train")), table.filter(pc.invert(table.column("train")))
    del table  # not beside the fit
    if not train.num_rows or not test.num_rows:
        return 0, test.num_rows, 0, None
    users, products = fit_local(train, parameters, after_iteration)
    user_idx, product_idx, rating = (test.column(i).to_numpy() for i in range(3))
    known, predicted = predictions(users, products, user_idx, product_idx)
    if not known.any():
        return 0, len(known), 0, None
    error = float(np.sqrt(np.mean((rating[known].astype(np.float64) - predicted) ** 2)))
    return int(known.sum()), int((~known).sum()), len(np.unique(user_idx[known])), error


def _rmse_by_spark(split: DataFrame, parameters: AlsParameters, engine: Engine) -> tuple[int, int, int, float | None]:
    """The same of any engine, from the predictions of its model."""
    train, test = split.where("train"), split.where("not train")
    held_out = test.count()
    if not held_out or train.isEmpty():
        return 0, held_out, 0, None
    squared = F.pow(F.col("rating") - F.col("prediction"), 2)
    predicted = fit_als(train, parameters, engine).transform(test)
    known, users, mean = predicted.agg(F.count("*"), F.count_distinct("user_idx"), F.avg(squared)).collect()[0]
    return known, held_out - known, users, math.sqrt(mean) if known else None


def rank_and_judge(
    holdout: Holdout | None,
    als: AlsParameters,
    k: int,
    engine: Engine = Engine.auto,
    after_iteration: AfterIteration | None = None,
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Ranking metrics over all users of the holdout, of a model that is fitted on its past."""
    if holdout is None:
        return [], {"holdout_users": 0, "holdout": NOTHING_TO_JUDGE}
    found = holdout.judge(fit_als(holdout.interactions, als, engine, after_iteration), k)
    rows = _ranking_rows(found, k)
    rows += _catalogue_rows(found, holdout.fallback.overall, k)
    results = {
        "holdout_users": holdout.user_count,
        "metrics": _overall(rows),
        "ndcg_by_slice": _ndcg_by_slice(rows),
        "users_per_source": {source: int(found.users[own > 0].sum()) for source, own in found.from_source.items()},
        "shown_by_popularity": _shown_by_popularity(found, holdout.fallback.overall),
    }
    return rows, results


def _ranking_rows(found: Judged, k: int) -> list[tuple[Any, ...]]:
    columns: dict[str, Any] = {}
    for system in SYSTEMS:
        metrics = ranking_metrics(found.hits[system], found.wanted)
        columns |= {f"{system}_{metric}": values for metric, values in metrics.items()}
    sums = bootstrap_sums(found.users, found.slices, np.column_stack(list(columns.values())))
    rows = []
    for name in sorted(sums):
        rows += _slice_rows(name, sums[name], list(columns), k)
    return rows


def _slice_rows(name: str, sums: np.ndarray[Any, Any], values: list[str], k: int) -> list[tuple[Any, ...]]:
    users, column = sums[:, 0], {value: sums[:, i + 1] for i, value in enumerate(values)}
    rows = []
    for metric in RANKING_METRICS:
        baseline = column[f"{BASELINE}_{metric}"]
        compared = {system: column[f"{system}_{metric}"] for system in SYSTEMS}
        compared |= {f"{s} - {BASELINE}": compared[s] - baseline for s in SYSTEMS if s != BASELINE}
        for system, summed in compared.items():
            rows.append((metric, k, system, name, *mean_and_interval(users, summed), int(users[0])))
    return rows


def _overall(rows: list[tuple[Any, ...]]) -> dict[str, dict[str, list[float | None]]]:
    """Value and interval of each metric and system over all users: what the training metadata repeats."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for metric, _, system, part, value, lower, upper, _ in rows:
        if part == "all":
            found.setdefault(metric, {})[system] = [value, lower, upper]
    return found


def _ndcg_by_slice(rows: list[tuple[Any, ...]]) -> dict[str, dict[str, Any]]:
    """By slice: `users`, and by system the value and its interval."""
    found: dict[str, dict[str, Any]] = {}
    for metric, _, system, part, value, lower, upper, users in rows:
        if metric == "ndcg":
            found.setdefault(part, {"users": users})[system] = [value, lower, upper]
    return found


def _shown_by_popularity(found: Judged, popularity: PopularityList) -> dict[str, list[float]]:
    """By system, the share of what is shown that falls to each tenth of the catalogue, the most popular tenth first.

    `touched` is the share of what users did before, each user and product once: a system that shows the popular more
    often than users choose them has a popularity bias (Abdollahpouri et al., "The Unfairness of Popularity Bias in
    Recommendation", RMSE 2019).
    """
    counts: dict[str, Floats] = {s: found.shown[s][popularity.positions].astype(np.float64) for s in SYSTEMS}
    counts["touched"] = popularity.shares
    edges = np.linspace(0, len(popularity.positions), POPULARITY_GROUPS + 1).round().astype(int)
    shares = {}
    for name, own in counts.items():
        sums = np.diff(np.concatenate([[0], np.cumsum(own)])[edges])
        shares[name] = [round(float(part), 6) for part in sums / max(own.sum(), 1e-12)]
    return shares


def _catalogue_rows(found: Judged, popularity: PopularityList, k: int) -> list[tuple[Any, ...]]:
    """Catalogue coverage (share of products shown to anyone), novelty of what is shown, share of users served."""
    users, products = int(found.users.sum()), len(popularity.positions)
    novelty_of = np.empty(products)
    novelty_of[popularity.positions] = novelty(popularity.shares)
    rows: list[tuple[Any, ...]] = []
    for system in SYSTEMS:
        shown = found.shown[system]
        served = int(found.users[found.lengths[system] > 0].sum())
        rows.append(("coverage", k, system, "all", float(np.count_nonzero(shown) / products), None, None, users))
        rows.append(("served", k, system, "all", served / users, None, None, users))
        told = (shown > 0) & np.isfinite(novelty_of)
        if told.any():
            mean = float(np.average(novelty_of[told], weights=shown[told]))
            rows.append(("novelty", k, system, "all", mean, None, None, served))
    return rows

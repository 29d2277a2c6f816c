"""Notes in the UI on als_evaluation, blend_model, recommendations and product_eligibility: `*_NOTES`.

The model card has the same tables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ecommerce_assets.recommendation.blend import MIN_TRAINING_USERS
from ecommerce_assets.recommendation.evaluation_checks import (
    METRIC,
    Interval,
    compare,
    number,
    outcome_of,
    with_interval,
)
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.recommendation.parameters import in_words
from ecommerce_assets.recommendation.product_eligibility import REASONS
from ecommerce_assets.recommendation.systems import ALS_LIST, POPULARITY, PUBLISHED, SYSTEMS, TITLES
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note
from ecommerce_assets.storage.markdown import markdown_table, number_table, percent

METRIC_NAMES = {
    METRIC: "NDCG",
    "precision": "precision",
    "recall": "recall",
    "map": "MAP",
    "hit_rate": "hit rate",
    "serendipity": "serendipity",
    "diversity": "diversity",
    "novelty": "novelty (bits)",
    "coverage": "products shown",
    "served": "users served",
}
PERCENTAGES = ("hit_rate", "coverage", "served")

Metrics = Mapping[str, Mapping[str, Interval]]
"""By metric and system."""


def main_systems(best_baseline: str) -> dict[str, str]:
    """Returns the titles of the systems that tables show, by system; popularity may be the best baseline."""
    titles = {system: TITLES[system] for system in (PUBLISHED, best_baseline, ALS_LIST, POPULARITY)}
    return {**titles, best_baseline: f"best baseline, {TITLES[best_baseline]}"}


def metric_rows(
    metrics: Metrics, systems: Sequence[str], with_intervals: Collection[str] = ()
) -> list[tuple[str, ...]]:
    """Returns a row for each metric: its name and the value of each system.

    Parameters
    ----------
    metrics
        By metric and system, the value with its interval.
    systems
        The systems, in the order of the columns.
    with_intervals
        Systems whose values are written with their intervals.
    """
    rows = []
    for metric, name in METRIC_NAMES.items():
        if metric in metrics:
            formatted = percent if metric in PERCENTAGES else number
            values = {system: metrics[metric].get(system, (None,)) for system in systems}
            shown = [value if system in with_intervals else value[:1] for system, value in values.items()]
            rows.append((name, *(with_interval(value, formatted) for value in shown)))
    return rows


def source_rows(entries: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """Returns name, entries and share of each source with entries, most entries first."""
    total = sum(entries.values())
    return [
        (source, f"{count:,}", percent(count / total))
        for source, count in sorted(entries.items(), key=lambda each: -each[1])
        if count
    ]


def _evaluation(context: CheckContext) -> str:
    sentence = f"{compare(context.results, context.parameters)}."
    compared = context.results.get("compared")
    if not compared:
        return sentence
    difference = compared["ndcg"]["difference"]
    return (
        f"{sentence} This is an experiment: {in_words(compared['changes'])}. NDCG less that with the promoted "
        f"parameters: {with_interval(difference)}, {outcome_of(difference)}. The published lists stay as they are "
        "until it is promoted."
    )


def _metrics(context: CheckContext) -> str | None:
    metrics = context.results.get("metrics")
    if not metrics:
        return None
    systems = main_systems(context.results["best_baseline"])
    head = (f"at {context.parameters['k']}", *systems.values())
    return number_table(head, metric_rows(metrics, list(systems)))


def _all_systems(context: CheckContext) -> str | None:
    by_exclude: Metrics = context.results.get("ndcg_by_exclude", {})
    if not by_exclude:
        return None
    ndcg = context.results["metrics"][METRIC]
    best_first = sorted(SYSTEMS, key=lambda system: -ndcg[system][0])
    rows = [(TITLES[system], *(number(values[system][0]) for values in by_exclude.values())) for system in best_first]
    return number_table(("system", *(f"exclude={name}" for name in by_exclude)), rows)


def _sources(context: CheckContext) -> str | None:
    rows = source_rows(context.stats.shares.get("source", {}))
    return number_table(("source", "entries", "share"), rows) if rows else None


def describe_blend(training_users: int, features: Mapping[str, Any] | None, ranker: str | None) -> str:
    """Returns one sentence on the weights that rank the lists."""
    if ranker == Ranker.als:
        return "The ranker is als, which needs no weights."
    if features is None:
        return (
            f"There are no weights, because {training_users:,} training users are fewer than {MIN_TRAINING_USERS:,}: "
            "lists have the user's latest products, then neighbours."
        )
    return f"The weights that rank the lists were trained on {training_users:,} users."


def _blend(context: CheckContext) -> str:
    document = context.document
    return describe_blend(
        document["training_users"], document["features"], context.parameters["recommendations"]["ranker"]
    )


def _weights(context: CheckContext) -> str | None:
    features: Mapping[str, Mapping[str, float]] | None = context.document["features"]
    if features is None:
        return None
    weights = {name: values["weight"] for name, values in features.items()}
    rows = [(name, f"{weights[name]:+.3f}") for name in sorted(weights, key=lambda name: -abs(weights[name]))]
    return number_table(("feature", "weight"), rows)


ALS_EVALUATION_NOTES = (
    Note("in short", _evaluation),
    Note("metrics at a glance", _metrics),
    Note("NDCG of all systems", _all_systems),
)
BLEND_MODEL_NOTES = (Note("in short", _blend), Note("weights", _weights))
RECOMMENDATIONS_NOTES = (Note("entries by source", _sources),)


def _eligible(context: CheckContext) -> str | None:
    parts = [f"**{context.number('eligible'):,} of {context.rows:,} products may be recommended.**"]
    reasons = [(reason, f"{context.number(reason):,}") for reason in REASONS if context.number(reason)]
    if reasons:
        parts.append(markdown_table(("reason", "products that are not eligible"), reasons))
    return "\n\n".join(parts)


PRODUCT_ELIGIBILITY_NOTES = (Note("eligible products", _eligible),)

"""Short texts about als_evaluation and the lists: in the UI and in the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ecommerce_assets.recommendation.judging import BASELINE, SYSTEMS
from ecommerce_assets.recommendation.lists import SOURCES
from ecommerce_assets.recommendation.verdict import DIFFERENCE, METRIC, PUBLISHED
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.display import Note
from ecommerce_assets.storage.markdown import short_table

SYSTEM_NAMES = {"als": "ALS alone", PUBLISHED: "published lists", BASELINE: "popularity"}
METRIC_NAMES = {"ndcg": "NDCG", "precision": "precision", "recall": "recall", "map": "MAP", "hit_rate": "hit rate"}

Metrics = Mapping[str, Mapping[str, Sequence[float | None]]]
"""By metric and system: value, lower and upper end of the interval."""


def against_popularity(metrics: Metrics, k: int) -> str | None:
    """One sentence, no full stop: the published lists beside popularity; None where nothing could be judged."""
    ndcg = metrics.get(METRIC, {})
    if DIFFERENCE not in ndcg:
        return None
    value, lower, upper = ndcg[DIFFERENCE]
    return (
        f"NDCG at {k}: published lists {number(ndcg[PUBLISHED][0])}, popularity {number(ndcg[BASELINE][0])}; "
        f"difference {number(value)}, 95 % interval {number(lower)} to {number(upper)}: {_verdict(lower, upper)}"
    )


def number(value: float | None) -> str:
    """Three decimals; nothing where there is no value."""
    return "" if value is None else f"{value:.3f}"


def _verdict(lower: float | None, upper: float | None) -> str:
    if lower is not None and lower > 0:
        return "better than popularity"
    return "worse than popularity" if upper is not None and upper < 0 else "no clear difference"


def _evaluation(context: CheckContext) -> str:
    judged = against_popularity(context.results.get("metrics", {}), context.parameters["k"])
    return (judged or f"The lists could not be judged: {context.results.get('holdout', 'there are no metrics')}") + "."


def _metrics(context: CheckContext) -> str | None:
    metrics: Metrics = context.results.get("metrics", {})
    rows = [
        (METRIC_NAMES[metric], *(number(metrics[metric][system][0]) for system in SYSTEMS))
        for metric in METRIC_NAMES
        if metric in metrics
    ]
    for metric, name in (("coverage", "products shown"), ("served", "users served")):
        if metric in metrics:
            rows.append((name, *(f"{metrics[metric][system][0]:.1%}" for system in SYSTEMS)))
    head = (f"at {context.parameters['k']}", *(SYSTEM_NAMES[system] for system in SYSTEMS))
    return short_table(head, rows) if rows else None


def _sources(context: CheckContext) -> str | None:
    """Where the entries of the lists come from."""
    entries = context.rows
    if not entries:
        return None
    counts = {source: context.stats.shares.get("source", {}).get(source, 0) for source in SOURCES}
    return short_table(("source", "entries", "share"), [(s, f"{n:,}", f"{n / entries:.1%}") for s, n in counts.items()])


ALS_EVALUATION_NOTES = (Note("in short", _evaluation), Note("metrics at a glance", _metrics))
RECOMMENDATIONS_NOTES = (Note("entries by source", _sources),)

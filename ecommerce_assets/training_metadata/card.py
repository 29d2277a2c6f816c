"""`model_card`: the document of training_metadata as Markdown.

The sections follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ecommerce_assets.recommendation.evaluation_checks import DIFFERENCE, compare, number, with_interval
from ecommerce_assets.recommendation.notes import describe_blend, main_systems, metric_rows, source_rows
from ecommerce_assets.recommendation.scoring import SLICES
from ecommerce_assets.storage.markdown import escaped, markdown_table, percent
from ecommerce_assets.training_metadata.document import TrainingMetadata

LIMITS = """\
Intended for audiences of campaigns, "recommended for you" and "similar products". Not intended for decisions about \
individual persons, such as prices or credit. Fairness between groups of people is not tested, because events have no \
attributes of people. Users whose first event is after the last day have no list until the next run. Offline metrics \
measure how well the lists predict past behaviour; only an A/B test measures how the lists change behaviour."""

DIFFERENCE_TITLE = "published lists minus best baseline"


def summarize(document: TrainingMetadata) -> str:
    """Returns two sentences: the size of the data, and the lists compared with the best baseline."""
    return (
        f"{document.total_interactions:,} events of {document.total_users:,} users and {document.total_products:,} "
        f"products; {document.segments_count} segments. {comparison(document)}."
    )


def comparison(document: TrainingMetadata) -> str:
    """Returns the published lists compared with the best baseline, or why there is no comparison; without full stop."""
    return compare(document.evaluation.model_dump(), document.parameters.get("als_evaluation", {}))


def model_card(document: Mapping[str, Any]) -> str:
    """Returns the card of a document in JSON values."""
    training = TrainingMetadata.model_validate(document)
    sections = (
        ("Data", _data(training)),
        ("Customer segments", _segments(training)),
        ("Recommendations", _recommendations(training)),
        ("NDCG by group of users", _slices(training)),
        ("Similar products", _similar(training)),
        ("Training", _training(training)),
        ("Warnings", _warnings(training)),
        ("Intended use and limits", LIMITS),
    )
    head = f"# Segments and recommendations, {training.training_date:%Y-%m-%d %H:%M} UTC\n\n{summarize(training)}"
    return "\n\n".join([head, *(f"## {name}\n\n{text}" for name, text in sections if text)]) + "\n"


def _data(training: TrainingMetadata) -> str:
    data = training.data
    days = f"{data.days:,} days, {data.first_day} to {data.last_day}" if data.days else "no days"
    return (
        f"{training.total_interactions:,} accepted events ({days}), {training.total_users:,} users, "
        f"{training.total_products:,} products."
    )


def _segments(training: TrainingMetadata) -> str:
    times = Counter(s.segment for s in training.segments)
    rows = (
        (
            s.segment + (f" #{s.segment_id}" if times[s.segment] > 1 else ""),
            f"{s.users:,}",
            percent(s.share),
            percent(s.revenue_share),
            s.description or "",
        )
        for s in sorted(training.segments, key=lambda s: -(s.revenue_share or 0))
    )
    quality = "none (too few users or clusters)" if training.silhouette is None else f"{training.silhouette:.3f}"
    parameters = training.parameters.get("segmentation_model", {})
    table = markdown_table(("segment", "users", "share", "share of revenue", "description"), rows)
    return f"{table}\n\nK-Means, {_settings(parameters)}. Silhouette {quality} (-1 to 1)."


def _recommendations(training: TrainingMetadata) -> str:
    evaluation, lists = training.evaluation, training.recommendations
    entries = ", ".join(f"{source} {count} ({share})" for source, count, share in source_rows(lists.sources))
    published = (
        f"{lists.users:,} users have a list. Entries by source: {entries}. {percent(lists.coverage)} of the products "
        "are in at least one list."
    )
    if evaluation.best_baseline is None:
        return f"{published}\n\n{comparison(training)}."
    systems = main_systems(evaluation.best_baseline)
    rows = metric_rows(evaluation.metrics, [*systems, DIFFERENCE], with_intervals=(DIFFERENCE,))
    table = markdown_table((f"at {training.list_length}", *systems.values(), DIFFERENCE_TITLE), rows)
    method = (
        f"Trained on the events before {_minute(evaluation.cutoff)}, scored on the later events of "
        f"{evaluation.holdout_users:,} users. A user without a list counts zero. In brackets: 95 % bootstrap intervals."
    )
    error = "" if evaluation.rmse is None else f" RMSE of ALS on a random fifth of the pairs: {evaluation.rmse:.3f}."
    return f"{published}\n\n{method}{error}\n\n{table}"


def _slices(training: TrainingMetadata) -> str:
    evaluation = training.evaluation
    if evaluation.best_baseline is None:
        return ""
    systems, slices = main_systems(evaluation.best_baseline), evaluation.ndcg_by_slice
    rows = [
        (
            name,
            f"{slices[part]['users']:,}",
            *(number(slices[part][system][0]) for system in systems),
            with_interval(slices[part][DIFFERENCE]),
        )
        for part, name in SLICES.items()
        if part in slices and part != "all"
    ]
    return markdown_table(("group", "users", *systems.values(), DIFFERENCE_TITLE), rows) if rows else ""


def _similar(training: TrainingMetadata) -> str:
    similar = training.similar_products
    entries = f"{similar.entries:,} entries, by Jaccard similarity of the products' users"
    if similar.same_category is None:
        return f"{entries}."
    return (
        f"{entries}. {percent(similar.same_category)} have the category of their product; by chance it would be "
        f"{percent(similar.same_category_by_chance)}."
    )


def _training(training: TrainingMetadata) -> str:
    als = {name: value for name, value in training.parameters.get("als_model", {}).items() if value is not None}
    objective = training.als.get("objective") or []
    fall = f" Objective {objective[0]:,.0f} → {objective[-1]:,.0f}." if objective else ""
    blend = training.evaluation.blend or {"training_users": 0, "features": None}
    ranker = training.parameters.get("als_evaluation", {}).get("ranker")
    ranking = describe_blend(blend["training_users"], blend["features"], ranker)
    slowest = sorted(training.seconds.items(), key=lambda each: -each[1])[:3]
    return (
        f"Implicit ALS, {_settings(als)}.{fall} {training.als.get('engine_reason', '')}\n\n"
        f"{ranking}\n\n"
        f"Duration: {sum(training.seconds.values()):,.0f} s for all assets; the slowest are "
        f"{', '.join(f'{name} {seconds:.0f} s' for name, seconds in slowest)}."
    )


def _warnings(training: TrainingMetadata) -> str:
    if not training.failed_checks:
        return "None: all checks passed."
    return "\n".join(f"- {c.asset}, {c.check}: {escaped(c.message)}" for c in training.failed_checks)


def _settings(parameters: Mapping[str, Any]) -> str:
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in parameters.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _minute(time: str | None) -> str:
    return "" if time is None else f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M} UTC"

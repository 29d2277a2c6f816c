"""The document for people: a model card in Markdown.

Its sections follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ecommerce_assets.recommendation.judging import SLICES
from ecommerce_assets.recommendation.notes import METRIC_NAMES, SYSTEM_NAMES, against_popularity, number
from ecommerce_assets.recommendation.verdict import DIFFERENCE
from ecommerce_assets.storage.markdown import escaped, markdown_table
from ecommerce_assets.training_metadata.document import Interval, TrainingMetadata

LIMITS = """\
Meant for: the audiences of campaigns, "recommended for you", "people who liked this". Not meant for: decisions about \
single persons, prices, credit. The model knows users by their clicks alone; it has not been tested for fairness \
between groups of people, for no such attribute is in the data. Users who came after the last day that was read get no \
list until the next run. An offline metric says how well the lists foretell what users did anyway, not what a list \
would make them do: an A/B test says that."""


def in_short(document: TrainingMetadata) -> str:
    """Two sentences: how much went in, and how good the lists are beside popularity."""
    made = (
        f"{document.total_interactions:,} events of {document.total_users:,} users and {document.total_products:,} "
        f"products; {document.segments_count} segments"
    )
    return f"{made}. {how_good(document)}."


def how_good(document: TrainingMetadata) -> str:
    """One sentence without its full stop: the published lists beside popularity."""
    k = document.list_length
    judged = against_popularity(document.evaluation.metrics, k)
    return judged or f"The lists could not be judged: {document.evaluation.holdout}"


def model_card(document: Mapping[str, Any]) -> str:
    """The card, of the document as written."""
    told = TrainingMetadata.model_validate(document)
    sections = (
        ("Data", _data(told)),
        ("Customer segments", _segments(told)),
        ("Recommendations", _recommendations(told)),
        ("For whom they are good", _slices(told)),
        ("Similar products", _similar(told)),
        ("Training", _training(told)),
        ("Warnings", _warnings(told)),
        ("Intended use and limits", LIMITS),
    )
    head = f"# Segments and recommendations, {told.training_date:%Y-%m-%d %H:%M} UTC\n\n{in_short(told)}"
    return "\n\n".join([head, *(f"## {name}\n\n{text}" for name, text in sections if text)]) + "\n"


def _data(told: TrainingMetadata) -> str:
    days = f"{told.data.days:,} days, {told.data.first_day} to {told.data.last_day}" if told.data.days else "no days"
    return (
        f"{told.total_interactions:,} accepted events ({days}), {told.total_users:,} users, "
        f"{told.total_products:,} products."
    )


def _segments(told: TrainingMetadata) -> str:
    times = Counter(s.segment for s in told.segments)
    rows = (
        (
            s.segment + (f" #{s.segment_id}" if times[s.segment] > 1 else ""),
            f"{s.users:,}",
            _percent(s.share),
            _percent(s.revenue_share),
            s.description or "",
        )
        for s in sorted(told.segments, key=lambda s: -(s.revenue_share or 0))
    )
    quality = "none (too few users or clusters)" if told.silhouette is None else f"{told.silhouette:.3f}"
    parameters = told.parameters.get("segmentation_model", {})
    table = markdown_table(("segment", "users", "share", "of revenue", "who they are"), rows)
    return f"{table}\n\nK-Means, {_settings(parameters)}. Silhouette {quality} (-1 to 1)."


def _recommendations(told: TrainingMetadata) -> str:
    found, own = told.evaluation, told.recommendations
    k = told.list_length
    entries = ", ".join(f"{source} {count:,}" for source, count in own.sources.items())
    published = (
        f"{own.users:,} users have a list. Entries by source: {entries}. {_percent(told.coverage)} of the products are "
        "shown to someone."
    )
    if not found.metrics:
        return f"{published}\n\nThe lists could not be judged: {found.holdout}."
    rows = [
        (name, *(_interval(found.metrics[metric][system]) for system in (*SYSTEM_NAMES, DIFFERENCE)))
        for metric, name in METRIC_NAMES.items()
    ]
    rows += [
        ("products shown", *(_percent(found.metrics["coverage"][system][0]) for system in SYSTEM_NAMES), ""),
        ("users served", *(_percent(found.metrics["served"][system][0]) for system in SYSTEM_NAMES), ""),
        ("novelty (bits)", *(number(found.metrics.get("novelty", {}).get(s, [None])[0]) for s in SYSTEM_NAMES), ""),
    ]
    table = markdown_table((f"at {k}", *SYSTEM_NAMES.values(), "published less popularity"), rows)
    judged = (
        f"Trained on what was before {_minute(found.cutoff)}, judged on what {found.holdout_users:,} users did "
        "afterwards, all of them; a user whom a system cannot serve counts zero. Brackets: bootstrap 95 % intervals "
        "over users."
    )
    error = "" if found.rmse is None else f" rmse {found.rmse:.3f} against the rating, on a random fifth of the pairs."
    return f"{published}\n\n{judged}{error}\n\n{table}"


def _slices(told: TrainingMetadata) -> str:
    found = told.evaluation.ndcg_by_slice
    rows = [
        (name, f"{found[part]['users']:,}", *(_interval(found[part][system]) for system in (*SYSTEM_NAMES, DIFFERENCE)))
        for part, name in SLICES.items()
        if part in found and part != "all"
    ]
    head = ("NDCG by group", "users", *SYSTEM_NAMES.values(), "published less popularity")
    return markdown_table(head, rows) if rows else ""


def _similar(told: TrainingMetadata) -> str:
    found = told.similar_products
    if found.same_category is None:
        return f"{found.entries:,} entries."
    return (
        f"{found.entries:,} entries; {_percent(found.same_category)} are of the same category as their product, by "
        f"chance it would be {_percent(found.same_category_by_chance)}."
    )


def _training(told: TrainingMetadata) -> str:
    als = {name: value for name, value in told.parameters.get("als_model", {}).items() if value is not None}
    objective = told.als.get("objective") or []
    fell = f" Objective {objective[0]:,.0f} → {objective[-1]:,.0f}." if objective else ""
    total = sum(told.seconds.values())
    slowest = ", ".join(
        f"{name} {seconds:.0f} s" for name, seconds in sorted(told.seconds.items(), key=lambda s: -s[1])[:3]
    )
    return (
        f"Implicit ALS, {_settings(als)}.{fell} {told.als.get('engine_reason', '')}\n\n"
        f"{total:,.0f} s for the assets named here, most for {slowest}."
    )


def _warnings(told: TrainingMetadata) -> str:
    if not told.failed_checks:
        return "None: all checks passed."
    return "\n".join(f"- {c.asset}, {c.check}: {escaped(c.message)}" for c in told.failed_checks)


def _settings(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def _minute(time: str | None) -> str:
    return "" if time is None else f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M} UTC"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _interval(interval: Interval | Sequence[float | None]) -> str:
    value, lower, upper = interval
    return number(value) if lower is None else f"{number(value)} [{number(lower)}, {number(upper)}]"

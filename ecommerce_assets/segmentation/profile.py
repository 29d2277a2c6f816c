"""Describes segments: shares of users and revenue, differences from all users, and a sentence. See `profile`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ecommerce_assets.segmentation.naming import Means
from ecommerce_assets.storage.markdown import percent

NOTABLE, LARGE = 0.5, 0.8
"""Differences from the mean of all users, in standard deviations: from NOTABLE on, a sentence has the feature; from
LARGE on, with "well above" or "well below". They are Cohen's medium and large effect (Statistical Power Analysis for
the Behavioral Sciences, 1988)."""

MAX_FEATURES_NAMED = 3
"""Maximum number of features in a sentence."""

ROUNDING = 1e-12
"""A standard deviation below this share of the mean is a rounding error: all values are equal."""

WORDS = {
    "recency": "days since the last visit",
    "frequency": "days of activity",
    "monetary": "money spent",
    "conversion_rate": "purchases per view",
    "cart_abandonment": "abandoned carts",
    "unique_products": "variety of products",
    "unique_categories": "variety of categories",
    "avg_price": "price level",
}
"""Names of the features in a sentence, after `above average in` or `below average in`."""


@dataclass(frozen=True)
class Segment:
    """One cluster: name, number of users, mean and population variance of each feature, and revenue.

    Attributes
    ----------
    has_views
        Whether any user has a view, or an unknown number of views.
    """

    segment_id: int
    name: str
    users: int
    means: Means
    revenue: float = 0.0
    variances: Mapping[str, float] = field(default_factory=dict)
    has_views: bool = True


@dataclass(frozen=True)
class SegmentProfile:
    """The stats of a segment, rounded.

    Attributes
    ----------
    segment_id, segment, users
        Number, name and size.
    share, revenue_share
        Shares of all users and of the revenue, 0 to 1; revenue_share is 0 if there is no revenue.
    mean
        Mean of each feature.
    revenue
        Sum of monetary.
    difference
        By feature: (mean of the segment - mean of all users) / standard deviation of all users, or 0 if that is 0.
    description
        One sentence.
    """

    segment_id: int
    segment: str
    users: int
    share: float
    mean: dict[str, float]
    revenue: float
    revenue_share: float
    difference: dict[str, float]
    description: str


def profile(segments: Sequence[Segment]) -> list[SegmentProfile]:
    """Returns the profile of each segment."""
    users, revenue = sum(s.users for s in segments), math.fsum(s.revenue for s in segments)
    results = []
    for segment, difference in zip(segments, differences(segments), strict=True):
        share = segment.users / users
        revenue_share = segment.revenue / revenue if 0 < revenue < math.inf else 0.0
        results.append(
            SegmentProfile(
                segment_id=segment.segment_id,
                segment=segment.name,
                users=segment.users,
                share=round(share, 4),
                mean={name: round(value, 4) for name, value in segment.means.items()},
                revenue=round(segment.revenue, 2),
                revenue_share=round(revenue_share, 4),
                difference={name: round(value, 3) for name, value in difference.items()},
                description=_sentence(segment, share, revenue_share if revenue else None, difference),
            )
        )
    return results


def differences(segments: Sequence[Segment]) -> list[dict[str, float]]:
    """Returns `SegmentProfile.difference` of each segment, not rounded."""
    results: list[dict[str, float]] = [{} for _ in segments]
    total = sum(s.users for s in segments)
    for name in segments[0].means if segments else ():
        mean = math.fsum(s.users * s.means[name] for s in segments) / total
        # Law of total variance: within the segments plus between them. Exact, unlike a difference of large sums.
        variance = math.fsum(s.users * (s.variances[name] + (s.means[name] - mean) ** 2) for s in segments) / total
        deviation = math.sqrt(variance) if 0 <= variance < math.inf else 0.0
        for segment, result in zip(segments, results, strict=True):
            result[name] = (segment.means[name] - mean) / deviation if deviation > ROUNDING * abs(mean) else 0.0
    return results


def _sentence(segment: Segment, share: float, revenue_share: float | None, difference: Mapping[str, float]) -> str:
    count = f"{segment.users:,} {'user' if segment.users == 1 else 'users'}"
    if segment.users and share == 1:
        subject = f"All {count}" if segment.users > 1 else "The only user"
        return f"{subject}: {_means_in_words(segment)}; there is no other segment to compare with."
    if revenue_share is None:
        money = "in a shop without revenue"
    elif segment.revenue == 0:
        money = f"who {'brings' if segment.users == 1 else 'bring'} no revenue"
    else:
        money = f"who {'brings' if segment.users == 1 else 'bring'} {percent(revenue_share)} of the revenue"
    return f"{count} ({percent(share)}) {money}: {_means_in_words(segment)}; {_differences_in_words(difference)}."


def _means_in_words(segment: Segment) -> str:
    means, parts = segment.means, []
    if math.isfinite(days := means["recency"]):
        parts.append(f"last seen {_count(round(days), 'day')} ago" if days >= 0.5 else "last seen on the newest day")
    if math.isfinite(days := means["frequency"]):
        parts.append(f"active on {_count(days, 'day')}")
    if math.isfinite(spent := means["monetary"]):
        parts.append(f"{spent:,.{0 if spent >= 10_000 else 2}f} spent" if spent else "nothing spent")
    return ("" if segment.users == 1 else "on average ") + ", ".join(parts)


def _differences_in_words(difference: Mapping[str, float]) -> str:
    """Returns groups of features, the largest difference first: `well above average in a and b, below average in c`."""
    notable = sorted((name for name, d in difference.items() if abs(d) >= NOTABLE), key=lambda n: -abs(difference[n]))
    groups: dict[str, list[str]] = {}
    for name in notable[:MAX_FEATURES_NAMED]:
        d = difference[name]
        direction = f"{'well ' if abs(d) >= LARGE else ''}{'above' if d > 0 else 'below'}"
        groups.setdefault(direction, []).append(WORDS[name])
    parts = [f"{direction} average in {_listed(names)}" for direction, names in groups.items()]
    return ", ".join(parts) if parts else "close to the average customer"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: float, unit: str) -> str:
    text = f"{number:,.0f}" if number >= 10 else f"{number:,.1f}".removesuffix(".0")
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"

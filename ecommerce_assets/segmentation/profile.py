"""Describes the segments: shares of users and revenue, differences of the means to all users, and a sentence.

`profile` is the entry point. It uses the numbers that pipeline.py computes for each segment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecommerce_assets.segmentation.naming import Means

NOTABLE, LARGE = 0.5, 0.8
"""Differences from the mean of all users, in standard deviations, that a sentence names, and that it calls large:
Cohen's medium and large effect (Statistical Power Analysis for the Behavioral Sciences, 1988)."""

MOST_NAMED = 3
"""Maximum number of features in a sentence."""

ROUNDING = 1e-12
"""A standard deviation below this share of the mean is the rounding error of a constant."""

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
"""Words for the features, after `above average in` or `below average in`."""


@dataclass(frozen=True)
class Segment:
    """One cluster: its name, its size, its revenue, and mean and variance (of the population) of each feature.

    Attributes
    ----------
    has_views
        Whether a user has a view, or the number of views of a user is unknown.
    """

    segment_id: int
    name: str
    users: int
    means: Means
    revenue: float = 0.0
    variances: Mapping[str, float] = field(default_factory=dict)
    has_views: bool = True


def profile(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """Returns the stats of each segment.

    Keys: segment_id, segment, users, share, mean (by feature), revenue, revenue_share (0 if nobody spent anything),
    difference (by feature: (mean of the segment - mean of all) / standard deviation of all, or 0 if that is 0),
    description (one sentence).
    """
    users, revenue = sum(s.users for s in segments), math.fsum(s.revenue for s in segments)
    apart = differences(segments)
    results: list[dict[str, Any]] = []
    for segment, difference in zip(segments, apart, strict=True):
        share = segment.users / users
        revenue_share = segment.revenue / revenue if 0 < revenue < math.inf else 0.0
        results.append(
            {
                "segment_id": segment.segment_id,
                "segment": segment.name,
                "users": segment.users,
                "share": round(share, 4),
                "mean": {name: round(value, 4) for name, value in segment.means.items()},
                "revenue": round(segment.revenue, 2),
                "revenue_share": round(revenue_share, 4),
                "difference": {name: round(value, 3) for name, value in difference.items()},
                "description": _sentence(segment, share, revenue_share if revenue else None, difference),
            }
        )
    return results


def differences(segments: Sequence[Segment]) -> list[dict[str, float]]:
    """Returns, for each segment and feature, the mean minus that of all users, in standard deviations of all users."""
    results: list[dict[str, float]] = [{} for _ in segments]
    total = sum(s.users for s in segments)
    for name in segments[0].means if segments else ():
        mean = math.fsum(s.users * s.means[name] for s in segments) / total
        # The law of total variance: within the segments and between them. No difference of large sums, so no loss.
        variance = math.fsum(s.users * (s.variances[name] + (s.means[name] - mean) ** 2) for s in segments) / total
        deviation = math.sqrt(variance) if 0 <= variance < math.inf else 0.0
        for segment, result in zip(segments, results, strict=True):
            result[name] = (segment.means[name] - mean) / deviation if deviation > ROUNDING * abs(mean) else 0.0
    return results


def _sentence(segment: Segment, share: float, revenue_share: float | None, difference: Mapping[str, float]) -> str:
    count = f"{segment.users:,} {'user' if segment.users == 1 else 'users'}"
    if segment.users and share == 1:
        who = f"All {count}" if segment.users > 1 else "The only user"
        return f"{who}: {_habits(segment)}; there is no other segment to compare with."
    if revenue_share is None:
        money = "in a shop without revenue"
    elif segment.revenue == 0:
        money = f"who {'brings' if segment.users == 1 else 'bring'} no revenue"
    else:
        money = f"who {'brings' if segment.users == 1 else 'bring'} {percent(revenue_share)} of the revenue"
    return f"{count} ({percent(share)}) {money}: {_habits(segment)}; {_apart(difference)}."


def _habits(segment: Segment) -> str:
    means, habits = segment.means, []
    if math.isfinite(days := means["recency"]):
        habits.append(f"last seen {_times(round(days), 'day')} ago" if days >= 0.5 else "last seen on the newest day")
    if math.isfinite(days := means["frequency"]):
        habits.append(f"active on {_times(days, 'day')}")
    if math.isfinite(spent := means["monetary"]):
        habits.append(f"{spent:,.{0 if spent >= 10_000 else 2}f} spent" if spent else "nothing spent")
    return ("" if segment.users == 1 else "on average ") + ", ".join(habits)


def _apart(difference: Mapping[str, float]) -> str:
    """Returns groups of features, the largest difference first: `well above average in a and b, below average in c`."""
    notable = sorted((name for name, d in difference.items() if abs(d) >= NOTABLE), key=lambda n: -abs(difference[n]))
    groups: dict[str, list[str]] = {}
    for name in notable[:MOST_NAMED]:
        d = difference[name]
        groups.setdefault(f"{'well ' if abs(d) >= LARGE else ''}{'above' if d > 0 else 'below'}", []).append(
            WORDS[name]
        )
    parts = [f"{where} average in {_listed(names)}" for where, names in groups.items()]
    return ", ".join(parts) if parts else "close to the average customer"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def _times(number: float, unit: str) -> str:
    text = f"{number:,.0f}" if number >= 10 else f"{number:,.1f}".removesuffix(".0")
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


def percent(share: float) -> str:
    """Returns a share as text, such as `33 %`; 0 % and 100 % only if the share is exactly that."""
    if 0 < share < 0.01:
        return "less than 1 %"
    if 0.995 <= share < 1:
        return "more than 99 %"
    return f"{share:.0%}".replace("%", " %")

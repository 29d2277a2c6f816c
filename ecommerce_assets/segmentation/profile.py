"""What sets a segment apart: its part of users and revenue, how far its means lie from all users', and that in words.

Pure arithmetic on the numbers that pipeline.py finds of each segment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecommerce_assets.segmentation.naming import Means

NOTABLE, LARGE = 0.5, 0.8
"""Standard deviations between a segment's mean and that of all users that are worth a word, and a strong one: Cohen's
medium and large effect (Statistical Power Analysis for the Behavioral Sciences, 1988)."""

MOST_NAMED = 3
"""Features that a sentence names at most."""

ROUNDING = 1e-12
"""A deviation that is smaller than this part of the mean is the rounding of a constant."""

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
"""What stands before it is `above average in` or `below average in`."""


@dataclass(frozen=True)
class Segment:
    """One cluster: its name, its size, its revenue, and mean and variance (of the population) of each feature.

    Attributes
    ----------
    has_views
        Whether a user has a view, or it is unknown of one.
    """

    segment_id: int
    name: str
    users: int
    means: Means
    revenue: float = 0.0
    variances: Mapping[str, float] = field(default_factory=dict)
    has_views: bool = True


def profile(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """For each segment what versions keep and people read of it.

    Keys: segment_id, segment, users, share, mean (by feature), revenue, revenue_share (0 where nobody spent anything),
    difference (by feature: (mean of the segment - mean of all) / standard deviation of all, 0 where that is 0),
    description (one sentence).
    """
    users, revenue = sum(s.users for s in segments), math.fsum(s.revenue for s in segments)
    apart = differences(segments)
    found = []
    for segment, difference in zip(segments, apart, strict=True):
        share = segment.users / users
        revenue_share = segment.revenue / revenue if 0 < revenue < math.inf else 0.0
        found.append(
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
    return found


def differences(segments: Sequence[Segment]) -> list[dict[str, float]]:
    """For each segment and feature, the standard deviations (of all users) between its mean and that of all users."""
    found: list[dict[str, float]] = [{} for _ in segments]
    total = sum(s.users for s in segments)
    for name in segments[0].means if segments else ():
        mean = math.fsum(s.users * s.means[name] for s in segments) / total
        # The law of total variance: within the segments and between them. No difference of large sums, so no loss.
        variance = math.fsum(s.users * (s.variances[name] + (s.means[name] - mean) ** 2) for s in segments) / total
        deviation = math.sqrt(variance) if 0 <= variance < math.inf else 0.0
        for segment, own in zip(segments, found, strict=True):
            own[name] = (segment.means[name] - mean) / deviation if deviation > ROUNDING * abs(mean) else 0.0
    return found


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
    means, said = segment.means, []
    if math.isfinite(days := means["recency"]):
        said.append(f"last seen {_times(round(days), 'day')} ago" if days >= 0.5 else "last seen on the newest day")
    if math.isfinite(days := means["frequency"]):
        said.append(f"active on {_times(days, 'day')}")
    if math.isfinite(spent := means["monetary"]):
        said.append(f"{spent:,.{0 if spent >= 10_000 else 2}f} spent" if spent else "nothing spent")
    return ("" if segment.users == 1 else "on average ") + ", ".join(said)


def _apart(difference: Mapping[str, float]) -> str:
    """Groups of features, the farthest first: `well above average in a and b, below average in c`."""
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
    said = f"{number:,.0f}" if number >= 10 else f"{number:,.1f}".removesuffix(".0")
    return f"{said} {unit}" if said == "1" else f"{said} {unit}s"


def percent(share: float) -> str:
    """A share for people: never 0 % of something, nor 100 % of less than all."""
    if 0 < share < 0.01:
        return "less than 1 %"
    if 0.995 <= share < 1:
        return "more than 99 %"
    return f"{share:.0%}".replace("%", " %")

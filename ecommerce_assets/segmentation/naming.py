"""What a segment is called: five rules on the means of its features, the first that holds.

The means come from profile.py, the clusters from pipeline.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Means = Mapping[str, float]

RULES: tuple[tuple[str, Callable[[Means], bool]], ...] = (
    ("VIP_Customers", lambda m: m["monetary"] > 500 and m["frequency"] > 10 and m["recency"] < 30),
    ("Loyal_Customers", lambda m: m["frequency"] > 5 and m["recency"] < 60),
    ("Active_Buyers", lambda m: m["recency"] < 30 and m["conversion_rate"] > 0.1),
    ("Dormant_Users", lambda m: m["recency"] > 60 and m["frequency"] < 3),
    ("Casual_Browsers", lambda _: True),
)

SEGMENT_NAMES = tuple(name for name, _ in RULES)

ALL_USERS = "*"
"""Stands for the users of all segments, and for those of none, where something is said by segment."""


def name_segment(means: Means) -> str:
    """The name for a segment with these mean features (recency in days, frequency in days, monetary in currency)."""
    return next(name for name, holds in RULES if holds(means))

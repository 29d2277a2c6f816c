"""Names a segment by its mean features: the first of five rules that holds. `name_segment` is the entry point."""

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
"""In a mapping by segment, the key for all users, including users without a segment."""


def name_segment(means: Means) -> str:
    """Returns the name of a segment with these mean features (recency and frequency in days, monetary in currency)."""
    return next(name for name, holds in RULES if holds(means))

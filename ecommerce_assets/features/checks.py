"""What must hold of user_features and product_features before they are published.

Rules on columns and sums alone; what an audit is, and when it is asked, is the business of storage/audits.py.
"""

from __future__ import annotations

from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, USER_FEATURES
from ecommerce_assets.storage.audits import Audit, Evidence, rule
from ecommerce_assets.storage.drift_audits import distribution_stable
from ecommerce_assets.storage.table_audits import table_audits

RELATIVE_TOLERANCE = 1e-9
"""Money summed in two orders may differ in the last digits of a double."""


def same_amount(expected: float, found: float) -> bool:
    """Whether two sums of the same money agree."""
    return abs(expected - found) <= RELATIVE_TOLERANCE * max(expected, 1.0)


def _events_conserved(evidence: Evidence) -> str | None:
    read, counted = evidence.upstream("cleaned_events", "rows"), evidence.measures["events"] or 0
    return None if read == counted else f"the events read are {read:,.0f}, those counted in the table {counted:,}"


def _money_conserved(evidence: Evidence) -> str | None:
    paid, summed = evidence.upstream("cleaned_events", "purchase_value"), evidence.measures["money"] or 0.0
    if same_amount(paid, summed):
        return None
    return f"purchases are worth {paid:,.2f}, the table sums to {summed:,.2f}"


def _conservation(money_column: str) -> tuple[Audit, Audit]:
    events = Audit(
        name="events_conserved",
        description="total_events add up to the accepted events that were read.",
        measures={"events": "sum(total_events)"},
        judge=_events_conserved,
        softened_by=PRECOMPUTED,
    )
    money = Audit(
        name="money_conserved",
        description=f"{money_column} adds up to the price of all purchases.",
        measures={"money": f"sum({money_column})"},
        judge=_money_conserved,
        softened_by=PRECOMPUTED,
    )
    return events, money


def _amounts(*columns: str) -> str:
    """SQL: one of these is negative or no finite number; null counts as neither."""
    return " or ".join(f"not {name} between 0 and 1.7e308" for name in columns)


USER_FEATURES_AUDITS = (
    *table_audits(USER_FEATURES, PRECOMPUTED),
    rule("recency_not_negative", "No user's last event lies after the reference date.", "recency < 0"),
    rule(
        "counts_add_up",
        "views + carts + removals + purchases = total_events.",
        "views + carts + removals + purchases <> total_events",
    ),
    rule(
        "active_on_a_day",
        "frequency is at least 1 and at most total_events.",
        "frequency < 1 or frequency > total_events",
        softened_by=PRECOMPUTED,
    ),
    rule(
        "amounts_in_range",
        "Counts, amounts and conversion_rate are finite and not negative, cart_abandonment is at most 1.",
        f"{_amounts('monetary', 'avg_price', 'conversion_rate', 'unique_products', 'unique_categories')} "
        "or isnan(cart_abandonment) or cart_abandonment > 1 or cart_abandonment = double('-inf')",
        softened_by=PRECOMPUTED,
    ),
    rule(
        "times_in_order",
        "No user's first event lies after the last one.",
        "first_event_time > last_event_time",
        softened_by=PRECOMPUTED,
    ),
    *_conservation("monetary"),
    distribution_stable(CLUSTERING_FEATURES, "user_id"),
)

_PRODUCT_AMOUNTS = (
    *("total_events", "total_views", "total_carts", "total_removals", "total_purchases"),
    *("avg_price", "revenue", "conversion_rate", "enhanced_popularity_score"),
)

PRODUCT_FEATURES_AUDITS = (
    *table_audits(PRODUCT_FEATURES, PRECOMPUTED),
    rule(
        "counts_add_up",
        "total_views + total_carts + total_removals + total_purchases = total_events.",
        "total_views + total_carts + total_removals + total_purchases <> total_events",
    ),
    rule(
        "amounts_in_range",
        "Counts, prices, revenue, conversion_rate and score are finite and not negative.",
        _amounts(*_PRODUCT_AMOUNTS),
        softened_by=PRECOMPUTED,
    ),
    rule(
        "seen_by_someone",
        "unique_users is at least 1 and at most total_events.",
        "unique_users < 1 or unique_users > total_events",
        softened_by=PRECOMPUTED,
    ),
    *_conservation("revenue"),
    distribution_stable(("avg_price", "enhanced_popularity_score", "conversion_rate"), "product_id"),
)

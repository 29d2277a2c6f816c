"""What must hold of user_features and product_features before they are published."""

from __future__ import annotations

from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.user_features import USER_FEATURES
from ecommerce_assets.storage.audits import Audit, Evidence, rule, table_audits

RELATIVE_TOLERANCE = 1e-9
"""Money summed in two orders may differ in the last digits of a double."""


def _events_conserved(evidence: Evidence) -> str | None:
    read, counted = evidence.upstream("cleaned_events", "rows"), evidence.measures["events"] or 0
    return None if read == counted else f"the events read are {read:,.0f}, those counted in the table {counted:,}"


def _money_conserved(evidence: Evidence) -> str | None:
    paid, summed = evidence.upstream("cleaned_events", "purchase_value"), evidence.measures["money"] or 0.0
    if abs(paid - summed) <= RELATIVE_TOLERANCE * max(paid, 1.0):
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


USER_FEATURES_AUDITS = (
    *table_audits(USER_FEATURES, PRECOMPUTED),
    rule("recency_not_negative", "No user's last event lies after the reference date.", "recency < 0"),
    rule(
        "counts_add_up",
        "views + carts + removals + purchases = total_events.",
        "views + carts + removals + purchases <> total_events",
    ),
    *_conservation("monetary"),
)

PRODUCT_FEATURES_AUDITS = (
    *table_audits(PRODUCT_FEATURES, PRECOMPUTED),
    rule(
        "counts_add_up",
        "total_views + total_carts + total_removals + total_purchases = total_events.",
        "total_views + total_carts + total_removals + total_purchases <> total_events",
    ),
    *_conservation("revenue"),
)

"""The checks of user_features and product_features."""

from __future__ import annotations

from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, USER_FEATURES
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome, no_nulls, rule, unique_key
from ecommerce_assets.storage.drift import distribution_stable, row_count_stable

RELATIVE_TOLERANCE = 1e-9
"""Money summed in two orders may differ in the last digits of a double."""


def same_amount(expected: float, found: float) -> bool:
    """Whether two sums of the same money agree."""
    return abs(expected - found) <= RELATIVE_TOLERANCE * max(expected, 1.0)


def _events_conserved(context: CheckContext) -> Outcome:
    read, counted = context.input_rows("cleaned_events"), context.number("events")
    counts = f"{read:,} events were read, and the table counts {counted:,}"
    return Outcome("" if read == counted else counts, checked=counts)


def _money_conserved(context: CheckContext) -> Outcome:
    paid, summed = context.input_number("cleaned_events", "purchase_value"), context.number("money")
    sums = f"purchases are worth {paid:,.2f}, the table sums to {summed:,.2f}"
    return Outcome("" if same_amount(paid, summed) else sums, checked=sums)


def _conservation(money_column: str) -> tuple[Check, Check]:
    events = Check(
        name="events_conserved",
        description="total_events add up to the accepted events that were read.",
        numbers={"events": "sum(total_events)"},
        test=_events_conserved,
        warning_if=PRECOMPUTED,
    )
    money = Check(
        name="money_conserved",
        description=f"{money_column} adds up to the price of all purchases.",
        numbers={"money": f"sum({money_column})"},
        test=_money_conserved,
        warning_if=PRECOMPUTED,
    )
    return events, money


def amounts_out_of_range(*columns: str) -> str:
    """Returns SQL that is true if a column is negative or not finite; null is neither."""
    return " or ".join(f"not {name} between 0 and 1.7e308" for name in columns)


USER_FEATURES_CHECKS = (
    no_nulls(USER_FEATURES, PRECOMPUTED),
    unique_key(USER_FEATURES),
    row_count_stable(),
    rule("recency_not_negative", "No user's last event is after the reference date.", "recency < 0"),
    rule(
        "counts_add_up",
        "views + carts + removals + purchases = total_events.",
        "views + carts + removals + purchases <> total_events",
    ),
    rule(
        "active_on_a_day",
        "frequency is at least 1 and at most total_events.",
        "frequency < 1 or frequency > total_events",
        warning_if=PRECOMPUTED,
    ),
    rule(
        "amounts_in_range",
        "Counts, amounts and conversion_rate are finite and not negative, cart_abandonment is at most 1.",
        f"{amounts_out_of_range('monetary', 'avg_price', 'conversion_rate', 'unique_products', 'unique_categories')} "
        "or isnan(cart_abandonment) or cart_abandonment > 1 or cart_abandonment = double('-inf')",
        warning_if=PRECOMPUTED,
    ),
    rule(
        "purchase_days_match_purchases",
        "purchase_days is from 1 to purchases, or 0 without purchases. purchase_recency is at least recency, or null "
        "without purchases.",
        "purchase_days > purchases or (purchase_days = 0) <> (purchases = 0) "
        "or (purchase_recency is null) <> (purchases = 0) or purchase_recency < recency",
        warning_if=PRECOMPUTED,
    ),
    rule(
        "times_in_order",
        "No user's first event is after the last one.",
        "first_event_time > last_event_time",
        warning_if=PRECOMPUTED,
    ),
    *_conservation("monetary"),
    distribution_stable(CLUSTERING_FEATURES, "user_id"),
)

_PRODUCT_AMOUNTS = (
    *("total_events", "total_views", "total_carts", "total_removals", "total_purchases"),
    *("avg_price", "revenue", "conversion_rate", "enhanced_popularity_score"),
)

PRODUCT_FEATURES_CHECKS = (
    no_nulls(PRODUCT_FEATURES, PRECOMPUTED),
    unique_key(PRODUCT_FEATURES),
    row_count_stable(),
    rule(
        "counts_add_up",
        "total_views + total_carts + total_removals + total_purchases = total_events.",
        "total_views + total_carts + total_removals + total_purchases <> total_events",
    ),
    rule(
        "amounts_in_range",
        "Counts, prices, revenue, conversion_rate and score are finite and not negative.",
        amounts_out_of_range(*_PRODUCT_AMOUNTS),
        warning_if=PRECOMPUTED,
    ),
    rule(
        "seen_by_someone",
        "unique_users is at least 1 and at most total_events.",
        "unique_users < 1 or unique_users > total_events",
        warning_if=PRECOMPUTED,
    ),
    *_conservation("revenue"),
    distribution_stable(("avg_price", "enhanced_popularity_score", "conversion_rate"), "product_id"),
)

"""Checks of user_features and product_features."""

from __future__ import annotations

from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.user_features import CLUSTERING_FEATURES, USER_FEATURES
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome, no_nulls, rule, unique_key
from ecommerce_assets.storage.drift import distribution_stable, row_count_stable

RELATIVE_TOLERANCE = 1e-9
"""Doubles that are summed in another order may differ in the last digits."""


def same_amount(expected: float, actual: float) -> bool:
    """Returns whether two sums of the same amounts agree within `RELATIVE_TOLERANCE`."""
    return abs(expected - actual) <= RELATIVE_TOLERANCE * max(expected, 1.0)


def _events_conserved(context: CheckContext) -> Outcome:
    expected, actual = context.input_rows("cleaned_events"), context.number("events")
    return Outcome(
        "" if expected == actual else f"total_events add up to {actual:,}, but cleaned_events has {expected:,} rows",
        checked=f"total_events add up to {actual:,}, the rows of cleaned_events",
    )


def _money_conserved(context: CheckContext) -> Outcome:
    expected, actual = context.input_number("cleaned_events", "purchase_value"), context.number("money")
    differ = f"the table adds up to {actual:,.2f}, but the purchases in cleaned_events to {expected:,.2f}"
    return Outcome(
        "" if same_amount(expected, actual) else differ,
        checked=f"the table and the purchases in cleaned_events add up to {actual:,.2f}",
    )


def _conservation(money_column: str) -> tuple[Check, Check]:
    events = Check(
        name="events_conserved",
        description="total_events add up to the rows of cleaned_events.",
        numbers={"events": "sum(total_events)"},
        test=_events_conserved,
        warning_if=PRECOMPUTED,
    )
    money = Check(
        name="money_conserved",
        description=f"{money_column} adds up to the price of all purchases in cleaned_events.",
        numbers={"money": f"sum({money_column})"},
        test=_money_conserved,
        warning_if=PRECOMPUTED,
    )
    return events, money


def amounts_out_of_range(*columns: str) -> str:
    """Returns SQL that is true if any of the columns is negative or not finite; nulls are ignored."""
    return " or ".join(f"not {name} between 0 and 1.7e308" for name in columns)


USER_FEATURES_CHECKS = (
    no_nulls(USER_FEATURES, PRECOMPUTED),
    unique_key(USER_FEATURES),
    row_count_stable(),
    rule("recency_not_negative", "recency is at least 0.", "recency < 0"),
    rule(
        "counts_add_up",
        "views + carts + removals + purchases = total_events.",
        "views + carts + removals + purchases <> total_events",
    ),
    rule(
        "frequency_in_range",
        "frequency is at least 1 and at most total_events.",
        "frequency < 1 or frequency > total_events",
        warning_if=PRECOMPUTED,
    ),
    rule(
        "amounts_in_range",
        "Amounts, counts and conversion_rate are finite and at least 0; cart_abandonment is finite and at most 1.",
        f"{amounts_out_of_range('monetary', 'avg_price', 'conversion_rate', 'unique_products', 'unique_categories')} "
        "or isnan(cart_abandonment) or cart_abandonment > 1 or cart_abandonment = double('-inf')",
        warning_if=PRECOMPUTED,
    ),
    rule(
        "purchase_days_match_purchases",
        "With purchases: 1 <= purchase_days <= purchases and purchase_recency >= recency. Without: purchase_days is 0 "
        "and purchase_recency is null.",
        "purchase_days > purchases or (purchase_days = 0) <> (purchases = 0) "
        "or (purchase_recency is null) <> (purchases = 0) or purchase_recency < recency",
        warning_if=PRECOMPUTED,
    ),
    rule(
        "times_in_order",
        "first_event_time is not after last_event_time.",
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
        "Counts, avg_price, revenue, conversion_rate and enhanced_popularity_score are finite and at least 0.",
        amounts_out_of_range(*_PRODUCT_AMOUNTS),
        warning_if=PRECOMPUTED,
    ),
    rule(
        "unique_users_in_range",
        "unique_users is at least 1 and at most total_events.",
        "unique_users < 1 or unique_users > total_events",
        warning_if=PRECOMPUTED,
    ),
    *_conservation("revenue"),
    distribution_stable(("avg_price", "enhanced_popularity_score", "conversion_rate"), "product_id"),
)

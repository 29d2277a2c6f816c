"""The checks of the assets of segments, customer groups, their history and customer value."""

from __future__ import annotations

import math
from itertools import pairwise

from ecommerce_assets.features.checks import RELATIVE_TOLERANCE, amounts_out_of_range, same_amount
from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.segmentation.by_k import MAX_K, MIN_K
from ecommerce_assets.segmentation.customer_groups import CUSTOMER_GROUPS, GROUP_NAMES, PROSPECTS
from ecommerce_assets.segmentation.customer_value import CUSTOMER_VALUE
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS
from ecommerce_assets.segmentation.segment_history import CHANGES, SEGMENT_HISTORY, changes_by_date, moved_users
from ecommerce_assets.storage.checks import (
    NOTHING_TO_COMPARE,
    Check,
    CheckContext,
    Outcome,
    no_nulls,
    one_of,
    rule,
    unique_key,
)
from ecommerce_assets.storage.drift import row_count_stable, shares_stable
from ecommerce_assets.storage.markdown import percent

MIN_SILHOUETTE = 0.2
MIN_SEGMENT_SHARE = 0.01
MAX_MOVED_SHARE = 0.3

EXPECTED_PURCHASES, EXPECTED_VALUE = "expected_purchases_sum", "expected_value_sum"
"""Names of sums over customer_value in its stats."""


def _silhouette_floor(context: CheckContext) -> str | Outcome:
    silhouette = context.results["silhouette"]
    if silhouette is None:
        return "there are too few users or clusters for a silhouette"
    overlap = f"the silhouette is {silhouette:.3f}, below {MIN_SILHOUETTE}: the segments overlap; try another k"
    checked = f"the silhouette is {silhouette:.3f}; at least {MIN_SILHOUETTE} is expected"
    values = {"silhouette": round(silhouette, 3)}  # a number, which the UI plots over time
    return Outcome("" if silhouette >= MIN_SILHOUETTE else overlap, values, checked)


def _all_clusters(context: CheckContext) -> Outcome:
    clusters, k = context.results["clusters"], context.parameters["k"]
    counts = f"K-Means gave {clusters} clusters, and k is {k}"
    return Outcome("" if clusters == k else counts, checked=counts)


def _every_user(context: CheckContext) -> Outcome:
    users = context.input_rows("user_features")
    rows = context.rows
    counts = f"user_features has {users:,} users, the table {rows:,}"
    return Outcome("" if users == rows else counts, checked=counts)


def _sizes_add_up(context: CheckContext) -> Outcome:
    counted, rows = sum(s["users"] for s in context.results["segments"]), context.rows
    counts = f"the segments have {counted:,} users, and the table has {rows:,}"
    return Outcome("" if counted == rows else counts, checked=counts)


def _money_conserved(context: CheckContext) -> Outcome:
    spent, summed = context.input_number("user_features", "money"), context.number("monetary_sum")
    sums = f"monetary sums to {spent:,.2f} in user_features, to {summed:,.2f} here"
    return Outcome("" if same_amount(spent, summed) else sums, checked=sums)


def _no_tiny_segment(context: CheckContext) -> Outcome:
    segments = context.results["segments"]
    tiny = [s for s in segments if s["share"] < MIN_SEGMENT_SHARE]
    names = ", ".join(f"{s['segment']} (segment_id {s['segment_id']}, {s['users']:,} users)" for s in tiny)
    smallest = min(segments, key=lambda s: s["share"], default=None)
    checked = f"the smallest is {smallest['segment']}, {percent(smallest['share'])} of the users" if smallest else ""
    return Outcome(f"below {percent(MIN_SEGMENT_SHARE, 0)} of the users: {names}" if tiny else "", checked=checked)


def _every_buyer_has_a_row(context: CheckContext) -> Outcome:
    buyers, rows = context.results["buyers"], context.rows
    counts = f"{buyers:,} users have a purchase, and the table has {rows:,} rows"
    return Outcome("" if buyers == rows else counts, checked=counts)


def _predicted_or_explained(context: CheckContext) -> Outcome | str:
    missing, reason = context.number("without_prediction"), context.results["reason"]
    counts = f"{missing:,} of {context.rows:,} buyers have no prediction"
    if reason is None:
        return Outcome(counts if missing else "", checked=counts)
    if missing == context.rows:
        return Outcome(checked=f"{counts}: {reason.rstrip('.')}")
    return f"there are predictions, but the stats give a reason for none: {reason}"


def _history_kept(context: CheckContext) -> str | Outcome:
    if not context.previous:
        return NOTHING_TO_COMPARE
    today = context.parameters["date"]
    earlier, now = (
        {entry["date"]: entry["users"] for entry in stats.summaries[CHANGES] if entry["date"] < today}
        for stats in (context.previous[0].stats, context.stats)
    )
    changed = [
        f"{day} ({users:,} rows, now {now.get(day, 0):,})" for day, users in earlier.items() if now.get(day) != users
    ]
    return Outcome(
        f"the history differs from the previous version on {', '.join(changed)}" if changed else "",
        checked=f"{len(earlier):,} earlier dates with {sum(earlier.values()):,} rows, as in the previous version",
    )


def _few_moved(context: CheckContext) -> Outcome:
    if context.parameters["previous_date"] is None:
        return NOTHING_TO_COMPARE
    moved, users = moved_users(context.stats, "previous")
    share = moved / users if users else 0.0
    many = f"{moved:,} of {users:,} users ({percent(share)}) moved since {context.parameters['previous_date']}"
    return Outcome(many if share > MAX_MOVED_SHARE else "", {"share of users who moved": round(share, 4)}, many)


def _every_k_once(context: CheckContext) -> Outcome:
    document = context.document
    expected = sorted({*range(MIN_K, MAX_K + 1), document["k_in_use"]})
    tried = [entry["k"] for entry in document["by_k"]]
    return Outcome(
        "" if tried == expected else f"the entries are for k = {tried}, not {expected}",
        checked=f"k = {', '.join(map(str, tried))}",
    )


def _in_range(context: CheckContext) -> Outcome:
    wrong = [
        f"k = {entry['k']}: {entry['silhouette']}"
        for entry in context.document["by_k"]
        if not (entry["reason"] if entry["silhouette"] is None else -1 <= entry["silhouette"] <= 1)
    ]
    known = [entry["silhouette"] for entry in context.document["by_k"] if entry["silhouette"] is not None]
    between = f", from {min(known):.3f} to {max(known):.3f}" if known else ""
    return Outcome("; ".join(wrong), checked=f"{len(known)} silhouettes{between}")


def _costs_finite(context: CheckContext) -> Outcome:
    costs = {entry["k"]: entry["cost"] for entry in context.document["by_k"]}
    return Outcome(
        "; ".join(f"k = {k}: {cost}" for k, cost in costs.items() if not 0 <= cost < math.inf),
        checked=f"{len(costs)} costs, all finite",
    )


def _costs_fall(context: CheckContext) -> Outcome | str:
    by_k = context.document["by_k"]
    risen = [now["k"] for old, now in pairwise(by_k) if now["cost"] > old["cost"] * (1 + RELATIVE_TOLERANCE)]
    if not risen:
        costs = [f"{entry['cost']:,.0f} for k = {entry['k']}" for entry in (by_k[0], by_k[-1])]
        return Outcome(checked=f"from {' to '.join(costs)}")
    return f"the cost rises at k = {', '.join(map(str, risen))}: K-Means stopped at a poor optimum; try another seed"


SEGMENTATION_MODEL_CHECKS = (
    Check("all_clusters_found", "The number of clusters is k.", _all_clusters, blocking=False),
    Check("silhouette_floor", f"The silhouette is at least {MIN_SILHOUETTE}.", _silhouette_floor, blocking=False),
)

SEGMENTED_USERS_CHECKS = (
    no_nulls(SEGMENTED_USERS, PRECOMPUTED),
    unique_key(SEGMENTED_USERS),
    row_count_stable(),
    one_of("known_segments", "segment", SEGMENT_NAMES),
    rule("segment_id_not_negative", "segment_id is at least 0.", "segment_id < 0"),
    Check("every_user_has_a_segment", "There are as many users as in user_features.", _every_user),
    Check("sizes_add_up", "The sizes of the segments add up to the number of users.", _sizes_add_up),
    Check(
        name="money_conserved",
        description="The sum of monetary is that of user_features.",
        numbers={"monetary_sum": "sum(monetary)"},
        test=_money_conserved,
        warning_if=PRECOMPUTED,
    ),
    Check(
        "no_tiny_segment",
        f"No segment has less than {percent(MIN_SEGMENT_SHARE, 0)} of the users.",
        _no_tiny_segment,
        blocking=False,
    ),
    shares_stable("segment", SEGMENT_NAMES),
)


CUSTOMER_GROUPS_CHECKS = (
    no_nulls(CUSTOMER_GROUPS, PRECOMPUTED),
    unique_key(CUSTOMER_GROUPS),
    one_of("known_groups", "customer_group", GROUP_NAMES),
    rule(
        "scores_from_1_to_5",
        "Buyers have three scores from 1 to 5; other users have none.",
        "(purchase_days > 0 and not (r_score between 1 and 5 and f_score between 1 and 5 and m_score between 1 and 5)) "
        "or (purchase_days = 0 and coalesce(r_score, f_score, m_score) is not null)",
    ),
    rule(
        "groups_match_scores",
        "Users without scores are in Prospects, and no other users are.",
        f"(r_score is null) <> (customer_group = '{PROSPECTS}')",
        warning_if=PRECOMPUTED,
    ),
    Check("every_user_has_a_group", "There are as many users as in user_features.", _every_user),
    shares_stable("customer_group", GROUP_NAMES),
)

SEGMENT_HISTORY_CHECKS = (
    no_nulls(SEGMENT_HISTORY),
    unique_key(SEGMENT_HISTORY),
    one_of("known_groups", "customer_group", GROUP_NAMES),
    Check(
        "history_kept",
        "Earlier dates have as many rows as in the previous version.",
        _history_kept,
        summary=changes_by_date,
    ),
    Check(
        "few_users_moved",
        f"At most {percent(MAX_MOVED_SHARE, 0)} of the users are in another group than at the previous date.",
        _few_moved,
        blocking=False,
    ),
)

CUSTOMER_VALUE_CHECKS = (
    no_nulls(CUSTOMER_VALUE),
    unique_key(CUSTOMER_VALUE),
    row_count_stable(),
    Check("every_buyer_has_a_row", "There is one row for each user with a purchase.", _every_buyer_has_a_row),
    rule("purchase_days_positive", "purchase_days is at least 1.", "purchase_days < 1"),
    rule("probabilities_in_range", "probability_active is from 0 to 1.", "not probability_active between 0 and 1"),
    rule(
        "amounts_in_range",
        "expected_purchases and expected_value are finite and not negative.",
        amounts_out_of_range("expected_purchases", "expected_value"),
    ),
    Check(
        name="predicted_or_explained",
        description="All buyers have predictions; or no buyer has, and the stats have the reason.",
        numbers={
            "without_prediction": "count_if(probability_active is null or expected_purchases is null or "
            "expected_value is null)",
            EXPECTED_PURCHASES: "sum(expected_purchases)",
            EXPECTED_VALUE: "sum(expected_value)",
        },
        test=_predicted_or_explained,
    ),
)

SEGMENTATION_BY_K_CHECKS = (
    Check("every_k_once", f"There is one entry for each k from {MIN_K} to {MAX_K} and the k in use.", _every_k_once),
    Check("silhouettes_in_range", "Each silhouette is from -1 to 1, or null with a reason.", _in_range),
    Check("costs_finite", "The cost within the clusters is finite and not negative.", _costs_finite),
    Check("costs_fall", "The cost falls as k grows.", _costs_fall, blocking=False),
)

"""What must hold of segmentation_model, segmented_users and segmentation_by_k before they are published.

What a change of segments means for people is told by stability.py.
"""

from __future__ import annotations

import math
from itertools import pairwise

from ecommerce_assets.features.checks import RELATIVE_TOLERANCE, same_amount
from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.segmentation.by_k import LARGEST, SMALLEST
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS
from ecommerce_assets.segmentation.stability import NAMES_STABLE
from ecommerce_assets.storage.audits import Audit, Evidence, Finding, one_of, rule
from ecommerce_assets.storage.drift_audits import shares_stable
from ecommerce_assets.storage.table_audits import table_audits

SILHOUETTE_FLOOR = 0.2
SMALLEST_SHARE = 0.01


def _silhouette_floor(evidence: Evidence) -> str | Finding:
    found = evidence.facts["silhouette"]
    if found is None:
        return "there are too few users or clusters for a silhouette"
    overlap = f"the silhouette is {found:.3f}, below {SILHOUETTE_FLOOR}: the segments overlap"
    return Finding("" if found >= SILHOUETTE_FLOOR else overlap, {"silhouette": round(found, 3)})


def _all_clusters(evidence: Evidence) -> str | None:
    found, asked = evidence.facts["clusters"], evidence.parameters["k"]
    return None if found == asked else f"{found} clusters were found where {asked} were asked for"


def _every_user(evidence: Evidence) -> str | None:
    users = evidence.rows_of("user_features")
    rows = evidence.measures["rows"]
    return None if users == rows else f"user_features has {users:,} users, segmented_users {rows:,}"


def _sizes_add_up(evidence: Evidence) -> str | None:
    counted, rows = sum(s["users"] for s in evidence.facts["segments"]), evidence.measures["rows"]
    return None if counted == rows else f"the segments hold {counted:,} users, the table {rows:,}"


def _money_conserved(evidence: Evidence) -> str | None:
    if not evidence.upstream_knows("user_features", "money"):
        return None
    spent, summed = evidence.upstream("user_features", "money"), evidence.measures["monetary_sum"] or 0.0
    if same_amount(spent, summed):
        return None
    return f"monetary sums to {spent:,.2f} in user_features, to {summed:,.2f} here"


def _no_tiny_segment(evidence: Evidence) -> str | None:
    tiny = [s for s in evidence.facts["segments"] if s["share"] < SMALLEST_SHARE]
    names = ", ".join(f"{s['segment']} (segment_id {s['segment_id']}, {s['users']:,} users)" for s in tiny)
    return f"below {SMALLEST_SHARE:.0%} of the users: {names}" if tiny else None


def _every_k_once(evidence: Evidence) -> str | None:
    document = evidence.document
    wanted = sorted({*range(SMALLEST, LARGEST + 1), document["k_in_use"]})
    found = [entry["k"] for entry in document["by_k"]]
    return None if found == wanted else f"the entries are for k = {found}, not {wanted}"


def _in_range(evidence: Evidence) -> str | None:
    wrong = [
        f"k = {entry['k']}: {entry['silhouette']}"
        for entry in evidence.document["by_k"]
        if not (entry["reason"] if entry["silhouette"] is None else -1 <= entry["silhouette"] <= 1)
    ]
    return "; ".join(wrong) or None


def _costs_sound(evidence: Evidence) -> str | None:
    costs = {entry["k"]: entry["cost"] for entry in evidence.document["by_k"]}
    return "; ".join(f"k = {k}: {cost}" for k, cost in costs.items() if not 0 <= cost < math.inf) or None


def _costs_fall(evidence: Evidence) -> str | None:
    by_k = evidence.document["by_k"]
    risen = [now["k"] for old, now in pairwise(by_k) if now["cost"] > old["cost"] * (1 + RELATIVE_TOLERANCE)]
    if not risen:
        return None
    return f"it rises at k = {', '.join(map(str, risen))}: K-Means ended in a poor optimum there, try another seed"


SEGMENTATION_MODEL_AUDITS = (
    Audit("all_clusters_found", "There are as many clusters as asked for.", _all_clusters, blocking=False),
    Audit("silhouette_floor", f"The silhouette is at least {SILHOUETTE_FLOOR}.", _silhouette_floor, blocking=False),
)

SEGMENTED_USERS_AUDITS = (
    *table_audits(SEGMENTED_USERS, PRECOMPUTED),
    one_of("known_segments", "segment", SEGMENT_NAMES),
    rule("numbered_segments", "segment_id is a number from 0 up.", "segment_id < 0"),
    Audit("every_user_has_a_segment", "There are as many users as in user_features.", _every_user),
    Audit("sizes_add_up", "The sizes of the segments add up to the users.", _sizes_add_up),
    Audit(
        name="money_conserved",
        description="monetary adds up to that of user_features.",
        measures={"monetary_sum": "sum(monetary)"},
        judge=_money_conserved,
        softened_by=PRECOMPUTED,
    ),
    Audit(
        "no_tiny_segment", f"No segment holds less than {SMALLEST_SHARE:.0%} of the users.", _no_tiny_segment, {}, False
    ),
    shares_stable("segment", SEGMENT_NAMES),
    NAMES_STABLE,
)

SEGMENTATION_BY_K_AUDITS = (
    Audit(
        "every_k_once", f"There is one entry for each k from {SMALLEST} to {LARGEST} and the k in use.", _every_k_once
    ),
    Audit("silhouettes_in_range", "A silhouette lies from -1 to 1, or the reason says why there is none.", _in_range),
    Audit("costs_sound", "The cost within the clusters is a finite number from 0 up.", _costs_sound),
    Audit("costs_fall", "The cost falls as k grows.", _costs_fall, blocking=False),
)

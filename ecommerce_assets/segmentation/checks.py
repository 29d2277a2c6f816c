"""What must hold of segmentation_model and segmented_users before they are published."""

from __future__ import annotations

from ecommerce_assets.features.checks import same_amount
from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS
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
)

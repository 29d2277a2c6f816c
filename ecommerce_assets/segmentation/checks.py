"""What must hold of segmentation_model and segmented_users before they are published."""

from __future__ import annotations

from ecommerce_assets.features.precomputed import PRECOMPUTED
from ecommerce_assets.segmentation.naming import SEGMENT_NAMES
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS
from ecommerce_assets.storage.audits import Audit, Evidence, rule, table_audits

SILHOUETTE_FLOOR = 0.2
SMALLEST_SHARE = 0.01


def _silhouette_floor(evidence: Evidence) -> str | None:
    found = evidence.facts["silhouette"]
    if found is None:
        return "there are too few users or clusters for a silhouette"
    return None if found >= SILHOUETTE_FLOOR else f"the silhouette is {found:.3f}: the segments overlap"


def _all_clusters(evidence: Evidence) -> str | None:
    found, asked = evidence.facts["clusters"], evidence.parameters["k"]
    return None if found == asked else f"{found} clusters were found where {asked} were asked for"


def _every_user(evidence: Evidence) -> str | None:
    users = sum(m.rows or 0 for m in evidence.inputs["user_features"])
    rows = evidence.measures["rows"]
    return None if users == rows else f"user_features has {users:,} users, segmented_users {rows:,}"


def _no_tiny_segment(evidence: Evidence) -> str | None:
    tiny = [s for s in evidence.facts["segments"] if s["share"] < SMALLEST_SHARE]
    names = ", ".join(f"{s['segment']} (segment_id {s['segment_id']}, {s['users']:,} users)" for s in tiny)
    return f"below {SMALLEST_SHARE:.0%} of the users: {names}" if tiny else None


_NAMES = ", ".join(f"'{name}'" for name in SEGMENT_NAMES)

SEGMENTATION_MODEL_AUDITS = (
    Audit("all_clusters_found", "There are as many clusters as asked for.", _all_clusters, blocking=False),
    Audit("silhouette_floor", f"The silhouette is at least {SILHOUETTE_FLOOR}.", _silhouette_floor, blocking=False),
)

SEGMENTED_USERS_AUDITS = (
    *table_audits(SEGMENTED_USERS, PRECOMPUTED),
    rule("known_segments", f"segment is one of {', '.join(SEGMENT_NAMES)}.", f"segment not in ({_NAMES})"),
    Audit("every_user_has_a_segment", "There are as many users as in user_features.", _every_user),
    Audit(
        "no_tiny_segment", f"No segment holds less than {SMALLEST_SHARE:.0%} of the users.", _no_tiny_segment, {}, False
    ),
)

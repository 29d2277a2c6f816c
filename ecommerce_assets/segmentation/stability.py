"""Who changed segment since the version before: a new model may draw the borders elsewhere, and campaigns notice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ecommerce_assets.segmentation.profile import percent
from ecommerce_assets.storage.audits import Audit, Evidence, Finding, Read
from ecommerce_assets.storage.drift import FEWEST_ROWS
from ecommerce_assets.storage.drift_audits import NOTHING_BEFORE
from ecommerce_assets.storage.notes import Note

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MANY_MOVED = 0.25
"""Share of the users from which on it is a warning. Names follow fixed rules on a segment's means, so from one week to
the next a few percent move; when a cluster as a whole crosses a border its users all move at once, and of five clusters
an average one holds a fifth. More than that is another segmentation, not other customers."""

MOST_MOVES = 25
"""Pairs of names that are kept; five names have no more that differ."""

MOVED = "since_before"
"""Measure: users in both versions, those of them whose name changed, new and gone ones, and the moves."""


def moved_users(rows: DataFrame, evidence: Evidence, read: Read) -> DataFrame:
    """The probe: every user's name now beside that in the version before."""
    from pyspark.sql import functions as F

    if not evidence.before:
        return rows.sparkSession.range(1).select(F.lit(None).cast("int").alias(MOVED))
    id_type = rows.schema["user_id"].dataType
    # A shop that turned its ids into text keeps its users.
    old = read("segmented_users").select(
        F.col("user_id").try_cast(id_type).alias("user_id"), F.col("segment").alias("old")
    )
    pairs = (
        old.join(rows.select("user_id", F.col("segment").alias("now")), "user_id", "full")
        .groupBy("old", "now")
        .agg(F.count("*").alias("users"))
    )
    both, changed = "old is not null and now is not null", "old <> now"
    moves = F.sort_array(F.collect_list(F.expr(f"if({changed}, struct(users, old, now), null)")), asc=False)
    return pairs.select(
        F.struct(
            *[
                F.expr(f"coalesce(sum(users) filter (where {condition}), 0)").alias(name)
                for name, condition in {
                    "users": both,
                    "changed": changed,
                    "new": "old is null",
                    "gone": "now is null",
                }.items()
            ],
            F.slice(moves, 1, MOST_MOVES).alias("moves"),
        ).alias(MOVED)
    )


def _judge(evidence: Evidence) -> Finding:
    found = _measured(evidence)
    if found is None:
        return NOTHING_BEFORE
    before = evidence.before[-1]
    figures = {
        "compared with": before.name,
        "changed segment": _share(found),
        "new users": found["new"],
        "gone users": found["gone"],
        **{f"{move['old']} → {move['now']}": move["users"] for move in found["moves"]},
    }
    many = found["users"] >= FEWEST_ROWS and found["changed"] > MANY_MOVED * found["users"]
    message = f"{_share(found)} changed segment since {before.name}{_made_otherwise(evidence)}" if many else ""
    return Finding(message, figures)


def _made_otherwise(evidence: Evidence) -> str:
    """What may explain it: other parameters."""
    old = evidence.before[-1].parameters
    changed = [
        f"{name} {old[name]} → {value}" for name, value in evidence.parameters.items() if old.get(name, value) != value
    ]
    return f" (parameters: {', '.join(changed)})" if changed else ""


def _note(evidence: Evidence) -> str:
    found = _measured(evidence)
    if found is None:
        return "There is no version before."
    said = f"{_share(found)} since {evidence.before[-1].name}; {found['new']:,} new, {found['gone']:,} gone"
    top = [f"{m['old']} → {m['now']} {m['users']:,}" for m in found["moves"][:3]]
    return f"{said}. Most: {', '.join(top)}" if top else said


def _share(found: Mapping[str, Any]) -> str:
    share = found["changed"] / found["users"] if found["users"] else 0.0
    return f"{share:.1%}".replace("%", " %") + f" of {found['users']:,} users"


def _measured(evidence: Evidence) -> Mapping[str, Any] | None:
    return evidence.measures.get(MOVED) or None


NAMES_STABLE = Audit(
    "names_stable",
    f"At most {percent(MANY_MOVED)} of the users who were there before changed segment.",
    _judge,
    blocking=False,
    probe=moved_users,
)

CHANGED_SEGMENT = Note("changed segment", _note)

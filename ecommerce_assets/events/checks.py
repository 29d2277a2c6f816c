"""What must hold of cleaned_events and rejected_events before a day is published."""

from __future__ import annotations

from ecommerce_assets.events.schema import EVENT_TYPES, EVENTS, REJECTED_EVENTS
from ecommerce_assets.storage.audits import Audit, Evidence, rule, table_audits

MAX_REJECTED_SHARE = 0.2
"""A day of which more is rejected is a broken delivery rather than a few bad rows."""


def _conserved(evidence: Evidence) -> str | None:
    facts, rows = evidence.facts, evidence.measures["rows"]
    raw, rejected, repeats = (int(facts.get(name, 0)) for name in ("raw_rows", "rejected", "repeats"))
    if raw == rows + rejected + repeats:
        return None
    return f"{raw:,} raw rows became {rows:,} accepted + {rejected:,} rejected + {repeats:,} repeats"


def _few_rejected(evidence: Evidence) -> str | None:
    raw, rejected = int(evidence.facts.get("raw_rows", 0)), int(evidence.facts.get("rejected", 0))
    if rejected <= MAX_REJECTED_SHARE * raw:
        return None
    reasons = {n.removeprefix("rejected: "): c for n, c in evidence.facts.items() if n.startswith("rejected: ")}
    first = max(reasons, key=lambda reason: reasons[reason])
    return f"{rejected:,} of {raw:,} raw rows were rejected, most for: {first} ({reasons[first]:,})"


def _all_kept(evidence: Evidence) -> str | None:
    rows, rejected = evidence.measures["rows"], int(evidence.facts.get("rejected", 0))
    return None if rows == rejected else f"{rejected:,} rows were rejected and {rows:,} written"


_KNOWN_TYPES = ", ".join(f"'{name}'" for name in EVENT_TYPES)

CLEANED_EVENTS_AUDITS = (
    *table_audits(EVENTS),
    rule("known_event_types", f"event_type is one of {', '.join(EVENT_TYPES)}.", f"event_type not in ({_KNOWN_TYPES})"),
    rule("valid_prices", "price is a number from zero up.", "isnan(price) or price < 0 or abs(price) = double('inf')"),
    rule("in_its_day", "event_time lies in the partition's day.", "to_date(event_time) <> to_date(event_date)"),
    Audit(
        name="rows_conserved",
        description="Raw rows = accepted + rejected + dropped as exact repeats.",
        judge=_conserved,
        # Not for this audit: what the tables made from these events must add up to.
        measures={
            "purchase_value": "sum(if(event_type = 'purchase', price, 0))",
        },
    ),
    Audit(
        name="few_rejected",
        description=f"At most {MAX_REJECTED_SHARE:.0%} of a day's raw rows are rejected.",
        judge=_few_rejected,
    ),
)

REJECTED_EVENTS_AUDITS = (
    *table_audits(REJECTED_EVENTS),
    Audit("rejected_rows_kept", "Every rejected row is written.", judge=_all_kept),
)

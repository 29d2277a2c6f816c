"""Whether als_evaluation speaks for the model: the audits that hold back recommendations and similar_products.

What was measured stands in evaluation.py; here it is only compared, with popularity and with the version before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecommerce_assets.storage.audits import Audit, Evidence, Finding

METRIC = "ndcg"
PUBLISHED, DIFFERENCE = "published", "published - popularity"

Interval = Sequence[float]
"""Value, lower and upper end."""


def _interval(facts: Mapping[str, Any], system: str) -> Interval | None:
    found = facts.get("metrics", {}).get(METRIC, {}).get(system)
    return found if found and None not in found else None


def _told(interval: Interval) -> str:
    value, lower, upper = interval
    return f"{value:.4f} (95 % interval {lower:.4f} to {upper:.4f})"


def _few(evidence: Evidence) -> bool:
    return bool(evidence.facts.get("holdout_users", 0) < evidence.parameters["min_holdout_users"])


def _figures(evidence: Evidence) -> dict[str, str | int | float]:
    systems = {f"{METRIC} {system}": _interval(evidence.facts, system) for system in (PUBLISHED, DIFFERENCE)}
    told = {name: _told(interval) for name, interval in systems.items() if interval}
    return {"holdout users": evidence.facts.get("holdout_users", 0), **told}


def _beats_popularity(evidence: Evidence) -> Finding:
    difference = _interval(evidence.facts, DIFFERENCE)
    if difference is None or _few(evidence) or difference[2] >= 0:
        return Finding(figures=_figures(evidence))
    users, k = evidence.facts["holdout_users"], evidence.parameters["k"]
    return Finding(
        f"for {users:,} holdout users the NDCG at {k} of the published lists, less that of popularity, is "
        f"{_told(difference)}: what is popular would serve them better",
        _figures(evidence),
    )


def _as_good_as_before(evidence: Evidence) -> Finding:
    now = _interval(evidence.facts, PUBLISHED)
    before = _interval(evidence.before[-1].facts, PUBLISHED) if evidence.before else None
    if now is None or before is None or _few(evidence) or _holdout(evidence) != _holdout_before(evidence):
        return Finding(figures=_figures(evidence))
    figures = {**_figures(evidence), "before": _told(before)}
    if now[2] >= before[1]:
        return Finding(figures=figures)
    users, k = evidence.facts["holdout_users"], evidence.parameters["k"]
    return Finding(
        f"for the same {users:,} holdout users the NDCG at {k} of the published lists is {_told(now)}; in version "
        f"{evidence.before[-1].name} it was {_told(before)}",
        figures,
    )


def _holdout(evidence: Evidence) -> tuple[Any, ...]:
    """What two evaluations must share to be compared: the events, the cut-off, the users, and what is offered."""
    served: dict[str, list[str]] = {}
    for day, manifest in evidence.days.get("cleaned_events", {}).items():
        served.setdefault(manifest.fingerprint, []).append(day)
    read = sorted((content, tuple(sorted(days))) for content, days in served.items())
    return (read, *_offered(evidence.facts, evidence.parameters))


def _holdout_before(evidence: Evidence) -> tuple[Any, ...]:
    before = evidence.before[-1]
    read = sorted((i.fingerprint, tuple(sorted(i.partitions))) for i in before.inputs if i.asset == "cleaned_events")
    return (read, *_offered(before.facts, before.parameters))


def _offered(facts: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    return facts.get("cutoff"), facts.get("holdout_users"), parameters.get("k"), parameters.get("exclude")


def _clear(evidence: Evidence) -> str | Finding:
    if "holdout" in evidence.facts:
        return f"the model could not be judged; holdout: {evidence.facts['holdout']}"
    if _few(evidence):
        users, least = evidence.facts["holdout_users"], evidence.parameters["min_holdout_users"]
        return f"the holdout has {users:,} users, and a verdict takes {least:,} (ECOMMERCE_MIN_HOLDOUT_USERS)"
    difference = _interval(evidence.facts, DIFFERENCE)
    if difference is None or difference[1] <= 0 <= difference[2]:
        told = _told(difference) if difference else "unknown"
        message = f"the NDCG of the published lists, less that of popularity, is {told}: it may be no better"
        return Finding(message, _figures(evidence))
    return Finding(figures=_figures(evidence))


VERDICT_AUDITS = (
    Audit(
        "beats_popularity",
        "The interval of the NDCG of the published lists, less that of popularity, does not lie wholly below zero.",
        _beats_popularity,
    ),
    Audit(
        "as_good_as_before",
        # Two marginal intervals: two that lie apart differ for sure, though the test is a cautious one, for the users
        # are the same and their difference would have a smaller interval.
        "On the same holdout, the interval of the published lists' NDCG does not lie wholly below that of the version "
        "before.",
        _as_good_as_before,
    ),
    Audit(
        "verdict_clear",
        "There are enough holdout users, and the interval of the difference to popularity does not straddle zero.",
        _clear,
        blocking=False,
    ),
)

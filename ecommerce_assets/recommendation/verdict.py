"""The checks of als_evaluation that block recommendations and similar_products.

They compare the metrics with popularity and with the previous version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecommerce_assets.storage.checks import Check, CheckContext, Outcome
from ecommerce_assets.storage.version import Input

METRIC = "ndcg"
PUBLISHED, DIFFERENCE = "published", "published - popularity"

Interval = Sequence[float]
"""Value, lower and upper end."""


def _interval(results: Mapping[str, Any], system: str) -> Interval | None:
    found = results.get("metrics", {}).get(METRIC, {}).get(system)
    return found if found and None not in found else None


def _shown(interval: Interval) -> str:
    value, lower, upper = interval
    return f"{value:.4f} (95 % interval {lower:.4f} to {upper:.4f})"


def _few(context: CheckContext) -> bool:
    return bool(context.results.get("holdout_users", 0) < context.parameters["min_holdout_users"])


def _values(context: CheckContext) -> dict[str, str | int | float]:
    systems = {f"{METRIC} {system}": _interval(context.results, system) for system in (PUBLISHED, DIFFERENCE)}
    shown = {name: _shown(interval) for name, interval in systems.items() if interval}
    return {"holdout users": context.results.get("holdout_users", 0), **shown}


def _beats_popularity(context: CheckContext) -> Outcome:
    difference = _interval(context.results, DIFFERENCE)
    if difference is None or _few(context) or difference[2] >= 0:
        return Outcome(values=_values(context))
    users, k = context.results["holdout_users"], context.parameters["k"]
    return Outcome(
        f"for {users:,} holdout users the NDCG at {k} of the published lists, less that of popularity, is "
        f"{_shown(difference)}: what is popular would serve them better",
        _values(context),
    )


def _as_good_as_before(context: CheckContext) -> Outcome:
    now = _interval(context.results, PUBLISHED)
    before = _interval(context.previous[-1].stats.results, PUBLISHED) if context.previous else None
    if now is None or before is None or _few(context) or _holdout(context) != _holdout_before(context):
        return Outcome(values=_values(context))
    values = {**_values(context), "previous": _shown(before)}
    if now[2] >= before[1]:
        return Outcome(values=values)
    users, k = context.results["holdout_users"], context.parameters["k"]
    return Outcome(
        f"for the same {users:,} holdout users the NDCG at {k} of the published lists is {_shown(now)}; in version "
        f"{context.previous[-1].name} it was {_shown(before)}",
        values,
    )


def _holdout(context: CheckContext) -> tuple[Any, ...]:
    """What two evaluations must share to be compared: the events, the cutoff, the users, and what is eligible."""
    return (_events(context.inputs), *_settings(context.results, context.parameters))


def _holdout_before(context: CheckContext) -> tuple[Any, ...]:
    previous = context.previous[-1]
    return (_events(previous.inputs), *_settings(previous.stats.results, previous.parameters))


def _events(inputs: Sequence[Input]) -> list[tuple[str, tuple[str, ...]]]:
    return sorted((read.fingerprint, read.partitions) for read in inputs if read.asset == "cleaned_events")


def _settings(results: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    return results.get("cutoff"), results.get("holdout_users"), parameters.get("k"), parameters.get("exclude")


def _clear(context: CheckContext) -> str | Outcome:
    if "holdout" in context.results:
        return f"the model could not be evaluated; holdout: {context.results['holdout']}"
    if _few(context):
        users, least = context.results["holdout_users"], context.parameters["min_holdout_users"]
        return f"the holdout has {users:,} users, and a comparison needs {least:,} (ECOMMERCE_MIN_HOLDOUT_USERS)"
    difference = _interval(context.results, DIFFERENCE)
    if difference is None or difference[1] <= 0 <= difference[2]:
        shown = _shown(difference) if difference else "unknown"
        message = f"the NDCG of the published lists, less that of popularity, is {shown}: it may be no better"
        return Outcome(message, _values(context))
    return Outcome(values=_values(context))


VERDICT_CHECKS = (
    Check(
        "beats_popularity",
        "The interval of the NDCG of the published lists, less that of popularity, is not wholly below zero.",
        _beats_popularity,
    ),
    Check(
        "as_good_as_before",
        # Two marginal intervals that do not overlap differ for sure. The test is a cautious one: the users are the
        # same, and their difference would have a smaller interval.
        "On the same holdout, the interval of the published lists' NDCG is not wholly below that of the previous "
        "version.",
        _as_good_as_before,
    ),
    Check(
        "verdict_clear",
        "There are enough holdout users, and the interval of the difference to popularity does not contain zero.",
        _clear,
        blocking=False,
    ),
)

"""The checks of als_tuning: whether it found anything, and whether its gain may be chance."""

from __future__ import annotations

from ecommerce_assets.storage.checks import Check, CheckContext, Outcome


def _some_succeeded(context: CheckContext) -> str | None:
    found = context.document
    if found["succeeded"]:
        return None
    if "holdout" in found:
        return f"no trial could be judged; holdout: {found['holdout']}"
    return f"all {found['failed']:,} trials failed; the first: {found['trials'][0]['error']}"


def _best_is_best(context: CheckContext) -> str | None:
    best = context.document["ndcg"]
    better = [t for t in context.document["trials"] if t["ndcg"] and best and t["ndcg"][0] > best[0]]
    if not better:
        return None
    found = ", ".join(f"trial {t['number']} ({t['ndcg'][0]:.4f})" for t in better)
    return f"the best trial's NDCG is {best[0]:.4f}, and higher is that of {found}"


def _none_failed(context: CheckContext) -> str | None:
    found = context.document
    if not found["failed"]:
        return None
    first = next(t for t in found["trials"] if t["error"])
    return f"{found['failed']:,} of {len(found['trials']):,} trials failed; trial {first['number']}: {first['error']}"


def _gain_clear(context: CheckContext) -> Outcome:
    found, least = context.document, context.parameters["min_holdout_users"]
    if found["holdout_users"] < least:
        return Outcome(
            f"the validation holdout has {found['holdout_users']:,} users, and a comparison needs {least:,} "
            "(ECOMMERCE_MIN_HOLDOUT_USERS)"
        )
    if found["gain"] is None:
        return Outcome("nothing is known of the default parameters, with which the best would be compared")
    value, lower, upper = found["gain"]
    gain = f"{value:+.4f} (95 % interval {lower:+.4f} to {upper:+.4f})"
    values = {"holdout users": found["holdout_users"], "ndcg": f"{found['ndcg'][0]:.4f}", "above the default": gain}
    if lower > 0:
        return Outcome(values=values)
    return Outcome(
        f"for {found['holdout_users']:,} users the NDCG of the best trial, less that of the default parameters, is "
        f"{gain}: it may be chance",
        values,
    )


TUNING_CHECKS = (
    Check("trials_succeeded", "At least one trial was judged.", _some_succeeded),
    Check("best_is_best", "No trial, the default parameters' among them, is better than the best.", _best_is_best),
    Check("no_trial_failed", "No trial failed.", _none_failed, blocking=False),
    Check(
        "gain_clear",
        "There are enough users, and the interval of the gain over the default parameters is above zero.",
        _gain_clear,
        blocking=False,
    ),
)

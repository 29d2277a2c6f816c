"""Whether als_tuning found anything: what must hold of it, and when its gain is no more than chance.

The search stands in tuning.py.
"""

from __future__ import annotations

from ecommerce_assets.storage.audits import Audit, Evidence, Finding


def _some_succeeded(evidence: Evidence) -> str | None:
    found = evidence.document
    if found["succeeded"]:
        return None
    if "holdout" in found:
        return f"no trial could be judged; holdout: {found['holdout']}"
    return f"all {found['failed']:,} trials failed; the first: {found['trials'][0]['error']}"


def _best_is_best(evidence: Evidence) -> str | None:
    best = evidence.document["ndcg"]
    better = [t for t in evidence.document["trials"] if t["ndcg"] and best and t["ndcg"][0] > best[0]]
    if not better:
        return None
    told = ", ".join(f"trial {t['number']} ({t['ndcg'][0]:.4f})" for t in better)
    return f"the best trial's NDCG is {best[0]:.4f}, and higher is that of {told}"


def _none_failed(evidence: Evidence) -> str | None:
    found = evidence.document
    if not found["failed"]:
        return None
    first = next(t for t in found["trials"] if t["error"])
    return f"{found['failed']:,} of {len(found['trials']):,} trials failed; trial {first['number']}: {first['error']}"


def _gain_clear(evidence: Evidence) -> Finding:
    found, least = evidence.document, evidence.parameters["min_holdout_users"]
    if found["holdout_users"] < least:
        return Finding(
            f"the validation holdout has {found['holdout_users']:,} users, and a verdict takes {least:,} "
            "(ECOMMERCE_MIN_HOLDOUT_USERS)"
        )
    if found["gain"] is None:
        return Finding("nothing is known of the default parameters, with which the best would be compared")
    value, lower, upper = found["gain"]
    told = f"{value:+.4f} (95 % interval {lower:+.4f} to {upper:+.4f})"
    figures = {"holdout users": found["holdout_users"], "ndcg": f"{found['ndcg'][0]:.4f}", "above the default": told}
    if lower > 0:
        return Finding(figures=figures)
    return Finding(
        f"for {found['holdout_users']:,} users the NDCG of the best trial, less that of the default parameters, is "
        f"{told}: it may be chance",
        figures,
    )


TUNING_AUDITS = (
    Audit("trials_succeeded", "At least one trial was judged.", _some_succeeded),
    Audit("best_is_best", "No trial, the default parameters' among them, is better than the best.", _best_is_best),
    Audit("no_trial_failed", "No trial failed.", _none_failed, blocking=False),
    Audit(
        "gain_clear",
        "There are enough users, and the interval of the gain over the default parameters lies above zero.",
        _gain_clear,
        blocking=False,
    ),
)

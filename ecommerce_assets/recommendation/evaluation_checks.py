"""Checks of als_evaluation: `EVALUATION_CHECKS` compare the published lists with the best baseline, with the previous
version and with the promoted parameters.

The notes, the closing summary and the model card show `Comparison`, the comparison with the best baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecommerce_assets.recommendation.scores import paired_difference
from ecommerce_assets.recommendation.systems import BEST_BASELINE, PUBLISHED, TITLES, difference
from ecommerce_assets.storage.checks import NOTHING_TO_COMPARE, Check, CheckContext, Outcome
from ecommerce_assets.storage.markdown import percent
from ecommerce_assets.storage.version import EXPERIMENT

METRIC = "ndcg"
DIFFERENCE = difference(PUBLISHED, BEST_BASELINE)
MAX_QUALITY_LOSS = 0.05
BETTER, WORSE, UNCLEAR = "better", "worse", "no clear difference"

Interval = Sequence[float | None]
"""Value, lower and upper end of the 95 % interval; None if there is none."""


def number(value: float | None) -> str:
    """Returns the value with four decimals; an empty string for None."""
    return "" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """Returns the value with its sign and four decimals; an empty string for None."""
    return "" if value is None else f"{value:+.4f}"


def with_interval(interval: Interval, write: Callable[[float | None], str] = number) -> str:
    """Returns such as `0.3000 (0.2500 to 0.3500)`; only the value if the interval is empty or has no width."""
    value, *ends = (write(each) for each in interval)
    return f"{value} ({' to '.join(ends)})" if set(ends) - {value, ""} else value


@dataclass(frozen=True)
class Comparison:
    """Comparison of the published lists with the best baseline, on the same holdout users.

    Attributes
    ----------
    published, baseline, difference
        NDCG with its interval.
    best_baseline
        Name of the best baseline.
    k
        Length of the lists.
    users, min_users
        Number of holdout users, and the minimum for a comparison.
    """

    published: Interval
    baseline: Interval
    difference: Interval
    best_baseline: str
    k: int
    users: int
    min_users: int

    @classmethod
    def of(cls, results: Mapping[str, Any], parameters: Mapping[str, Any]) -> Comparison | None:
        """Returns the comparison in the results and parameters of als_evaluation.

        None if there is no holdout, or if the version was written before evaluations had a best baseline.
        """
        ndcg, best = results.get("metrics", {}).get(METRIC, {}), results.get("best_baseline")
        if best is None or DIFFERENCE not in ndcg:
            return None
        return cls(
            ndcg[PUBLISHED],
            ndcg[best],
            ndcg[DIFFERENCE],
            best,
            parameters["k"],
            results["holdout_users"],
            parameters["min_holdout_users"],
        )

    @property
    def enough_users(self) -> bool:
        """Whether the holdout has enough users for a comparison."""
        return self.users >= self.min_users

    @property
    def outcome(self) -> str | None:
        """`outcome_of` the difference; None if there are too few users."""
        if not self.enough_users:
            return None
        return outcome_of(self.difference)

    def sentence(self) -> str:
        """Returns the comparison in one sentence without its full stop."""
        if self.outcome is None:
            return (
                f"{self.users:,} holdout users are too few for a comparison, which needs {self.min_users:,} "
                "(ECOMMERCE_MIN_HOLDOUT_USERS)"
            )
        return (
            f"NDCG at {self.k}: published lists {number(self.published[0])}, best baseline "
            f"({TITLES[self.best_baseline]}) {number(self.baseline[0])}; difference and 95 % interval: "
            f"{with_interval(self.difference)}, {self.outcome}"
        )


def compare(results: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Returns the comparison in one sentence without its full stop, or the reason why there is none."""
    comparison = Comparison.of(results, parameters)
    if comparison is not None:
        return comparison.sentence()
    return f"Not evaluated: {results.get('holdout', 'no metrics').removeprefix('none: ')}"


def _comparison(context: CheckContext) -> Comparison | None:
    return Comparison.of(context.results, context.parameters)


def _values(context: CheckContext) -> dict[str, str | int | float]:
    comparison = _comparison(context)
    if comparison is None:
        return {"holdout users": context.results.get("holdout_users", 0)}
    return {
        "holdout users": comparison.users,
        "published lists": with_interval(comparison.published),
        f"best baseline, {TITLES[comparison.best_baseline]}": with_interval(comparison.baseline),
        "difference": with_interval(comparison.difference),
    }


def _not_worse_than_best_baseline(context: CheckContext) -> Outcome:
    comparison = _comparison(context)
    worse = comparison is not None and comparison.outcome == WORSE
    compared = compare(context.results, context.parameters)
    return Outcome(compared if worse else "", _values(context), compared)


def _better_than_best_baseline(context: CheckContext) -> Outcome:
    comparison = _comparison(context)
    better = comparison is not None and comparison.outcome == BETTER
    compared = compare(context.results, context.parameters)
    return Outcome("" if better else compared, _values(context), compared)


def outcome_of(difference: Interval) -> str:
    """Returns `BETTER` or `WORSE` if the interval of a difference does not contain zero, else `UNCLEAR`."""
    _, lower, upper = difference
    if lower is None or upper is None or lower <= 0 <= upper:
        return UNCLEAR
    return BETTER if lower > 0 else WORSE


def _not_worse_than_promoted(context: CheckContext) -> Outcome:
    compared = context.results.get("compared")
    if not compared:
        reason = "there is no holdout" if context.parameters.get(EXPERIMENT) else "these are the promoted parameters"
        return Outcome(checked=f"nothing to compare: {reason}")
    values = {
        **{name: f"{value} instead of {promoted}" for name, (promoted, value) in compared["changes"].items()},
        "NDCG with the promoted parameters": with_interval(compared["ndcg"]["promoted"]),
        "difference": with_interval(compared["ndcg"]["difference"]),
    }
    outcome = outcome_of(compared["ndcg"]["difference"])
    sentence = (
        f"NDCG of the published lists, less that with the promoted parameters for the same "
        f"{context.results['holdout_users']:,} users: {with_interval(compared['ndcg']['difference'])}"
    )
    return Outcome(sentence if outcome == WORSE else "", values, f"{sentence}, {outcome}")


def _not_worse_than_previous(context: CheckContext) -> Outcome:
    if context.parameters.get(EXPERIMENT):
        return Outcome(checked="nothing to compare: an experiment is compared with the promoted parameters")
    if not context.previous:
        return NOTHING_TO_COMPARE
    previous, current = context.previous[-1], _comparison(context)
    earlier = Comparison.of(previous.stats.results, previous.parameters)
    difference = paired_difference(context.results, previous.stats.results)
    same_lists = all(context.parameters.get(name) == previous.parameters.get(name) for name in ("k", "exclude"))
    if current is None or earlier is None or difference is None or not same_lists:
        return Outcome(checked=f"nothing to compare: version {previous.name} has another holdout or other lists")
    if not (current.enough_users and earlier.enough_users):
        return Outcome(checked=f"nothing to compare: too few holdout users here or in version {previous.name}")
    values = {
        **_values(context),
        f"published lists of version {previous.name}": with_interval(earlier.published),
        "difference to it": with_interval(difference),
    }
    loss = context.parameters.get("max_quality_loss", MAX_QUALITY_LOSS)
    sentence = (
        f"NDCG at {current.k} of the published lists: {with_interval(current.published)}, in version {previous.name} "
        f"{with_interval(earlier.published)}; the difference, {with_interval(difference)}, is"
    )
    if difference[2] >= -loss * (earlier.published[0] or 0):
        return Outcome(values=values, checked=f"{sentence} no clear loss of more than {percent(loss)}")
    return Outcome(f"{sentence} a loss of more than {percent(loss)} (ECOMMERCE_MAX_QUALITY_LOSS)", values)


EVALUATION_CHECKS = (
    Check(
        "not_worse_than_best_baseline",
        "The NDCG of the published lists is not clearly below that of the best baseline: the interval of the "
        "difference is not wholly below zero.",
        _not_worse_than_best_baseline,
    ),
    Check(
        "not_worse_than_previous",
        "The NDCG of the published lists did not clearly fall by more than 5 % since the previous version that was not "
        "an experiment: the paired interval of the difference is not wholly below the limit.",
        _not_worse_than_previous,
    ),
    Check(
        "not_worse_than_promoted",
        "The NDCG of an experiment is not clearly below that with the promoted parameters: the paired interval of the "
        "difference is not wholly below zero.",
        _not_worse_than_promoted,
        blocking=False,
    ),
    Check(
        "better_than_best_baseline",
        "The NDCG of the published lists is clearly above that of the best baseline: there are enough holdout users, "
        "and the whole interval of the difference is above zero.",
        _better_than_best_baseline,
        blocking=False,
    ),
)

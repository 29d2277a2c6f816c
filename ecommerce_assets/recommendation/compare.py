"""Compares two versions of als_evaluation by metrics, parameters and lists: `compare`."""

from __future__ import annotations

from typing import Any

import duckdb

from ecommerce_assets.recommendation.parameters import Parameters
from ecommerce_assets.recommendation.scores import paired_difference
from ecommerce_assets.recommendation.systems import PUBLISHED
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.reading import arrow_dataset
from ecommerce_assets.storage.version import Version

METRICS = ("ndcg", "hit_rate", "recall", "coverage")

CHANGED_LISTS = """
    select count(*) as users, count_if(common < size) as changed, avg(common / size) as in_common
    from (
        select count(*) filter (product_id in other) as common, greatest(count(*), any_value(len(other))) as size
        from one join (select user_id, list(product_id) as other from two group by user_id) using (user_id)
        group by user_id
    )
"""


def find_evaluation(lake: Lake, name: str) -> Version:
    """Returns a version of als_evaluation by name; its files may have been removed, because the log has the metrics.

    Parameters
    ----------
    name
        A version, `newest`, or `published`: the version that the newest recommendations were made from.

    Raises
    ------
    VersionNotFoundError
        If there is no such version.
    """
    if name == "newest":
        return lake.latest("als_evaluation")
    if name == "published":
        lists = lake.latest("recommendations")
        name = lists.input_version("als_evaluation") or ""
    known = lake.recorded("als_evaluation", name)
    if known is None:
        versions = ", ".join(version.version for version in lake.published("als_evaluation")[:5])
        raise VersionNotFoundError(
            f"als_evaluation has no version {name!r} in {lake.root.uri}. The newest are: {versions or 'none'}."
        )
    return known


def compare(lake: Lake, one: Version, other: Version) -> dict[str, Any]:
    """Returns the comparison of two versions of als_evaluation.

    Returns
    -------
    dict
        `versions`; `metrics`: by name, [value, lower, upper] of each version; `difference`: of the NDCG, as
        `paired_difference(other, one)`; `changes`: the two values by parameter; `lists`: `users` with lists in both,
        lists `changed`, and the mean share of products `in_common`; None if no lists were made from one of them.
    """
    results = [version.stats.results for version in (one, other)]
    metrics = {name: [each.get("metrics", {}).get(name, {}).get(PUBLISHED) for each in results] for name in METRICS}
    parameters = [Parameters.of_evaluation(version.parameters) for version in (one, other)]
    return {
        "versions": [one.version, other.version],
        "metrics": metrics,
        "difference": paired_difference(results[1], results[0]),
        "changes": {name: list(values) for name, values in parameters[1].changes(parameters[0]).items()},
        "lists": _changed_lists(lake, one, other),
    }


def _changed_lists(lake: Lake, one: Version, other: Version) -> dict[str, Any] | None:
    database = duckdb.connect()
    for name, evaluation in (("one", one), ("two", other)):
        versions = lake.undamaged("recommendations")
        lists = next((v for v in versions if v.input_version("als_evaluation") == evaluation.version), None)
        if lists is None:
            return None
        database.register(name, arrow_dataset(lake, lists))
    users, changed, in_common = database.execute(CHANGED_LISTS).fetchall()[0]
    return {"users": users, "changed": changed, "in_common": in_common}

"""The assets user_features and product_features.

The file of each table's name computes it; precomputed.py finds tables that were computed elsewhere.
"""

from dataclasses import replace
from typing import Any

import dagster as dg
from pyspark.sql import DataFrame

from ecommerce_assets.features.precomputed import PRODUCT_DATA, USER_BEHAVIOR, FeatureExport, PrecomputedFeatures
from ecommerce_assets.features.product_features import build_product_features
from ecommerce_assets.features.user_features import build_user_features, reference_time
from ecommerce_assets.owners import OWNERS
from ecommerce_assets.storage.stored_asset import Artifact

COMMON: dict[str, Any] = {
    "group_name": "features",
    "owners": OWNERS,
    "kinds": {"spark", "parquet"},
    "code_version": "1",
    "backfill_policy": dg.BackfillPolicy.single_run(),
    "required_resource_keys": {"precomputed_features"},
}


@dg.asset(**{**COMMON, "code_version": "2"})
def user_features(context: dg.AssetExecutionContext, cleaned_events: DataFrame) -> Artifact:
    """Recency, frequency, monetary value and behaviour of each user, over all events that are read."""
    reference = reference_time(cleaned_events)
    results = {"reference_date": reference.isoformat() if reference else None}
    precomputed = _precomputed(context, USER_BEHAVIOR, cleaned_events)
    if precomputed is not None:
        return replace(precomputed, results={**precomputed.results, **results})
    return Artifact(build_user_features(cleaned_events, reference), results=results)


@dg.asset(**COMMON)
def product_features(context: dg.AssetExecutionContext, cleaned_events: DataFrame) -> Artifact:
    """Views, carts, purchases, revenue, category and brand of each product, over all events that are read."""
    precomputed = _precomputed(context, PRODUCT_DATA, cleaned_events)
    return Artifact(build_product_features(cleaned_events)) if precomputed is None else precomputed


def _precomputed(context: dg.AssetExecutionContext, kind: FeatureExport, events: DataFrame) -> Artifact | None:
    finder: PrecomputedFeatures = context.resources.precomputed_features
    return finder.newest(kind, events.sparkSession, context.log.info, context.log.warning)

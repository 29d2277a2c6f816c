"""The assets user_features and product_features.

The file of each table's name computes it; precomputed.py finds tables that were computed elsewhere.
"""

from dataclasses import replace
from typing import Any

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features import checks
from ecommerce_assets.features.plots import PRODUCT_FEATURES_PLOTS, USER_FEATURES_PLOTS
from ecommerce_assets.features.precomputed import PRODUCT_DATA, USER_BEHAVIOR, FeatureExport, PrecomputedFeatures
from ecommerce_assets.features.product_features import PRODUCT_FEATURES, build_product_features
from ecommerce_assets.features.summaries import category_funnel, rfm_cells
from ecommerce_assets.features.user_features import USER_FEATURES, build_user_features, reference_time
from ecommerce_assets.owners import OWNERS
from ecommerce_assets.settings import Settings
from ecommerce_assets.storage.stored_asset import Artifact, StoredAsset

COMMON: dict[str, Any] = {
    "group_name": "features",
    "owners": OWNERS,
    "kinds": {"spark", "parquet"},
    "code_version": "1",
    "backfill_policy": dg.BackfillPolicy.single_run(),
}


class FeatureExports(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Feature tables that were computed elsewhere; see precomputed.py."""

    folder: str = Field(description="Folder or bucket that holds them.")
    enabled: bool = Field(default=True, description="false: always compute our own.")
    id_type: str = Field(default="bigint", description="Type of the ids of users and products.")

    @classmethod
    def of(cls, settings: Settings) -> "FeatureExports":
        """Returns the exports in the data dir."""
        folder = f"{settings.data_dir}/processed/parquet"
        return cls(folder=folder, enabled=settings.precomputed_features, id_type=settings.id_type)

    def newest(self, kind: FeatureExport, context: dg.AssetExecutionContext, spark: SparkSession) -> Artifact | None:
        """Returns the newest readable table of a kind; None if there is none."""
        exports = PrecomputedFeatures(self.folder, self.enabled, self.id_type)
        return exports.newest(kind, spark, context.log.info, context.log.warning)


@dg.asset(**{**COMMON, "code_version": "2"})
def user_features(
    context: dg.AssetExecutionContext, precomputed_features: FeatureExports, cleaned_events: DataFrame
) -> Artifact:
    """Recency, frequency, monetary value and behaviour of each user, over all events that are read."""
    reference = reference_time(cleaned_events)
    results = {"reference_date": reference.isoformat() if reference else None}
    precomputed = precomputed_features.newest(USER_BEHAVIOR, context, cleaned_events.sparkSession)
    if precomputed is not None:
        return replace(precomputed, results={**precomputed.results, **results})
    return Artifact(build_user_features(cleaned_events, reference), results=results)


@dg.asset(**COMMON)
def product_features(
    context: dg.AssetExecutionContext, precomputed_features: FeatureExports, cleaned_events: DataFrame
) -> Artifact:
    """Views, carts, purchases, revenue, category and brand of each product, over all events that are read."""
    precomputed = precomputed_features.newest(PRODUCT_DATA, context, cleaned_events.sparkSession)
    return Artifact(build_product_features(cleaned_events)) if precomputed is None else precomputed


ASSETS = (user_features, product_features)

CATALOG = {
    "user_features": StoredAsset(
        USER_FEATURES, checks.USER_FEATURES_CHECKS, summaries=(rfm_cells,), plots=USER_FEATURES_PLOTS
    ),
    "product_features": StoredAsset(
        PRODUCT_FEATURES, checks.PRODUCT_FEATURES_CHECKS, summaries=(category_funnel,), plots=PRODUCT_FEATURES_PLOTS
    ),
}
"""How each asset of this package is stored, checked and shown."""

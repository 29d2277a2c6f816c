"""The assets user_features and product_features, computed from cleaned_events or read from exports (precomputed.py)."""

from dataclasses import replace
from typing import Any

import dagster as dg
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.features import checks
from ecommerce_assets.features.plots import PRODUCT_FEATURES_PLOTS, USER_FEATURES_PLOTS
from ecommerce_assets.features.precomputed import PRODUCT_DATA, USER_BEHAVIOR, FeatureExport, newest_export
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
    """Precomputed feature tables, used instead of computing them; see precomputed.py."""

    folder: str = Field(description="Folder or bucket of the precomputed feature tables.")
    enabled: bool = Field(default=True, description="Use precomputed tables; if false, features are always computed.")
    id_type: str = Field(default="bigint", description="Type of user and product ids: bigint or string.")

    @classmethod
    def of(cls, settings: Settings) -> "FeatureExports":
        """Returns the resource for the data dir of the settings."""
        folder = f"{settings.data_dir}/processed/parquet"
        return cls(folder=folder, enabled=settings.precomputed_features, id_type=settings.id_type)

    def newest(self, kind: FeatureExport, context: dg.AssetExecutionContext, spark: SparkSession) -> Artifact | None:
        """Returns the newest readable export of a kind; None if there is none or exports are disabled."""
        if not self.enabled:
            return None
        return newest_export(kind, self.folder, self.id_type, spark, context.log.info, context.log.warning)


@dg.asset(**{**COMMON, "code_version": "2"})
def user_features(
    context: dg.AssetExecutionContext, precomputed_features: FeatureExports, cleaned_events: DataFrame
) -> Artifact:
    """Recency, frequency, monetary value and behaviour of each user."""
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
    """Views, carts, purchases, revenue, category and brand of each product."""
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
"""Columns, checks, summaries and plots of each asset of this package."""

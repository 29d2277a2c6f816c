"""Assembles assets, checks and resources into one code location. The only module that knows all packages."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from ecommerce_assets import mlflow_log
from ecommerce_assets.alerts import alerts
from ecommerce_assets.automation import automation, with_automation, with_freshness
from ecommerce_assets.delivery.assets import delivered_asset
from ecommerce_assets.delivery.checks import DELIVERED_CHECKS
from ecommerce_assets.delivery.rows import KEYS as DELIVERED_TABLES
from ecommerce_assets.events import checks as events
from ecommerce_assets.events.assets import TABLES as DAILY_TABLES
from ecommerce_assets.events.assets import event_assets
from ecommerce_assets.events.partitions import daily_partitions
from ecommerce_assets.events.plots import CLEANED_EVENTS_PLOTS
from ecommerce_assets.events.readers import RawEventsReader
from ecommerce_assets.events.schema import EVENTS, REJECTED_EVENTS
from ecommerce_assets.events.sensor import new_event_partitions
from ecommerce_assets.features import assets as features_assets
from ecommerce_assets.features import checks as features
from ecommerce_assets.features.funnel import category_funnel
from ecommerce_assets.features.plots import PRODUCT_FEATURES_PLOTS, USER_FEATURES_PLOTS
from ecommerce_assets.features.product_features import PRODUCT_FEATURES
from ecommerce_assets.features.rfm import rfm_cells
from ecommerce_assets.features.user_features import USER_FEATURES
from ecommerce_assets.on_demand import as_external, on_demand_job
from ecommerce_assets.openlineage import sending as openlineage
from ecommerce_assets.recommendation import assets as recommendation_assets
from ecommerce_assets.recommendation import checks as recommendation
from ecommerce_assets.recommendation.als_model import ALS_MODEL_PARTS
from ecommerce_assets.recommendation.als_plots import ALS_MODEL_PLOTS
from ecommerce_assets.recommendation.backtest import BACKTEST_NOTES, BACKTEST_PLOTS
from ecommerce_assets.recommendation.backtest_assets import backtest_asset
from ecommerce_assets.recommendation.catalog import FOLDER as CATALOG_FOLDER
from ecommerce_assets.recommendation.catalog import PRODUCT_CATALOG
from ecommerce_assets.recommendation.catalog_assets import READER, product_catalog, product_catalog_changes
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION
from ecommerce_assets.recommendation.evaluation_plots import ALS_EVALUATION_PLOTS
from ecommerce_assets.recommendation.indices import PRODUCT_INDEX, USER_INDEX
from ecommerce_assets.recommendation.interactions import INTERACTION_DATA
from ecommerce_assets.recommendation.item_neighbours import ITEM_NEIGHBOURS
from ecommerce_assets.recommendation.notes import (
    ALS_EVALUATION_NOTES,
    BLEND_MODEL_NOTES,
    PRODUCT_ELIGIBILITY_NOTES,
    RECOMMENDATIONS_NOTES,
)
from ecommerce_assets.recommendation.product_eligibility import PRODUCT_ELIGIBILITY
from ecommerce_assets.recommendation.product_pairs import PRODUCT_PAIRS
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS, products_shown
from ecommerce_assets.recommendation.resources import EvaluationLimits, ProductCatalogReader
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.recommendation.tuning_assets import als_tuning
from ecommerce_assets.recommendation.tuning_document import ALS_TUNING_PLOTS
from ecommerce_assets.recovery import recovery
from ecommerce_assets.secret import HIDDEN, is_secret
from ecommerce_assets.segmentation import assets as segmentation_assets
from ecommerce_assets.segmentation import checks as segmentation
from ecommerce_assets.segmentation import customer_plots
from ecommerce_assets.segmentation import plots as segmentation_plots
from ecommerce_assets.segmentation.customer_groups import CUSTOMER_GROUPS, group_cells
from ecommerce_assets.segmentation.customer_value import CUSTOMER_VALUE
from ecommerce_assets.segmentation.model import SEGMENTATION_MODEL_PARTS
from ecommerce_assets.segmentation.pipeline import SEGMENTED_USERS
from ecommerce_assets.segmentation.segment_history import SEGMENT_HISTORY, movement
from ecommerce_assets.settings import Settings, load_settings
from ecommerce_assets.spark.resource import SparkResource
from ecommerce_assets.storage.asset_checks import asset_checks
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.inputs import NewestVersions
from ecommerce_assets.storage.io_managers import JsonIOManager, ParquetIOManager, SparkModelIOManager
from ecommerce_assets.storage.metadata import column_schema
from ecommerce_assets.storage.stored_asset import StoredAsset
from ecommerce_assets.storage.version import Version
from ecommerce_assets.training_metadata.assets import training_metadata
from ecommerce_assets.training_metadata.card import model_card
from ecommerce_assets.training_metadata.checks import TRAINING_METADATA_CHECKS
from ecommerce_assets.training_metadata.closing import closing_words
from ecommerce_assets.training_metadata.document import TrainingMetadata

CATALOG: dict[str, StoredAsset] = {
    "raw_events": StoredAsset(EVENTS),
    "cleaned_events": StoredAsset(EVENTS, events.CLEANED_EVENTS_CHECKS, plots=CLEANED_EVENTS_PLOTS),
    "rejected_events": StoredAsset(REJECTED_EVENTS, events.REJECTED_EVENTS_CHECKS),
    "user_features": StoredAsset(
        USER_FEATURES,
        features.USER_FEATURES_CHECKS,
        summaries=(rfm_cells,),
        plots=USER_FEATURES_PLOTS,
    ),
    "product_features": StoredAsset(
        PRODUCT_FEATURES,
        features.PRODUCT_FEATURES_CHECKS,
        summaries=(category_funnel,),
        plots=PRODUCT_FEATURES_PLOTS,
    ),
    "segmentation_model": StoredAsset(None, segmentation.SEGMENTATION_MODEL_CHECKS, SEGMENTATION_MODEL_PARTS),
    "segmented_users": StoredAsset(
        SEGMENTED_USERS,
        segmentation.SEGMENTED_USERS_CHECKS,
        plots=segmentation_plots.SEGMENTED_USERS_PLOTS,
        notes=segmentation_plots.SEGMENTED_USERS_NOTES,
    ),
    "customer_groups": StoredAsset(
        CUSTOMER_GROUPS,
        segmentation.CUSTOMER_GROUPS_CHECKS,
        summaries=(group_cells,),
        plots=customer_plots.CUSTOMER_GROUPS_PLOTS,
        notes=customer_plots.CUSTOMER_GROUPS_NOTES,
    ),
    "segment_history": StoredAsset(
        SEGMENT_HISTORY,
        segmentation.SEGMENT_HISTORY_CHECKS,
        summaries=(movement,),
        plots=customer_plots.SEGMENT_HISTORY_PLOTS,
        notes=customer_plots.SEGMENT_HISTORY_NOTES,
    ),
    "customer_value": StoredAsset(
        CUSTOMER_VALUE,
        segmentation.CUSTOMER_VALUE_CHECKS,
        plots=customer_plots.CUSTOMER_VALUE_PLOTS,
        notes=customer_plots.CUSTOMER_VALUE_NOTES,
    ),
    "user_index": StoredAsset(USER_INDEX, recommendation.USER_INDEX_CHECKS),
    "product_index": StoredAsset(PRODUCT_INDEX, recommendation.PRODUCT_INDEX_CHECKS),
    "interaction_data": StoredAsset(INTERACTION_DATA, recommendation.INTERACTION_DATA_CHECKS),
    "als_model": StoredAsset(None, recommendation.ALS_MODEL_CHECKS, ALS_MODEL_PARTS, plots=ALS_MODEL_PLOTS),
    "als_evaluation": StoredAsset(
        ALS_EVALUATION,
        recommendation.ALS_EVALUATION_CHECKS,
        plots=ALS_EVALUATION_PLOTS,
        notes=ALS_EVALUATION_NOTES,
    ),
    "item_neighbours": StoredAsset(ITEM_NEIGHBOURS, recommendation.ITEM_NEIGHBOURS_CHECKS),
    "blend_model": StoredAsset(
        None,
        recommendation.BLEND_MODEL_CHECKS,
        notes=BLEND_MODEL_NOTES,
        choose=recommendation_assets.published_blend,
    ),
    "product_catalog": StoredAsset(PRODUCT_CATALOG),
    "product_eligibility": StoredAsset(
        PRODUCT_ELIGIBILITY, recommendation.PRODUCT_ELIGIBILITY_CHECKS, notes=PRODUCT_ELIGIBILITY_NOTES
    ),
    "recommendations": StoredAsset(
        RECOMMENDATIONS,
        recommendation.RECOMMENDATIONS_CHECKS,
        summaries=(products_shown,),
        notes=RECOMMENDATIONS_NOTES,
    ),
    "similar_products": StoredAsset(SIMILAR_PRODUCTS, recommendation.SIMILAR_PRODUCTS_CHECKS),
    "product_pairs": StoredAsset(PRODUCT_PAIRS, recommendation.PRODUCT_PAIRS_CHECKS),
    "training_metadata": StoredAsset(
        None, TRAINING_METADATA_CHECKS, document=TrainingMetadata, card=model_card, closing=closing_words
    ),
}
"""How each asset is stored, checked and shown."""

ON_DEMAND: dict[str, StoredAsset] = {
    "als_tuning": StoredAsset(None, recommendation.ALS_TUNING_CHECKS, plots=ALS_TUNING_PLOTS),
    "backtest": StoredAsset(None, recommendation.BACKTEST_CHECKS, plots=BACKTEST_PLOTS, notes=BACKTEST_NOTES),
    "segmentation_by_k": StoredAsset(
        None,
        segmentation.SEGMENTATION_BY_K_CHECKS,
        plots=segmentation_plots.SEGMENTATION_BY_K_PLOTS,
        notes=segmentation_plots.SEGMENTATION_BY_K_NOTES,
    ),
}
"""The same of assets that have a job of their own."""

DELIVERED: dict[str, StoredAsset] = {"delivered": StoredAsset(None, DELIVERED_CHECKS)}
"""The same of the asset that is there where `ECOMMERCE_DELIVER_TO` is set."""

ON_DEMAND_ASSETS = (als_tuning, backtest_asset, segmentation_assets.segmentation_by_k)


def build_defs(
    settings: Settings, resource_overrides: Mapping[str, Any] | None = None, *, own_days_only: bool = False
) -> dg.Definitions:
    """The code location for these settings.

    Parameters
    ----------
    resource_overrides
        Resources that replace ours, by key.
    own_days_only
        Of daily tables a run reads the days that it wrote, and no others.
    """
    assets: list[Any] = [
        *event_assets(settings),
        features_assets.user_features,
        features_assets.product_features,
        segmentation_assets.segmentation_model,
        segmentation_assets.segmented_users,
        segmentation_assets.customer_groups,
        segmentation_assets.segment_history,
        segmentation_assets.customer_value,
        product_catalog,
        *recommendation_assets.ASSETS,
        training_metadata,
    ]
    catalog = CATALOG
    if settings.deliver_to:
        catalog = {**CATALOG, **DELIVERED}
        assets.append(delivered_asset(settings.deliver_to, settings.data_dir, list(DELIVERED_TABLES)))
    days = daily_partitions(settings)
    checks = [
        asset_checks(name, stored.checks, settings.data_dir, days=days if name in DAILY_TABLES else None)
        for name, stored in catalog.items()
        if stored.checks
    ]
    checks.append(events.raw_events_checks(settings.data_dir))
    # A job's checks must be among all checks, the very same, or the code location does not load in the UI.
    of_jobs = {n: asset_checks(n, stored.checks, settings.data_dir, on_demand=True) for n, stored in ON_DEMAND.items()}
    resources = {**build_resources(settings, own_days_only), **(resource_overrides or {})}
    graph = dg.map_asset_specs(
        lambda spec: with_freshness(with_automation(_with_columns_and_folder(spec, settings)), settings), assets
    )
    return dg.Definitions(
        assets=[*graph, *[_with_columns_and_folder(as_external(asset), settings) for asset in ON_DEMAND_ASSETS]],
        asset_checks=[*checks, *of_jobs.values()],
        sensors=[
            new_event_partitions(settings),
            product_catalog_changes(settings),
            automation(settings),
            recovery(settings),
            *alerts(settings),
        ],
        jobs=_on_demand_jobs(graph, of_jobs, resources),
        resources=resources,
        # One JVM per run: the default executor would start a process, and with it a Spark, for every step.
        executor=dg.in_process_executor,
    )


def _on_demand_jobs(
    graph: Sequence[Any], checks: Mapping[str, dg.AssetChecksDefinition], resources: Mapping[str, Any]
) -> list[dg.JobDefinition]:
    specs = [spec for asset in graph for spec in ([asset] if isinstance(asset, dg.AssetSpec) else asset.specs)]
    return [on_demand_job(asset, specs, [checks[asset.key.to_user_string()]], resources) for asset in ON_DEMAND_ASSETS]


def build_resources(settings: Settings, own_days_only: bool = False) -> dict[str, Any]:
    """Spark and the IO managers, all on one data dir."""
    data_dir = settings.data_dir
    # To be configured at launch, or each IO manager would get a Spark of its own.
    spark = SparkResource.configure_at_launch(**spark_options(settings))
    storage: dict[str, Any] = {
        "data_dir": data_dir,
        "keep_versions": settings.keep_versions,
        "lookback_days": settings.lookback_days,
        "own_days_only": own_days_only,
        "spark": spark,
        "catalog": {**CATALOG, **ON_DEMAND, **DELIVERED},
        "on_version": _report,
    }

    id_type = settings.id_type
    exports = f"{data_dir}/processed/parquet"
    return {
        "spark": spark,
        "io_manager": ParquetIOManager(**storage),
        "model_io_manager": SparkModelIOManager(**storage),
        "json_io_manager": JsonIOManager(**storage),
        "raw_events_reader": RawEventsReader(data_dir=data_dir, id_type=id_type, spark=spark),
        READER: ProductCatalogReader(data_dir=data_dir, id_type=id_type),
        "precomputed_features": features_assets.FeatureExports(
            folder=exports, enabled=settings.precomputed_features, id_type=id_type
        ),
        "newest_versions": NewestVersions(data_dir=data_dir),
        "evaluation_limits": EvaluationLimits(
            max_quality_loss=settings.max_quality_loss, min_holdout_users=settings.min_holdout_users
        ),
        "rfm_bounds": segmentation_assets.FixedBounds.of(settings.rfm_bounds),
    }


def _report(
    version: Version, data_dir: str, table: TableSpec | None, warn: Callable[[str], object], description: str | None
) -> None:
    """A `Listener`: sends what is recorded of a version where the user asked for it."""
    openlineage.emit(version, data_dir, table, warn, description)
    mlflow_log.log_version(version, data_dir, warn)


def spark_options(settings: Settings) -> dict[str, Any]:
    """The fields of SparkResource for these settings."""
    return {
        "master": settings.spark_master,
        "driver_memory": settings.driver_memory,
        "executor_memory": settings.executor_memory,
        "checkpoint_dir": f"{settings.data_dir}/.checkpoints",
        "event_log_dir": settings.spark_event_log,
        # The UI shows the fields of a resource; SparkResource reads what is hidden here from the settings.
        "spark_config": {
            name: HIDDEN if is_secret(name, value) else value for name, value in settings.spark_config.items()
        },
    }


def _with_columns_and_folder(spec: dg.AssetSpec, settings: Settings) -> dg.AssetSpec:
    """What is known before anything is materialised, for the UI: the columns, and the folder."""
    name = spec.key.to_user_string()
    folder = {"raw_events": "raw/events", "product_catalog": CATALOG_FOLDER}.get(name, f"lake/{name}")
    metadata: dict[str, Any] = {"dagster/uri": f"{settings.data_dir}/{folder}"}
    table = CATALOG.get(name, StoredAsset()).table
    if table is not None:
        metadata["dagster/column_schema"] = column_schema(table.with_id_type(settings.id_type), {})
    return spec.merge_attributes(metadata=metadata)


# What Dagster says of its own `--select '*'`, to someone who can do nothing about it.
warnings.filterwarnings("ignore", "Parameter `include_sources` of function `AssetSelection.all`", dg.BetaWarning)

defs = build_defs(load_settings())

"""The resources of the code location: Spark, IO managers, readers, and the settings that steps use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ecommerce_assets import mlflow_log
from ecommerce_assets.events.readers import RawEventsReader
from ecommerce_assets.features.assets import FeatureExports
from ecommerce_assets.openlineage import sending as openlineage
from ecommerce_assets.recommendation.catalog_assets import READER
from ecommerce_assets.recommendation.resources import EvaluationLimits, ProductCatalogReader
from ecommerce_assets.segmentation.assets import FixedBounds
from ecommerce_assets.settings import Settings
from ecommerce_assets.spark.resource import SparkResource, spark_options
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.inputs import NewestVersions
from ecommerce_assets.storage.io_managers import JsonIOManager, ParquetIOManager, SparkModelIOManager
from ecommerce_assets.storage.stored_asset import StoredAsset
from ecommerce_assets.storage.version import Version


def build_resources(
    settings: Settings, catalog: Mapping[str, StoredAsset], own_days_only: bool = False
) -> dict[str, Any]:
    """Returns the resources by key.

    Parameters
    ----------
    catalog
        Storage, checks and pictures of each asset, by name.
    own_days_only
        Whether a run reads only those days of daily tables that it wrote.
    """
    data_dir, id_type = settings.data_dir, settings.id_type
    # Configured at launch, so that all IO managers share one Spark.
    spark = SparkResource.configure_at_launch(**spark_options(settings))
    storage: dict[str, Any] = {
        "data_dir": data_dir,
        "keep_versions": settings.keep_versions,
        "lookback_days": settings.lookback_days,
        "own_days_only": own_days_only,
        "spark": spark,
        "catalog": dict(catalog),
        "on_version": _send_version,
    }
    return {
        "spark": spark,
        "io_manager": ParquetIOManager(**storage),
        "model_io_manager": SparkModelIOManager(**storage),
        "json_io_manager": JsonIOManager(**storage),
        "raw_events_reader": RawEventsReader(data_dir=data_dir, id_type=id_type, spark=spark),
        READER: ProductCatalogReader(data_dir=data_dir, id_type=id_type),
        "precomputed_features": FeatureExports.of(settings),
        "newest_versions": NewestVersions(data_dir=data_dir),
        "evaluation_limits": EvaluationLimits.of(settings),
        "rfm_bounds": FixedBounds.of(settings),
    }


def _send_version(
    version: Version, data_dir: str, table: TableSpec | None, warn: Callable[[str], object], description: str | None
) -> None:
    """A `Listener`: sends the metadata of a version to OpenLineage and MLflow, if they are configured."""
    openlineage.emit(version, data_dir, table, warn, description)
    mlflow_log.log_version(version, data_dir, warn)

"""Assembles the code location from what each package declares. The only module that knows all packages."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from ecommerce_assets.alerts import alerts
from ecommerce_assets.asset_specs import described, with_code
from ecommerce_assets.automation import automation, with_automation, with_freshness
from ecommerce_assets.delivery import assets as delivery
from ecommerce_assets.delivery.rows import KEYS as DELIVERED_TABLES
from ecommerce_assets.events import assets as events
from ecommerce_assets.events.checks import raw_events_checks
from ecommerce_assets.events.partitions import daily_partitions
from ecommerce_assets.events.sensor import new_event_partitions
from ecommerce_assets.features import assets as features
from ecommerce_assets.on_demand import on_demand_job
from ecommerce_assets.recommendation import assets as recommendation
from ecommerce_assets.recommendation.catalog_assets import product_catalog_changes
from ecommerce_assets.recovery import recovery
from ecommerce_assets.resources import build_resources
from ecommerce_assets.segmentation import assets as segmentation
from ecommerce_assets.settings import Settings, load_settings
from ecommerce_assets.storage.asset_checks import asset_checks
from ecommerce_assets.storage.stored_asset import StoredAsset
from ecommerce_assets.training_metadata import assets as training

CATALOG = {
    **events.CATALOG,
    **features.CATALOG,
    **segmentation.CATALOG,
    **recommendation.CATALOG,
    **training.CATALOG,
}
"""Storage, checks and pictures of each asset of the graph, by name."""

ON_DEMAND = {**recommendation.ON_DEMAND, **segmentation.ON_DEMAND}
"""The same for assets that are made on demand."""

EVERYTHING = {**CATALOG, **ON_DEMAND, **delivery.CATALOG}

ON_DEMAND_ASSETS = (*recommendation.ON_DEMAND_ASSETS, *segmentation.ON_DEMAND_ASSETS)


def build_defs(
    settings: Settings, resource_overrides: Mapping[str, Any] | None = None, *, own_days_only: bool = False
) -> dg.Definitions:
    """Returns the definitions of the code location.

    Parameters
    ----------
    settings
        See `load_settings`.
    resource_overrides
        Resources by key that replace those of `build_resources`.
    own_days_only
        Whether a run reads only those days of daily tables that it wrote.
    """
    assets: list[Any] = [
        *events.event_assets(settings),
        *features.ASSETS,
        *segmentation.ASSETS,
        *recommendation.ASSETS,
        training.training_metadata,
    ]
    delivered: Mapping[str, StoredAsset] = {}
    if settings.deliver_to:
        delivered = delivery.CATALOG
        assets.append(delivery.delivered_asset(settings.deliver_to, settings.data_dir, list(DELIVERED_TABLES)))
    days = daily_partitions(settings)
    checks = [
        asset_checks(name, stored.checks, settings.data_dir, days=days if name in events.TABLES else None)
        for name, stored in {**CATALOG, **delivered}.items()
        if stored.checks
    ]
    # The checks of a job must be the same objects as in the definitions, or the code location does not load in the UI.
    on_demand_checks = {
        name: asset_checks(name, stored.checks, settings.data_dir, on_demand=True) for name, stored in ON_DEMAND.items()
    }
    resources = {**build_resources(settings, EVERYTHING, own_days_only), **(resource_overrides or {})}

    def complete(spec: dg.AssetSpec) -> dg.AssetSpec:
        spec = described(spec, EVERYTHING[spec.key.to_user_string()], settings)
        return with_freshness(with_automation(spec), settings)

    graph = dg.map_asset_specs(complete, with_code(assets))
    # As specs, these assets are in the graph of the UI, but not in its runs.
    on_demand_specs = [
        described(asset.get_asset_spec(), EVERYTHING[asset.key.to_user_string()], settings, on_demand=True)
        for asset in with_code(ON_DEMAND_ASSETS)
    ]
    on_demand_jobs = [
        on_demand_job(asset, graph, on_demand_checks[asset.key.to_user_string()], resources)
        for asset in ON_DEMAND_ASSETS
    ]
    return dg.Definitions(
        assets=[*graph, *on_demand_specs],
        asset_checks=[*checks, raw_events_checks(settings.data_dir), *on_demand_checks.values()],
        sensors=[
            new_event_partitions(settings),
            product_catalog_changes(settings),
            automation(settings),
            recovery(settings),
            *alerts(settings),
        ],
        jobs=on_demand_jobs,
        resources=resources,
        # One Spark per run: the default executor starts a process for every step.
        executor=dg.in_process_executor,
    )


# Dagster's command calls this beta API for `--select '*'`.
warnings.filterwarnings("ignore", "Parameter `include_sources` of function `AssetSelection.all`", dg.BetaWarning)

defs = build_defs(load_settings())

"""Assets that are made only when someone asks for them: each has a job of its own and is not part of the graph's run.

They are in `ON_DEMAND_ASSETS` of each package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg


def on_demand_jobs(
    assets: Iterable[dg.AssetsDefinition],
    graph: Sequence[dg.AssetsDefinition | dg.AssetSpec],
    checks: Mapping[str, dg.AssetChecksDefinition],
    resources: Mapping[str, Any],
) -> list[dg.JobDefinition]:
    """A job for each asset that is made on demand.

    Parameters
    ----------
    graph
        The assets that are made by the graph's run.
    checks
        By the name of the asset.
    """
    specs = [spec for asset in graph for spec in ([asset] if isinstance(asset, dg.AssetSpec) else asset.specs)]
    return [on_demand_job(asset, specs, [checks[asset.key.to_user_string()]], resources) for asset in assets]


def on_demand_job(
    asset: dg.AssetsDefinition,
    upstream: Sequence[dg.AssetSpec],
    checks: Sequence[dg.AssetChecksDefinition],
    resources: Mapping[str, Any],
) -> dg.JobDefinition:
    """A job that makes one asset, under the asset's name.

    It is resolved from definitions of its own, because an asset of the code location itself is part of every `*`.

    Parameters
    ----------
    asset
        Its op must have another name: Dagster wants those of jobs and ops to differ.
    upstream
        Specs of the graph's assets; those that the asset reads are known to the job with their partitions, so that all
        stored days are read.
    """
    name = asset.key.to_user_string()
    read = [
        dg.AssetSpec(spec.key, partitions_def=spec.partitions_def)
        for spec in upstream
        if spec.key in asset.dependency_keys
    ]
    job = dg.define_asset_job(name, selection=[asset], description=asset.specs_by_key[asset.key].description)
    alone = dg.Definitions(
        assets=[asset, *read],
        asset_checks=checks,
        resources=resources,
        jobs=[job],
        executor=dg.in_process_executor,
    )
    return alone.resolve_job_def(name)


def as_external(asset: dg.AssetsDefinition) -> dg.AssetSpec:
    """The asset as the graph shows it: where it stands, and what was made of it, without being made with the rest."""
    spec = asset.specs_by_key[asset.key]
    return spec.replace_attributes(automation_condition=None)

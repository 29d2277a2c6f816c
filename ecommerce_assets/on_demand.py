"""Jobs of the assets that are made on demand: each has its own job and is not part of the graph's run.

`on_demand_job` is the entry point. The assets are in `ON_DEMAND_ASSETS` of each package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg


def on_demand_job(
    asset: dg.AssetsDefinition,
    graph: Iterable[dg.AssetsDefinition | dg.AssetSpec],
    checks: dg.AssetChecksDefinition,
    resources: Mapping[str, Any],
) -> dg.JobDefinition:
    """Returns a job that makes one asset and runs its checks, with the name of the asset.

    It is resolved from separate definitions, because every asset of the code location is part of the selection `*`.

    Parameters
    ----------
    asset
        Its op must have another name than the asset, because names of jobs and ops must differ.
    graph
        The assets of the graph. The job gets the inputs of the asset with their partitions, so that it reads all days.
    checks
        The checks of the asset.
    resources
        The resources of the code location, by key.
    """
    specs = [spec for item in graph for spec in ([item] if isinstance(item, dg.AssetSpec) else item.specs)]
    inputs = [
        dg.AssetSpec(spec.key, partitions_def=spec.partitions_def)
        for spec in specs
        if spec.key in asset.dependency_keys
    ]
    name = asset.key.to_user_string()
    job = dg.define_asset_job(name, selection=[asset], description=asset.specs_by_key[asset.key].description)
    definitions = dg.Definitions(
        assets=[asset, *inputs],
        asset_checks=[checks],
        resources=resources,
        jobs=[job],
        executor=dg.in_process_executor,
    )
    return definitions.resolve_job_def(name)

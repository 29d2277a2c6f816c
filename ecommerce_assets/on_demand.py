"""Assets that are made only when someone asks for them: each has a job of its own and is no part of the graph's run.

Which assets those are is known under the roof, in definitions.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg


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

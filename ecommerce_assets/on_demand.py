"""Jobs that run only when someone asks for them: a study of the data, not a part of the graph.

Their assets are no part of the definitions, so that neither `--select '*'` nor automation makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg


def on_demand_job(
    asset: dg.AssetsDefinition,
    resources: Mapping[str, Any],
    description: str,
    checks: Sequence[dg.AssetChecksDefinition] = (),
) -> dg.JobDefinition:
    """A job of the asset's name that makes this asset alone, from the newest versions of what it reads.

    The definitions that it is resolved in exist in here only: Dagster takes one such object per module.
    """
    name = asset.key.to_user_string()
    defs = dg.Definitions(
        # What it reads stands here as something from elsewhere, which the default IO manager finds.
        assets=[asset, *[dg.AssetSpec(key) for key in sorted(asset.dependency_keys)]],
        asset_checks=list(checks),
        resources=dict(resources),
        jobs=[dg.define_asset_job(name, selection=dg.AssetSelection.assets(asset.key), description=description)],
        # As in the graph: one JVM per run.
        executor=dg.in_process_executor,
    )
    return defs.resolve_job_def(name)

"""The newest versions of assets that a step is not handed: it does without them, or asks only where its config says so.

What a step is always handed, the IO managers load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dagster as dg

from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets.storage.manifest import Manifest
from ecommerce_assets.storage.provenance import step_reads
from ecommerce_assets.storage.reading import read_document


@dataclass(frozen=True)
class NewestVersions:
    """Looks into the lake of one data dir."""

    data_dir: str

    def parameters(self, context: dg.AssetExecutionContext, asset: str) -> dict[str, Any]:
        """What the newest version was made with; empty where there is none. It does not count as an input."""
        try:
            return Lake(self.data_dir, context.log.warning).latest(asset, context.run.run_id).parameters
        except VersionNotFoundError:
            return {}

    def document(self, context: dg.AssetExecutionContext, asset: str) -> tuple[Manifest, Any]:
        """The newest JSON document of an asset, from here on an input of the step.

        Raises VersionNotFoundError where there is none.
        """
        lake = Lake(self.data_dir, context.log.warning)
        reads = step_reads(context.run.run_id, context.get_step_execution_context().step.key)
        manifest = reads.latest(lake, asset, context.run.run_id)
        found = read_document(lake, manifest)
        reads.add_version(manifest)
        return manifest, found

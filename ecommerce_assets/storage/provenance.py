"""What each running step has read so far, so that what it writes can name its inputs exactly.

What a manifest says of it is manifest.py's business.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ecommerce_assets.storage.lake import Day, Lake
from ecommerce_assets.storage.manifest import Input, Manifest


@dataclass
class StepReads:
    """The inputs of one step of one run, and when the first of them was asked for."""

    started: float = field(default_factory=time.monotonic)
    inputs_by_asset: dict[str, list[Input]] = field(default_factory=dict)
    manifests: dict[str, list[Manifest]] = field(default_factory=dict)
    days: dict[str, dict[str, Manifest]] = field(default_factory=dict)
    chosen: dict[str, Manifest] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Input]:
        """What was read, in the order in which it was asked for."""
        return [found for inputs in self.inputs_by_asset.values() for found in inputs]

    def latest(self, lake: Lake, asset: str, run_id: str) -> Manifest:
        """The version of an asset that serves this step: chosen once, so that a later commit does not split its inputs.

        Without this, an index could be found through one model and the model itself be read a moment later, as another.
        """
        if asset not in self.chosen:
            self.chosen[asset] = lake.latest(asset, run_id)
        return self.chosen[asset]

    def add_version(self, manifest: Manifest) -> None:
        """A whole version was read."""
        self.manifests[manifest.asset] = [manifest]
        # Set, not added to: a step that is tried again reads its inputs again.
        self.inputs_by_asset[manifest.asset] = [
            Input(asset=manifest.asset, version=manifest.version, fingerprint=manifest.fingerprint)
        ]

    def add_days(self, days: list[Day]) -> None:
        """Daily partitions were read, each from the version that serves it."""
        by_version: dict[str, list[Day]] = {}
        for day in days:
            by_version.setdefault(day.manifest.version, []).append(day)
        asset = days[0].manifest.asset
        self.manifests[asset] = [served[0].manifest for served in by_version.values()]
        self.days[asset] = {day.day: day.manifest for day in days}
        self.inputs_by_asset[asset] = [
            Input(
                asset=asset,
                version=version,
                partitions=tuple(day.day for day in served),
                fingerprint=served[0].manifest.fingerprint,
            )
            for version, served in by_version.items()
        ]

    def instead(self, inputs: Sequence[Input]) -> StepReads:
        """The same step, made from these inputs and not from those it was handed."""
        return replace(self, inputs_by_asset={made_of.asset: [made_of] for made_of in inputs})

    def add_external(self, inputs: list[Input]) -> None:
        """Files from outside were read."""
        for asset in {found.asset for found in inputs}:
            self.inputs_by_asset[asset] = [found for found in inputs if found.asset == asset]


_STEPS: dict[tuple[str, str], StepReads] = {}


def step_reads(run_id: str, step_key: str) -> StepReads:
    """The record of a step; begun where there is none. All IO managers of a process share it."""
    return _STEPS.setdefault((run_id, step_key), StepReads())

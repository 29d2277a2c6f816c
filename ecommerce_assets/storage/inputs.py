"""Records the inputs of each running step, so that its outputs can name the exact versions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ecommerce_assets.storage import delta
from ecommerce_assets.storage.lake import Day, Lake, VersionNotFoundError
from ecommerce_assets.storage.promoted import Promoted, read_promoted
from ecommerce_assets.storage.reading import read_document, read_version
from ecommerce_assets.storage.step_context import planned_assets, running_step
from ecommerce_assets.storage.stored_asset import Choice
from ecommerce_assets.storage.version import Input, Version

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass
class StepInputs:
    """The inputs of one step of one run, and the time at which it read the first one.

    Attributes
    ----------
    extended
        For each table that the step extends: the number of its newest commit when the step read it.
    """

    started: float = field(default_factory=time.monotonic)
    by_asset: dict[str, list[Input]] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    days: dict[str, list[Day]] = field(default_factory=dict)
    chosen: dict[str, Version] = field(default_factory=dict)
    extended: dict[str, int] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Input]:
        """Returns the inputs in the order in which they were read."""
        return [read for inputs in self.by_asset.values() for read in inputs]

    def latest(self, lake: Lake, asset: str, run_id: str, choose: Choice | None = None) -> Version:
        """Returns the version of an asset for this step. It is chosen once, so that a later commit changes nothing.

        Otherwise a step could read the index of one model and, a moment later, a newer model.

        Parameters
        ----------
        choose
            Returns the version; by default the newest one.
        """
        if asset not in self.chosen:
            self.chosen[asset] = choose(lake, run_id) if choose else lake.latest(asset, run_id)
        return self.chosen[asset]

    def add_version(self, version: Version) -> None:
        """Records that a whole version was read."""
        self.versions[version.asset] = version
        # Assigned, not appended: a step that is retried reads its inputs again.
        self.by_asset[version.asset] = [
            Input(asset=version.asset, version=version.version, fingerprint=version.stats.content or version.version)
        ]

    def add_days(self, days: Sequence[Day]) -> None:
        """Records that days of a daily table were read."""
        asset = days[0].version.asset
        self.days[asset] = list(days)
        by_version: dict[str, list[Day]] = {}
        for day in days:
            by_version.setdefault(day.at, []).append(day)
        self.by_asset[asset] = [
            Input(asset=asset, version=at, partitions=tuple(day.day for day in read), fingerprint=_fingerprint(read))
            for at, read in by_version.items()
        ]

    def replaced(self, inputs: Sequence[Input]) -> StepInputs:
        """Returns a copy with these inputs instead of those that were read."""
        return replace(self, by_asset={entry.asset: [entry] for entry in inputs})

    def add_external(self, inputs: list[Input]) -> None:
        """Records that files from outside the lake were read."""
        for asset in {read.asset for read in inputs}:
            self.by_asset[asset] = [read for read in inputs if read.asset == asset]


def _fingerprint(days: Sequence[Day]) -> str:
    rows = "\n".join(f"{day.day} {day.stats.content or day.version.version}" for day in days)
    return hashlib.sha256(rows.encode()).hexdigest()


_STEPS: dict[tuple[str, str], StepInputs] = {}


def step_inputs(run_id: str, step_key: str) -> StepInputs:
    """Returns the record of a step, a new one at first. All IO managers of a process share it."""
    return _STEPS.setdefault((run_id, step_key), StepInputs())


_PUBLISHED: dict[str, set[str]] = {}


def add_published(context: dg.OutputContext, asset: str) -> str:
    """Records that the run published the asset, and returns its number among the run's assets, such as `3 of 14`.

    Only the steps that this run executes count, such as the selected assets or the steps of a retry. Outside a run, for
    a context that was built by hand, the text is empty.
    """
    planned = planned_assets(context)
    if not planned:
        return ""
    published = _PUBLISHED.setdefault(context.run_id, set())
    published.add(asset)
    return f"{len(published)} of {len(planned)}"


def promoted_field(default: Any, description: str, **limits: Any) -> Any:
    """Returns a config field that is unset by default: `given` leaves it out, and the promoted value is used."""
    return Field(None, description=f"{description} Unset: the promoted value, {_text(default)} by default.", **limits)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def given(config: dg.Config) -> dict[str, Any]:
    """Returns the fields of a config that are set."""
    return {name: value for name, value in config.model_dump(mode="json").items() if value is not None}


class NewestVersions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The newest versions of assets that are optional for a step, and therefore not its arguments."""

    data_dir: str = Field(description="Folder or bucket that holds lake/.")

    def parameters(self, context: dg.AssetExecutionContext, asset: str) -> dict[str, Any]:
        """Returns the parameters of the newest version, empty without one. They are not recorded as an input."""
        try:
            return Lake(self.data_dir, context.log.warning).latest(asset, context.run.run_id).parameters
        except VersionNotFoundError:
            return {}

    def table(
        self, context: dg.AssetExecutionContext, asset: str, spark: SparkSession
    ) -> tuple[Version, DataFrame] | None:
        """Returns the newest version of a table and its rows; None if nothing is published.

        For a table whose versions extend the previous one: if another run publishes it before this step does, the step
        is computed again. It is not recorded as an input, because retention keeps every input of a kept version.

        Raises
        ------
        VersionNotFoundError
            If all versions are damaged.
        """
        lake = Lake(self.data_dir, context.log.warning)
        # Before reading, so that a commit in between is noticed.
        step_inputs(*running_step(context)).extended[asset] = delta.newest_commit(lake.asset(asset))
        if not lake.published(asset):
            return None
        version = lake.latest(asset)
        return version, read_version(spark, lake, version)

    def promoted(self, context: dg.AssetExecutionContext) -> Promoted:
        """Returns the promoted parameters. They are not recorded as an input: a version has the values that it used."""
        return read_promoted(Lake(self.data_dir, context.log.warning))

    def document(self, context: dg.AssetExecutionContext, asset: str) -> tuple[Version, Any]:
        """Returns the newest version of a JSON document and its content, and records it as an input.

        Raises VersionNotFoundError if there is none.
        """
        lake = Lake(self.data_dir, context.log.warning)
        inputs = step_inputs(*running_step(context))
        version = inputs.latest(lake, asset, context.run.run_id)
        inputs.add_version(version)
        return version, read_document(lake, version)

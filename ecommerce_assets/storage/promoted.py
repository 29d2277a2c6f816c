"""Promoted parameters: the shop's choices, in a versioned document of its data dir.

Every run uses them for parameters that its config does not set. Use `promote` and `read_promoted`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import StoredFile, Version

PROMOTED = "promoted_parameters"
"""Name of the document in the lake."""


class Value(BaseModel):
    """A promoted value."""

    model_config = ConfigDict(frozen=True)

    value: Any = Field(description="The value.")
    source: str = Field(description="Where it comes from, such as `als_tuning 20261128_235932_69728bec`.")
    promoted_at: datetime = Field(description="When it was promoted.")


class Promoted(BaseModel):
    """The promoted values, by asset and parameter; a parameter that is missing has its default."""

    model_config = ConfigDict(frozen=True)

    assets: dict[str, dict[str, Value]] = Field(default_factory=dict)

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """Values by asset and parameter."""
        return {asset: self.of(asset) for asset in self.assets}

    def of(self, asset: str) -> dict[str, Any]:
        """Returns the promoted values of one asset, by parameter."""
        return {name: promoted.value for name, promoted in self.assets.get(asset, {}).items()}


def read_promoted(lake: Lake) -> Promoted:
    """Returns the newest document; an empty one if nothing is promoted."""
    version = lake.latest_or_none(PROMOTED)
    return _document(lake, version) if version else Promoted()


def promote(lake: Lake, values: Mapping[str, Mapping[str, Any]], source: str) -> Promoted:
    """Publishes these values, by asset and parameter, over earlier ones; returns all promoted values."""
    now, assets = datetime.now(UTC), dict(read_promoted(lake).assets)
    for asset, changed in values.items():
        new = {name: Value(value=value, source=source, promoted_at=now) for name, value in changed.items()}
        assets[asset] = {**assets.get(asset, {}), **new}
    return _publish(lake, Promoted(assets=assets))


def revert(lake: Lake) -> Promoted:
    """Publishes the previous document again, or the defaults if there is none; returns it.

    Raises
    ------
    VersionNotFoundError
        If nothing is promoted.
    """
    lake.latest(PROMOTED)  # raises if there is none
    previous = next(islice(lake.undamaged(PROMOTED), 1, None), None)
    return _publish(lake, _document(lake, previous) if previous else Promoted())


def _document(lake: Lake, version: Version) -> Promoted:
    return Promoted.model_validate_json(lake.folder(version).read_bytes(f"{PROMOTED}.json"))


def _publish(lake: Lake, promoted: Promoted) -> Promoted:
    name, now = lake.new_folder(), datetime.now(UTC)
    data = json.dumps(promoted.model_dump(mode="json"), indent=2).encode()
    (lake.asset(PROMOTED) / name).write_whole(f"{PROMOTED}.json", data)
    lake.publish_folder(
        Version(
            asset=PROMOTED,
            version=name,
            kind="document",
            folder=name,
            run_id="promote",
            code_version=None,
            spark_application_id=None,
            created_at=now,
            committed_at=now,
            seconds=0.0,
            parameters=promoted.values,
            files=(StoredFile(path=f"{PROMOTED}.json", bytes=len(data)),),
        )
    )
    return promoted

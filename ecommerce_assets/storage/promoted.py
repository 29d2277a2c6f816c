"""Promoted parameters: what a shop has decided, in one small versioned document of its data dir.

Every run uses them where its config has no value. `promote` writes the document, `read_promoted` reads it.
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
"""Name of the document, beside the assets."""


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
        """By asset and parameter."""
        return {asset: self.of(asset) for asset in self.assets}

    def of(self, asset: str) -> dict[str, Any]:
        """The promoted values of one asset, by parameter."""
        return {name: promoted.value for name, promoted in self.assets.get(asset, {}).items()}


def read_promoted(lake: Lake) -> Promoted:
    """The newest document; an empty one where nothing is promoted."""
    version = lake.latest_or_none(PROMOTED)
    return _document(lake, version) if version else Promoted()


def promote(lake: Lake, values: Mapping[str, Mapping[str, Any]], source: str) -> Promoted:
    """Publish these values, by asset and parameter, in place of earlier ones; returns all that are promoted."""
    now, assets = datetime.now(UTC), dict(read_promoted(lake).assets)
    for asset, changed in values.items():
        new = {name: Value(value=value, source=source, promoted_at=now) for name, value in changed.items()}
        assets[asset] = {**assets.get(asset, {}), **new}
    return _publish(lake, Promoted(assets=assets))


def revert(lake: Lake) -> Promoted:
    """Publish the document before the newest again; returns it. The defaults, where there is none before it.

    Raises
    ------
    VersionNotFoundError
        Where nothing is promoted.
    """
    lake.latest(PROMOTED)  # raises where there is none
    earlier = next(islice(lake.whole(PROMOTED), 1, None), None)
    return _publish(lake, _document(lake, earlier) if earlier else Promoted())


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

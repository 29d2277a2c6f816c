"""All parameters that the published lists depend on, and how two sets of them differ.

A shop promotes values (storage/promoted.py); those that it did not promote have the defaults of these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.segmentation.pipeline import SegmentationParameters


@dataclass(frozen=True)
class ListParameters:
    """What the lists are made with."""

    k: int = 10
    exclude: Exclude = Exclude.purchased
    ranker: Ranker = Ranker.blend

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"k": self.k, "exclude": str(self.exclude), "ranker": str(self.ranker)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ListParameters:
        """From values such as a version's parameters; other names are ignored, missing ones get their default."""
        known = {**cls().as_dict(), **{name: value for name, value in values.items() if value is not None}}
        return cls(known["k"], Exclude(known["exclude"]), Ranker(known["ranker"]))


@dataclass(frozen=True)
class Parameters:
    """Parameters by the asset that uses them."""

    segmentation_model: SegmentationParameters = field(default_factory=SegmentationParameters)
    als_model: AlsParameters = field(default_factory=AlsParameters)
    recommendations: ListParameters = field(default_factory=ListParameters)

    @classmethod
    def of(cls, values: Mapping[str, Mapping[str, Any]]) -> Parameters:
        """From values by asset, such as promoted ones; missing ones get their default."""
        return cls(
            SegmentationParameters.of(values.get("segmentation_model", {})),
            AlsParameters.of(values.get("als_model", {})),
            ListParameters.of(values.get("recommendations", {})),
        )

    @classmethod
    def of_evaluation(cls, parameters: Mapping[str, Any]) -> Parameters:
        """From the parameters of a version of als_evaluation."""
        return cls.of(
            {
                "segmentation_model": parameters.get("segmentation", {}),
                "als_model": parameters.get("als", {}),
                "recommendations": parameters,
            }
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """By asset and parameter, as JSON values."""
        return {**asdict(self), "recommendations": self.recommendations.as_dict()}

    def changes(self, since: Parameters) -> dict[str, tuple[Any, Any]]:
        """The values in `since` and here of the parameters that differ, by `asset.parameter`."""
        before, now = since.as_dict(), self.as_dict()
        return {
            f"{asset}.{name}": (before[asset][name], value)
            for asset in (part.name for part in fields(self))
            for name, value in now[asset].items()
            if value != before[asset][name]
        }


def in_words(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """Such as `als_model.rank 8 instead of 50`."""
    return ", ".join(f"{name} {now} instead of {before}" for name, (before, now) in changes.items())

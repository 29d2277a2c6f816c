"""All parameters that the published lists depend on: `Parameters`.

A shop promotes values (storage/promoted.py); parameters without a promoted value have the defaults of these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.lists import Ranker
from ecommerce_assets.segmentation.pipeline import SegmentationParameters


@dataclass(frozen=True)
class ListParameters:
    """Parameters of the lists."""

    k: int = 10
    exclude: Exclude = Exclude.purchased
    ranker: Ranker = Ranker.blend

    def as_dict(self) -> dict[str, Any]:
        """Returns the parameters as JSON values."""
        return {"k": self.k, "exclude": str(self.exclude), "ranker": str(self.ranker)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ListParameters:
        """Reads values such as a version's parameters; ignores other names and uses the defaults for missing ones."""
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
        """Reads values by asset, such as the promoted ones; uses the defaults for missing ones."""
        return cls(
            SegmentationParameters.of(values.get("segmentation_model", {})),
            AlsParameters.of(values.get("als_model", {})),
            ListParameters.of(values.get("recommendations", {})),
        )

    @classmethod
    def of_evaluation(cls, parameters: Mapping[str, Any]) -> Parameters:
        """Reads the parameters of a version of als_evaluation."""
        return cls.of(
            {
                "segmentation_model": parameters.get("segmentation", {}),
                "als_model": parameters.get("als", {}),
                "recommendations": parameters,
            }
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the values by asset and parameter, as JSON values."""
        return {**asdict(self), "recommendations": self.recommendations.as_dict()}

    def changes(self, since: Parameters) -> dict[str, tuple[Any, Any]]:
        """Returns the values in `since` and in these parameters, by `asset.parameter`, where they differ."""
        old = since.as_dict()
        return {
            f"{asset}.{name}": (old[asset][name], value)
            for asset, parameters in self.as_dict().items()
            for name, value in parameters.items()
            if value != old[asset][name]
        }


def in_words(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """Returns the changes of `Parameters.changes` in words, such as `als_model.rank 8 instead of 50`."""
    return ", ".join(f"{name} {new} instead of {old}" for name, (old, new) in changes.items())

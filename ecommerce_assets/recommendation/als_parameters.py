"""The parameters of ALS: `AlsParameters`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class ParamsFrom(StrEnum):
    """Where als_model takes its parameters from."""

    configured = "configured"
    tuned = "tuned"


@dataclass(frozen=True)
class AlsParameters:
    """Parameters of ALS by Spark's names, and the half-life of the ratings.

    Attributes
    ----------
    halfLife
        Days in which a rating loses half of its weight; None: all ratings keep their weight. See `weigh_by_recency`.
    """

    rank: int = 50
    maxIter: int = 15
    regParam: float = 0.1
    alpha: float = 1.0
    nonnegative: bool = True
    seed: int = 42
    halfLife: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns all parameters as they are recorded with a version."""
        return asdict(self)

    def spark_params(self) -> dict[str, Any]:
        """Returns the parameters of the two engines: all but the half-life, which changes only the ratings."""
        return {name: value for name, value in asdict(self).items() if name != "halfLife"}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AlsParameters:
        """Reads a version's parameters; ignores other names and uses the defaults for missing ones."""
        names = [field.name for field in fields(cls)]
        known = {name: values[name] for name in names if values.get(name) is not None}
        return cls(**{**known, "halfLife": known.get("halfLife") or None})

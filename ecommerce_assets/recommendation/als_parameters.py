"""What ALS is trained with, and which of the two engines trains it. The fit itself is als.py's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class Engine(StrEnum):
    """What computes the factors."""

    auto = "auto"
    local = "local"
    mllib = "mllib"


class ParamsFrom(StrEnum):
    """Where the parameters that a model is trained with come from."""

    configured = "configured"
    tuned = "tuned"


@dataclass(frozen=True)
class AlsParameters:
    """Parameters of ALS, by Spark's names."""

    rank: int = 50
    maxIter: int = 15
    regParam: float = 0.1
    alpha: float = 1.0
    nonnegative: bool = True
    seed: int = 42

    def as_dict(self) -> dict[str, Any]:
        """By Spark's names."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AlsParameters:
        """Those among `values`, such as a version's parameters; the others are not ours."""
        names = [own.name for own in fields(cls)]
        return cls(**{name: values[name] for name in names if name in values})

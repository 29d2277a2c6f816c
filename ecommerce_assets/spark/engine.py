"""Which of two engines computes a model: `local`, in this process, or `mllib`, Spark on any cluster.

`choose_engine` is the entry point; each model estimates the memory that its local engine needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pyspark.sql import SparkSession

from ecommerce_assets.spark.connect import master_of
from ecommerce_assets.spark.free_memory import free_memory

MEMORY_SHARE = 0.5
"""Of the memory that is free, what the local engine may plan with; the rest is Spark's and the estimate's error."""


class Engine(StrEnum):
    """What computes the model."""

    auto = "auto"
    local = "local"
    mllib = "mllib"


@dataclass(frozen=True)
class EngineChoice:
    """An engine, never `auto`, and in one sentence why it."""

    engine: Engine
    reason: str


def choose_engine(spark: SparkSession, engine: Engine, estimate: Callable[[], tuple[str, int]]) -> EngineChoice:
    """Returns the engine that is asked for; `auto`: local where Spark runs on this machine and the data fit in memory.

    Parameters
    ----------
    estimate
        Returns what is computed from, such as `615,000 pairs`, and the bytes that the local engine needs for it, which
        may be half of the memory that is free now. Called only where it matters.
    """
    if engine != Engine.auto:
        return EngineChoice(Engine(engine), f"Engine {engine}, as the configuration asks.")
    if not is_local(spark):
        return EngineChoice(Engine.mllib, f"Engine mllib, because Spark runs on a cluster ({master_of(spark)}).")
    what, needed = estimate()
    free = free_memory()
    told = f"{what} need about {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
    if needed <= MEMORY_SHARE * free:
        return EngineChoice(Engine.local, f"Engine local, because Spark runs on this machine and {told}.")
    return EngineChoice(Engine.mllib, f"Engine mllib, because {told}, of which half may be used.")


def is_local(spark: SparkSession) -> bool:
    """Whether Spark runs in a process of this machine."""
    return master_of(spark).startswith("local")

"""Chooses the engine that computes a model: `local`, this process, or `mllib`, Spark on any cluster.

`choose_engine` is the entry point; each model estimates the memory that its local engine needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pyspark.sql import SparkSession

from ecommerce_assets.spark import sail
from ecommerce_assets.spark.connect import master_of

MEMORY_SHARE = 0.5
"""Share of the free memory that the estimate may reach; the rest is for Spark, and for errors of the estimate."""


class Engine(StrEnum):
    """The engine that computes a model; `auto` lets `choose_engine` decide."""

    auto = "auto"
    local = "local"
    mllib = "mllib"


class NoEngineError(ValueError):
    """No engine can compute the model; the message is a sentence that says what to do."""


@dataclass(frozen=True)
class EngineChoice:
    """The chosen engine, `local` or `mllib`, and the reason in one sentence."""

    engine: Engine
    reason: str


def choose_engine(spark: SparkSession, engine: Engine, estimate: Callable[[], tuple[str, int]]) -> EngineChoice:
    """Returns the engine that is asked for; `auto`: local if Spark runs on this machine and the data fit in memory.

    Parameters
    ----------
    estimate
        Returns the size of the data, such as `615,000 pairs`, and the bytes that the local engine needs for them. The
        data fit if this is at most half of the free memory. Called only for `auto` with Spark on this machine.

    Raises
    ------
    NoEngineError
        If Sail runs, which has no `mllib`, and it is asked for or the data do not fit.
    """
    on_sail = sail.is_sail(spark)
    if on_sail and engine == Engine.mllib:
        raise NoEngineError(f"The engine mllib needs Spark, {sail.USE_SPARK}; Sail has the engine local.")
    if engine != Engine.auto:
        return EngineChoice(Engine(engine), f"Engine {engine}, as the configuration asks.")
    if not is_local(spark):
        return EngineChoice(Engine.mllib, f"Engine mllib, because Spark runs on a cluster ({master_of(spark)}).")
    what, needed = estimate()
    free = free_memory()
    memory = f"{what} need about {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
    if needed <= MEMORY_SHARE * free:
        return EngineChoice(Engine.local, f"Engine local, because Spark runs on this machine and {memory}.")
    if on_sail:
        raise NoEngineError(
            f"{memory}, of which half may be used: use Spark, {sail.USE_SPARK}, whose engine mllib needs less."
        )
    return EngineChoice(Engine.mllib, f"Engine mllib, because {memory}, of which half may be used.")


def is_local(spark: SparkSession) -> bool:
    """Returns whether Spark runs on this machine only, without a cluster."""
    return master_of(spark).startswith(("local", sail.MASTER))


def free_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the bytes that this process can still use, on the machine or in the container.

    Half of all memory if the system does not report it, as on macOS.
    """
    try:
        free = 1024 * int(_counters(meminfo)["MemAvailable:"])
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        # Cached pages of files count as used, but the system frees them when memory is needed.
        return max(0, min(free, limit - used + int(_counters(cgroup / "memory.stat")["inactive_file"])))
    except (OSError, ValueError):  # there is no container, or it has no limit
        return free


def _counters(file: Path) -> dict[str, str]:
    return {name: value for name, value, *_ in map(str.split, file.read_text().splitlines())}

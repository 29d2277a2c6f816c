"""The whole graph, by Dagster's command, from an empty lake and an empty DAGSTER_HOME."""

from __future__ import annotations

import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ecommerce_assets.settings import Settings, variable
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.benchmarks import process
from ecommerce_assets_tests.benchmarks.events import FIRST_DAY, LAST_DAY
from ecommerce_assets_tests.benchmarks.part import Place, run_part

INSTANCE = Path(__file__).parents[2] / ".dagster" / "dagster.yaml"


def compile_kernels() -> float:
    """Compiles the kernels of ALS with Numba, as the first fit on a machine does; returns the seconds."""
    from ecommerce_assets.recommendation.local_als import LocalAls

    started = time.perf_counter()
    pair = np.zeros(1, np.int32)
    for _ in LocalAls(pair, pair, np.ones(1, np.float32)).run(1):
        pass
    return time.perf_counter() - started


def command(*options: str) -> list[str]:
    """Returns Dagster's command with these options."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    return [dagster, "asset", "materialize", "-m", "ecommerce_assets.definitions", *options]


EVERYTHING = ("--select", "*", "--partition-range", f"{FIRST_DAY}...{LAST_DAY}")
ONE_DAY = ("--select", "cleaned_events,rejected_events", "--partition", f"{LAST_DAY}")


def environment(place: Place, home: Path, master: str) -> dict[str, str]:
    """Returns the environment of this process with the settings of the benchmark only."""
    return {
        **os.environ,
        **dict.fromkeys(map(variable, Settings.model_fields), ""),
        "DAGSTER_HOME": str(home),
        "OPENLINEAGE_DISABLED": "true",
        "ECOMMERCE_DATA_DIR": str(place.shop),
        "ECOMMERCE_SPARK_MASTER": master,
        "ECOMMERCE_FIRST_DAY": str(FIRST_DAY),
        "ECOMMERCE_LAST_DAY": str(LAST_DAY),
        "ECOMMERCE_DRIVER_MEMORY": place.memory,
        "ECOMMERCE_EXECUTOR_MEMORY": place.memory,
    }


def seconds_by_asset(shop: Path, started: datetime, ended: datetime) -> dict[str, float]:
    """Returns the seconds recorded with the newest versions, in order, and the seconds before and after them.

    `before the first asset` is the time of Dagster, imports and the JVM until raw rows are read.
    """
    lake = Lake(str(shop))
    versions = sorted((lake.latest(name) for name in lake.assets()), key=lambda version: version.committed_at)
    starts = [version.committed_at - timedelta(seconds=version.seconds) for version in versions]
    return {
        "before the first asset": (min(starts) - started).total_seconds(),
        **{version.asset: version.seconds for version in versions},
        "after the last asset": (ended - versions[-1].committed_at).total_seconds(),
    }


def check_seconds(shop: Path) -> dict[str, float]:
    """Returns the part of the seconds by asset that the checks took."""
    lake = Lake(str(shop))
    versions = [lake.latest(name) for name in lake.assets()]
    return {v.asset: v.check_seconds for v in versions if v.check_seconds is not None}


def measure(place: Place, name: str = "graph", master: str = "local[*]") -> dict[str, Any]:
    """Returns wall seconds, peak memory and seconds by asset, and the seconds of cleaning one day alone."""
    compiled = compile_kernels()  # measured by kernels.py, and not part of the graph's seconds
    shutil.rmtree(place.shop / "lake", ignore_errors=True)
    work = place.work(name)
    home = work / "dagster_home"
    home.mkdir()
    shutil.copy(INSTANCE, home)

    def run(step: str, options: tuple[str, ...]) -> process.Finished:
        # In the work folder, in which there is no .env.
        finished = process.run(command(*options), work / step, cwd=work, env=environment(place, home, master))
        if finished.exit_code:
            raise RuntimeError(f"the graph ended with {finished.exit_code}; see {work}/{step}.err")
        return finished

    started = datetime.now(UTC)
    finished = run("dagster", EVERYTHING)
    stages = seconds_by_asset(place.shop, started, datetime.now(UTC))
    checks = check_seconds(place.shop)
    run("one_day", ONE_DAY)
    cleaned = Lake(str(place.shop)).latest("cleaned_events")
    [day], one_day = cleaned.days, cleaned.seconds
    return {
        "seconds": finished.seconds,
        "peak_bytes": finished.peak_bytes,
        "stages": stages,
        "check_seconds": checks,
        "kernels_ready_seconds": compiled,
        "notes": [f"cleaning {day} again, alone, took {one_day:.1f} s, all days {stages['cleaned_events']:.1f} s."],
    }


if __name__ == "__main__":
    run_part(measure)

"""Ours on Sail: the same command as in graph.py, without Java."""

from __future__ import annotations

from typing import Any

from ecommerce_assets_tests.benchmarks import graph
from ecommerce_assets_tests.benchmarks.part import Place, Skipped, missing, run_part


def measure(place: Place) -> dict[str, Any]:
    """What graph.py measures."""
    if missing("pysail"):
        raise Skipped("pysail is not installed; `uv run --no-group newest --extra sail --group bench` brings it.")
    return graph.measure(place, "sail", "sail")


if __name__ == "__main__":
    run_part(measure)

"""The whole graph on Sail, by the command of graph.py."""

from __future__ import annotations

from typing import Any

from ecommerce_assets_tests.benchmarks import graph
from ecommerce_assets_tests.benchmarks.part import Place, Skipped, missing, run_part


def measure(place: Place) -> dict[str, Any]:
    """Returns the results of graph.py."""
    if missing("pysail"):
        raise Skipped("pysail is not installed: use `uv run --no-group newest --extra sail --group bench`.")
    return graph.measure(place, "sail", "sail")


if __name__ == "__main__":
    run_part(measure)

"""The option `--engine`, as a plugin, because pytest reads the options in conftest.py too late for `addopts`."""

from __future__ import annotations

import pytest

SAIL = "sail"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option."""
    parser.addoption(
        "--engine", choices=["spark", SAIL], default="spark", help="engine of the session that the tests share"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", "spark_only: needs Spark itself: Java, Spark ML, column lineage")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips marked tests, and those of the engine mllib, on Sail."""
    if config.getoption("engine") == SAIL:
        for item in items:
            if item.get_closest_marker("spark_only") or "mllib" in item.name:
                item.add_marker(pytest.mark.skip(reason="needs Spark itself"))

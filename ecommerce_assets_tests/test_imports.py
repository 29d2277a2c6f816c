"""Import rules, read from the source: imports inside functions and for type checkers count too."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ecommerce_assets

PACKAGE = Path(ecommerce_assets.__file__).parent
PACKAGES = (
    *("spark", "storage", "openlineage", "events", "features", "segmentation", "recommendation", "training_metadata"),
    *("lookup", "delivery"),
)
"""A package imports only itself and the packages before it."""

USES_DAGSTER = {
    # in any package
    *("assets", "checks", "partitions", "sensor", "tuning_assets", "backtest_assets", "catalog_assets"),
    # at the top level
    *("definitions", "asset_specs", "automation", "recovery", "alerts", "on_demand", "materialize", "training", "runs"),
    "resources",
    # resources, IO managers and metadata
    *("spark.resource", "events.readers", "storage.asset_checks", "storage.inputs", "storage.io_managers"),
    *("storage.metadata", "storage.step_context"),
}
"""Modules that use Dagster, by name or by last part of the name. All others run and are tested without it."""


@cache
def imports() -> dict[str, set[str]]:
    """Returns for each module (`storage.lake`, `settings`) the modules and other distributions that it imports."""
    files = {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): file
        for file in PACKAGE.rglob("*.py")
        if file.parent != PACKAGE or file.name != "__init__.py"
    }
    return {name: _imported(file, set(files)) for name, file in files.items()}


def _imported(file: Path, modules: set[str]) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: use absolute imports"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {_module(name.removeprefix("ecommerce_assets."), modules) for name in names}


def _module(name: str, modules: set[str]) -> str:
    parent = name.rpartition(".")[0]
    return name if name in modules else parent if parent in modules else name.partition(".")[0]


def package(module: str) -> str | None:
    first = module.partition(".")[0]
    return first if first in PACKAGES else None


def uses_dagster(module: str) -> bool:
    return module in USES_DAGSTER or module.rpartition(".")[2] in USES_DAGSTER


def test_a_package_imports_only_packages_before_it() -> None:
    assert {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()} == set(PACKAGES)
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if package(module) and package(other) in PACKAGES[PACKAGES.index(str(package(module))) + 1 :]
    ]
    assert wrong == []


def test_a_package_imports_no_top_level_module_that_imports_packages() -> None:
    upper = {m for m, others in imports().items() if not package(m) and any(package(other) for other in others)}
    assert "definitions" in upper
    assert "settings" not in upper
    wrong = [f"{m} imports {other}" for m, others in imports().items() for other in others & upper if package(m)]
    assert wrong == []


def test_only_definitions_imports_all_packages() -> None:
    of_the_graph = set(PACKAGES) - {"lookup", "delivery", "openlineage", "spark"}
    assert [m for m, others in imports().items() if of_the_graph <= {package(other) for other in others}] == [
        "definitions"
    ]


def test_imports_have_no_cycle() -> None:
    try:
        TopologicalSorter({m: others - {m} for m, others in imports().items()}).prepare()
    except CycleError as error:
        pytest.fail(f"cycle of imports: {' <- '.join(error.args[1])}")


def test_only_the_listed_modules_import_dagster_themselves_or_through_others() -> None:
    direct = {m for m, others in imports().items() if any(other.startswith("dagster") for other in others)}
    assert {m for m in direct if not uses_dagster(m)} == set()
    assert direct | {m.rpartition(".")[2] for m in direct} >= USES_DAGSTER, "remove the others from USES_DAGSTER"
    reached: dict[str, set[str]] = {}

    def reach(module: str) -> set[str]:
        if module not in reached:
            reached[module] = others = set(imports().get(module, ()))
            for other in tuple(others):
                others |= reach(other)
        return reached[module]

    above_storage = [m for m in imports() if package(m) in PACKAGES[2:] and not uses_dagster(m)]
    assert [m for m in above_storage if "dagster" in reach(m)] == []

"""Who may import whom, read off the source: imports within functions and for type checkers count too."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ecommerce_assets

PACKAGE = Path(ecommerce_assets.__file__).parent
ROOMS = (
    *("spark", "storage", "openlineage", "events", "features", "segmentation", "recommendation", "training_metadata"),
    *("lookup", "delivery"),
)
"""From the ground up: a room imports itself and the rooms before it."""

KNOWS_DAGSTER = {
    # by name, in any room
    "assets",
    "checks",
    "partitions",
    "sensor",
    "tuning_assets",
    "backtest_assets",
    "catalog_assets",
    # the roof
    "definitions",
    "asset_specs",
    "automation",
    "recovery",
    "alerts",
    "on_demand",
    "materialize",
    "training",
    # the records of runs
    "runs",
    # what Dagster calls resources and IO managers, and what is told to its UI
    "spark.resource",
    "resources",
    "storage.asset_checks",
    "storage.inputs",
    "storage.io_managers",
    "storage.metadata",
    "storage.step_context",
    "events.readers",
}
"""All other modules are pure: they run in a notebook, and are tested, without Dagster."""


@cache
def imports() -> dict[str, set[str]]:
    """By module (`storage.lake`, `settings`): the modules of this package that it imports, and the other packages."""
    files = {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): file
        for file in PACKAGE.rglob("*.py")
        if file.parent != PACKAGE or file.name != "__init__.py"
    }
    return {name: _imported(file, set(files)) for name, file in files.items()}


def _imported(file: Path, modules: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {_module(name.removeprefix("ecommerce_assets."), modules) for name in found}


def _module(name: str, modules: set[str]) -> str:
    """The module itself where the name is something in it, the package where it is none of ours."""
    parent = name.rpartition(".")[0]
    return name if name in modules else parent if parent in modules else name.partition(".")[0]


def room(module: str) -> str | None:
    first = module.partition(".")[0]
    return first if first in ROOMS else None


def test_the_rooms_are_all_there_is() -> None:
    assert {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()} == set(ROOMS)


@pytest.mark.parametrize("own", ROOMS)
def test_a_room_imports_downwards_only(own: str) -> None:
    below = ROOMS[: ROOMS.index(own) + 1]
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if room(module) == own and room(other) and room(other) not in below
    ]
    assert wrong == []


def test_a_room_imports_no_module_that_knows_rooms() -> None:
    """So what lies beside the rooms is either below all of them (settings, plotting …) or above (definitions …)."""
    roof = {m for m, others in imports().items() if not room(m) and any(room(other) for other in others)}
    assert "definitions" in roof
    assert "settings" not in roof
    wrong = [f"{m} imports {other}" for m, others in imports().items() for other in others & roof if room(m)]
    assert wrong == []


def test_only_the_roof_knows_all_rooms() -> None:
    of_the_graph = set(ROOMS) - {"lookup", "delivery", "openlineage", "spark"}
    know_all = [m for m, others in imports().items() if of_the_graph <= {room(other) for other in others}]
    assert know_all == ["definitions"]


def test_nothing_imports_in_a_circle() -> None:
    try:
        TopologicalSorter({m: others - {m} for m, others in imports().items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_pure_modules_do_not_import_dagster() -> None:
    know = {m for m, others in imports().items() if any(other.startswith("dagster") for other in others)}
    assert {m for m in know if m not in KNOWS_DAGSTER and m.rpartition(".")[2] not in KNOWS_DAGSTER} == set()
    names = know | {m.rpartition(".")[2] for m in know}
    assert names >= KNOWS_DAGSTER, "these do not import Dagster any more, so take them off the list"


def test_a_pure_module_of_a_room_does_not_reach_dagster_either() -> None:
    reached: dict[str, set[str]] = {}

    def reach(module: str) -> set[str]:
        if module not in reached:
            reached[module] = others = set(imports().get(module, ()))
            for other in tuple(others):
                others |= reach(other)
        return reached[module]

    wrong = [
        m
        for m in imports()
        if room(m) in ROOMS[2:]
        and m not in KNOWS_DAGSTER
        and m.rpartition(".")[2] not in KNOWS_DAGSTER
        and "dagster" in reach(m)
    ]
    assert wrong == []

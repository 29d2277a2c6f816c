"""Tests mirror the package, and nothing in either is too long to be read: files, functions, openings."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "ecommerce_assets"
FILE_LINES, FUNCTION_LINES = 400, 45
LONG = {"recommendation/als_kernels: solve_nonnegative", "recommendation/als_kernels: solve_unconstrained"}
"""Functions that may be longer: dealt out to short ones, a fit was a fifth slower."""

ACROSS = {
    "test_commands": "the commands of dagster and dg, and the workflow, as a shell runs them",
    "test_contributing": "the README's steps to a new asset",
    "test_graph": "the whole graph over a small shop, and what must hold of all its assets together",
    "test_imports": "who may import whom",
    "test_layout": "this",
    "test_readme": "the README's picture, tables and commands",
    "test_ui": "the UI in a browser",
    "events/test_bad_input": "landing, raw files and cleaning, by kind of bad input",
    "lookup/test_main": "the command of lookup/__main__",
    "features/test_conservation": "user_features and product_features against the same events",
    "spark/test_cluster": "the graph on a cluster beside the graph on one machine",
    "storage/test_computed_once": "the IO managers and the asset checks behind them",
    "storage/test_concurrency": "writers, readers and retention at the same time",
    "storage/test_main": "the commands of storage/__main__",
    "storage/test_kill": "a writer killed at many moments",
    "storage/test_other_file_systems": "all of storage on a bucket",
    "benchmarks/test_benchmarks": "the benchmarks themselves, which no user of the package imports",
}
"""Tests that are about no single module, by what they are about."""

COVERED_BY = {
    "on_demand": "test_definitions",
    "plotting": "features/test_plots",
    "events/arrivals": "events/test_sensor",
    "events/assets": "test_graph",
    "events/partitions": "test_definitions",
    "events/readers": "test_graph",
    "events/sample_shop": "events/test_sample",
    "features/assets": "test_graph",
    "features/checks": "features/test_conservation",
    "features/funnel": "features/test_plots",
    "features/rfm": "features/test_plots",
    "lookup/__main__": "lookup/test_main",
    "lookup/advice": "lookup/test_main",
    "lookup/printing": "lookup/test_main",
    "lookup/tables": "lookup/test_users",
    "recommendation/als_kernels": "recommendation/test_local_als",
    "recommendation/als_grouping": "recommendation/test_local_als",
    "recommendation/als_parameters": "recommendation/test_als",
    "recommendation/assets": "test_graph",
    "recommendation/compiled": "recommendation/test_local_als",
    "recommendation/judging": "recommendation/test_evaluation",
    "recommendation/tuning_assets": "recommendation/test_tuning",
    "recommendation/tuning_document": "recommendation/test_tuning",
    "recommendation/tuning_trials": "recommendation/test_tuning",
    "segmentation/assets": "test_graph",
    "segmentation/checks": "segmentation/test_by_k",
    "storage/__main__": "storage/test_main",
    "storage/ancestry": "storage/test_main",
    "storage/artifact": "storage/test_computed_once",
    "storage/asset_spec": "storage/test_computed_once",
    "storage/auditing": "storage/test_computed_once",
    "storage/before": "storage/test_drift_audits",
    "storage/content": "storage/test_main",
    "storage/filesystem": "storage/test_other_file_systems",
    "storage/inventory": "storage/test_main",
    "storage/io_managers": "storage/test_computed_once",
    "storage/manifest": "storage/test_lake",
    "storage/markdown": "storage/test_metadata",
    "storage/newest": "recommendation/test_tuning",
    "storage/pictures": "storage/test_notes",
    "storage/table_audits": "storage/test_audits",
    "storage/tables": "storage/test_audits",
    "storage/verification": "storage/test_main",
    "storage/writers": "storage/test_concurrency",
    "training_metadata/assets": "test_graph",
    "training_metadata/document": "training_metadata/test_card",
}
"""Modules without a test of their name, by the test that exercises them."""


@cache
def sources() -> dict[Path, ast.Module]:
    return {file: ast.parse(file.read_text()) for folder in (PACKAGE, TESTS) for file in folder.rglob("*.py")}


def names(folder: Path) -> dict[str, ast.Module]:
    """By path below the folder, without `.py`; a package's `__init__` is left out."""
    found = {file: tree for file, tree in sources().items() if file.is_relative_to(folder)}
    return {
        str(file.relative_to(folder).with_suffix("")): tree
        for file, tree in found.items()
        if file.name != "__init__.py"
    }


@cache
def files_of_tests() -> set[str]:
    return {name for name in names(TESTS) if name.rpartition("/")[2].startswith("test_")}


def has_logic(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))


def test_a_test_file_names_a_module_or_package() -> None:
    """`events/test_landing_errors` is one about `events/landing`."""
    ours = {*names(PACKAGE), *(str(init.parent.relative_to(PACKAGE)) for init in PACKAGE.rglob("__init__.py"))}
    own = {name: name.replace("test_", "", 1) for name in files_of_tests() - set(ACROSS)}
    assert {
        name for name, about in own.items() if about not in ours and not any(about.startswith(f"{o}_") for o in ours)
    } == set()


def test_a_module_with_logic_has_a_test() -> None:
    """A module of its name, one of its package's name within a room, or the one that COVERED_BY names."""
    without = {name for name, tree in names(PACKAGE).items() if has_logic(tree) and not own_tests(name)}
    assert without - set(COVERED_BY) == set(), "write a test of this name, or name the one that covers it"
    assert set(COVERED_BY) - without == set(), "these have a test of their own by now, or are gone"


def own_tests(module: str) -> set[str]:
    folder, _, name = module.rpartition("/")
    room, _, package = folder.rpartition("/")
    return {f"{folder}/test_{name}".lstrip("/"), *([f"{room}/test_{package}"] if room else [])} & files_of_tests()


def test_the_exceptions_are_there() -> None:
    assert set(ACROSS) <= files_of_tests()
    assert set(COVERED_BY.values()) <= files_of_tests()


@pytest.mark.parametrize("folder", [PACKAGE, TESTS], ids=lambda folder: folder.name)
def test_nothing_needs_scrolling(folder: Path) -> None:
    long = [
        f"{file.relative_to(folder.parent)}: {lines} lines"
        for file in sources()
        if file.is_relative_to(folder) and (lines := len(file.read_text().splitlines())) > FILE_LINES
    ]
    for name, tree in names(folder).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (lines := length(node)) > FUNCTION_LINES:
                own = f"{name}: {node.name}"
                long += [] if own in LONG else [f"{own} has {lines} lines"]
    assert long == []


def test_every_module_says_what_belongs_in_it() -> None:
    silent = [str(f.relative_to(TESTS.parent)) for f, tree in sources().items() if tree.body and not opens(tree)]
    assert silent == []


def length(function: ast.FunctionDef) -> int:
    """Lines without the docstring."""
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_what_others_call_is_described() -> None:
    """Functions and classes of the package that do not begin with an underscore."""
    silent = [
        f"{name}: {node.name}"
        for name, tree in names(PACKAGE).items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_" and not ast.get_docstring(node)
    ]
    assert silent == []


def opens(tree: ast.Module) -> bool:
    return bool(ast.get_docstring(tree))

"""PySpark and Dagster are used by their public API, except in one module each; executors need few packages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ecommerce_assets

PACKAGE = Path(ecommerce_assets.__file__).parent
PRIVATE_PYSPARK = "spark/column_lineage.py"
NAMED_TUPLE = {"_asdict", "_fields", "_replace"}
"""Public methods and fields of named tuples."""
PRIVATE_MODULES = ("py4j", "pyspark.java_gateway")


@cache
def trees() -> dict[str, ast.Module]:
    return {str(file.relative_to(PACKAGE)): ast.parse(file.read_text()) for file in PACKAGE.rglob("*.py")}


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Yields the names of functions, classes, fields and attributes that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            for target in [node.target] if isinstance(node, ast.AnnAssign) else node.targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        yield part.id
                    elif (
                        isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self"
                    ):
                        yield part.attr


def private_uses(tree: ast.Module, ours: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            if node.attr not in ours | NAMED_TUPLE:
                yield node.attr
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(PRIVATE_MODULES))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            if node.module.startswith(PRIVATE_MODULES) or (
                node.module.startswith("pyspark") and any(name.startswith("_") for name in names)
            ):
                yield f"{node.module}: {', '.join(names)}"


def test_one_module_uses_private_names_of_pyspark() -> None:
    parsed = trees()
    ours = {name for tree in parsed.values() for name in defined_names(tree) if name.startswith("_")}
    used = {file: sorted(set(private_uses(tree, ours))) for file, tree in parsed.items()}
    assert {file: names for file, names in used.items() if names} == {PRIVATE_PYSPARK: ["_jdf"]}


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_imports_private_modules_of_dagster() -> None:
    private = [name for tree in trees().values() for name in imported(tree) if re.match(r"dagster\w*\..*\b_", name)]
    assert private == []


def test_one_module_uses_the_private_context_of_a_step() -> None:
    private = {"step_context", "get_step_execution_context"}
    users = {
        file
        for file, tree in trees().items()
        if any(isinstance(node, ast.Attribute) and node.attr in private for node in ast.walk(tree))
    }
    assert users == {"storage/step_context.py"}


def test_code_of_executors_imports_only_numpy_pandas_and_pyarrow() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('dagster', 'deltalake', 'fsspec', 'numba', 'pydantic', 'sklearn')))\n"
        "import ecommerce_assets.recommendation.recommend, ecommerce_assets.recommendation.scoring\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

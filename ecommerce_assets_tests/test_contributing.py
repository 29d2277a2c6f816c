"""The example of CONTRIBUTING.md, applied to a copy of the project step by step."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest
import yaml

from ecommerce_assets.storage.lake import Lake

PROJECT = Path(__file__).parents[1]
PACKAGES = ("ecommerce_assets", "ecommerce_assets_tests")
ASSET = dg.AssetKey("brand_features")


def section() -> str:
    page = (PROJECT / ".github" / "CONTRIBUTING.md").read_text()
    return page.partition("\n## Add an asset\n")[2].partition("\n## ")[0]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)


def apply(project: Path) -> None:
    """Writes the `python` blocks as new files and applies the `diff` blocks; their first lines have the file."""
    for block in blocks("python"):
        file = project / block.partition("\n")[0].removeprefix("# ")
        assert not file.exists()
        file.write_text(block.partition("\n")[2])
    for block in blocks("diff"):
        name, _, hunks = block.partition("\n")
        file = project / name.removeprefix("# ")
        for hunk in hunks.rstrip("\n").split("\n@@\n"):
            lines = hunk.split("\n")
            old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
            text = file.read_text()
            assert f"\n{text}".count(f"\n{old}\n") == 1, f"{name} must have these lines once:\n{old}"
            file.write_text(text.replace(old, "\n".join(line[1:] for line in lines if not line.startswith("-"))))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("clone")
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "benchmarks")
        shutil.copytree(PROJECT / name, project / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "workspace.yaml"):
        shutil.copy(PROJECT / name, project)
    (project / "data").symlink_to(PROJECT / "data")
    apply(project)
    return project


@pytest.fixture
def definitions(changed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The definitions of the copy, imported in place of the package until the end of the test."""
    originals = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES}
    for name in originals:
        del sys.modules[name]
    monkeypatch.syspath_prepend(str(changed))
    try:
        import ecommerce_assets.definitions as module

        assert module.__file__ == str(changed / "ecommerce_assets" / "definitions.py")
        yield module
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
        sys.modules.update(originals)


def test_the_six_steps_add_an_asset(definitions: ModuleType, tmp_path: Path) -> None:
    assert re.findall(r"^\*\*(\d)\. ", section(), re.MULTILINE) == [str(step) for step in range(1, 7)]
    settings = definitions.load_settings(data_dir=str(tmp_path))
    graph = definitions.build_defs(settings).resolve_asset_graph()
    node = graph.get(ASSET)
    assert node.group_name == "features"
    assert node.parent_keys == {dg.AssetKey("product_features")}
    assert node.description == "Products, purchases and revenue of each brand."
    checks = {key.name: graph.get_check_spec(key).blocking for key in graph.get_check_keys_for_assets({ASSET})}
    assert checks.items() >= {"no_nulls": True, "unique_key": True, "amounts_in_range": True}.items()
    columns = {column.name: column.type for column in node.metadata["dagster/column_schema"].columns}
    assert columns == {"brand": "string", "products": "bigint", "purchases": "bigint", "revenue": "double"}


def test_the_example_passes_ruff(changed: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, "."], cwd=changed, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_commit_hooks_use_the_environment_of_the_project() -> None:
    repositories = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system"
        uv, run, no_sync, program, *_ = hook["entry"].split()
        assert (uv, run, no_sync) == ("uv", "run", "--no-sync")
        assert Path(sys.executable).with_name(program).exists()


@pytest.mark.trial
def test_the_commands_of_the_last_step_record_test_and_materialise_the_asset(changed: Path, tmp_path: Path) -> None:
    (changed / "data").unlink()
    shutil.copytree(PROJECT / "data" / "raw", changed / "data" / "raw")
    environment = {
        **os.environ,
        "PYTHONPATH": str(changed),
        "DAGSTER_HOME": str(tmp_path),
        "ECOMMERCE_DRIVER_MEMORY": "2g",
        "TMPDIR": str(tmp_path),  # the tests' Spark holds the lock of the machine
    }

    def run(command: str) -> None:
        program, *arguments = shlex.split(command.removeprefix("uv run "))
        done = subprocess.run(
            [Path(sys.executable).with_name(program), *arguments],
            cwd=changed,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    upstream = "cleaned_events,rejected_events,product_features --partition-range 2019-10-01...2019-10-08"
    run(f"dagster asset materialize -m ecommerce_assets.definitions --select {upstream}")
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        run(command)
    assert "brand_features" in (changed / "ecommerce_assets_tests" / "asset_graph.json").read_text()
    version = Lake(str(changed / "data")).latest("brand_features")
    assert version.stats.rows
    assert set(version.column_lineage) == {"brand", "products", "purchases", "revenue"}

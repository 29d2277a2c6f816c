"""The workflow for GitHub Actions, the subcommands, and the exit codes of Dagster's commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from ecommerce_assets.cli import COMMANDS, main
from ecommerce_assets.definitions import CATALOG, ON_DEMAND
from ecommerce_assets_tests.helpers import event, write_day

PROJECT = Path(__file__).parents[1]
WORKFLOW = PROJECT / ".github" / "workflows" / "ci.yml"
BIN = Path(sys.executable).parent


def test_the_workflow_is_valid_and_calls_the_commands_of_the_readme() -> None:
    checked = subprocess.run(  # with the schema of the package
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    steps = [step["run"] for step in jobs["test-and-run"]["steps"] if "run" in step]
    called = [step.replace('--with "$SPARK" ', "") for step in steps]  # one version of PySpark per job
    lines = (PROJECT / "README.md").read_text().splitlines()
    assert called == [
        next(line for line in lines if words in line) for words in ("uv run pytest", "uv run ecommerce-assets run")
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_subcommand_has_an_example_and_is_in_the_readme(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert re.search(rf"Examples?:\s+.*ecommerce-assets {name}\b", str(command.help))
    assert name == "java-home" or re.search(rf"^\|.*`{name}`", (PROJECT / "README.md").read_text(), re.MULTILINE)


def run(home: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the project's folder, with a separate instance of Dagster and a separate lock for Spark."""
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "TMPDIR": str(home),
        "ECOMMERCE_DRIVER_MEMORY": "2g",
        **variables,
    }
    return subprocess.run(
        [BIN / command[0], *command[1:]], cwd=PROJECT, env=environment, capture_output=True, text=True
    )


@pytest.mark.trial
def test_a_failed_blocking_check_ends_dg_launch_with_1(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    arguments = (
        "dg",
        "launch",
        "--assets",
        "cleaned_events,rejected_events",
        "--partition-range",
        "2019-10-01...2019-10-02",
    )
    for day in ("2019-10-01", "2019-10-02"):
        write_day(shop, day, [event(f"{day} 10:00:00", user_id=n) for n in range(4)])
    passed = run(tmp_path, *arguments, ECOMMERCE_DATA_DIR=str(shop))
    assert passed.returncode == 0, passed.stderr
    invalid = [event("2019-10-02 11:00:00", price=-1.0, user_id=n) for n in range(40)]
    write_day(shop, "2019-10-02", invalid, "invalid")
    failed = run(tmp_path, *arguments, ECOMMERCE_DATA_DIR=str(shop))
    assert failed.returncode == 1
    assert "cleaned_events is blocked by few_rejected: 2019-10-02: 40 of 44 raw rows were rejected" in failed.stderr


@pytest.mark.trial
def test_dg_checks_and_lists_the_definitions(tmp_path: Path) -> None:
    assert run(tmp_path, "dg", "check", "defs").returncode == 0
    assert run(tmp_path, "dg", "check", "toml").returncode == 0
    listed = json.loads(run(tmp_path, "dg", "list", "defs", "--json").stdout)
    assert {asset["asset_key"] for asset in listed["assets"]} == {"raw_events", *CATALOG, *ON_DEMAND}
    wrong = run(tmp_path, "dg", "check", "defs", ECOMMERCE_ID_TYPE="uuid")
    assert wrong.returncode == 1
    assert "ECOMMERCE_ID_TYPE='uuid' cannot be used: it must be 'bigint' or 'string'" in wrong.stdout + wrong.stderr

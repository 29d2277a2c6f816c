"""`.env` sets missing variables and overrides none, even if Dagster has read it first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values

from ecommerce_assets import env_file
from ecommerce_assets.settings import Settings, SettingsError, load_settings, variable

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a project; the current folder is another one, and the environment has no settings."""
    previous = dict(os.environ)
    for name in [*map(variable, Settings.model_fields), "DAGSTER_HOME"]:
        os.environ.pop(name, None)
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr(env_file, "PROJECT_DIR", folder)
    monkeypatch.chdir(elsewhere)
    yield folder
    os.environ.clear()
    os.environ.update(previous)


def start(place: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts in another folder, in the project's, or there as a command of Dagster, which first overrides variables."""
    if place != "elsewhere":
        monkeypatch.chdir(project)
    if place == "project by Dagster":
        os.environ.update({name: value or "" for name, value in dotenv_values(project / ".env").items()})


PLACES = ("elsewhere", "project", "project by Dagster")
LINES = """
DAGSTER_HOME=${DAGSTER_HOME:-/srv/history}
ECOMMERCE_DATA_DIR=${ECOMMERCE_DATA_DIR:-/srv/shop}   # the shop
export ECOMMERCE_LOOKBACK_DAYS="${ECOMMERCE_LOOKBACK_DAYS:-90}"
ECOMMERCE_SPARK_CONFIG=${ECOMMERCE_SPARK_CONFIG:-"spark.executor.cores": "4", "spark.ui.enabled": false}
OPENLINEAGE_NAMESPACE=shop
"""


@pytest.mark.parametrize("place", PLACES)
def test_the_file_sets_missing_variables(project: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (project / ".env").write_text(LINES)
    start(place, project, monkeypatch)
    settings = load_settings()
    assert (settings.data_dir, settings.lookback_days) == ("/srv/shop", 90)
    assert settings.spark_config == {"spark.executor.cores": "4", "spark.ui.enabled": False}
    assert (os.environ["DAGSTER_HOME"], os.environ["OPENLINEAGE_NAMESPACE"]) == ("/srv/history", "shop")


@pytest.mark.parametrize("place", PLACES)
def test_the_environment_takes_precedence(project: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (project / ".env").write_text(LINES)
    values = {
        "DAGSTER_HOME": "/mine",
        "ECOMMERCE_DATA_DIR": "/other",
        "ECOMMERCE_LOOKBACK_DAYS": "7",
        "ECOMMERCE_SPARK_CONFIG": '{"spark.executor.cores": "1"}',
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    start(place, project, monkeypatch)
    settings = load_settings(first_day="2026-01-01")
    assert (settings.data_dir, settings.lookback_days) == ("/other", 7)
    assert settings.spark_config == {"spark.executor.cores": "1"}
    assert {name: os.environ[name] for name in values} == values


def test_the_current_folder_takes_precedence_over_the_project(project: Path) -> None:
    (project / ".env").write_text("ECOMMERCE_LOOKBACK_DAYS=${ECOMMERCE_LOOKBACK_DAYS:-1}\n")
    Path(".env").write_text("ECOMMERCE_LOOKBACK_DAYS=${ECOMMERCE_LOOKBACK_DAYS:-2}\n")
    assert load_settings().lookback_days == 2


def test_a_relative_path_in_the_file_is_relative_to_the_file(project: Path) -> None:
    (project / ".env").write_text("ECOMMERCE_DATA_DIR=${ECOMMERCE_DATA_DIR:-shop}\n")
    assert load_settings().data_dir == str(project / "shop")
    assert load_settings(data_dir="/given").data_dir == "/given"
    os.environ["ECOMMERCE_DATA_DIR"] = "there"
    assert load_settings().data_dir == str(Path.cwd() / "there")


@pytest.mark.parametrize(
    ("line", "write"),
    [
        ("ECOMMERCE_LOOKBACK_DAYS=90", "ECOMMERCE_LOOKBACK_DAYS=${ECOMMERCE_LOOKBACK_DAYS:-90}"),
        ("ECOMMERCE_DATA_DIR=${ELSEWHERE}/shop", "ECOMMERCE_DATA_DIR=${ECOMMERCE_DATA_DIR:-/elsewhere/shop}"),
        ("DAGSTER_HOME='/srv/history'", "DAGSTER_HOME=${DAGSTER_HOME:-/srv/history}"),
        ('ECOMMERCE_SPARK_CONFIG={"a": 1}', 'ECOMMERCE_SPARK_CONFIG=${ECOMMERCE_SPARK_CONFIG:-"a": 1}'),
    ],
)
def test_a_line_that_would_override_is_an_error_with_the_line_to_write(
    project: Path, monkeypatch: pytest.MonkeyPatch, line: str, write: str
) -> None:
    monkeypatch.setenv("ELSEWHERE", "/elsewhere")
    (project / ".env").write_text(f"{line}\n")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith(f"{project}/.env: {line.replace(chr(39), '')} ")
    assert str(error.value).endswith(f"; write {write}")
    (project / ".env").write_text(f"{write}\n")
    load_settings()


def test_a_value_with_a_brace_is_an_error(project: Path) -> None:
    (project / ".env").write_text("ECOMMERCE_DATA_DIR=${ECOMMERCE_DATA_DIR:-${HOME}/shop}\n")
    with pytest.raises(SettingsError, match=r"the value ends at the first \}"):
        load_settings()


def test_an_invalid_value_from_the_file_is_an_error_with_the_file(project: Path) -> None:
    (project / ".env").write_text("ECOMMERCE_KEEP_VERSIONS=${ECOMMERCE_KEEP_VERSIONS:-some}\n")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value) == (
        f"ECOMMERCE_KEEP_VERSIONS='some' in {project}/.env cannot be used: it must be a whole number "
        "(superseded versions of each asset that are kept)"
    )
    os.environ["ECOMMERCE_KEEP_VERSIONS"] = "many"
    with pytest.raises(SettingsError, match=r"^ECOMMERCE_KEEP_VERSIONS='many' cannot be used"):
        load_settings()


@pytest.mark.parametrize("value", ["${ECOMMERCE_DATADIR:-/srv/shop}", "/srv/shop"])
def test_an_unknown_variable_in_the_file_is_an_error(project: Path, value: str) -> None:
    (project / ".env").write_text(f"ECOMMERCE_DATADIR={value}\n")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value) == (
        f"{project}/.env: ECOMMERCE_DATADIR is not a setting of this project (did you mean ECOMMERCE_DATA_DIR?)"
    )


@pytest.mark.trial
def test_commands_read_the_file_and_the_environment_takes_precedence(project: Path, tmp_path: Path) -> None:
    """Commands in a copy of the project whose `.env` has an invalid value: an error shows that it was read."""
    copy = tmp_path / "copy"
    shutil.copytree(PROJECT / "ecommerce_assets", copy / "ecommerce_assets")
    homes = [tmp_path / "home_of_file", tmp_path / "home_of_environment"]
    for home in homes:
        home.mkdir()
        (home / "dagster.yaml").touch()
    (copy / ".env").write_text(
        f"DAGSTER_HOME=${{DAGSTER_HOME:-{homes[0]}}}\nECOMMERCE_LOOKBACK_DAYS=${{ECOMMERCE_LOOKBACK_DAYS:-0}}\n"
    )

    def run(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(copy), **variables}
        return subprocess.run(
            [sys.executable, "-m", *command.split()], cwd=folder, env=environment, capture_output=True, text=True
        )

    definitions = "dagster asset list -m ecommerce_assets.definitions --select cleaned_events"
    for command in (definitions, "ecommerce_assets.training"):
        for folder in (copy, tmp_path):
            wrong = run(command, folder)
            message = f"ECOMMERCE_LOOKBACK_DAYS='0' in {copy}/.env cannot be used: it must be 1 or more"
            assert wrong.returncode != 0
            assert message in (wrong.stdout + wrong.stderr).splitlines()[-1]
            assert "Traceback" not in wrong.stderr
    right = run(definitions, copy, ECOMMERCE_LOOKBACK_DAYS="5")
    assert (right.returncode, right.stdout.strip()) == (0, "cleaned_events")
    assert f"$DAGSTER_HOME: {homes[0]}" in run("dagster instance info", copy).stdout
    assert f"$DAGSTER_HOME: {homes[1]}" in run("dagster instance info", copy, DAGSTER_HOME=str(homes[1])).stdout

"""The whole graph over Spark Connect, on a server in a process of its own: the same rows as in a local session.

`uv run pytest -m trial ecommerce_assets_tests/spark/test_connect.py`
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.events.sample import generate
from ecommerce_assets.recommendation.als_model import SavedModel
from ecommerce_assets.spark import connect
from ecommerce_assets.spark.column_lineage import UNAVAILABLE
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY
from ecommerce_assets_tests.spark.connect_server import connect_server

EXTERNAL = ("raw_events", "product_catalog")
TABLES = [name for name, stored in CATALOG.items() if stored.table is not None and name not in EXTERNAL]
ENDS_WITHIN = 900.0
SETTINGS = {"spark.sql.shuffle.partitions": "8"}


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "NEEDED", ("json", "no_such_module", "no_such_package.module"))
    with pytest.raises(RuntimeError, match=r"no_such_module, no_such_package\.module.*uv sync --extra connect"):
        connect.open_session("sc://127.0.0.1:1")


@pytest.mark.trial
def test_workers_engines_and_settings_over_connect(tmp_path: Path) -> None:
    with connect_server(tmp_path, memory="1g") as url:
        command = [sys.executable, "-m", "ecommerce_assets_tests.spark.connect_client", url, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS_WITHIN, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "The Spark Connect server decides these settings, a run cannot: spark.driver.memory." in done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    generate(folder, events=6_000, days=8, first_day=date(2019, 10, 1))
    return folder


@pytest.fixture(scope="module")
def here(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data dir after a run in a local session."""
    return run(shop, tmp_path_factory.mktemp("local"), "local[2]")[0]


@pytest.fixture(scope="module")
def there(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The data dir after a run over Spark Connect, and the run's log."""
    folder = tmp_path_factory.mktemp("connect")
    with connect_server(folder) as url:
        yield run(shop, folder, url)


def run(shop: Path, folder: Path, master: str) -> tuple[Path, str]:
    """The README's command: the data dir, and what it printed."""
    data_dir, home = folder / "shop", folder / "home"
    shutil.copytree(shop, data_dir)
    home.mkdir()
    (home / "dagster.yaml").write_text("python_logs: {python_log_level: INFO}\ntelemetry: {enabled: false}\n")
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "ECOMMERCE_DATA_DIR": str(data_dir),
        "ECOMMERCE_FIRST_DAY": "2019-10-01",
        "ECOMMERCE_LAST_DAY": "2019-12-29",
        "ECOMMERCE_SPARK_MASTER": master,
        "ECOMMERCE_DRIVER_MEMORY": "2g",
        "ECOMMERCE_SPARK_CONFIG": json.dumps(SETTINGS),
    }
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "ecommerce_assets.definitions"]
    command += ["--select", "*", "--partition-range", f"{FIRST_DAY}...{LAST_DAY}"]
    finished = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENDS_WITHIN,
        check=False,
    )
    (folder / "run.log").write_text(finished.stdout)
    assert finished.returncode == 0, finished.stdout[-6000:]
    return data_dir, finished.stdout


def rows_of(data_dir: Path, asset: str) -> list[Any]:
    """The rows, sorted; of a source file the path below the data dir, of metrics twelve digits: the rmse is a sum whose
    order depends on the session."""
    table = DeltaTable(Lake(str(data_dir)).asset(asset).uri).to_pyarrow_table()
    rows = table.to_pylist()
    for row in rows:
        if "source_file" in row:
            row["source_file"] = row["source_file"].rpartition(f"{data_dir}/")[2]
        if asset == "als_evaluation":
            row["value"] = float(f"{row['value']:.12g}")
    return sorted((tuple(row.values()) for row in rows), key=repr)


@pytest.mark.trial
@pytest.mark.parametrize("asset", TABLES)
def test_every_table_has_the_rows_of_a_local_run(here: Path, there: tuple[Path, str], asset: str) -> None:
    expected = rows_of(here, asset)
    assert rows_of(there[0], asset) == expected
    assert expected or asset == "rejected_events"


@pytest.mark.trial
def test_the_models_are_those_of_a_local_run(here: Path, there: tuple[Path, str]) -> None:
    def als(data_dir: Path) -> list[Any]:
        lake = Lake(str(data_dir))
        model = SavedModel(Folder(f"{lake.folder(lake.latest('als_model')).uri}/model"))
        return [model.users.vectors.tolist(), model.products.vectors.tolist()]

    assert als(there[0]) == als(here)
    for asset in ("segmentation_model", "als_model"):
        expected, found = (Lake(str(data_dir)).latest(asset) for data_dir in (here, there[0]))
        assert found.parameters == expected.parameters


@pytest.mark.trial
def test_column_lineage_is_reported_as_unavailable(there: tuple[Path, str]) -> None:
    lake = Lake(str(there[0]))
    assert {lake.latest(asset).column_lineage for asset in (*TABLES, "als_model", "segmentation_model")} == {None}
    assert UNAVAILABLE.startswith("Not recorded")

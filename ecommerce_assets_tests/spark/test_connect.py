"""The whole graph over Spark Connect, on a server in a process of its own: the same rows as in a local session.

`uv run pytest -m trial ecommerce_assets_tests/spark/test_connect.py`
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from ecommerce_assets.events.sample import generate
from ecommerce_assets.spark.column_lineage import UNAVAILABLE
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.spark.connect_server import connect_server
from ecommerce_assets_tests.spark.whole_graph import ENDS_WITHIN, TABLES, factors_of, rows_of, run

WITHOUT_PACKAGES = """
import sys
import dagster as dg
from ecommerce_assets.spark.resource import SparkResource
sys.modules["pyspark.sql.connect.session"] = None
try:
    SparkResource(master="sc://127.0.0.1:1").spark_session
except dg.Failure as failure:
    print(failure.description)
"""


def test_a_missing_package_is_one_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PACKAGES], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Spark could not be started: import of ")


@pytest.mark.trial
def test_workers_engines_and_settings_over_connect(tmp_path: Path) -> None:
    with connect_server(tmp_path, memory="1g") as url:
        command = [sys.executable, "-m", "ecommerce_assets_tests.spark.connect_client", url, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS_WITHIN, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Ignored settings, which the Spark Connect server decides: spark.driver.memory." in done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    generate(folder, events=6_000, days=8, first_day=date(2019, 10, 1))
    return folder


@pytest.fixture(scope="module")
def local(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data dir after a run in a local session."""
    return run(shop, tmp_path_factory.mktemp("local"), "local[2]")[0]


@pytest.fixture(scope="module")
def remote(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The data dir after a run over Spark Connect, and the run's log."""
    folder = tmp_path_factory.mktemp("connect")
    with connect_server(folder) as url:
        yield run(shop, folder, url)


@pytest.mark.trial
@pytest.mark.parametrize("asset", TABLES)
def test_every_table_has_the_rows_of_a_local_run(local: Path, remote: tuple[Path, str], asset: str) -> None:
    expected = rows_of(local, asset)
    assert rows_of(remote[0], asset) == expected
    assert expected or asset == "rejected_events"


@pytest.mark.trial
def test_the_models_are_those_of_a_local_run(local: Path, remote: tuple[Path, str]) -> None:
    assert factors_of(remote[0]) == factors_of(local)
    for asset in ("segmentation_model", "als_model"):
        expected, found = (Lake(str(data_dir)).latest(asset) for data_dir in (local, remote[0]))
        assert found.parameters == expected.parameters


@pytest.mark.trial
def test_column_lineage_is_reported_as_unavailable(remote: tuple[Path, str]) -> None:
    lake = Lake(str(remote[0]))
    assert {lake.latest(asset).column_lineage for asset in (*TABLES, "als_model", "segmentation_model")} == {None}
    assert UNAVAILABLE.startswith("Not recorded")

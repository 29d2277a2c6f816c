"""The whole graph on a real standalone cluster, undisturbed and while machines die; beside a run on one machine.

`uv run pytest -m trial -s ecommerce_assets_tests/spark/test_cluster.py` prints what took how long.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.events.sample import generate
from ecommerce_assets.recommendation.interactions import collect_pairs
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.reading import read
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets_tests.benchmarks.objective import objective
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY, run_graph
from ecommerce_assets_tests.spark.cluster import Cluster, standalone_cluster

pytestmark = pytest.mark.trial

CONFIG = {"ops": {"als_model": {"config": {"rank": 16, "maxIter": 8}}}}
EQUAL = ("user_features", "product_features", "user_index", "product_index", "interaction_data")
NEEDED_THERE = ("numpy", "pandas", "pyarrow")
ENDS_WITHIN = 900.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster_shop")
    generate(folder, events=6_000, days=8, first_day=date(2019, 10, 1))
    return folder


@pytest.fixture(scope="module")
def on_one_machine(spark: SparkSession, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on this machine's Spark, with the same engines."""
    folder = tmp_path_factory.mktemp("local") / "shop"
    shutil.copytree(shop, folder)
    engine = {"engine": "mllib"}
    als = {**CONFIG["ops"]["als_model"]["config"], **engine}
    config = {"ops": {"als_model": {"config": als}, "segmentation_model": {"config": engine}}}
    assert run_graph(folder, FIRST_DAY, LAST_DAY, run_config=config).success
    return folder


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has what executors need and has never heard of this package."""
    folder = tmp_path_factory.mktemp("python") / "venv"
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in NEEDED_THERE]
    python = str(folder / "bin" / "python")
    subprocess.run(["uv", "pip", "install", "-q", "--python", python, *wanted], check=True)
    missing = subprocess.run([python, "-c", "import ecommerce_assets"], capture_output=True, cwd="/", check=False)
    assert missing.returncode != 0
    return python


def run_on(
    cluster: Cluster,
    shop: Path,
    folder: Path,
    python: str,
    meanwhile: Callable[[Iterator[str]], object] = id,
) -> tuple[Path, float]:
    """The README's command against the cluster: the data dir, and the seconds. `meanwhile` is handed its log."""
    data_dir, home = folder / "shop", folder / "home"
    shutil.copytree(shop, data_dir)
    home.mkdir()
    (home / "dagster.yaml").write_text("python_logs: {python_log_level: INFO}\ntelemetry: {enabled: false}\n")
    (folder / "tmp").mkdir()
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "TMPDIR": str(folder / "tmp"),
        "ECOMMERCE_DATA_DIR": str(data_dir),
        "ECOMMERCE_FIRST_DAY": "2019-10-01",
        "ECOMMERCE_LAST_DAY": "2019-12-29",
        "ECOMMERCE_SPARK_MASTER": cluster.url,
        "ECOMMERCE_DRIVER_MEMORY": "1g",
        "ECOMMERCE_EXECUTOR_MEMORY": "1g",
        "ECOMMERCE_SPARK_EVENT_LOG": f"file://{folder}/tmp",
        "ECOMMERCE_SPARK_CONFIG": json.dumps({"spark.network.timeout": "60s", "spark.driver.host": "127.0.0.1"}),
        "PYSPARK_PYTHON": python,
    }
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "ecommerce_assets.definitions"]
    command += ["--select", "*", "--partition-range", f"{FIRST_DAY}...{LAST_DAY}", "--config-json", json.dumps(CONFIG)]
    started = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said: list[str] = []

        def lines() -> Iterator[str]:
            for line in process.stdout or ():
                said.append(line)
                yield line

        told = lines()
        meanwhile(told)
        for _ in told:
            assert time.monotonic() - started < ENDS_WITHIN
        assert process.wait() == 0, "".join(said[-60:])
    return data_dir, time.monotonic() - started


def rows_of(data_dir: Path, asset: str, spark: SparkSession) -> list[Any]:
    return sorted(map(tuple, read(asset, data_dir=str(data_dir), spark=spark).collect()), key=repr)


def assert_same_results(there: Path, here: Path, spark: SparkSession) -> None:
    """Tables equal; the model as good by its objective and by the ranking metrics."""
    for asset in EQUAL:
        assert rows_of(there, asset, spark) == rows_of(here, asset, spark), asset
    assert {(row[0], row[-1]) for row in rows_of(there, "segmented_users", spark)} == {
        (row[0], row[-1]) for row in rows_of(here, "segmented_users", spark)
    }
    found = [loss_of(folder, spark) for folder in (there, here)]
    # The number of blocks, and with it the order of the random start, follows the number of cores; eight iterations do
    # not bring the starts wholly together.
    assert found[0] == pytest.approx(found[1], rel=0.02)
    ndcg = [
        Lake(str(folder)).latest("als_evaluation").facts["metrics"]["ndcg"]["published"][0] for folder in (there, here)
    ]
    assert ndcg[0] == pytest.approx(ndcg[1], abs=0.02)
    lists = read("recommendations", data_dir=str(there), spark=spark)
    assert lists.groupBy("user_id").count().where("count <> 10").count() == 0
    assert lists.count() == 10 * read("segmented_users", data_dir=str(there), spark=spark).count()


def loss_of(data_dir: Path, spark: SparkSession) -> float:
    model = read("als_model", data_dir=str(data_dir), spark=spark)
    pairs = collect_pairs(StoredTable(read("interaction_data", data_dir=str(data_dir), spark=spark)))
    columns = [pairs.column(name).to_numpy() for name in ("user_idx", "product_idx", "rating")]
    users, products = (dense(frame) for frame in (model.userFactors, model.itemFactors))
    return objective((columns[0], columns[1], columns[2]), users, products)


def dense(factors: Any) -> np.ndarray[Any, Any]:
    """Factors by their number; zeros where there are none."""
    table = factors.toPandas()
    matrix = np.zeros((table["id"].max() + 1, len(table["features"][0])), np.float32)
    matrix[table["id"]] = np.stack(table["features"].to_numpy())
    return matrix


def test_undisturbed_and_while_workers_are_killed(
    spark: SparkSession, shop: Path, on_one_machine: Path, other_python: str, tmp_path: Path
) -> None:
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    with standalone_cluster(tmp_path / "calm", workers=2) as cluster:
        calm, seconds = run_on(cluster, shop, tmp_path / "calm", other_python)
    print(f"\nundisturbed, two workers: {seconds:.0f} s")
    assert_same_results(calm, on_one_machine, spark)
    manifest = Lake(str(calm)).latest("als_model")
    assert manifest.parameters["engine"] == "mllib"
    logs = [path.name for path in (tmp_path / "calm" / "tmp").iterdir() if manifest.spark_application_id in path.name]
    assert logs, "the event log bears the application's id, which the manifest names"

    lake = Lake(str(tmp_path / "killed" / "shop"))
    with standalone_cluster(tmp_path / "killed", workers=3) as cluster:

        def kill_two(lines: Iterator[str]) -> None:
            for line in lines:
                if "als_model: Engine mllib, because" in line:
                    time.sleep(4)
                    assert lake.latest_or_none("als_model") is None, "in the middle of it"
                    cluster.kill_worker(0)
                if "als_evaluation: " in line:
                    time.sleep(2)
                    assert lake.latest_or_none("recommendations") is None, "in the middle of it"
                    cluster.kill_worker(1)
                    return

        killed, seconds = run_on(cluster, shop, tmp_path / "killed", other_python, kill_two)
    print(f"three workers, one killed in ALS and one in the top 10: {seconds:.0f} s")
    assert_same_results(killed, on_one_machine, spark)

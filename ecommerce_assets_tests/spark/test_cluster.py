"""The whole graph on a standalone cluster, with and without killed workers, has the results of one machine.

`uv run pytest -m trial -s ecommerce_assets_tests/spark/test_cluster.py` prints the seconds.
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
WORKER_PACKAGES = ("numpy", "pandas", "pyarrow", "numba")
ENDS_WITHIN = 900.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster_shop")
    generate(folder, events=6_000, days=8, first_day=date(2019, 10, 1))
    return folder


@pytest.fixture(scope="module")
def on_one_machine(spark: SparkSession, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the data dir of the same run with a local Spark and the same engines."""
    folder = tmp_path_factory.mktemp("local") / "shop"
    shutil.copytree(shop, folder)
    engine = {"engine": "mllib"}
    als = {**CONFIG["ops"]["als_model"]["config"], **engine}
    config = {"ops": {"als_model": {"config": als}, "segmentation_model": {"config": engine}}}
    assert run_graph(folder, FIRST_DAY, LAST_DAY, run_config=config).success
    return folder


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns a Python with the packages that executors need, without this package."""
    folder = tmp_path_factory.mktemp("python") / "venv"
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in WORKER_PACKAGES]
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
    on_log: Callable[[Iterator[str]], object] = id,
) -> tuple[Path, float]:
    """Runs the README's command on the cluster; returns the data dir and the seconds. `on_log` receives the log."""
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
        log: list[str] = []

        def read_lines() -> Iterator[str]:
            for line in process.stdout or ():
                log.append(line)
                yield line

        lines = read_lines()
        on_log(lines)
        for _ in lines:
            assert time.monotonic() - started < ENDS_WITHIN
        assert process.wait() == 0, "".join(log[-60:])
    return data_dir, time.monotonic() - started


def rows_of(data_dir: Path, asset: str, spark: SparkSession) -> list[Any]:
    return sorted(map(tuple, read(asset, data_dir=str(data_dir), spark=spark).collect()), key=repr)


def assert_same_results(cluster: Path, local: Path, spark: SparkSession) -> None:
    """Asserts equal tables, and a similar objective and NDCG of the model."""
    for asset in EQUAL:
        assert rows_of(cluster, asset, spark) == rows_of(local, asset, spark), asset
    # The cluster's K-Means is MLlib's, with other initial centres: users between two centres may be in another segment.
    segments = [{row[0]: row[-1] for row in rows_of(shop, "segmented_users", spark)} for shop in (cluster, local)]
    assert segments[0].keys() == segments[1].keys()
    assert len(dict(segments[0].items() ^ segments[1].items())) <= 0.01 * len(segments[0])
    # The number of cores decides the number of blocks, and so the random start; eight iterations do not converge.
    assert loss_of(cluster, spark) == pytest.approx(loss_of(local, spark), rel=0.02)
    assert ndcg_of(cluster) == pytest.approx(ndcg_of(local), abs=0.02)
    lists = read("recommendations", data_dir=str(cluster), spark=spark)
    assert lists.groupBy("user_id").count().where("count <> 10").count() == 0
    assert lists.count() == 10 * read("segmented_users", data_dir=str(cluster), spark=spark).count()


def loss_of(data_dir: Path, spark: SparkSession) -> float:
    model = read("als_model", data_dir=str(data_dir), spark=spark)
    pairs = collect_pairs(StoredTable(read("interaction_data", data_dir=str(data_dir), spark=spark)))
    columns = [pairs.column(name).to_numpy() for name in ("user_idx", "product_idx", "rating")]
    users, products = (dense(frame) for frame in (model.userFactors, model.itemFactors))
    return objective((columns[0], columns[1], columns[2]), users, products)


def ndcg_of(data_dir: Path) -> float:
    metrics = Lake(str(data_dir)).latest("als_evaluation").stats.results["metrics"]
    return float(metrics["ndcg"]["published"][0])


def dense(factors: Any) -> np.ndarray[Any, Any]:
    """Returns the factors as a matrix, with zeros for missing numbers."""
    table = factors.toPandas()
    matrix = np.zeros((table["id"].max() + 1, len(table["features"][0])), np.float32)
    matrix[table["id"]] = np.stack(table["features"].to_numpy())
    return matrix


def test_results_are_the_same_without_and_with_killed_workers(
    spark: SparkSession, shop: Path, on_one_machine: Path, other_python: str, tmp_path: Path
) -> None:
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    with standalone_cluster(tmp_path / "calm", workers=2) as cluster:
        calm, seconds = run_on(cluster, shop, tmp_path / "calm", other_python)
    print(f"\ntwo workers: {seconds:.0f} s")
    assert_same_results(calm, on_one_machine, spark)
    version = Lake(str(calm)).latest("als_model")
    assert version.parameters["engine"] == "mllib"
    logs = [
        path.name for path in (tmp_path / "calm" / "tmp").iterdir() if str(version.spark_application_id) in path.name
    ]
    assert logs, "the event log has the application's id of the commit"

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

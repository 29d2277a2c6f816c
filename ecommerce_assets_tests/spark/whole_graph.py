"""Runs the whole graph in a process on any engine, and reads its results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from ecommerce_assets.definitions import CATALOG
from ecommerce_assets.recommendation.als_model import SavedModel
from ecommerce_assets.storage.filesystem import Folder
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets_tests.helpers import FIRST_DAY, LAST_DAY

EXTERNAL = ("raw_events", "product_catalog")
TABLES = [name for name, stored in CATALOG.items() if stored.table is not None and name not in EXTERNAL]
ENDS_WITHIN = 900.0
SETTINGS = {"spark.sql.shuffle.partitions": "8"}


def run(
    shop: Path, folder: Path, master: str, days: tuple[str, str] = (FIRST_DAY, LAST_DAY), **environment: str
) -> tuple[Path, str]:
    """Runs the whole graph on a copy of a data dir; returns the copy and the output of the command."""
    data_dir, home = folder / "shop", folder / "home"
    shutil.copytree(shop, data_dir)
    home.mkdir()
    (home / "dagster.yaml").write_text("python_logs: {python_log_level: INFO}\ntelemetry: {enabled: false}\n")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "ECOMMERCE_DATA_DIR": str(data_dir),
        "ECOMMERCE_FIRST_DAY": "2019-10-01",
        "ECOMMERCE_LAST_DAY": "2019-12-29",
        "ECOMMERCE_SPARK_MASTER": master,
        "ECOMMERCE_DRIVER_MEMORY": "2g",
        "ECOMMERCE_SPARK_CONFIG": json.dumps(SETTINGS),
        **environment,
    }
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "ecommerce_assets.definitions"]
    command += ["--select", "*", "--partition-range", "...".join(days)]
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
    """Returns the sorted rows, with paths relative to the data dir.

    Metrics have twelve digits, because the rmse is a sum whose order depends on the session.
    """
    table = DeltaTable(Lake(str(data_dir)).asset(asset).uri).to_pyarrow_table()
    rows = table.to_pylist()
    for row in rows:
        if "source_file" in row:
            row["source_file"] = row["source_file"].rpartition(f"{data_dir}/")[2]
        if asset == "als_evaluation":
            row["value"] = float(f"{row['value']:.12g}")
    return sorted((tuple(row.values()) for row in rows), key=repr)


def factors_of(data_dir: Path) -> list[Any]:
    """Returns the factors of the users and products of als_model."""
    lake = Lake(str(data_dir))
    model = SavedModel(Folder(f"{lake.folder(lake.latest('als_model')).uri}/model"))
    return [model.users.vectors.tolist(), model.products.vectors.tolist()]

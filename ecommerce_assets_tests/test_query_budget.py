"""Limits of the number of Spark queries and jobs of the whole graph over the sample, with all checks.

`python -m ecommerce_assets_tests.test_query_budget FOLDER` checks a run whose `ECOMMERCE_SPARK_EVENT_LOG` was FOLDER.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ecommerce_assets.settings import DEFAULT_DATA_DIR, Settings, variable
from ecommerce_assets_tests.benchmarks.graph import command

PROJECT = Path(__file__).parents[1]
MAX_QUERIES, MAX_JOBS = 48, 95


def check_event_log(folder: Path) -> None:
    """Asserts that the queries and jobs in Spark's uncompressed event log are within the limits."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name.startswith("events_")]
    events = Counter(json.loads(line)["Event"] for file in files for line in file.read_text().splitlines())
    queries = events["org.apache.spark.sql.execution.ui.SparkListenerSQLExecutionStart"]
    jobs = events["SparkListenerJobStart"]
    print(f"{queries} queries (at most {MAX_QUERIES}), {jobs} jobs (at most {MAX_JOBS})")
    assert 0 < queries <= MAX_QUERIES
    assert 0 < jobs <= MAX_JOBS


@pytest.mark.trial
def test_queries_and_jobs_are_within_the_limits(tmp_path: Path) -> None:
    shop, home, log = (tmp_path / name for name in ("shop", "home", "log"))
    home.mkdir()
    log.mkdir()
    shutil.copytree(f"{DEFAULT_DATA_DIR}/raw", shop / "raw")
    shutil.copy(PROJECT / ".dagster" / "dagster.yaml", home)
    settings = {
        "data_dir": str(shop),
        "last_day": "2019-12-29",
        "driver_memory": "2g",
        "spark_event_log": log.as_uri(),
        "spark_config": '{"spark.eventLog.compress": false}',
    }
    environment = {
        **os.environ,
        **dict.fromkeys(map(variable, Settings.model_fields), ""),
        **{variable(name): value for name, value in settings.items()},
        "DAGSTER_HOME": str(home),
    }
    everything = command("--select", "*", "--partition-range", "2019-10-01...2019-12-29")
    done = subprocess.run(everything, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    check_event_log(log)


if __name__ == "__main__":
    check_event_log(Path(sys.argv[1]))

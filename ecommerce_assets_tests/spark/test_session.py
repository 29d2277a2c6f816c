"""How Spark is started: what Java prints, who can see its settings, from where it can be reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.env_file import PROJECT_DIR

pytestmark = pytest.mark.spark_only

START = """
import json, os, pathlib, subprocess, sys
from ecommerce_assets.spark.session import start

data = pathlib.Path(sys.argv[1])
settings = {
    "spark.master": "local[1]",
    "spark.driver.memory": "512m",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.hadoop.fs.s3a.secret.key": r"hunter2\\ n=:ü",
}
lines = []
session = start(settings, lines.append)
session.range(3).write.parquet(str(data / "données"))
commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
print(json.dumps({
    "lines": lines,
    "rows": session.read.parquet(str(data / "données")).count(),
    "secret": session.sparkContext.getConf().get("spark.hadoop.fs.s3a.secret.key"),
    "in process list": "hunter2" in commands,
    "SUBMIT_ARGS": os.environ.get("PYSPARK_SUBMIT_ARGS"),
    "left": [path.name for path in data.glob("*.properties")],
}))
sys.stdout.flush()
try:
    session.range(3).selectExpr("cast(raise_error('on purpose') as string)").write.parquet(str(data / "failed"))
except Exception:
    pass
session.stop()
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a process with a Spark of its own says, and what Java printed; in a shell without a locale."""
    folder = tmp_path_factory.mktemp("start")
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(folder)}
    script = folder / "start.py"
    script.write_text(START)  # a file, because a command line would be in the process list
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout), done.stderr.decode()


def test_it_says_that_spark_starts(started: tuple[dict[str, Any], str]) -> None:
    assert started[0]["lines"][0] == "Starting Spark on local[1] with 512m of driver memory."


def test_secrets_reach_spark_and_not_the_process_list(started: tuple[dict[str, Any], str]) -> None:
    assert started[0]["secret"] == r"hunter2\ n=:ü"
    assert not started[0]["in process list"]
    assert (started[0]["SUBMIT_ARGS"], started[0]["left"]) == (None, [])


def test_names_of_folders_may_have_any_letters_in_any_locale(started: tuple[dict[str, Any], str]) -> None:
    assert started[0]["rows"] == 3


def test_java_prints_errors_and_no_chatter(started: tuple[dict[str, Any], str]) -> None:
    lines = [
        line for line in started[1].splitlines() if line != "WARNING: Using incubator modules: jdk.incubator.vector"
    ]
    assert "ERROR Spark" in lines[0]
    assert any("on purpose" in line for line in lines)
    assert not [line for line in lines if " WARN " in line or "log level" in line]


SUBMITTED = """
import sys
sys.path.insert(0, sys.argv[1])
from ecommerce_assets.spark.resource import SparkResource
resource = SparkResource()
conf = resource.spark_session.sparkContext.getConf()
print([conf.get(name) for name in sys.argv[2:]])
resource.stop()
"""


@pytest.mark.trial
def test_what_spark_submit_was_told_wins_over_our_settings(tmp_path: Path) -> None:
    script = tmp_path / "submitted.py"
    script.write_text(SUBMITTED)
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[1]", "--name", "Nightly"]
    command += ["--driver-memory", "600m", "--conf", "spark.sql.shuffle.partitions=3", str(script), str(PROJECT_DIR)]
    names = [
        "spark.master",
        "spark.app.name",
        "spark.driver.memory",
        "spark.sql.shuffle.partitions",
        "spark.ui.enabled",
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run([*command, *names], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "['local[1]', 'Nightly', '600m', '3', 'false']", done.stderr[-2000:]


def test_a_local_spark_listens_on_loopback_only(spark: SparkSession) -> None:
    addresses = {address for pid in java_processes() for address in listening(pid)}
    assert addresses
    assert addresses <= {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def java_processes() -> list[int]:
    """Children of this process that are Java."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for file in children for pid in file.read_text().split()}
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == "java"]


def listening(pid: int) -> set[str]:
    """Addresses, in hexadecimal, that a process accepts connections on."""
    inodes = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1].partition(":")[0])
    return found

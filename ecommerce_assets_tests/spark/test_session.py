"""The start of Spark: what Java prints, who can see its settings, and where it listens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.env_file import PROJECT_DIR
from ecommerce_assets_tests.helpers import SECRET, SECRET_VALUE

pytestmark = pytest.mark.spark_only

START = """
import pathlib, sys
from ecommerce_assets.spark.session import start

data = pathlib.Path(sys.argv[1])
settings = {
    "spark.master": "local[1]",
    "spark.driver.memory": "512m",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
session = start(settings, lambda line: None)
session.range(3).write.parquet(str(data / "données"))
print(session.read.parquet(str(data / "données")).count())
sys.stdout.flush()
try:
    session.range(3).selectExpr("cast(raise_error('on purpose') as string)").write.parquet(str(data / "failed"))
except Exception:
    pass
session.stop()
"""


@pytest.mark.trial
def test_java_prints_errors_only_and_opens_non_ascii_names_in_any_locale(tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-X", "utf8", "-c", START, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    lines = done.stderr.decode().splitlines()
    assert done.stdout.strip() == b"3", lines[-20:]
    lines = [line for line in lines if line != "WARNING: Using incubator modules: jdk.incubator.vector"]
    assert "ERROR Spark" in lines[0]
    assert any("on purpose" in line for line in lines)
    assert not [line for line in lines if " WARN " in line or "log level" in line]


def test_secrets_reach_spark_and_not_the_process_list(spark: SparkSession) -> None:
    assert spark.sparkContext.getConf().get(SECRET) == SECRET_VALUE
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in java_processes()]
    assert commands
    assert not any("hunter2" in command for command in commands)
    assert "properties" not in os.environ["PYSPARK_SUBMIT_ARGS"]


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
def test_options_of_spark_submit_override_our_settings(tmp_path: Path) -> None:
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
    """Returns the children of this process that are Java."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for file in children for pid in file.read_text().split()}
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == "java"]


def listening(pid: int) -> set[str]:
    """Returns the addresses, in hexadecimal, that a process listens on."""
    inodes = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1].partition(":")[0])
    return found

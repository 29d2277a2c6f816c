"""The Java that Spark gets: the machine's if it is new enough, else the bundled one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecommerce_assets.spark.java import ensure_java
from ecommerce_assets.spark.machine_lock import private_folder
from ecommerce_assets_tests.command import PROGRAM

WORK = """
import logging; logging.basicConfig(level=logging.INFO)
import sys
from ecommerce_assets.spark.resource import SparkResource
resource = SparkResource(master="local[2]", driver_memory="1g")
session = resource.spark_session
assert session.range(100).mapInArrow(lambda batches: batches, "id long").groupBy().sum("id").first()[0] == 4950
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.clustering import KMeans
points = VectorAssembler(inputCols=["id"], outputCol="features").transform(session.range(100))
assert len(KMeans(k=2, seed=1).fit(points).clusterCenters()) == 2
print(session.sql("select java_method('java.lang.System', 'getProperty', 'java.version')").first()[0])
resource.stop()
"""


def java_home(folder: Path, version: str) -> Path:
    """Returns a folder that looks like a Java of this version."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


def path_without_java(folder: Path) -> str:
    """Returns a folder with links to all programs of the PATH except java."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            if program.name != "java" and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return str(folder)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_a_java_that_is_new_enough_is_used(tmp_path: Path, lines: list[str], version: str) -> None:
    home = java_home(tmp_path / "java", version)
    environment = {"PATH": str(home / "bin")}
    assert ensure_java(lines.append, environment) == home
    assert not lines
    assert "JAVA_HOME" not in environment


@pytest.mark.parametrize(("version", "shown"), [("1.8.0_402", "8"), ("11.0.22", "11"), (None, "(unknown version)")])
def test_the_bundled_java_replaces_one_that_is_too_old(
    tmp_path: Path, lines: list[str], version: str | None, shown: str
) -> None:
    home = java_home(tmp_path / "java", version) if version else tmp_path
    environment = {"JAVA_HOME": str(home), "PATH": ""}
    bundled = ensure_java(lines.append, environment)
    assert bundled.parent == private_folder()
    assert os.access(bundled / "bin" / "java", os.X_OK)
    assert environment["JAVA_HOME"] == str(bundled)
    assert lines == [f"Spark needs Java 17 or newer, found Java {shown} in {home}. Using {bundled}."]


@pytest.mark.trial
def test_spark_works_on_a_machine_without_java(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "SPARK_HOME")}
    environment |= {"PATH": path_without_java(tmp_path / "bin"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WORK], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().startswith("25.")
    assert "found no Java. Using " in done.stderr


def test_java_home_prints_the_java_for_spark_submit(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": path_without_java(tmp_path / "bin")}
    environment.pop("JAVA_HOME", None)
    command = [PROGRAM, "java-home"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    asked = subprocess.run([f"{done.stdout.strip()}/bin/java", "-version"], capture_output=True, text=True, check=True)
    assert 'version "25' in asked.stderr

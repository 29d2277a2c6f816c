"""SparkResource: its settings, and when it starts and stops a session."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from ecommerce_assets.spark.resource import SparkResource, local_cores


@pytest.mark.spark_only
def test_an_existing_session_keeps_its_settings_and_stays_open(spark: SparkSession) -> None:
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        resource: Any = SparkResource(app_name="another")
        ours = resource.spark_session
        assert ours.sparkContext is spark.sparkContext
        assert ours.conf.get("spark.sql.session.timeZone") == "UTC"
        assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
        resource.stop()
        assert spark.range(3).count() == 3
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_no_session_is_started_before_its_first_use() -> None:
    assert SparkResource().application_id is None  # type: ignore[attr-defined]


def test_spark_config_overrides_the_fields() -> None:
    resource: Any = SparkResource(
        master="local[3]", driver_memory="5g", spark_config={"spark.ui.enabled": True, "a.b": 1}
    )
    settings = resource.settings()
    assert settings["spark.app.name"] == "E-commerce Model Training"
    assert settings["spark.driver.memory"] == "5g"
    assert settings["spark.sql.adaptive.enabled"] == "true"
    assert settings["spark.serializer"].endswith("KryoSerializer")
    assert settings["spark.sql.shuffle.partitions"] == "12"
    assert (settings["spark.ui.enabled"], settings["a.b"]) == ("true", "1")
    cluster: Any = SparkResource(master="spark://host:7077")
    assert "spark.sql.shuffle.partitions" not in cluster.settings()


@pytest.mark.spark_only
def test_python_workers_are_this_python(spark: SparkSession) -> None:
    assert spark.sparkContext.pythonExec == sys.executable


def test_cores_of_a_local_master() -> None:
    assert [local_cores(master) for master in ("local", "local[4]", "local[4,2]")] == [1, 4, 4]
    assert local_cores("local[*]") >= 1


RUN = """
import sys
from pathlib import Path
import dagster as dg
from ecommerce_assets.spark.resource import SparkResource

@dg.op
def work(spark: SparkResource):
    spark.spark_session.range(3).count()
    checkpoints.append(list(Path(sys.argv[1], "checkpoints").iterdir()))
    raise RuntimeError("on purpose")

@dg.job(resource_defs={"spark": SparkResource(master="local[1]", driver_memory="512m",
                                              checkpoint_dir=sys.argv[1] + "/checkpoints")})
def job():
    work()

checkpoints = []
result = job.execute_in_process(raise_on_error=False)
from ecommerce_assets.spark.session import active_session
from ecommerce_assets.spark.machine_lock import machine_lock
assert not result.success
assert active_session() is None, "the session outlived the failed run"
assert len(checkpoints[0]) == 1 and not list(Path(sys.argv[1], "checkpoints").iterdir()), "checkpoints were left"
with machine_lock("next", lambda message: sys.exit("the lock was left: " + message)):
    print("stopped")
"""


@pytest.mark.trial
def test_the_session_is_stopped_after_a_failed_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("stopped"), done.stderr[-2000:]


def test_checkpoints_of_a_killed_process_are_removed_by_the_next_run(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    kept = {f"{host}-{os.getppid()}-00000000", "elsewhere-1-00000000", "another"}
    for name in (f"{host}-{ended.pid}-00000000", *kept):
        (tmp_path / name / "rdd-1").mkdir(parents=True)
    resource: Any = SparkResource(checkpoint_dir=str(tmp_path))
    current = Path(resource.scratch("als")).parent
    assert {path.name for path in tmp_path.iterdir()} == {*kept, current.name}
    resource.stop()
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_data_dir_that_cannot_be_written_to_is_an_error_before_spark_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    resource: Any = SparkResource(checkpoint_dir=f"{tmp_path}/file/.checkpoints")
    with pytest.raises(dg.Failure, match=r"data dir cannot be written to.*set ECOMMERCE_DATA_DIR to another folder"):
        resource.scratch("als")


def test_a_setting_that_changes_the_tables_is_refused() -> None:
    with pytest.raises(dg.Failure, match=r"spark\.sql\.session\.timeZone must be UTC, got 'Asia/Tokyo'"):
        SparkResource(session_time_zone="Asia/Tokyo").settings()  # type: ignore[attr-defined]


DYING_JAVA = """
from ecommerce_assets.spark.resource import SparkResource
try:
    SparkResource(master="local[1]", driver_memory="9999999g").spark_session
except Exception as error:
    print(type(error).__name__, error.description)
"""


@pytest.mark.spark_only
def test_a_java_that_dies_is_one_sentence_beside_its_own_message(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", DYING_JAVA], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == (
        "Failure Spark could not be started: [JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port "
        "number."
    )
    assert "heap" in done.stdout + done.stderr

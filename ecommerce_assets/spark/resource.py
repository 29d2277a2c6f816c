"""The PySpark resource: our defaults as typed fields, one session per run, stopped by whoever started it.

That one Spark at a time runs on a machine is ensured by machine_lock.py.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec
from dagster_pyspark import LazyPySparkResource
from pydantic import Field, PrivateAttr
from pyspark.sql import SparkSession, is_remote

from ecommerce_assets.runs import RunProcess, record_process
from ecommerce_assets.secret import HIDDEN, is_secret
from ecommerce_assets.settings import FIXED_SPARK_SETTINGS, Settings, load_settings
from ecommerce_assets.spark import connect, sail
from ecommerce_assets.spark.engine import USE_SPARK
from ecommerce_assets.spark.machine_lock import MachineLock
from ecommerce_assets.spark.progress import JobProgress
from ecommerce_assets.spark.session import (
    JAVA_OPTIONS,
    LOCAL_JAVA_OPTIONS,
    ON_LOOPBACK,
    active_session,
    start,
    submitted,
)

SHUFFLE_PARTITIONS_PER_CORE = 4
FEW_CORES = 4
OPEN_FILES = 8
"""Files that a task may write at a time, each with its buffers; beyond that it sorts its rows by file."""

OF_THE_SESSION = (
    "spark.sql.adaptive.enabled",
    "spark.sql.execution.replaceHashWithSortAgg",
    "spark.sql.maxConcurrentOutputFileWriters",
    *FIXED_SPARK_SETTINGS,
)
"""Settings that a session beside an existing one gets too."""


class SparkResource(LazyPySparkResource):
    """A Spark session, started when first asked for.

    A session that already exists in the process (a notebook's, a test's) is used and left running; it is not altered:
    we work in a session of our own on its context. One that we start is stopped at the end of the run, also after a
    failure, and while it lives no other run on this machine starts one.
    """

    app_name: str = Field(default="E-commerce Model Training", description="Name of the Spark application.")
    master: str = Field(default="local[*]", description="Spark master URL, sc://host:port for Spark Connect, or sail.")
    driver_memory: str = Field(default="8g", description="Heap of the driver, or memory pool of Sail, such as 8g.")
    executor_memory: str = Field(default="8g", description="Heap of an executor, such as 8g.")
    adaptive: bool = Field(default=True, description="Adaptive query execution.")
    serializer: str = Field(default="org.apache.spark.serializer.KryoSerializer", description="Spark serializer class.")
    checkpoint_dir: str | None = Field(
        default=None, description="Folder for ALS checkpoints and parsed raw files; what a run leaves is removed."
    )
    session_time_zone: str = Field(default="UTC", description="Time zone in which days begin; only UTC.")
    event_log_dir: str | None = Field(default=None, description="Folder for Spark's event logs; unset: none are kept.")
    spark_config: dict[str, Any] = Field(
        default_factory=dict,
        description=f"More Spark settings, by their full names; {HIDDEN}: as in ECOMMERCE_SPARK_CONFIG.",
    )

    _at_stop: ExitStack = PrivateAttr(default_factory=ExitStack)
    _log: Any = PrivateAttr(default=None)
    _asset: str | None = PrivateAttr(default=None)
    _progress: JobProgress | None = PrivateAttr(default=None)
    _scratch: str | None = PrivateAttr(default=None)
    _holder: str = PrivateAttr(default="a session outside a run")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        if context.run:
            self._holder = f"run {context.run.run_id}"
            if context.instance:
                record_process(context.instance, context.run.run_id)
        self._log = context.log

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self.stop()

    def settings(self, submitted: Mapping[str, str] | None = None) -> dict[str, str]:
        """Every Spark setting that this resource asks for; `spark_config` wins over the fields, `submitted` over both.

        Raises `dg.Failure` for a setting that would change what the tables hold.
        """
        submitted = submitted or {}
        master = submitted.get("spark.master", self.master)
        ours: dict[str, Any] = {
            "spark.app.name": self.app_name,
            "spark.master": master,
            "spark.driver.memory": self.driver_memory,
            "spark.executor.memory": self.executor_memory,
            "spark.sql.adaptive.enabled": self.adaptive,
            "spark.serializer": self.serializer,
            "spark.sql.session.timeZone": self.session_time_zone,
            "spark.ui.enabled": False,
            "spark.ui.showConsoleProgress": False,
            "spark.redaction.regex": "(?i)key|secret|token|passw|credential",
            "spark.sql.execution.arrow.pyspark.enabled": True,
            # What is collected was measured against the free memory before; the default would end a run at 1 GB.
            "spark.driver.maxResultSize": 0,
            # Rows that come sorted by their keys are aggregated as they come, without a hash table.
            "spark.sql.execution.replaceHashWithSortAgg": True,
            # A task that writes a day or a few keeps their files open instead of sorting its rows by day once more.
            "spark.sql.maxConcurrentOutputFileWriters": OPEN_FILES,
        }
        if self.event_log_dir:
            ours |= {"spark.eventLog.enabled": True, "spark.eventLog.dir": self.event_log_dir}
        else:
            # Each query is described for those who look at it later; the long form takes a tenth of its planning.
            ours["spark.sql.ui.explainMode"] = "simple"
        if master.startswith("local"):
            cores = local_cores(master)
            ours |= {
                **ON_LOOPBACK,
                # 200 shuffle partitions are for clusters; on one machine a few per core are faster.
                "spark.sql.shuffle.partitions": SHUFFLE_PARTITIONS_PER_CORE * cores,
                # Merged by size, eight small partitions become three, of which two cores get two and one.
                "spark.sql.adaptive.coalescePartitions.enabled": cores > FEW_CORES,
                # Listing some hundred files takes less time than a job that lists them.
                "spark.sql.sources.parallelPartitionDiscovery.threshold": 10_000,
                # What is kept is read once or twice: compressing it takes longer.
                "spark.sql.inMemoryColumnarStorage.compressed": False,
                JAVA_OPTIONS: LOCAL_JAVA_OPTIONS,
            }
        asked = {**FIXED_SPARK_SETTINGS, **ours, **self._given_settings(), **submitted}
        settings = {name: _as_text(value) for name, value in asked.items()}
        for name, value in FIXED_SPARK_SETTINGS.items():
            if settings[name] != value:
                raise dg.Failure(f"{name} must be {value}, got {settings[name]!r}: it would change the tables.")
        return settings

    def _given_settings(self) -> dict[str, Any]:
        """`spark_config` with the values of the secret settings, which it does not hold: the UI shows it."""
        hidden = [name for name, value in self.spark_config.items() if value == HIDDEN]
        secrets: Mapping[str, Any] = load_settings().spark_config if hidden else {}
        return {**self.spark_config, **{name: secrets[name] for name in hidden}}

    def _init_session(self) -> None:
        if self._spark_session is not None:
            return
        try:
            self._start_or_join()
            self._set_checkpoint_dir()
        except BaseException as error:
            self.stop()
            if isinstance(error, PermissionError | RuntimeError):  # about the lock's folder, or about Java
                raise dg.Failure(f"Spark could not be started: {error}") from error
            raise
        self._name_jobs()

    def working_on(self, asset: str) -> None:
        """Name the asset that Spark's jobs are for from now on, in the log and in Spark's UI. Starts no session."""
        self._asset = asset
        if self._spark_session is not None:
            self._name_jobs()

    def _name_jobs(self) -> None:
        if self._asset is None:
            return
        if is_remote() and self._spark_session is not None:
            self._spark_session.clearTags()
            self._spark_session.addTag(f"ecommerce_assets:{self._asset}")
            return  # its client cannot see jobs
        if self._progress is None:
            self._progress = JobProgress(self.spark_context, self._logger.info)
            self._at_stop.callback(self._progress.stop)
        self._progress.working_on(self._asset)

    @property
    def _logger(self) -> Any:
        return self._log or dg.get_dagster_logger()

    def _set_checkpoint_dir(self) -> None:
        if is_remote():  # the server's setting: spark.checkpoint.dir
            return
        context = self.spark_context
        if not self.checkpoint_dir or context.getCheckpointDir() is not None:
            return
        context.setCheckpointDir(self.scratch("als"))

    def scratch(self, name: str) -> str:
        """A folder for intermediate files, which Spark can read; it is removed at the end of the run."""
        if self._scratch is None:
            if self.checkpoint_dir is None:
                self._scratch = self._at_stop.enter_context(tempfile.TemporaryDirectory())
            else:
                # Runs of one process, as in a notebook, have a folder each.
                name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
                self._scratch = f"{self.checkpoint_dir}/{name}"
                _remove_leftovers(self.checkpoint_dir)
                self._at_stop.callback(_remove, self._scratch)
        return f"{self._scratch}/{name}"

    def _start_or_join(self) -> None:
        remote = connect.active_session()
        if remote is not None and sail.is_sail(remote):
            self._spark_session = remote
            return
        if self.master == sail.MASTER:
            self._start_sail()
            return
        if connect.is_connect_url(self.master) or is_remote():
            self._connect()
            return
        existing = active_session()
        if existing is not None:
            self._spark_session = _session_beside(existing, self.settings())
            return
        settings = self.settings(submitted())
        is_local = settings["spark.master"].startswith("local")
        if is_local:
            self._take_machine()
        self._spark_session = start(settings, self._logger.info)
        self._at_stop.callback(_stop, self._spark_session)
        if not is_local:
            connect.ship_package(self._spark_session, Path(self._at_stop.enter_context(tempfile.TemporaryDirectory())))

    def _take_machine(self) -> None:
        if self.checkpoint_dir:
            _check_writable(self.checkpoint_dir)
        lock = MachineLock(self._holder)
        lock.acquire(self._logger.info)
        self._at_stop.callback(lock.release)

    def _start_sail(self) -> None:
        self._take_machine()
        fs, scratch = _file_system(self.scratch("sail"))
        if "file" not in fs.protocol:
            scratch = self._at_stop.enter_context(tempfile.TemporaryDirectory())
        self._spark_session, stop = sail.start(self.driver_memory, scratch, self._out_of_memory, self._logger.info)
        self._at_stop.callback(stop)
        settings = self.settings()
        connect.configure(self._spark_session, {name: settings[name] for name in OF_THE_SESSION})

    def _out_of_memory(self) -> dg.Failure:
        return dg.Failure(
            f"The data do not fit into Sail's memory of {self.driver_memory}: set ECOMMERCE_DRIVER_MEMORY to more, or "
            f"use Spark, {USE_SPARK}.",
            allow_retries=False,
        )

    def _connect(self) -> None:
        settings, existing = self.settings(), connect.active_session()
        self._spark_session = existing or connect.open_session(self.master)
        if existing is None:
            self._at_stop.callback(_stop, self._spark_session)
        wanted = {name: settings[name] for name in (*OF_THE_SESSION, *self.spark_config)}
        if kept := connect.configure(self._spark_session, wanted):
            self._logger.warning(f"The Spark Connect server decides these settings, a run cannot: {', '.join(kept)}.")
        with tempfile.TemporaryDirectory() as folder:  # the server has it once it is sent
            connect.ship_package(self._spark_session, Path(folder))

    @property
    def application_id(self) -> str | None:
        """Spark's id of the running application; None where no session was needed so far."""
        return self._spark_session.conf.get("spark.app.id", None) if self._spark_session is not None else None

    def stop(self) -> None:
        """Stop the session if this resource started it; always let the next run have the machine."""
        self._spark_session, self._progress, self._asset, self._scratch = None, None, None, None
        self._at_stop.close()


def spark_options(settings: Settings) -> dict[str, Any]:
    """The fields of SparkResource for these settings."""
    return {
        "master": settings.spark_master,
        "driver_memory": settings.driver_memory,
        "executor_memory": settings.executor_memory,
        "checkpoint_dir": f"{settings.data_dir}/.checkpoints",
        "event_log_dir": settings.spark_event_log,
        # The UI shows the fields of a resource; SparkResource reads what is hidden here from the settings.
        "spark_config": {
            name: HIDDEN if is_secret(name, value) else value for name, value in settings.spark_config.items()
        },
    }


def local_cores(master: str) -> int:
    """Number of cores that a local master URL such as `local[4]` or `local[*]` takes."""
    inside = master.partition("[")[2].partition("]")[0].split(",")[0]
    if inside.isdigit():
        return int(inside)
    return (os.cpu_count() or 1) if inside == "*" else 1


def _session_beside(existing: SparkSession, settings: Mapping[str, str]) -> SparkSession:
    session = existing.newSession()
    for name in OF_THE_SESSION:
        session.conf.set(name, settings[name])
    return session


def _stop(session: SparkSession) -> None:
    try:
        session.stop()
    except Exception:  # an interrupted call leaves the thread's connection to Java unusable: another thread has its own
        with ThreadPoolExecutor(1) as pool:
            pool.submit(session.stop).result()


def _check_writable(folder: str) -> None:
    """Raises `dg.Failure` where a folder on this machine cannot be made or written to."""
    fs, path = _file_system(folder)
    try:
        if "file" in fs.protocol:
            os.makedirs(path, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise dg.Failure(
            f"The data dir cannot be written to ({error.strerror}: {path}): set ECOMMERCE_DATA_DIR to another folder.",
            allow_retries=False,
        ) from None


def _remove(folder: str) -> None:
    """Tidying up must not fail a run."""
    with suppress(Exception):
        fs, path = _file_system(folder)
        fs.rm(path, recursive=True)


def _remove_leftovers(folder: str) -> None:
    """Remove the scratch folders of processes of this machine that were killed."""
    with suppress(Exception):
        fs, path = _file_system(folder)
        for name in (entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=False)):
            process = re.fullmatch(r"(.+?)-(\d+)(-[0-9a-f]{8})?", name)
            if process and RunProcess(run_id="", host=process[1], pid=int(process[2]), started="").has_ended:
                _remove(f"{folder}/{name}")


def _file_system(folder: str) -> tuple[Any, str]:
    fs, path = fsspec.core.url_to_fs(re.sub("^s3[an]://", "s3://", folder))
    return fs, path


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

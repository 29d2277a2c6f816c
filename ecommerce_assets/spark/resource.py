"""The Dagster resource `SparkResource`: our defaults as typed fields, and one session per run."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
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
from ecommerce_assets.spark.machine_lock import machine_lock
from ecommerce_assets.spark.progress import log_long_stages
from ecommerce_assets.spark.session import (
    JAVA_OPTIONS,
    LOCAL_JAVA_OPTIONS,
    ON_LOOPBACK,
    active_session,
    start,
    submitted,
)

SESSION_SETTINGS = (
    "spark.sql.adaptive.enabled",
    "spark.sql.execution.replaceHashWithSortAgg",
    "spark.sql.maxConcurrentOutputFileWriters",
    *FIXED_SPARK_SETTINGS,
)
"""Settings of a session, which a Spark that runs already gets; the others belong to the application or the server."""

JOB_PROPERTIES = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
"""What `setJobGroup` sets for the calling thread."""


class SparkResource(LazyPySparkResource):
    """A Spark session, started at its first use and stopped at the end of the run, also after a failure.

    While it runs on this machine, no other run starts one. If the process already has a Spark (a notebook's, a test's),
    the run uses a new session of it with its own settings, and leaves it running.
    """

    app_name: str = Field(default="E-commerce Model Training", description="Name of the Spark application.")
    master: str = Field(default="local[*]", description="Spark master URL, sc://host:port for Spark Connect, or sail.")
    driver_memory: str = Field(default="8g", description="Heap of the driver, or memory pool of Sail, such as 8g.")
    executor_memory: str = Field(default="8g", description="Heap of an executor, such as 8g.")
    adaptive: bool = Field(default=True, description="Adaptive query execution.")
    serializer: str = Field(default="org.apache.spark.serializer.KryoSerializer", description="Spark serializer class.")
    checkpoint_dir: str | None = Field(
        default=None, description="Folder for ALS checkpoints and parsed raw files; emptied at the end of each run."
    )
    session_time_zone: str = Field(default="UTC", description="Time zone of timestamps and days; must be UTC.")
    event_log_dir: str | None = Field(default=None, description="Folder for Spark's event logs; unset: no event logs.")
    spark_config: dict[str, Any] = Field(
        default_factory=dict,
        description=f"More Spark settings by full name; {HIDDEN}: the value is in ECOMMERCE_SPARK_CONFIG.",
    )

    _at_stop: ExitStack = PrivateAttr(default_factory=ExitStack)
    _log: Any = PrivateAttr(default=None)
    _asset: str = PrivateAttr(default="")
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
        """Returns all Spark settings of this resource by name.

        Parameters
        ----------
        submitted
            Settings of spark-submit, which override `spark_config`, which overrides the fields.

        Raises
        ------
        dagster.Failure
            If a setting would change the tables.
        """
        submitted = submitted or {}
        master = submitted.get("spark.master", self.master)
        defaults: dict[str, Any] = {
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
            # Collected results were compared with the free memory before; the default would end a run at 1 GB.
            "spark.driver.maxResultSize": 0,
            # Aggregate rows that are already sorted by their keys without a hash table.
            "spark.sql.execution.replaceHashWithSortAgg": True,
            # A task that writes up to eight days keeps their files open instead of sorting its rows by day again.
            "spark.sql.maxConcurrentOutputFileWriters": 8,
        }
        if self.event_log_dir:
            defaults |= {"spark.eventLog.enabled": True, "spark.eventLog.dir": self.event_log_dir}
        else:
            # Only event logs need the long description of each query, which slows planning down.
            defaults["spark.sql.ui.explainMode"] = "simple"
        if master.startswith("local"):
            cores = local_cores(master)
            defaults |= {
                **ON_LOOPBACK,
                # 200 shuffle partitions are for clusters; on one machine a few per core are faster.
                "spark.sql.shuffle.partitions": 4 * cores,
                # Merged by size, eight small partitions become three: one core gets two of them, the other one.
                "spark.sql.adaptive.coalescePartitions.enabled": cores > 4,
                # Listing some hundred files in the driver is faster than with a job.
                "spark.sql.sources.parallelPartitionDiscovery.threshold": 10_000,
                # Persisted frames are read once or twice: compression does not pay off.
                "spark.sql.inMemoryColumnarStorage.compressed": False,
                JAVA_OPTIONS: LOCAL_JAVA_OPTIONS,
            }
        # The UI shows `spark_config`, so secret values are hidden in it.
        hidden = [name for name, value in self.spark_config.items() if value == HIDDEN]
        secrets = {name: load_settings().spark_config[name] for name in hidden}
        merged = {**FIXED_SPARK_SETTINGS, **defaults, **self.spark_config, **secrets, **submitted}
        settings = {
            name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in merged.items()
        }
        for name, value in FIXED_SPARK_SETTINGS.items():
            if settings[name] != value:
                raise dg.Failure(f"{name} must be {value}, got {settings[name]!r}: it would change the tables.")
        return settings

    def _init_session(self) -> None:
        if self._spark_session is not None:
            return
        try:
            self._spark_session = self._start_or_join()
        except BaseException as error:
            self.stop()
            # About the lock's folder, Java or a missing package.
            if isinstance(error, PermissionError | RuntimeError | ImportError):
                raise dg.Failure(f"Spark could not be started: {error}") from error
            raise
        self.working_on(self._asset)

    def working_on(self, asset: str) -> None:
        """Assigns Spark's jobs from now on to an asset, in the log and in Spark's UI. Starts no session."""
        self._asset = asset
        if self._spark_session is None or not asset:
            return
        if is_remote():
            self._spark_session.clearTags()
            self._spark_session.addTag(f"ecommerce_assets:{asset}")
        else:
            self._spark_session.sparkContext.setJobGroup(f"ecommerce_assets: {asset}", asset)

    @property
    def _logger(self) -> Any:
        return self._log or dg.get_dagster_logger()

    def scratch(self, name: str) -> str:
        """Returns a folder for intermediate files that Spark can read; it is removed at the end of the run.

        Raises
        ------
        dagster.Failure
            If the data dir is on this machine and cannot be written to.
        """
        if self._scratch is None:
            folder = _scratch_folder(self.checkpoint_dir) if self.checkpoint_dir else tempfile.TemporaryDirectory()
            self._scratch = self._at_stop.enter_context(folder)
        return f"{self._scratch}/{name}"

    def _start_or_join(self) -> SparkSession:
        session = active_session()
        if session is None and not self.master.startswith(("sc://", sail.MASTER)):
            session = self._start_spark()
        else:
            session = self._join(session)
        if not is_remote() and self.checkpoint_dir and session.sparkContext.getCheckpointDir() is None:
            session.sparkContext.setCheckpointDir(self.scratch("als"))
        return session

    def _start_spark(self) -> SparkSession:
        settings = self.settings(submitted())
        is_local = settings["spark.master"].startswith("local")
        if is_local:
            self.scratch("")  # fails in a read-only data dir, before Java starts
            self._at_stop.enter_context(machine_lock(self._holder, self._logger.info))
        session = start(settings, self._logger.info)
        self._at_stop.callback(_stop, session)
        self._at_stop.enter_context(log_long_stages(session.sparkContext, lambda: self._asset, self._logger.info))
        if not is_local:
            connect.ship_package(session, Path(self._at_stop.enter_context(tempfile.TemporaryDirectory())))
        return session

    def _join(self, existing: SparkSession | None) -> SparkSession:
        """Returns a session of this process's Spark, of Sail or of a Spark Connect server, with our settings."""
        settings = self.settings()
        if existing is not None:
            session = existing if is_remote() else existing.newSession()
        elif self.master == sail.MASTER:
            scratch = self.scratch("sail")
            if "://" in scratch:
                scratch = self._at_stop.enter_context(tempfile.TemporaryDirectory())
            self._at_stop.enter_context(machine_lock(self._holder, self._logger.info))
            session = self._at_stop.enter_context(sail.running_sail(self.driver_memory, scratch, self._logger.info))
        else:
            # It warns of windows over small tables, as Java does in its own log.
            warnings.filterwarnings("ignore", "WARN WindowExpression: No Partition Defined")
            session = SparkSession.builder.remote(self.master).getOrCreate()
            self._at_stop.callback(_stop, session)
        names = (*SESSION_SETTINGS, *(self.spark_config if is_remote() else ()))
        if ignored := connect.configure(session, {name: settings[name] for name in names}):
            self._logger.warning(f"Ignored settings, which the Spark Connect server decides: {', '.join(ignored)}.")
        if not is_remote():
            for name in JOB_PROPERTIES:
                self._at_stop.callback(session.sparkContext.setLocalProperty, name, None)  # type: ignore[arg-type]
        elif not sail.is_sail(session):
            with tempfile.TemporaryDirectory() as folder:  # the server has a copy once it is sent
                connect.ship_package(session, Path(folder))
        return session

    @property
    def application_id(self) -> str | None:
        """Spark's id of the running application; None if no session was needed so far."""
        return self._spark_session.conf.get("spark.app.id", None) if self._spark_session is not None else None

    def stop(self) -> None:
        """Stops the session if this resource started it, and removes the scratch files."""
        self._spark_session, self._asset, self._scratch = None, "", None
        self._at_stop.close()


def spark_options(settings: Settings) -> dict[str, Any]:
    """Returns the fields of SparkResource for these settings."""
    return {
        "master": settings.spark_master,
        "driver_memory": settings.driver_memory,
        "executor_memory": settings.executor_memory,
        "checkpoint_dir": f"{settings.data_dir}/.checkpoints",
        "event_log_dir": settings.spark_event_log,
        # The UI shows the fields of a resource: SparkResource reads hidden values from the settings.
        "spark_config": {
            name: HIDDEN if is_secret(name, value) else value for name, value in settings.spark_config.items()
        },
    }


def local_cores(master: str) -> int:
    """Returns the number of cores of a local master URL, such as 4 for `local[4]`; `local[*]`: all of this machine."""
    count = re.search(r"\[(\d+)", master)
    return int(count[1]) if count else (os.cpu_count() or 1) if "*" in master else 1


def _stop(session: SparkSession) -> None:
    try:
        session.stop()
    except Exception:  # an interrupted call makes this thread's connection to Java unusable; other threads have others
        with ThreadPoolExecutor(1) as pool:
            pool.submit(session.stop).result()


@contextmanager
def _scratch_folder(parent: str) -> Iterator[str]:
    """Yields a new folder in `parent` and removes it at the end of the block, and those of killed processes before."""
    fs, path = fsspec.core.url_to_fs(re.sub("^s3[an]://", "s3://", parent))
    with suppress(Exception):
        for name in (entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=False)):
            process = re.fullmatch(r"(.+)-(\d+)-[0-9a-f]{8}", name)
            if process and RunProcess(run_id="", host=process[1], pid=int(process[2]), started="").has_ended:
                fs.rm(f"{path}/{name}", recursive=True)
    # Unique, because a notebook may have several runs in one process.
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        if "file" in fs.protocol:
            os.makedirs(f"{path}/{name}")
    except OSError as error:
        raise dg.Failure(
            f"The data dir cannot be written to ({error.strerror}: {path}): set ECOMMERCE_DATA_DIR to another folder.",
            allow_retries=False,
        ) from None
    try:
        yield f"{parent}/{name}"
    finally:
        with suppress(Exception):  # a folder that is left must not fail the run
            fs.rm(f"{path}/{name}", recursive=True)

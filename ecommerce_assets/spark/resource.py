"""The PySpark resource: our defaults as typed fields, one session per run, stopped by whoever started it.

Nothing here knows what is computed; that one JVM at a time runs on a machine is the business of machine_lock.py.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_pyspark import LazyPySparkResource
from pydantic import Field, PrivateAttr
from pyspark import SparkConf, SparkContext
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.runs import record_process
from ecommerce_assets.spark.class_archive import ClassArchive
from ecommerce_assets.spark.java import ensure_java
from ecommerce_assets.spark.java_output import start_quietly
from ecommerce_assets.spark.machine_lock import MachineLock
from ecommerce_assets.spark.progress import JobWatcher

GATEWAY = "PYSPARK_GATEWAY_PORT"
"""Set where spark-submit started this process and Java."""

SHUFFLE_PARTITIONS_PER_CORE = 4
FEW_CORES = 4
OPEN_FILES = 8
"""Files that a task may write at a time, each with its buffers; from then on it sorts its rows by file."""

JAVA_OPTIONS = "spark.driver.extraJavaOptions"
COMPILE_LESS = (
    # Seven to ten times Java's own numbers of calls before it compiles a method a second time, thoroughly.
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4CompileThreshold=100000 "
    # Half of what it then puts in place of calls, and of how large that may make a method.
    "-XX:FreqInlineSize=150 -XX:InlineSmallCode=1500 -XX:MaxInlineLevel=9 -XX:LiveNodeCountInliningCutoff=12000 "
    # A Java whose compiler is another goes without.
    "-XX:+IgnoreUnrecognizedVMOptions"
)
"""What runs for every row is compiled all the same, most of what plans queries no longer is. On two cores, in the whole
graph of a million events, compiling takes 0.8 times the CPU time of all tasks, not 1.4 times; of 5 million 0.4 times,
not 0.55. The tasks themselves take no longer: 273 s of CPU time of 5 million events, and 275 s without the limits."""

OF_THE_SESSION = (
    "spark.sql.adaptive.enabled",
    "spark.sql.session.timeZone",
    "spark.sql.execution.replaceHashWithSortAgg",
    "spark.sql.maxConcurrentOutputFileWriters",
    "spark.sql.parquet.outputTimestampType",
)
"""Settings on which what is written depends: a session beside one that was handed over gets them too."""


class SparkResource(LazyPySparkResource):
    """A Spark session, started when first asked for.

    A session that already lives in the process (a notebook's, a test's) is used and left running; it is not altered:
    we work in a session of our own on its context. One that we start is stopped at the end of the run, also after a
    failure, and while it lives no other run on this machine starts one.
    """

    app_name: str = Field(default="E-commerce Model Training", description="Name of the Spark application.")
    master: str = Field(default="local[*]", description="Spark master URL.")
    driver_memory: str = Field(default="8g", description="Heap of the driver, such as 8g.")
    executor_memory: str = Field(default="8g", description="Heap of an executor, such as 8g.")
    adaptive: bool = Field(default=True, description="Adaptive query execution.")
    serializer: str = Field(default="org.apache.spark.serializer.KryoSerializer", description="Spark serializer class.")
    checkpoint_dir: str | None = Field(
        default=None, description="Folder for ALS checkpoints; what a run leaves is removed."
    )
    session_time_zone: str = Field(default="UTC", description="Time zone in which days begin.")
    event_log_dir: str | None = Field(default=None, description="Folder for Spark's event logs; unset: none are kept.")
    spark_config: dict[str, Any] = Field(default_factory=dict, description="More Spark settings, by their full names.")

    _lock: MachineLock | None = PrivateAttr(default=None)
    _persisted: list[DataFrame] = PrivateAttr(default_factory=list)
    _started_here: bool = PrivateAttr(default=False)
    _own_checkpoints: str | None = PrivateAttr(default=None)
    _class_archive: ClassArchive | None = PrivateAttr(default=None)
    _shipped: tempfile.TemporaryDirectory[str] | None = PrivateAttr(default=None)
    _log: Any = PrivateAttr(default=None)
    _step: str | None = PrivateAttr(default=None)
    _watcher: JobWatcher | None = PrivateAttr(default=None)
    _holder: str = PrivateAttr(default="a session outside a run")

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        if context.run:
            self._holder = f"run {context.run.run_id}"
            if context.instance:
                record_process(context.instance, context.run.run_id)
        self._log = context.log or dg.get_dagster_logger()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self.stop()

    def settings(self) -> dict[str, str]:
        """Every Spark setting that this resource asks for; the free-form map wins over the fields."""
        ours: dict[str, Any] = {
            "spark.app.name": self.app_name,
            "spark.master": self.master,
            "spark.driver.memory": self.driver_memory,
            "spark.executor.memory": self.executor_memory,
            "spark.sql.adaptive.enabled": self.adaptive,
            "spark.serializer": self.serializer,
            "spark.sql.session.timeZone": self.session_time_zone,
            "spark.log.level": "ERROR",
            "spark.ui.enabled": False,  # a second UI beside Dagster's; one line in the free-form map brings it back
            "spark.ui.showConsoleProgress": False,
            "spark.sql.execution.arrow.pyspark.enabled": True,
            # A page of a Parquet file whose checksum is wrong is an error, not another value.
            "spark.hadoop.parquet.page.verify-checksum.enabled": True,
            # Rows that come sorted by their keys are aggregated as they come, without a hash table.
            "spark.sql.execution.replaceHashWithSortAgg": True,
            # A task that writes a day or a few keeps their files open instead of sorting its rows by day once more.
            "spark.sql.maxConcurrentOutputFileWriters": OPEN_FILES,
            # Microseconds as all others read and write them, not the 96 bits of Spark's first years.
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        }
        if self.event_log_dir:
            ours |= {"spark.eventLog.enabled": True, "spark.eventLog.dir": self.event_log_dir}
        else:
            # Each query is described for those who look at it later; the long form takes a tenth of its planning.
            ours["spark.sql.ui.explainMode"] = "simple"
        if self.master.startswith("local"):
            # 200 shuffle partitions are for clusters; on one machine a few per core are faster.
            ours["spark.sql.shuffle.partitions"] = SHUFFLE_PARTITIONS_PER_CORE * local_cores(self.master)
            # Merged by size, eight small partitions become three, of which two cores get two and one.
            ours["spark.sql.adaptive.coalescePartitions.enabled"] = local_cores(self.master) > FEW_CORES
            # To list some hundred files takes less time than a job that lists them.
            ours["spark.sql.sources.parallelPartitionDiscovery.threshold"] = 10_000
            # What is kept is read once or twice: to compress it takes longer (of 5 million events 15 s of CPU, not 9).
            ours["spark.sql.inMemoryColumnarStorage.compressed"] = False
            # For as much work as can be done, not for short pauses: events and features of 5 million events in 57 s on
            # two cores, not 61. Who names other options for Java names them all.
            # The stack holds plans: one that overflows ends Java, and a union of many versions makes deep ones.
            ours[JAVA_OPTIONS] = f"-XX:+UseParallelGC -Xss4m {COMPILE_LESS}"
        return {name: _as_text(value) for name, value in {**ours, **self.spark_config}.items()}

    def _init_session(self) -> None:
        if self._spark_session is None:
            self._start_or_join()
            self._set_checkpoint_dir()
            self._name_jobs()

    def working_on(self, step: str) -> None:
        """Name the step that Spark's jobs are for from now on; long ones are told of in the log. Starts no session."""
        self._step = step
        if self._spark_session is not None:
            self._name_jobs()

    def _name_jobs(self) -> None:
        if self._step is None:
            return
        if self._watcher is None:
            self._watcher = JobWatcher(self.spark_context, (self._log or dg.get_dagster_logger()).info)
        self._watcher.working_on(self._step)

    def _set_checkpoint_dir(self) -> None:
        context = self.spark_context
        if self.checkpoint_dir and context.getCheckpointDir() is None:
            self._own_checkpoints = f"{self.checkpoint_dir}/{context.applicationId}"
            context.setCheckpointDir(self._own_checkpoints)
            # Java outlives this process for a moment where it is killed, and does then what `stop` no longer can.
            file_system, path = _hadoop(self._spark_session, self._own_checkpoints)
            file_system.deleteOnExit(path)

    def _start_or_join(self) -> None:
        if SparkContext._active_spark_context is not None:
            self._spark_session = _session_beside(SparkSession.builder.getOrCreate(), self.settings())
            return
        log = self._log or dg.get_dagster_logger()
        settings = {**self.settings(), **submitted()}
        is_local = settings["spark.master"].startswith("local")
        if is_local:
            self._lock = MachineLock(self._holder)
            self._lock.acquire(log.info)
        try:
            if GATEWAY not in os.environ:  # else spark-submit has started Java already
                java_home = ensure_java(log.info)
                if JAVA_OPTIONS in settings and JAVA_OPTIONS not in self.spark_config:
                    self._class_archive = ClassArchive.of(java_home)
                    more = self._class_archive.java_options() if self._class_archive else []
                    settings[JAVA_OPTIONS] = " ".join([settings[JAVA_OPTIONS], *(f'"{option}"' for option in more)])
            self._spark_session = _new_session(settings, quiet=is_local and GATEWAY not in os.environ)
            self._started_here = True
            if is_local:
                # Python workers must be this Python, which has this package, not the first one on the PATH.
                self._spark_session.sparkContext.pythonExec = os.environ.get("PYSPARK_PYTHON", sys.executable)
            else:
                self._shipped = tempfile.TemporaryDirectory()
                _ship_package(self._spark_session, Path(self._shipped.name))
        except BaseException:
            self.stop()
            raise

    def _keep_classes(self) -> None:
        if self._class_archive is None or self._spark_session is None:
            return
        # A quicker start is no reason to fail a run that is done.
        with suppress(Exception):
            told = self._spark_session._jvm.java.lang.System.getProperty
            self._class_archive.make_in_background(told("java.home"), told("java.class.path"))

    @property
    def application_id(self) -> str | None:
        """Spark's id of the running application; None where no session was needed so far."""
        return self._spark_session.sparkContext.applicationId if self._spark_session is not None else None

    def persist(self, frame: DataFrame) -> DataFrame:
        """Keep a frame in memory until the end of the run, however the run ends."""
        self._persisted.append(frame.persist())
        return frame

    def stop(self) -> None:
        """Stop the session if this resource started it; always let the next run have the machine."""
        try:
            while self._persisted:
                with suppress(Exception):
                    self._persisted.pop().unpersist()
            if self._watcher is not None:
                self._watcher.stop()
            if self._spark_session is not None and self._own_checkpoints:
                # Tidying up: a Java that died meanwhile must not keep us from letting go of the session.
                with suppress(Exception):
                    _remove(self._spark_session, self._own_checkpoints)
                    if not self._started_here:
                        self._spark_session.sparkContext._jsc.sc().setCheckpointDir(None)
            if self._started_here and self._spark_session is not None:
                self._keep_classes()
                self._spark_session.stop()
        finally:
            self._spark_session, self._started_here, self._own_checkpoints = None, False, None
            self._class_archive = None
            self._watcher, self._step = None, None
            if self._shipped is not None:
                self._shipped.cleanup()
                self._shipped = None
            if self._lock is not None:
                self._lock.release()
                self._lock = None


def submitted() -> dict[str, str]:
    """What spark-submit was told, which wins over what we would ask for; empty where it did not start this process."""
    if GATEWAY not in os.environ:
        return {}
    told = dict(SparkConf().getAll())
    if told.get("spark.app.name") == Path(sys.argv[0]).name:
        del told["spark.app.name"]  # nobody named it: spark-submit then takes the file's name
    return told


def local_cores(master: str) -> int:
    """Number of cores that a local master URL such as `local[4]` or `local[*]` takes."""
    inside = master.partition("[")[2].partition("]")[0].split(",")[0]
    if inside.isdigit():
        return int(inside)
    return (os.cpu_count() or 1) if inside == "*" else 1


def _new_session(settings: Mapping[str, str], quiet: bool) -> SparkSession:
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    if quiet:
        start_quietly(settings)
    return builder.getOrCreate()


def _ship_package(session: SparkSession, folder: Path) -> None:
    """Send this package to the executors, whose Python need not have it; numpy, pandas and pyarrow it must have.

    They fetch it from the archive in `folder` whenever one of them starts, so that stays as long as the session.
    """
    package = Path(__file__).parents[1]
    archive = folder / f"{package.name}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(package.rglob("*.py")):
            packed.write(file, file.relative_to(package.parent))
    session.sparkContext.addPyFile(str(archive))


def _session_beside(existing: SparkSession, settings: Mapping[str, str]) -> SparkSession:
    session = existing.newSession()
    for name in OF_THE_SESSION:
        session.conf.set(name, settings[name])
    return session


def _remove(session: SparkSession, folder: str) -> None:
    file_system, path = _hadoop(session, folder)
    file_system.delete(path, True)


def _hadoop(session: Any, folder: str) -> tuple[Any, Any]:
    """Hadoop's file system for a folder, and its path there."""
    path = session._jvm.org.apache.hadoop.fs.Path(folder)
    return path.getFileSystem(session.sparkContext._jsc.hadoopConfiguration()), path


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

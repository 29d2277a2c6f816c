"""Starts Spark: the Java that it gets, how settings reach it, what Java prints. Use `start`."""

from __future__ import annotations

import locale
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ecommerce_assets.secret import is_secret
from ecommerce_assets.spark.java import ensure_java

GATEWAY = "PYSPARK_GATEWAY_PORT"
"""Set where spark-submit started this process and Java."""

SUBMIT_ARGS = "PYSPARK_SUBMIT_ARGS"
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
LOCAL_JAVA_OPTIONS = (
    # The stack holds plans: a union of many versions makes deep ones, and an overflow ends Java.
    "-XX:+UseParallelGC -Xss4m "
    # Compile only what runs for every row: most code runs once, to plan a query.
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4CompileThreshold=100000 -XX:FreqInlineSize=150 "
    "-XX:InlineSmallCode=1500 -XX:MaxInlineLevel=9 -XX:LiveNodeCountInliningCutoff=12000 "
    "-XX:+IgnoreUnrecognizedVMOptions"
)
ON_LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
"""Nothing outside this machine needs to reach a local Spark."""

LOG_OPTION = f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties').as_uri()}"


def start(settings: Mapping[str, str], log: Callable[[str], object]) -> SparkSession:
    """A new session with these settings, and with Java's log in our format."""
    settings = {**settings, JAVA_OPTIONS: f"{settings.get(JAVA_OPTIONS, '')} {LOG_OPTION}".strip()}
    memory = settings.get("spark.driver.memory", "1g")
    log(f"Starting Spark on {settings['spark.master']} with {memory} of driver memory.")
    if settings["spark.master"].startswith("local"):
        # Python workers must be this Python, which has this package, not the first one on the PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if GATEWAY in os.environ:  # Java runs already, with a log configuration of its own
        return _session({"spark.log.level": "ERROR", **settings})
    ensure_java(log)
    secrets = {name: value for name, value in settings.items() if is_secret(name, value)}
    with tempfile.NamedTemporaryFile("w", suffix=".properties", encoding="utf-8") as file:
        # PySpark puts what the builder is given on Java's command line, which everybody on the machine can read.
        file.writelines(f"{name}={_escaped(value)}\n" for name, value in secrets.items())
        file.flush()
        given = os.environ.get(SUBMIT_ARGS, "pyspark-shell")
        changed = {SUBMIT_ARGS: f"--properties-file {shlex.quote(file.name)} --load-spark-defaults {given}"}
        if locale.getencoding().lower() != "utf-8":
            changed["LC_ALL"] = "C.UTF-8"  # or Java could not open files whose names have other letters
        with _environment(changed):
            return _session({name: value for name, value in settings.items() if name not in secrets})


def active_session() -> SparkSession | None:
    """The session of this process, if there is one."""
    try:
        return SparkSession.active()
    except PySparkException:
        return None


def _session(settings: Mapping[str, str]) -> SparkSession:
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


@contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            del os.environ[name]
        os.environ.update({name: before[name] for name in changed if name in before})


def _escaped(value: str) -> str:
    """As a Java properties file wants it."""
    return re.sub(r"[\\\n\r]", lambda found: f"\\u{ord(found[0]):04x}", value)


def submitted() -> dict[str, str]:
    """What spark-submit was told, which wins over what we would ask for; empty where it did not start this process."""
    if GATEWAY not in os.environ:
        return {}
    # Only after a first session does SparkConf know it.
    quiet = {"spark.ui.enabled": "false", "spark.log.level": "ERROR"}
    _session({"spark.master": "local[1]", **ON_LOOPBACK, **quiet}).stop()
    defaults = {"spark.app.name": Path(sys.argv[0]).name, "spark.master": "local[*]"}
    return {name: value for name, value in SparkConf().getAll() if defaults.get(name) != value}

"""Starts Spark: finds a Java, passes the settings to it, and limits what it prints. Use `start`."""

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
"""Set if spark-submit started this process and Java."""

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
"""Other machines do not need to reach a local Spark."""

LOG_OPTION = f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties').as_uri()}"


def start(settings: Mapping[str, str], log: Callable[[str], object]) -> SparkSession:
    """Returns a new session with these settings; Java logs only errors, in our format."""
    settings = {**settings, JAVA_OPTIONS: f"{settings.get(JAVA_OPTIONS, '')} {LOG_OPTION}".strip()}
    memory = settings.get("spark.driver.memory", "1g")
    log(f"Starting Spark on {settings['spark.master']} with {memory} of driver memory.")
    if settings["spark.master"].startswith("local"):
        # Python workers must be this Python, which has this package, not the first one on the PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if GATEWAY in os.environ:  # Java runs already, with its own log configuration
        return _session({"spark.log.level": "ERROR", **settings})
    ensure_java(log)
    secrets = {name: value for name, value in settings.items() if is_secret(name, value)}
    with tempfile.NamedTemporaryFile("w", suffix=".properties", encoding="utf-8") as file:
        # PySpark puts the builder's settings on Java's command line, which everybody on the machine can read.
        file.writelines(f"{name}={_escaped(value)}\n" for name, value in secrets.items())
        file.flush()
        arguments = os.environ.get(SUBMIT_ARGS, "pyspark-shell")
        changes = {SUBMIT_ARGS: f"--properties-file {shlex.quote(file.name)} --load-spark-defaults {arguments}"}
        if locale.getencoding().lower() != "utf-8":
            changes["LC_ALL"] = "C.UTF-8"  # otherwise Java cannot open files whose names have non-ASCII letters
        with _environment(changes):
            return _session({name: value for name, value in settings.items() if name not in secrets})


def active_session() -> SparkSession | None:
    """Returns the session of this process, also of Spark Connect or Sail; None if there is none."""
    try:
        return SparkSession.active()
    except PySparkException:
        return None


def submitted() -> dict[str, str]:
    """Returns the settings that spark-submit was given; empty if it did not start this process."""
    if GATEWAY not in os.environ:
        return {}
    # SparkConf has them only after a first session.
    quiet = {"spark.ui.enabled": "false", "spark.log.level": "ERROR"}
    _session({"spark.master": "local[1]", **ON_LOOPBACK, **quiet}).stop()
    defaults = {"spark.app.name": Path(sys.argv[0]).name, "spark.master": "local[*]"}
    return {name: value for name, value in SparkConf().getAll() if defaults.get(name) != value}


def _session(settings: Mapping[str, str]) -> SparkSession:
    return SparkSession.builder.config(map=dict(settings)).getOrCreate()


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    previous = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _escaped(value: str) -> str:
    """Returns the value as it is written in a Java properties file."""
    return re.sub(r"[\\\n\r]", lambda match: f"\\u{ord(match[0]):04x}", value)

"""Starts Spark: finds a Java, passes the settings to it, and limits what it prints. Use `start`."""

from __future__ import annotations

import locale
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

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
    if GATEWAY not in os.environ:
        ensure_java(log)
        if locale.getencoding().lower() != "utf-8":
            os.environ["LC_ALL"] = "C.UTF-8"  # otherwise Java cannot open files whose names have non-ASCII letters
    arguments = os.environ.get(SUBMIT_ARGS, "pyspark-shell")
    # PySpark puts the settings of a builder on Java's command line, which everybody on the machine can read.
    with tempfile.NamedTemporaryFile("w", suffix=".properties", encoding="utf-8") as file:
        file.writelines(f"{name}={_escaped(value)}\n" for name, value in settings.items())
        file.flush()
        os.environ[SUBMIT_ARGS] = f"--properties-file {shlex.quote(file.name)} --load-spark-defaults {arguments}"
        try:
            for name, value in settings.items():  # for a Java that runs already; the first call starts Java otherwise
                SparkContext.setSystemProperty(name, value)
        finally:
            os.environ[SUBMIT_ARGS] = arguments
    return SparkSession.builder.getOrCreate()


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
    SparkContext.getSystemProperty("java.home")  # connects to Java, whose settings SparkConf then has
    defaults = {"spark.app.name": Path(sys.argv[0]).name, "spark.master": "local[*]"}
    given = {name: value for name, value in SparkConf().getAll() if defaults.get(name) != value}
    return {"spark.log.level": "ERROR", **given}  # Java runs already, with its own log configuration


def _escaped(value: str) -> str:
    """Returns the value as it is written in a Java properties file."""
    return re.sub(r"[\\\n\r]", lambda match: f"\\u{ord(match[0]):04x}", value)

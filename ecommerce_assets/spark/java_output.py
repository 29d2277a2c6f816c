"""Starts Spark's Java and passes on what it prints, but for start-up lines that nobody can act on.

Everything that is not in the list below is printed as it came, so a Java that dies still says why.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

STDERR = 2  # the descriptor: sys.stderr may be a notebook's or a test's, and be closed before Java ends
CHATTER = (
    "WARNING: Using incubator modules: jdk.incubator.vector",  # Spark's own choice
    "Using Spark's default log4j profile: ",
    'Setting default log level to "',
    "To adjust logging level use sc.setLogLevel",
    "Setting Spark log level to ",
    " WARN Utils: Your hostname, ",  # where all runs on one machine, the loopback address will do
    " WARN Utils: Set SPARK_LOCAL_IP if you need to bind to another address",
    " WARN NativeCodeLoader: Unable to load native-hadoop library",
    "netlib-blas: JNI_OnLoad: ",  # there is no BLAS for Java to call: Spark brings its own, in Java
)


def start_quietly(settings: Mapping[str, str]) -> None:
    """A Spark context with these settings, for `SparkSession.builder.getOrCreate()` to find.

    A Java that this process has from an earlier context is used again.
    """
    conf = SparkConf().setAll(list(settings.items()))
    gateway: Any = SparkContext._gateway
    if gateway is None:
        how = {"stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        gateway = launch_gateway(conf, popen_kwargs=how)  # type: ignore[no-untyped-call]
        if gateway.proc is not None:  # else spark-submit started Java
            threading.Thread(target=pass_on, args=(gateway.proc.stderr,), name="java-output", daemon=True).start()
    SparkContext(conf=conf, gateway=gateway)


def pass_on(lines: IO[str]) -> None:
    """Print what comes, line by line, without the chatter, to where Java itself would have printed it.

    It goes on reading where nobody listens any more: Java waits where its pipe is full.
    """
    for line in lines:
        if not any(known in line for known in CHATTER):
            with suppress(OSError):
                os.write(STDERR, line.encode(errors="replace"))

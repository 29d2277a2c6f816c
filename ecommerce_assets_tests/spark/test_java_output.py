"""What Java prints: start-up chatter goes, everything else is passed on as it came."""

from __future__ import annotations

import io

import pytest

from ecommerce_assets.spark.java_output import pass_on


def test_only_the_chatter_goes(capfd: pytest.CaptureFixture[str]) -> None:
    told = [
        "26/11/26 15:12:34 WARN TaskSetManager: Lost task 0.0 in stage 1.0",
        "java.lang.OutOfMemoryError: Java heap space",
        "    at org.apache.spark.Task.run(Task.scala:141)",
        "",
        "a last line without an end",
    ]
    chatter = [
        "WARNING: Using incubator modules: jdk.incubator.vector",
        "26/11/26 15:12:34 WARN Utils: Your hostname, vm, resolves to a loopback address: 127.0.0.1",
        "netlib-blas: JNI_OnLoad: dlopen(libblas.so.3) failed: libblas.so.3: cannot open shared object file",
    ]
    pass_on(io.StringIO("\n".join([told[0], *chatter, *told[1:]])))
    assert capfd.readouterr().err == "\n".join(told)

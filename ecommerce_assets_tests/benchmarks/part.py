"""Folder, stopwatch and command line of the parts."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXPORT = "cleaned_data_20191101_000000.parquet"
INSTALL = "uv run --group bench"
TOP = 10
"""Length of the lists, here and in the project's defaults."""


class Skipped(Exception):  # noqa: N818 - not an error
    """A part cannot run; the message has the reason."""


@dataclass(frozen=True)
class Place:
    """The folder of one number of events, with the events and the output of the parts.

    Attributes
    ----------
    root
        The folder.
    memory
        Heap of each Spark driver, such as `8g`.
    with_mllib
        Whether the part `kernels` runs MLlib.
    """

    root: Path
    memory: str = "8g"
    with_mllib: bool = True

    @property
    def shop(self) -> Path:
        """A data dir of the project, with `raw/events`, and `lake` after the graph ran."""
        return self.root / "shop"

    @property
    def export(self) -> Path:
        """Folder with the same files as hard links, for the other systems."""
        return self.root / EXPORT

    def work(self, part: str) -> Path:
        """Returns an empty folder for the output of a part."""
        folder = self.root / "work" / part
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


@dataclass
class Stopwatch:
    """Seconds by stage.

    Examples
    --------
    >>> watch = Stopwatch(log=lambda line: None)
    >>> with watch("nothing"):
    ...     pass
    >>> list(watch.seconds)
    ['nothing']
    """

    seconds: dict[str, float] = field(default_factory=dict)
    log: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started
        self.log(f"[{stage}] {self.seconds[stage]:.2f} s")


def missing(*packages: str) -> str | None:
    """Returns one sentence if optional packages are not installed, else None."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    return f"{' and '.join(absent)} {verb} not installed; `{INSTALL}` installs the optional packages."


def run_part(measure: Callable[[Place], dict[str, Any]]) -> None:
    """Runs a part with the options of the command line, and prints its results as one line of JSON."""
    parser = argparse.ArgumentParser(description=sys.modules[measure.__module__].__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of one size, with generated events")
    parser.add_argument("--memory", default="8g", help="heap of each driver")
    parser.add_argument("--without-mllib", action="store_true", help="without MLlib in the part kernels")
    options = parser.parse_args()
    try:
        results = measure(Place(options.root.resolve(), options.memory, not options.without_mllib))
    except Skipped as reason:
        results = {"skipped": str(reason)}
    print(json.dumps(results))

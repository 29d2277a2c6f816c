"""What all parts share: where they work, how they take time, and how they hand back what they found."""

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

DROP = "cleaned_data_20191101_000000.parquet"
INSTALL = "uv run --group bench"
TOP = 10
"""Length of the lists, here and in the project's defaults."""


class Skipped(Exception):  # noqa: N818 - not an error
    """A part cannot run here; the message says why in one sentence."""


@dataclass(frozen=True)
class Place:
    """The folder of one size: the events and what the parts make of them.

    Attributes
    ----------
    root
        The folder.
    memory
        Heap of each driver, such as `8g`.
    with_mllib
        Whether MLlib runs beside the others.
    """

    root: Path
    memory: str = "8g"
    with_mllib: bool = True

    @property
    def shop(self) -> Path:
        """A data dir of the project: raw/events, and lake once the graph ran."""
        return self.root / "shop"

    @property
    def drop(self) -> Path:
        """The same files, as hard links, in one flat folder: what the peers read."""
        return self.root / DROP

    def work(self, part: str) -> Path:
        """An empty folder for what a part writes; what its last run left is removed."""
        folder = self.root / "work" / part
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


@dataclass
class Stopwatch:
    """Seconds by stage.

    Examples
    --------
    >>> watch = Stopwatch(say=lambda line: None)
    >>> with watch("nothing"):
    ...     pass
    >>> list(watch.seconds)
    ['nothing']
    """

    seconds: dict[str, float] = field(default_factory=dict)
    say: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started
        self.say(f"[{stage}] {self.seconds[stage]:.2f} s")


def missing(*packages: str) -> str | None:
    """One sentence where optional packages are not installed."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    return f"{' and '.join(absent)} {verb} not installed; `{INSTALL}` brings the optional packages."


def run_part(measure: Callable[[Place], dict[str, Any]]) -> None:
    """The command line of a part: `--root DIR --memory 8g`; the last line of its output is what it found, as JSON."""
    parser = argparse.ArgumentParser(description=sys.modules[measure.__module__].__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of one size, with generated events")
    parser.add_argument("--memory", default="8g", help="heap of each driver")
    parser.add_argument("--without-mllib", action="store_true", help="leave MLlib out where others run beside it")
    options = parser.parse_args()
    try:
        found = measure(Place(options.root.resolve(), options.memory, not options.without_mllib))
    except Skipped as reason:
        found = {"skipped": str(reason)}
    print(json.dumps(found))

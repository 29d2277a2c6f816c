"""How far a landing is, for people: a bar on a terminal, a line now and then elsewhere, both on stderr.

The steps of landing tell what they do and how much of it is done; what they are is not known here.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_LOOKS = 0.2

log = logging.getLogger(__name__)


class Step:
    """One step that is under way: `advance` by what was done, of the total that the step was opened with."""

    def __init__(self, text: str, total: float, bar: Progress | None) -> None:
        self._text, self._total, self._bar = text, total, bar
        self._done = 0.0
        self._last_line = time.monotonic()
        self._task = bar.add_task(text, total=total) if bar else TaskID(0)
        if not bar:
            log.info("%s", text)

    def advance(self, amount: float = 1.0) -> None:
        """So much more is done."""
        self.reach(self._done + amount)

    def reach(self, done: float) -> None:
        """So much is done in all."""
        self._done = done
        if self._bar:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES and self._total:
            self._last_line = time.monotonic()
            log.info("  %s: %.0f %%", self._text, 100 * done / self._total)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.remove_task(self._task)


class LandingProgress:
    """The steps of a landing, one after the other. Without a bar each step is a line in the log."""

    def __init__(self, bar: Progress | None = None) -> None:
        self._bar = bar

    @contextmanager
    def step(self, text: str, total: float = 1.0) -> Iterator[Step]:
        """A step of `total` units, open as long as the block runs."""
        step = Step(text, total, self._bar)
        try:
            yield step
        finally:
            step.close()

    @contextmanager
    def duckdb_step(self, text: str, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """A step that is one statement of DuckDB, which is asked how far it is while it works."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(_SECONDS_BETWEEN_LOOKS):
                step.reach(max(0.0, connection.query_progress()))

        with self.step(text, 100.0) as step:
            watcher = threading.Thread(target=look, daemon=True)
            watcher.start()
            try:
                yield
            finally:
                done.set()
                watcher.join()


@contextmanager
def shown() -> Iterator[LandingProgress]:
    """A bar where stderr is a terminal, else lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LandingProgress()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield LandingProgress(bar)

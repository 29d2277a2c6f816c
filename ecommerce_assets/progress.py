"""Progress of a computation as log lines: the share that is done, the time so far, an estimate of the rest.

The entry point is `Progress`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Log = Callable[[str], object]
"""Takes one line, such as a logger's `info`."""

SECONDS_BETWEEN_LINES = 1.0


class Progress:
    """Logs at most one line per second, and always one at the end.

    The rest is estimated from the second step on, by the mean without the first step, which also fetches data and
    compiles code.

    Parameters
    ----------
    log
        Called with each line.
    title
        Each line begins with it.
    total
        Number of steps.
    unit
        Name of a step, singular.
    clock
        Returns the time in seconds.

    Examples
    --------
    >>> progress = Progress(print, "als_model", 3, "iteration", clock=iter([0.0, 3.0, 5.0, 7.0]).__next__)
    >>> progress.step(1, "objective 1,234")
    als_model: iteration 1 of 3, 33 %, objective 1,234, 3.0 s so far
    >>> progress.step(2, "objective 1,200")
    als_model: iteration 2 of 3, 66 %, objective 1,200, 5.0 s so far, about 2.0 s left
    >>> progress.step(3, "objective 1,190")
    als_model: 3 of 3 iterations, 100 %, objective 1,190, 7.0 s
    """

    def __init__(
        self, log: Log, title: str, total: int, unit: str = "step", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._title, self._total, self._unit, self._clock = log, title, total, unit, clock
        self._started = self._last_line = clock()
        self._first: tuple[int, float] | None = None

    def step(self, done: int, note: str = "") -> None:
        """Logs that `done` steps of the total are complete."""
        now = self._clock()
        first_done, first_time = self._first = self._first or (done, now)
        if done < self._total and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        note = f", {note}" if note else ""
        elapsed = duration(now - self._started)
        if done == self._total:
            self._log(f"{self._title}: {done:,} of {self._total:,} {self._unit}s, 100 %{note}, {elapsed}")
            return
        left = ""
        if done > first_done:
            left = f", about {duration((now - first_time) / (done - first_done) * (self._total - done))} left"
        share = f"{100 * done // self._total} %"
        self._log(f"{self._title}: {self._unit} {done:,} of {self._total:,}, {share}{note}, {elapsed} so far{left}")


def duration(seconds: float) -> str:
    """Returns a duration as text.

    >>> [duration(s) for s in (0.42, 41.3, 119.6, 600, 7_260)]
    ['0.4 s', '41 s', '120 s', '10 min', '2 h 1 min']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"

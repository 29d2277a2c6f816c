"""How far something is, as lines for a log: the share that is done, the time it took, about how much is left.

Nothing here knows what is done, or where the lines go.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], object]
"""Takes one line, such as a logger's `info`."""

SECONDS_BETWEEN_LINES = 1.0


class Progress:
    """A line for each step that takes a second or more, else about one per second, and always one at the end.

    How much is left is told from the second step on, by the mean without the first, which also does what is done once:
    fetching data, compiling.

    Parameters
    ----------
    what
        Each line begins with it.
    total
        How many steps there are.
    unit
        What a step is called.

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
        self, say: Say, what: str, total: int, unit: str = "step", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._what, self._total, self._unit, self._clock = say, what, total, unit, clock
        self._started = self._last_line = clock()
        self._first: tuple[int, float] | None = None

    def step(self, done: int, note: str = "") -> None:
        """Tell that so many steps are done by now."""
        now = self._clock()
        first, at = self._first = self._first or (done, now)
        if done < self._total and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        seconds, note = now - self._started, f", {note}" if note else ""
        if done < self._total:
            left = (
                f", about {duration((now - at) / (done - first) * (self._total - done))} left" if done > first else ""
            )
            share = f"{100 * done // self._total} %{note}, {duration(seconds)} so far{left}"
            line = f"{self._unit} {done:,} of {self._total:,}, {share}"
        else:
            line = f"{done:,} of {self._total:,} {self._unit}s, 100 %{note}, {duration(seconds)}"
        self._say(f"{self._what}: {line}")


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> [duration(s) for s in (0.42, 41.3, 119.6, 600, 7_260)]
    ['0.4 s', '41 s', '120 s', '10 min', '2 h 1 min']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"

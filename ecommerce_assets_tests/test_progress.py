"""Lines about how far something is: which are told, and what they say."""

from __future__ import annotations

import doctest

import pytest

from ecommerce_assets import progress, secret
from ecommerce_assets.progress import Progress


def told(seconds: list[float]) -> list[str]:
    """The lines of steps that end at these seconds."""
    lines: list[str] = []
    steps = Progress(lines.append, "als_model", len(seconds), "iteration", clock=iter([0.0, *seconds]).__next__)
    for done in range(1, len(seconds) + 1):
        steps.step(done)
    return lines


def test_a_line_for_each_step_that_takes_a_second_or_more() -> None:
    assert told([3.0, 6.0, 9.0, 12.0]) == [
        "als_model: iteration 1 of 4, 25 %, 3.0 s so far",
        "als_model: iteration 2 of 4, 50 %, 6.0 s so far, about 6.0 s left",
        "als_model: iteration 3 of 4, 75 %, 9.0 s so far, about 3.0 s left",
        "als_model: 4 of 4 iterations, 100 %, 12 s",
    ]


def test_one_line_per_second_where_steps_are_short_and_always_the_last() -> None:
    assert told([0.25 * n for n in range(1, 11)]) == [
        "als_model: iteration 4 of 10, 40 %, 1.0 s so far, about 1.5 s left",
        "als_model: iteration 8 of 10, 80 %, 2.0 s so far, about 0.5 s left",
        "als_model: 10 of 10 iterations, 100 %, 2.5 s",
    ]
    assert told([0.1, 0.2]) == ["als_model: 2 of 2 iterations, 100 %, 0.2 s"]


@pytest.mark.parametrize("module", [progress, secret])
def test_examples(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted
    assert not found.failed

"""Lines of `Progress`, and the examples in docstrings."""

from __future__ import annotations

import doctest

import pytest

from ecommerce_assets import progress, secret
from ecommerce_assets.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (
            [3.0, 6.0, 9.0],
            [
                "iteration 1 of 3, 33 %, 3.0 s so far",
                "iteration 2 of 3, 66 %, 6.0 s so far, about 3.0 s left",
                "3 of 3 iterations, 100 %, 9.0 s",
            ],
        ),
        (
            [0.25 * n for n in range(1, 8)],
            ["iteration 4 of 7, 57 %, 1.0 s so far, about 0.8 s left", "7 of 7 iterations, 100 %, 1.8 s"],
        ),
        ([0.1, 0.2], ["2 of 2 iterations, 100 %, 0.2 s"]),
    ],
)
def test_at_most_one_line_per_second_and_one_at_the_end(seconds: list[float], expected: list[str]) -> None:
    lines: list[str] = []
    steps = Progress(lines.append, "als_model", len(seconds), "iteration", clock=iter([0.0, *seconds]).__next__)
    for done in range(1, len(seconds) + 1):
        steps.step(done)
    assert lines == [f"als_model: {line}" for line in expected]


@pytest.mark.parametrize("module", [progress, secret])
def test_examples(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed

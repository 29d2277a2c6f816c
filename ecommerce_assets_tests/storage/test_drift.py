"""The stability index and the moments, against numbers worked out by hand and against what must always hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ecommerce_assets.storage.drift import (
    LARGE_INDEX,
    SMALLEST_SHARE,
    Shape,
    mean_moved,
    pooled,
    shape_index,
    shares_of,
    stability_index,
)


def shape(values: list[float] | np.ndarray, unknown: int = 0) -> Shape:
    """What SQL measures of these values."""
    known = np.sort(np.asarray(values, float))
    places = np.maximum(np.ceil(np.arange(1, 101) / 100 * len(known)).astype(int) - 1, 0)
    quantiles = tuple(known[places].tolist())
    return Shape(len(known) + unknown, len(known), float(known.mean()), float(known.std()), quantiles)


def test_the_index_by_hand() -> None:
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5)
    assert stability_index([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))
    # An empty bin counts as a thousandth.
    assert SMALLEST_SHARE == 0.001
    assert stability_index([1.0, 0.0], [0.0, 1.0]) == pytest.approx(2 * 0.999 * math.log(1000))


@pytest.mark.parametrize("seed", range(5))
def test_the_index_is_zero_for_equals_and_symmetric_and_never_negative(seed: int) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.full(10, 0.3), 2)
    assert stability_index(p, p) == 0
    assert stability_index(p, q) == pytest.approx(stability_index(q, p))
    assert stability_index(p, q) > 0


def test_samples_of_one_population_are_alike_and_a_shifted_one_is_not() -> None:
    rng = np.random.default_rng(1)
    old, new = shape(np.exp(rng.normal(size=2_000))), shape(np.exp(rng.normal(size=3_000)))
    assert shape_index(old, new) < 0.1
    assert not mean_moved(old, new)
    moved = shape(np.exp(rng.normal(0.8, 1, size=2_000)))
    assert shape_index(old, moved) > LARGE_INDEX
    assert shape_index(moved, old) > LARGE_INDEX


def test_ties_merge_their_bins() -> None:
    # Most users bought nothing: eight of the nine deciles are 0 and bound one bin.
    rng = np.random.default_rng(2)
    old, new = (shape(np.where(rng.random(1_000) < 0.85, 0, rng.random(1_000))) for _ in range(2))
    assert shape_index(old, new) < 0.05
    assert shape_index(old, shape(rng.random(1_000))) > LARGE_INDEX


def test_constants() -> None:
    five, six = shape([5.0] * 300), shape([6.0] * 300)
    assert (shape_index(five, five), mean_moved(five, five)) == (0, False)
    assert (shape_index(five, six) > LARGE_INDEX, mean_moved(five, six)) == (True, True)


def test_what_is_not_known_is_a_bin_of_its_own() -> None:
    values = list(np.arange(500.0))
    assert shape_index(shape(values), shape(values, unknown=500)) > LARGE_INDEX
    assert shape_index(shape(values, unknown=500), shape(values, unknown=500)) == 0


def test_a_column_without_a_value_has_no_shape() -> None:
    assert Shape.of(None, 10) is None
    assert Shape.of({"known": 0, "mean": None, "deviation": None, "quantiles": None}, 10) is None


def test_moments_of_several_populations_together() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.normal(n, 1 + n, 100 * n) for n in (1, 2, 3)]
    whole, together = np.concatenate(parts), pooled([shape(part) for part in parts])
    assert (together.rows, together.mean) == (600, pytest.approx(whole.mean()))
    assert together.deviation == pytest.approx(whole.std())


def test_shares_of_nothing_are_zero() -> None:
    assert shares_of([0, 0]) == [0, 0]
    assert shares_of([1, 3]) == [0.25, 0.75]

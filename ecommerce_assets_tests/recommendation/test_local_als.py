"""The local engine: its objective, its convergence, and that order and threads do not change the result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecommerce_assets.recommendation import als_kernels
from ecommerce_assets.recommendation.compiled import compiled
from ecommerce_assets.recommendation.local_als import Factors, LocalAls, objective

Pairs = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


def random_pairs(users: int = 60, products: int = 40, density: float = 0.15, seed: int = 0) -> Pairs:
    """Ratings 1 to 10; the first product has nearly all users, and some indices do not occur."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((users, products)) < density
    drawn[:, 0] |= rng.random(users) < 0.9
    u, p = np.nonzero(drawn)
    return (2 * u).astype(np.int32), (3 * p).astype(np.int32), rng.integers(1, 11, len(u)).astype(np.float64)


def fitted(pairs: Pairs, maxIter: int = 5, **parameters: Any) -> tuple[Factors, Factors]:
    als = LocalAls(*pairs, **parameters)
    for _ in als.run(maxIter):
        pass
    return als.factors()


def dense(pairs: Pairs, users: Factors, products: Factors) -> tuple[Any, Any]:
    """Ratings and occurrence as matrices, over the rows of the factors."""
    ratings = np.zeros((len(users.indices), len(products.indices)))
    u, p = np.searchsorted(users.indices, pairs[0]), np.searchsorted(products.indices, pairs[1])
    np.add.at(ratings, (u, p), pairs[2])
    return ratings, ratings > 0


def by_definition(pairs: Pairs, users: Factors, products: Factors, regParam: float, alpha: float) -> float:
    ratings, liked = dense(pairs, users, products)
    x, y = users.vectors.astype(np.float64), products.vectors.astype(np.float64)
    error = ((1 + alpha * np.abs(ratings)) * (liked - x @ y.T) ** 2).sum()
    return float(error + regParam * (liked.sum(axis=1) @ (x**2).sum(axis=1) + liked.sum(axis=0) @ (y**2).sum(axis=1)))


def gradient(pairs: Pairs, side: Factors, other: Factors, is_users: bool, regParam: float, alpha: float) -> Any:
    """Half the derivative of the objective by the factors of one side."""
    ratings, liked = dense(pairs, *((side, other) if is_users else (other, side)))
    ratings, liked = (ratings, liked) if is_users else (ratings.T, liked.T)
    x, y = side.vectors.astype(np.float64), other.vectors.astype(np.float64)
    weighted = (1 + alpha * np.abs(ratings)) * (x @ y.T - liked)
    return weighted @ y + regParam * liked.sum(axis=1, keepdims=True) * x


def test_objective_is_the_sum_over_all_users_and_products() -> None:
    pairs = random_pairs()
    users, products = fitted(pairs, rank=5)
    actual = objective(pairs, users, products, 0.1, 2.0)
    assert actual == pytest.approx(by_definition(pairs, users, products, 0.1, 2.0), rel=1e-6)


def with_odd_ratings(pairs: Pairs) -> Pairs:
    """Some pairs twice with different ratings, and a user and a product without a rating above zero."""
    u, p, r = (np.concatenate([part, part[:60]]) for part in pairs)
    r[-60:] = 3
    return np.append(u, [201, u[0]]), np.append(p, [p[0], 201]), np.append(r, [-5.0, 0.0])


def one_long_row() -> Pairs:
    """A user with more ratings than als_kernels.MAX_COPIED_RATINGS, as a crawler has, among others with few."""
    products = als_kernels.MAX_COPIED_RATINGS + 904
    rng = np.random.default_rng(1)
    u = np.concatenate([np.zeros(products), rng.integers(1, 300, 3000)]).astype(np.int32)
    p = np.concatenate([np.arange(products), rng.integers(0, products, 3000)]).astype(np.int32)
    return u, p, rng.integers(1, 11, len(u)).astype(np.float64)


@pytest.mark.parametrize("alpha", [0.0, 40.0])
@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("pairs", [random_pairs(), with_odd_ratings(random_pairs(80, 60, 0.3)), one_long_row()])
def test_each_iteration_reports_the_objective_of_its_factors(pairs: Pairs, nonnegative: bool, alpha: float) -> None:
    als = LocalAls(*pairs, rank=12, alpha=alpha, nonnegative=nonnegative)
    actual = [objective(pairs, *als.factors(), 0.1, alpha) for side in als.run(4) if side is als.users]
    assert als.objectives == pytest.approx(actual, rel=1e-5)
    assert {type(each) for each in als.objectives} == {float}


def test_only_indices_with_ratings_have_factors() -> None:
    pairs = random_pairs()
    users, products = fitted(pairs, rank=5)
    assert users.indices.tolist() == sorted(set(pairs[0].tolist()))
    assert products.indices.tolist() == sorted(set(pairs[1].tolist()))
    assert users.vectors.shape == (len(users.indices), 5)
    assert users.vectors.dtype == products.vectors.dtype == np.float32


@pytest.mark.parametrize("nonnegative", [True, False])
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rank=st.integers(1, 20),
    reg=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    alpha=st.sampled_from([0.0, 1.0, 40.0]),
)
@example(seed=0, rank=18, reg=0.0, alpha=0.0)  # fits nearly exactly: all that is left is rounding
@example(seed=233, rank=20, reg=0.0, alpha=0.0)
def test_the_objective_never_rises(nonnegative: bool, seed: int, rank: int, reg: float, alpha: float) -> None:
    pairs = random_pairs(30, 20, seed=seed)
    als = LocalAls(*pairs, rank=rank, regParam=reg, alpha=alpha, nonnegative=nonnegative, seed=seed)
    # The objective is a small difference of large sums in float32: its error goes with those, not with itself.
    rounding = 1e-5 * float((1 + alpha * np.abs(pairs[2])).sum())
    before = np.inf
    for _ in als.run(4):
        users, products = als.factors()
        assert np.isfinite(users.vectors).all()
        assert np.isfinite(products.vectors).all()
        if nonnegative:
            assert (users.vectors >= 0).all()
            assert (products.vectors >= 0).all()
        now = objective(pairs, users, products, reg, alpha)
        grams = (np.abs(side.vectors.T @ side.vectors) for side in (users, products))
        of_factors = 1e-6 * float(np.prod(list(grams), axis=0).sum())
        assert now <= before * (1 + 1e-4) + rounding + of_factors + 1e-3
        before = now


def test_converges_to_the_karush_kuhn_tucker_conditions() -> None:
    pairs = random_pairs()
    users, products = fitted(pairs, maxIter=150, rank=4)
    for side, other, is_users in ((users, products, True), (products, users, False)):
        slope = gradient(pairs, side, other, is_users, 0.1, 1.0)
        scale = np.abs(gradient(pairs, Factors(side.indices, 0 * side.vectors), other, is_users, 0.1, 1.0)).max()
        positive = side.vectors > 0
        assert np.abs(slope[positive]).max() < 1e-3 * scale
        assert slope[~positive].min() > -1e-3 * scale
    assert (users.vectors == 0).any()


def residual(pairs: Pairs, als: LocalAls, is_users: bool) -> float:
    """Returns the largest violation of the Karush-Kuhn-Tucker conditions in a row, relative to its |Σ c p y|.

    The conditions are x ≥ 0, derivative ≥ 0, and one of both zero; x is scaled to the units of the derivative.
    """
    users, products = als.factors()
    side, other = (users, products) if is_users else (products, users)
    slope = gradient(pairs, side, other, is_users, als.regParam, als.alpha)
    pull = gradient(pairs, Factors(side.indices, 0 * side.vectors), other, is_users, als.regParam, als.alpha)
    if als.nonnegative:
        ratings = dense(pairs, users, products)[0] if is_users else dense(pairs, users, products)[0].T
        curvature = (1 + als.alpha * ratings) @ other.vectors.astype(np.float64) ** 2
        curvature += als.regParam * (ratings > 0).sum(axis=1, keepdims=True)
        slope = np.minimum(side.vectors * curvature, slope)
    return float((np.abs(slope).max(axis=1) / np.linalg.norm(pull, axis=1)).max())


@pytest.mark.parametrize("rank", [4, 12, 30])
def test_rows_are_nearly_stationary(rank: int) -> None:
    """Two sweeps leave a row near its minimum, and more half-steps reach it within float32."""
    pairs = random_pairs(150, 80, 0.12)
    als = LocalAls(*pairs, rank=rank)
    for _ in als.run(15):
        pass
    assert residual(pairs, als, is_users=True) < 1e-2
    with ThreadPoolExecutor(1) as pool:
        for given, solved in ((als.products, als.users), (als.users, als.products)):
            for _ in range(30):
                als._half_step(given, solved, pool)
            assert residual(pairs, als, is_users=solved is als.users) < 1e-6


@pytest.mark.parametrize("rank", [4, 30])
def test_unconstrained_rows_are_solved_exactly(rank: int) -> None:
    # Users have 1 to 40 ratings, so that both solvers are used: in the space of the ratings, and with the matrix.
    pairs = random_pairs(80, 60, 0.3)
    als = LocalAls(*pairs, rank=rank, nonnegative=False)
    for side in als.run(15):
        assert residual(pairs, als, is_users=side is als.users) < 1e-5


@pytest.mark.parametrize("nonnegative", [True, False])
def test_order_of_the_pairs_and_number_of_threads_change_no_bit(nonnegative: bool) -> None:
    pairs = random_pairs()
    pairs = tuple(np.concatenate([part, part[:50]]) for part in pairs)  # type: ignore[assignment]
    pairs[2][-50:] = 3  # some pairs twice, with two ratings
    order = np.random.default_rng(4).permutation(len(pairs[0]))
    shuffled = tuple(part[order] for part in pairs)
    one = fitted(pairs, rank=10, nonnegative=nonnegative, threads=1)
    two = fitted(shuffled, rank=10, nonnegative=nonnegative, threads=3)  # type: ignore[arg-type]
    for expected, actual in zip(one, two, strict=True):
        assert actual.indices.tolist() == expected.indices.tolist()
        assert actual.vectors.tobytes() == expected.vectors.tobytes()


@pytest.mark.parametrize("nonnegative", [True, False])
def test_ratings_of_zero_or_less_pull_to_zero_and_are_not_counted(nonnegative: bool) -> None:
    # As in MLlib: preference 0 with confidence 1 + alpha |rating|, and no share in the regularisation.
    u, p, r = random_pairs()
    pairs = (np.append(u, [201, 0]), np.append(p, [0, 201]), np.append(r, [-5.0, 0.0]))
    users, products = fitted(pairs, rank=4, nonnegative=nonnegative)
    assert users.indices[-1] == products.indices[-1] == 201
    assert not users.vectors[-1].any()
    assert not products.vectors[-1].any()


def test_rows_with_very_many_ratings_are_solved_too() -> None:
    # 5,000 users of one product: above als_kernels.MAX_COPIED_RATINGS, so that it is solved on its matrix.
    users = als_kernels.MAX_COPIED_RATINGS + 904
    rng = np.random.default_rng(1)
    u = np.concatenate([np.arange(users), rng.integers(0, users, 3000)]).astype(np.int32)
    p = np.concatenate([np.zeros(users), rng.integers(1, 30, 3000)]).astype(np.int32)
    pairs = (u, p, np.ones(len(u)))
    als = LocalAls(*pairs, rank=6)
    before = np.inf
    for _ in als.run(20):
        now = objective(pairs, *als.factors(), 0.1, 1.0)
        assert now <= before * (1 + 1e-5)
        before = now
    products = als.factors()[1]
    slope = gradient(pairs, products, als.factors()[0], False, 0.1, 1.0)[0]
    assert np.abs(slope[products.vectors[0] > 0]).max() < 0.01 * users


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (([], [], []), "no pairs"),
        (([0], [0], [np.nan]), "must be finite, got nan"),
        (([0, -1], [0, 0], [1.0, 1.0]), "must not be negative, got -1"),
    ],
)
def test_invalid_pairs_are_errors(pairs: tuple[list[Any], ...], message: str) -> None:
    u, p, r = (np.array(part, kind) for part, kind in zip(pairs, (np.int32, np.int32, np.float64), strict=True))
    with pytest.raises(ValueError, match=message):
        LocalAls(u, p, r)


def test_kernels_compile_without_a_cache_folder() -> None:
    # Numba has no cache for a function without a file, as if no folder were writable.
    actual: dict[str, Any] = {}
    exec("def double(x): return 2 * x", actual)
    assert compiled(actual["double"])(3) == 6

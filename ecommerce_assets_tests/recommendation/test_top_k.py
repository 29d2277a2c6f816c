"""`top_k` against a search through all items."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecommerce_assets.recommendation import top_k as kernel
from ecommerce_assets.recommendation.top_k import BATCH_ROWS, Excluded, Items

Vectors = npt.NDArray[np.float32]
NOTHING = np.empty(0, dtype=np.int64)


def top_k(
    queries: Vectors, items: Vectors, excluded: Sequence[npt.NDArray[np.int64]], k: int
) -> tuple[list[npt.NDArray[np.int64]], list[Vectors]]:
    """Returns the results of the kernel without padding."""
    begins = np.cumsum([0, *map(len, excluded)])
    positions, scores = kernel.top_k(
        queries, Items.of(items), Excluded(begins, np.concatenate([NOTHING, *excluded])), k
    )
    assert positions.shape == scores.shape == (len(queries), k)
    counts = (positions >= 0).sum(axis=1)
    empty = np.arange(k) >= counts[:, None]
    assert (positions[empty] == -1).all()
    assert (scores[empty] == -np.inf).all()
    return [p[:n] for p, n in zip(positions, counts, strict=True)], [s[:n] for s, n in zip(scores, counts, strict=True)]


def brute_force(query: Vectors, items: Vectors, excluded: set[int], k: int) -> list[int]:
    """Exact for small whole numbers, whose products and sums are exact in any float."""
    scored = [(-sum(int(a) * int(b) for a, b in zip(query, item, strict=True)), i) for i, item in enumerate(items)]
    return [i for _, i in sorted(scored) if i not in excluded][:k]


def small_numbers(rows: int, rank: int) -> st.SearchStrategy[Vectors]:
    """Few different values, so that there are many ties."""
    return arrays(np.float32, (rows, rank), elements=st.integers(-2, 2).map(float))


@st.composite
def searches(draw: st.DrawFn) -> tuple[Vectors, Vectors, list[set[int]], int]:
    users, items, rank = draw(st.integers(1, 5)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    excluded = draw(st.lists(st.sets(st.integers(0, items - 1)), min_size=users, max_size=users))
    return draw(small_numbers(users, rank)), draw(small_numbers(items, rank)), excluded, draw(st.integers(1, 15))


@settings(max_examples=150, deadline=None)
@given(searches())
def test_equals_brute_force(search: tuple[Vectors, Vectors, list[set[int]], int]) -> None:
    queries, items, excluded, k = search
    positions, scores = top_k(queries, items, [np.array(sorted(each), dtype=np.int64) for each in excluded], k)
    for query, without, best, values in zip(queries, excluded, positions, scores, strict=True):
        assert best.tolist() == brute_force(query, items, without, k)
        assert values.tolist() == [float(query @ items[i]) for i in best]


def test_equals_brute_force_over_several_batches_of_queries() -> None:
    rng = np.random.default_rng(1)
    queries = rng.integers(0, 3, (BATCH_ROWS + 3, 4)).astype(np.float32)
    items = rng.integers(0, 3, (40, 4)).astype(np.float32)
    excluded = [rng.choice(40, size=rng.integers(0, 5), replace=False) for _ in queries]
    positions, scores = top_k(queries, items, excluded, 10)
    assert len(positions) == len(scores) == len(queries)
    for query, without, best in zip(queries, excluded, positions, strict=True):
        assert best.tolist() == brute_force(query, items, set(without.tolist()), 10)


def test_no_queries() -> None:
    assert top_k(np.empty((0, 2), np.float32), np.ones((3, 2), np.float32), [], 2) == ([], [])


@pytest.mark.parametrize("users", [1, 3, 7])
@pytest.mark.parametrize("rank", [3, 50])
def test_equal_items_tie_in_batches_of_any_size(rank: int, users: int) -> None:
    # A product of float32 matrices can give equal items different last digits.
    rng = np.random.default_rng(5)
    for count in range(6, 70):
        items = np.tile(rng.random(rank, dtype=np.float32), (count, 1))
        positions, scores = top_k(rng.random((users, rank), dtype=np.float32), items, [NOTHING] * users, 5)
        assert [best.tolist() for best in positions] == [[0, 1, 2, 3, 4]] * users
        assert all(len(set(values.tolist())) == 1 for values in scores)


def test_scores_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(6)
    queries, items = rng.random((60, 50), dtype=np.float32), rng.random((200, 50), dtype=np.float32)
    together, together_scores = top_k(queries, items, [NOTHING] * 60, 10)
    for row in range(60):
        alone, alone_scores = top_k(queries[row : row + 1], items, [NOTHING], 10)
        assert alone[0].tolist() == together[row].tolist()
        assert alone_scores[0].tolist() == together_scores[row].tolist()


def sorted_scores(queries: Vectors, items: Vectors, excluded: Sequence[npt.NDArray[np.int64]]) -> Vectors:
    """All scores of each query, highest first, summed in doubles; -inf for what is excluded."""
    scores = (queries.astype(np.float64) @ items.T.astype(np.float64)).astype(np.float32)
    for row, without in zip(scores, excluded, strict=True):
        row[without] = -np.inf
    return -np.sort(-scores, axis=1)


@st.composite
def real_searches(draw: st.DrawFn) -> tuple[Vectors, Vectors, list[npt.NDArray[np.int64]], int]:
    """Vectors as a model has them: of very different lengths, many zeros, some rows all zero, some twice."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    signed, rank = draw(st.booleans()), draw(st.integers(1, 20))

    def vectors(count: int) -> Vectors:
        drawn = rng.standard_normal((count, rank)) * np.exp(rng.normal(0, draw(st.sampled_from([0, 1, 4])), (count, 1)))
        drawn = np.where(rng.random((count, rank)) < 0.3, 0, drawn if signed else np.abs(drawn))
        drawn[rng.random(count) < 0.1] = 0
        return drawn[rng.integers(0, count, count)].astype(np.float32)

    queries, items = vectors(draw(st.integers(1, 40))), vectors(draw(st.integers(1, 3000)))
    excluded = [rng.choice(len(items), rng.integers(0, min(len(items), 30) + 1), replace=False) for _ in queries]
    return queries, items, excluded, draw(st.sampled_from([1, 10, 50]))


@settings(max_examples=40, deadline=None)
@given(real_searches())
def test_scores_are_those_of_brute_force(
    search: tuple[Vectors, Vectors, list[npt.NDArray[np.int64]], int],
) -> None:
    queries, items, excluded, k = search
    positions, scores = top_k(queries, items, excluded, k)
    expected = sorted_scores(queries, items, excluded)
    for query, without, best, values, highest in zip(queries, excluded, positions, scores, expected, strict=True):
        assert len(set(best.tolist())) == len(best) == min(k, len(items) - len(without))
        assert not set(best.tolist()) & set(without.tolist())
        # The rounding error grows with the summed products; if their signs differ, the sum may be much smaller.
        size = np.abs(items[best]) @ np.abs(query)
        assert (np.abs(values - highest[: len(best)]) <= 1e-6 * size.max(initial=0) + 1e-30).all()
        assert (np.abs(items[best] @ query - values) <= 1e-5 * size).all()
        order = [(-score, place) for score, place in zip(values.tolist(), best.tolist(), strict=True)]
        assert order == sorted(order)


def test_memory_stays_bounded_if_all_items_tie() -> None:
    # Every item is as good as the tenth best: all of them are candidates of all queries.
    rng = np.random.default_rng(8)
    queries, items = rng.random((200, 5), dtype=np.float32), np.ones((20_000, 5), np.float32)
    tracemalloc.start()
    positions, _ = top_k(queries, items, [NOTHING] * 200, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [best.tolist() for best in positions] == [list(range(10))] * 200
    assert peak < 60e6  # the four million candidates would take 80 MB

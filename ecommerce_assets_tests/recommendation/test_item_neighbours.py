"""Neighbours by Jaccard similarity: by hand, the same in both engines, and the kernel that sums over them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csr_array

from ecommerce_assets.recommendation import item_neighbours as module
from ecommerce_assets.recommendation.item_neighbours import ITEM_NEIGHBOURS, item_neighbours, neighbours_in_process
from ecommerce_assets.recommendation.neighbour_kernels import best_sums
from ecommerce_assets.recommendation.products import Products
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets_tests.recommendation.test_recommend import index_frame

Pair = tuple[int, int, int]
"""user_idx, product_idx, and the second of the last interaction."""

FOUND = ["product_id", "rank", "neighbour_id", "similarity", "common_users"]


def in_process(pairs: Sequence[Pair], products: int, **more: Any) -> dict[int, list[tuple[int, float, int]]]:
    """Neighbour, similarity and common users by product; product_idx is the position."""
    users, numbers, last = (np.array([pair[n] for pair in pairs], np.int32) for n in range(3))
    table = pa.table({"user_idx": users, "product_idx": numbers, "last": last.astype(np.int64)})
    places = np.arange(products)
    actual = neighbours_in_process(table, Products.of(places, places), **more)
    rows: dict[int, list[tuple[int, float, int]]] = {}
    for row, rank in zip(*actual.places, strict=True):
        values = (a[row, rank].item() for a in (actual.neighbours, actual.similarities, actual.common_users))
        rows.setdefault(int(row), []).append(tuple(values))
    return rows


def interactions(spark: SparkSession, pairs: Sequence[Pair]) -> DataFrame:
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    rows = [(u, p, 1.0, start + dt.timedelta(seconds=at)) for u, p, at in pairs]
    return spark.createDataFrame(rows, "user_idx int, product_idx int, rating double, last_interaction_at timestamp")


def share(numerator: int, denominator: int) -> Any:
    return pytest.approx(numerator / denominator, rel=1e-7)


def test_by_hand() -> None:
    # Users of 0: a, b, c; of 1: a, b; of 2: a, d; of 3: only e; of 4: none.
    pairs = [(0, 0, 1), (0, 1, 1), (0, 2, 1), (1, 0, 1), (1, 1, 1), (2, 0, 1), (3, 2, 1), (4, 3, 1)]
    assert in_process(pairs, 5) == {
        0: [(1, share(2, 3), 2), (2, 0.25, 1)],
        1: [(0, share(2, 3), 2), (2, share(1, 3), 1)],
        2: [(1, share(1, 3), 1), (0, 0.25, 1)],
    }


@pytest.mark.parametrize("alone", range(8))
def test_ties_are_broken_by_product_despite_rounding(alone: int) -> None:
    # Product 0 shares a user with each of 3, 1 and 2, in this order, and has further users: 1 / (3 + alone).
    pairs = [(0, 0, 1), (0, 3, 1), (1, 0, 1), (1, 1, 1), (2, 0, 1), (2, 2, 1)]
    pairs += [(3 + user, 0, 1) for user in range(alone)]
    assert in_process(pairs, 4)[0] == [(other, share(1, 3 + alone), 1) for other in (1, 2, 3)]


def test_only_the_latest_products_of_a_long_history_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.latest_of_each, "__defaults__", (2,))
    # The latest two of user 0 are 3 and, of the two that tie, 1.
    pairs = [(0, 0, 1), (0, 2, 5), (0, 1, 5), (0, 3, 9), (1, 0, 1), (1, 3, 2)]
    assert in_process(pairs, 4) == {
        0: [(3, 0.5, 1)],
        1: [(3, 0.5, 1)],
        3: [(0, 0.5, 1), (1, 0.5, 1)],
    }


def test_no_pairs() -> None:
    assert in_process([], 3) == {}


def random_pairs(seed: int, users: int = 40, products: int = 25) -> list[Pair]:
    rng = np.random.default_rng(seed)
    popular = rng.random(products) ** 3
    return [
        (user, product, int(rng.integers(0, 6)))
        for user in range(users)
        for product in range(products)
        if rng.random() < popular[product]
    ]


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in table.select(FOUND).to_pylist())


def test_both_engines_find_the_same_neighbours(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_HISTORY", 4)
    monkeypatch.setattr(module, "NEIGHBOURS", 4)
    monkeypatch.setattr(module.latest_of_each, "__defaults__", (4,))
    monkeypatch.setattr(module.neighbours_in_process, "__defaults__", (4,))
    # The order of the ids is neither that of the numbers in them nor that of product_idx.
    ids = {f"p{n}": (7 * n) % 25 for n in range(25)}
    index = StoredTable(index_frame(spark, "product", ids, "string"))
    frame = StoredTable(interactions(spark, random_pairs(3)))
    (local, _), (by_spark, _) = (item_neighbours(frame, index, engine) for engine in (Engine.local, Engine.mllib))
    assert isinstance(local, pa.Table)
    assert isinstance(by_spark, DataFrame)
    actual = rows_of(local)
    assert actual == rows_of(by_spark.toArrow())
    assert len(actual) > 50
    assert max(rank for _, rank, *_ in actual) == 4
    types = {c.name: c.type for c in ITEM_NEIGHBOURS.with_id_type("string").columns}
    assert ITEM_NEIGHBOURS.conform_rows(local)[1] == dict(ITEM_NEIGHBOURS.conform(by_spark).dtypes) == types


@pytest.mark.parametrize("seed", range(5))
def test_best_sums_is_a_matrix_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, products, k = 30, 40, 7
    # Halves and quarters: sums are exact in any order, and tie often.
    weights, rows = (
        np.where(rng.random(shape) < 0.2, rng.choice([0.25, 0.5, 1.0], shape), 0).astype(np.float32)
        for shape in ((users, products), (products, products))
    )
    is_excluded = rng.random((users, products)) < 0.2
    one, other, excluded = csr_array(weights), csr_array(rows), csr_array(is_excluded)
    positions, scores = np.full((users, k), 99, np.int64), np.full((users, k), 99, np.float32)
    best_sums(
        *(a.astype(np.int64) for a in (one.indptr, one.indices)),
        one.data,
        *(a.astype(np.int64) for a in (other.indptr, other.indices)),
        other.data,
        products,
        *(a.astype(np.int64) for a in (excluded.indptr, excluded.indices)),
        positions,
        scores,
    )
    sums = np.where(is_excluded, 0, weights @ rows)
    for user in range(users):
        best = sorted((-value, product) for product, value in enumerate(sums[user].tolist()) if value > 0)[:k]
        empty = [(0.0, -1)] * (k - len(best))
        assert list(zip((-scores[user]).tolist(), positions[user].tolist(), strict=True)) == best + empty

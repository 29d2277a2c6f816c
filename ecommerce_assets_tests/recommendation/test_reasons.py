"""The reason of each entry, by hand on the six products of test_recommenders.py, and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from ecommerce_assets.recommendation import reasons as reasons_module
from ecommerce_assets.recommendation.lists import PINNED, SOURCES, ListMaker, Lists
from ecommerce_assets.recommendation.reasons import reasons
from ecommerce_assets.recommendation.recommenders.base import ProductStats, Ragged, Training
from ecommerce_assets_tests.recommendation.test_recommenders import TRAINING, Entry, users_with


def reason(history: list[Entry], entry: int, source: str) -> int:
    """Of a list with one entry."""
    lists = Lists(np.array([[entry]]), np.ones((1, 1)), np.array([[SOURCES.index(source)]], np.int8))
    [[position]] = reasons(ListMaker.fit(TRAINING), users_with([history]), lists).tolist()
    return int(position)


def test_a_product_of_the_history_is_its_own_reason() -> None:
    assert reason([Entry(0), Entry(1)], 1, "popular") == 1


def test_similarity_is_divided_by_one_plus_the_rank_in_the_history() -> None:
    # Similarities to product 2: 0.25 of 0, 0.5 of 1, 0.125 of 3.
    assert reason([Entry(3), Entry(1)], 2, "neighbours") == 1  # 0.125 / 1 < 0.5 / 2
    assert reason([Entry(0), Entry(4), Entry(1)], 2, "popular") == 0  # 0.25 / 1 > 0.5 / 3
    assert reason([Entry(0), Entry(1)], 2, "neighbours") == 0  # 0.25 / 1 = 0.5 / 2


def test_als_is_explained_by_rating_times_factors() -> None:
    # Nobody's neighbour; factors 0 · 1e-7 of the first, 0.5e-7 and 1e-7 of the others.
    assert reason([Entry(0), Entry(1, rating=1), Entry(2, rating=3)], 5, "als") == 2
    assert reason([Entry(0), Entry(1, rating=3), Entry(2, rating=1)], 5, "als") == 1
    assert reason([Entry(0)], 5, "als") == -1


def test_old_products_are_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason([Entry(4), Entry(0)], 1, "neighbours") == 0
    monkeypatch.setattr(reasons_module, "LONGEST_HISTORY", 1)
    assert reason([Entry(4), Entry(0)], 1, "neighbours") == -1
    assert reason([Entry(4), Entry(0)], 0, "latest") == 0


def test_reasons_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    products, count, k = 40, 50, 6
    near = [rng.permutation(products)[:5] for _ in range(products)]
    similarity = [np.sort(rng.random(5))[::-1].astype(np.float32) for _ in range(products)]
    nothing = np.zeros(products, np.int64)
    category = rng.integers(-1, 4, products)
    training = Training(
        ProductStats(nothing, nothing, category),
        Ragged(np.arange(products + 1) * 5, np.concatenate(near), np.concatenate(similarity)),
        rng.standard_normal((products, 3)).astype(np.float32),
    )
    histories = [
        [Entry(int(p), rating=int(rng.integers(1, 9))) for p in rng.permutation(products)[: rng.integers(0, 5)]]
        for _ in range(count)
    ]
    positions = np.array([rng.permutation(products)[:k] for _ in range(count)])
    positions[::7, -2:] = -1
    sources = rng.integers(0, PINNED, (count, k)).astype(np.int8)
    computed = reasons(ListMaker.fit(training), users_with(histories), Lists(positions, np.ones((count, k)), sources))

    def expected(history: list[Entry], product: int, source: str) -> int:
        positions_of_history = [entry.position for entry in history]
        if product < 0 or product in positions_of_history:
            return product
        best, why = 0.0, -1
        for rank, h in enumerate(positions_of_history):
            if product in near[h] and similarity[h][near[h] == product][0] / (1 + rank) > best:
                best, why = similarity[h][near[h] == product][0] / (1 + rank), h
        if why < 0 and source == "als":
            for entry in history:
                value = entry.rating * float(training.item_factors[entry.position] @ training.item_factors[product])
                if value > best:
                    best, why = value, entry.position
        same = [h for h in positions_of_history if category[h] == category[product] >= 0]
        return same[0] if why < 0 and source == "category" and same else why

    for user, history in enumerate(histories):
        for place in range(k):
            source = SOURCES[sources[user, place]]
            assert computed[user, place] == expected(history, int(positions[user, place]), source)

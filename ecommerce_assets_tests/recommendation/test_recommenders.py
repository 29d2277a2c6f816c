"""Every recommender by hand on six products and four users, and the protocol that all of them keep."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders import category_affinity as category_affinity_module
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import (
    Candidates,
    ProductStats,
    Ragged,
    Ranking,
    Recommender,
    Training,
    Users,
)
from ecommerce_assets.recommendation.recommenders.category_affinity import CategoryAffinity
from ecommerce_assets.recommendation.recommenders.history import Latest, Weightiest
from ecommerce_assets.recommendation.recommenders.neighbours import Neighbours, RecentNeighbours
from ecommerce_assets.recommendation.recommenders.popularity import Popularity, RecentPopularity, SegmentPopularity


class Entry(NamedTuple):
    """A product in a history."""

    position: int
    rating: float = 1.0
    purchased: bool = False
    events: int = 1
    age: float = 0.0


EVERY = np.ones(1000, np.bool_)


def users_with(
    histories: Sequence[Sequence[Entry]],
    segments: Sequence[str | None] | None = None,
    factors: Sequence[Sequence[float]] | None = None,
    exclude: Exclude = Exclude.none,
    rank: int = 2,
) -> Users:
    """Users with these histories, the latest product first."""
    entries = [entry for history in histories for entry in history]
    count = len(histories)
    return Users(
        begins=np.cumsum([0, *map(len, histories)]),
        positions=np.array([e.position for e in entries], np.int64),
        ratings=np.array([e.rating for e in entries], np.float32),
        events=np.array([e.events for e in entries], np.int64),
        ages=np.array([e.age for e in entries], np.float32),
        purchased=np.array([e.purchased for e in entries], np.bool_),
        segments=np.array(list(segments or [None] * count), dtype=object),
        factors=np.zeros((count, rank), np.float32) if factors is None else np.array(factors, np.float32),
        exclude=exclude,
    )


def neighbour_rows(rows: Sequence[Sequence[tuple[int, float]]]) -> Ragged:
    """For each product its neighbours and their similarities."""
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    flat = [pair for row in rows for pair in row]
    items, values = (np.array([pair[n] for pair in flat]) for n in (0, 1))
    return Ragged.of(owners, items, values, len(rows))


def listed(candidates: Candidates, user: int) -> list[tuple[int, Any]]:
    """Products and scores of a user, best first."""
    filled = candidates.filled[user]
    pairs = zip(candidates.positions[user][filled].tolist(), candidates.scores[user][filled].tolist(), strict=True)
    return [(position, pytest.approx(score, rel=1e-6)) for position, score in pairs]


TRAINING = Training(
    ProductStats(
        users=np.array([3, 2, 2, 1, 0, 1]),
        recent_users=np.array([0, 1, 1, 0, 0, 2]),
        category=np.array([0, 0, 1, 1, -1, 0]),
        segment_users={"A": np.array([2, 0, 1, 0, 0, 1]), "B": np.array([0, 0, 0, 1, 0, 0])},
        segment_sizes={"A": 2, "B": 1},
        total_users=4,
    ),
    neighbour_rows(
        [[(1, 0.5), (2, 0.25)], [(0, 0.5), (2, 0.5)], [(1, 0.5), (0, 0.25), (3, 0.125)], [(2, 0.125)], [], []]
    ),
    # 3 is as 0; the model does not know 4, and knows next to nothing of 5.
    np.array([[1, 0], [0.5, 0.5], [0, 1], [1, 0], [0, 0], [0, 1e-7]], np.float32),
)
HISTORIES = [
    [Entry(0, rating=4, purchased=True), Entry(1, rating=1), Entry(2, rating=2)],
    [Entry(3, rating=2)],
    [Entry(4)],  # no neighbours, no category
    [],
]
SEGMENTS = ["A", "B", None, None]
FACTORS = [[1, 0.25], [0, 1], [0, 0], [0, 0]]


def users(exclude: Exclude = Exclude.none) -> Users:
    return users_with(HISTORIES, SEGMENTS, FACTORS, exclude)


POPULAR = [(0, 3), (1, 2), (2, 2), (3, 1), (5, 1)]
RECENT = [(5, 2), (1, 1), (2, 1)]
BY_HAND: dict[type[Recommender], list[list[tuple[int, float]]]] = {
    # (1, 1/4) and (0, 1) times the factors of the products; 5 would get 1e-7, which is noise, 0 and 3 get 0.
    Als: [[(0, 1), (3, 1), (1, 0.625), (2, 0.25)], [(2, 1), (1, 0.5)], [], []],
    # To 0: 1 · 0.5 + 2 · 0.25; to 1: 4 · 0.5 + 2 · 0.5; to 2: 4 · 0.25 + 1 · 0.5; to 3: 2 · 0.125.
    Neighbours: [[(1, 3), (2, 1.5), (0, 1), (3, 0.25)], [(2, 0.25)], [], []],
    # The same with 1, 1/2, 1/3 in place of 4, 1, 2.
    RecentNeighbours: [[(1, 2 / 3), (2, 1 / 2), (0, 1 / 3), (3, 1 / 24)], [(2, 0.125)], [], []],
    Latest: [[(0, 1), (1, 1 / 2), (2, 1 / 3)], [(3, 1)], [(4, 1)], []],
    Weightiest: [[(0, 4.001), (2, 2 + 0.001 / 3), (1, 1.0005)], [(3, 2.001)], [(4, 1.001)], []],
    Popularity: [POPULAR, POPULAR, POPULAR, POPULAR],
    RecentPopularity: [RECENT, RECENT, RECENT, RECENT],
    SegmentPopularity: [[(0, 2), (2, 1), (5, 1)], [(3, 1)], [], []],
    # Of 7 points 5 went to category 0, whose users are 3 of 0, 2 of 1, 1 of 5; 2 to category 1, with 2 of 2, 1 of 3.
    CategoryAffinity: [
        [(0, 5 / 7 * 3 / 6), (1, 5 / 7 * 2 / 6), (2, 2 / 7 * 2 / 3), (5, 5 / 7 / 6), (3, 2 / 7 / 3)],
        [(2, 2 / 3), (3, 1 / 3)],
        [],
        [],
    ],
}

every = pytest.mark.parametrize("system", RECOMMENDERS, ids=lambda system: system.name)


@every
@pytest.mark.parametrize(
    ("exclude", "excluded"), [(Exclude.none, [set(), set(), set()]), (Exclude.purchased, [{0}, set(), set()])]
)
def test_by_hand(system: type[Recommender], exclude: Exclude, excluded: list[set[int]]) -> None:
    candidates = system.fit(TRAINING).recommend(users(exclude), 6)
    for user, (expected, omitted) in enumerate(zip(BY_HAND[system], [*excluded, set()], strict=True)):
        assert listed(candidates, user) == [
            (position, score) for position, score in expected if position not in omitted
        ]


@every
def test_seen_excludes_the_whole_history(system: type[Recommender]) -> None:
    candidates = system.fit(TRAINING).recommend(users(Exclude.seen), 6)
    for user, omitted in enumerate([{0, 1, 2}, {3}, {4}, set()]):
        assert listed(candidates, user) == [(p, score) for p, score in BY_HAND[system][user] if p not in omitted]


@every
def test_no_users_and_no_products(system: type[Recommender]) -> None:
    assert system.fit(TRAINING).recommend(users().take(np.array([], np.int64)), 3).positions.shape == (0, 3)
    none = np.empty(0, np.int64)
    empty = Training(ProductStats(none, none, none), neighbour_rows([]), np.zeros((0, 2), np.float32))
    assert not system.fit(empty).recommend(users_with([[], []], factors=[[1, 1], [0, 0]]), 3).filled.any()


def test_names_and_sources_are_unique() -> None:
    for name in ("name", "source"):
        assert len({getattr(system, name) for system in RECOMMENDERS}) == len(RECOMMENDERS)


def test_of_equal_ratings_the_latest_product_is_the_weightiest() -> None:
    history = [Entry(5, rating=2), Entry(1, rating=3), Entry(4, rating=2), Entry(0, rating=2)]
    candidates = Weightiest(EVERY).recommend(users_with([history]), 6)
    assert candidates.positions[0].tolist() == [1, 5, 4, 0, -1, -1]
    long = [Entry(product, rating=1 if product > 200 else 10) for product in range(300, 0, -1)]
    assert Weightiest(EVERY).recommend(users_with([long]), 50).positions[0].tolist() == list(range(200, 150, -1))


def test_category_affinity_has_the_most_popular_products_of_each_category(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(category_affinity_module, "DEPTH", 1)
    candidates = CategoryAffinity.fit(TRAINING).recommend(users(), 6)
    # 0 is the first of category 0, 2 of category 1; their shares are still those of all users.
    assert listed(candidates, 0) == [(0, 5 / 14), (2, 4 / 21)]


def test_ranking_breaks_ties_by_position_and_leaves_zeros_out() -> None:
    ranking = Ranking.of(np.array([1.0, 0.0, 3.0, 3.0, 1.0]))
    assert ranking.positions.tolist() == [2, 3, 0, 4]
    assert ranking.scores.tolist() == [3, 3, 1, 1]


def test_take_keeps_the_order_of_the_rows() -> None:
    part = users().take(np.array([2, 0]))
    assert (part.begins.tolist(), part.positions.tolist()) == ([0, 1, 4], [4, 0, 1, 2])
    assert (part.owners.tolist(), part.ranks.tolist()) == ([0, 1, 1, 1], [0, 0, 1, 2])
    assert part.segments.tolist() == [None, "A"]
    assert part.factors.tolist() == [[0, 0], [1, 0.25]]


def random_training(rng: np.random.Generator, products: int, rank: int = 3) -> Training:
    """Few different numbers, so that there are many ties; some products without users, category or factors."""
    counts = rng.integers(0, 4, products)
    rows = []
    for product in range(products):
        others = rng.permutation([p for p in range(products) if p != product])[: rng.integers(0, 6)]
        pairs = [(int(p), float(rng.choice([0.25, 1 / 3, 0.5]))) for p in others]
        rows.append(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
    segment_users = {name: rng.integers(0, 3, products) for name in "AB"}
    return Training(
        ProductStats(
            counts, rng.integers(0, counts + 1), rng.integers(-1, 3, products), segment_users, {"A": 9, "B": 7}, 20
        ),
        neighbour_rows(rows),
        rng.integers(-1, 3, (products, rank)).astype(np.float32),
    )


def random_users(rng: np.random.Generator, count: int, products: int, exclude: Exclude, rank: int = 3) -> Users:
    """Some without history, segment or factors."""
    histories = [
        [
            Entry(int(p), float(rng.integers(1, 11)), bool(rng.random() < 0.4), int(rng.integers(1, 9)), float(age))
            for age, p in enumerate(rng.permutation(products)[: rng.integers(0, products + 1)])
        ]
        for _ in range(count)
    ]
    segments = rng.choice(np.array([None, "A", "B", "unknown"], dtype=object), count).tolist()
    return users_with(histories, segments, rng.integers(-1, 3, (count, rank)).tolist(), exclude)


@st.composite
def shops(draw: st.DrawFn) -> tuple[Training, Users, int]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    products, count = draw(st.integers(1, 15)), draw(st.integers(1, 6))
    exclude = draw(st.sampled_from(list(Exclude)))
    return random_training(rng, products), random_users(rng, count, products, exclude), draw(st.integers(1, 18))


def same(one: Candidates, other: Candidates) -> bool:
    return np.array_equal(one.positions, other.positions) and np.array_equal(one.scores, other.scores)


@every
@settings(max_examples=25, deadline=None)
@given(shop=shops())
def test_every_recommender_keeps_the_protocol(system: type[Recommender], shop: tuple[Training, Users, int]) -> None:
    training, batch, k = shop
    recommender = system.fit(training)
    best = recommender.recommend(batch, k)
    assert best.positions.shape == best.scores.shape == (len(batch), k)
    assert (best.positions < len(training.products)).all()
    assert (best.filled[:, :-1] >= best.filled[:, 1:]).all()  # only the last places are empty
    assert (best.scores[best.filled] > 0).all()
    assert (best.scores[~best.filled] == 0).all()
    assert (np.diff(best.scores) <= 0).all()
    owners, excluded = batch.excluded.of(np.arange(len(batch)))
    for user in range(len(batch)):
        products = best.positions[user][best.filled[user]].tolist()
        assert len(set(products)) == len(products)
        assert not set(products) & set(excluded[owners == user].tolist())
        alone = recommender.recommend(batch.take(np.array([user])), k)
        assert same(alone, Candidates(best.positions[[user]], best.scores[[user]]))
    assert same(pickle.loads(pickle.dumps(recommender)).recommend(batch, k), best)
    assert same(system.fit(training).recommend(batch, k), best)
    longer = recommender.recommend(batch, k + 3)
    assert same(Candidates(longer.positions[:, :k], longer.scores[:, :k]), best)

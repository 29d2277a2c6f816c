"""Lists for visitors whom the model does not know, made as the published lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_assets.recommendation.als_model import SavedModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.fold_in import Entry, Event, FoldIn, minimise_nonnegative
from ecommerce_assets.recommendation.lists import ListMaker
from ecommerce_assets.recommendation.local_als import LocalAls
from ecommerce_assets.recommendation.parameters import ListParameters
from ecommerce_assets.recommendation.products import Products
from ecommerce_assets.recommendation.recommenders.base import ProductStats, Training
from ecommerce_assets.storage.lake import Lake, VersionNotFoundError
from ecommerce_assets_tests.recommendation.test_recommenders import TRAINING, neighbour_rows

IDS = np.array([10, 11, 12, 13, 14, 15])
"""Of the products of test_recommenders.py: users 3, 2, 2, 1, 0, 1; in segment B only 13 has any."""

NOW = datetime.now(UTC)


def fold_in(training: Training = TRAINING, ids: Any = IDS, **als: Any) -> FoldIn:
    """The rule for few training users ranks: the user's latest products, then neighbours."""
    parameters = AlsParameters(**als)
    products = Products(np.asarray(ids), np.arange(len(ids)))
    return FoldIn(products, ListMaker.fit(training), Blend(), parameters, ListParameters(), reference=0)


def products_of(entries: list[Entry]) -> list[Any]:
    return [entry.product_id for entry in entries]


def test_latest_products_come_first_then_neighbours_then_popular_products() -> None:
    entries = fold_in().recommend_for([Event(13), Event(10)])
    # The latest: 10, 13. Neighbours: of 10 are 11 (0.5) and 12 (0.25), of 13 is 12 (0.125). Popular: 15, 14.
    assert products_of(entries) == [10, 13, 11, 12, 15, 14]
    assert [entry.because_product_id for entry in entries] == [10, 13, 10, 10, None, None]
    assert [entry.rank for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.source for entry in entries][-2:] == ["popular", "popular"]


def test_purchased_products_are_not_recommended() -> None:
    assert 10 not in products_of(fold_in().recommend_for([Event(13), Event(10), Event(10, "purchase")]))


def test_without_a_known_product_the_list_has_popular_products() -> None:
    made = fold_in()
    popular = [(10, 0.75, "popular"), (11, 0.5, "popular"), (12, 0.5, "popular")]
    for events in ([], [Event(99)], [Event(10, "remove_from_cart")]):
        entries = made.recommend_for(events, k=3)
        assert [(e.product_id, e.score, e.source) for e in entries] == popular
        assert [e.because_product_id for e in entries] == [None] * 3
    assert [(e.product_id, e.source) for e in made.recommend_for([], "B", k=2)] == [
        (13, "segment_popular"),
        (10, "popular"),
    ]
    assert products_of(made.recommend_for([], "no such segment", k=3)) == [10, 11, 12]


def test_events_of_a_product_add_up_as_in_interaction_data() -> None:
    old, newer = datetime(2020, 1, 1, 12), datetime(2020, 1, 2, 12, tzinfo=UTC)  # without a zone: UTC
    events = [
        Event(11, "view", old),
        Event(11, "purchase", newer - timedelta(hours=12)),
        Event(10, "cart", newer),
        *[Event(12, "cart", old)] * 4,
    ]
    visitor = fold_in().visitor(events, "A")
    assert visitor.positions.tolist() == [0, 1, 2]
    assert visitor.ratings.tolist() == [3, 6, 10]
    assert visitor.events.tolist() == [1, 2, 4]
    assert visitor.purchased.tolist() == [False, True, False]
    assert visitor.ages.tolist() == [0, 0.5, 1]
    assert visitor.segments.tolist() == ["A"]


def test_events_without_a_time_are_ordered_as_given() -> None:
    assert fold_in().visitor([Event(10), Event(12), Event(11), Event(10)]).positions.tolist() == [0, 1, 2]


def test_ages_are_counted_from_the_training_data_if_that_is_newer() -> None:
    made = replace(fold_in(), reference=int(datetime(2020, 1, 3).replace(tzinfo=UTC).timestamp()) * 1_000_000)
    assert made.visitor([Event(10, "view", datetime(2020, 1, 1))]).ages.tolist() == [2]


def test_ids_are_converted_to_the_type_of_the_shop() -> None:
    numbers, texts = fold_in(), fold_in(ids=np.array(["10", "11", "12", "13", "14", "15"], dtype=object))
    assert products_of(numbers.recommend_for([Event("13")], k=2)) == [13, 12]
    assert products_of(texts.recommend_for([Event(13)], k=2)) == ["13", "12"]
    for wrong in ("x", "1.0", 1.0, True, None, 2**70):
        with pytest.raises(ValueError, match="product_id must be"):
            numbers.recommend_for([Event(wrong)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="product_id must be"):
        texts.recommend_for([Event(1.5)])  # type: ignore[arg-type]


def test_invalid_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="'buy'"):
        fold_in().recommend_for([Event(10, "buy")])
    for k in (0, 249, True, 2.5):
        with pytest.raises(ValueError, match=f"got {k}"):
            fold_in().recommend_for([], k=k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="event_time must be a datetime"):
        fold_in().recommend_for([Event(10, event_time="2026-01-31")])  # type: ignore[arg-type]


def test_factors_by_hand() -> None:
    """One factor: y = 1 and 2. With c = 2 for the first, x = 2 / (1 + 4 + 0.1 + 1)."""
    nothing = np.zeros(2, np.int64)
    training = Training(
        ProductStats(nothing, nothing, nothing), neighbour_rows([[], []]), np.array([[1], [2]], np.float32)
    )
    for nonnegative in (True, False):
        made = fold_in(training, [10, 11], rank=1, regParam=0.1, alpha=1.0, nonnegative=nonnegative)
        assert made.factors(np.array([0]), np.array([1.0])).tolist() == [pytest.approx(2 / 6.1)]
        assert made.factors(np.array([], np.int64), np.array([])).tolist() == [0]


def test_products_that_the_model_does_not_know_change_no_factor() -> None:
    made = fold_in(rank=2)
    alone, beside = made.factors(np.array([1]), np.array([2.0])), made.factors(np.array([4, 1]), np.array([5.0, 2.0]))
    assert alone.tolist() == beside.tolist()


def test_ratings_age_as_in_the_training_of_the_model() -> None:
    made = fold_in(rank=2, halfLife=10)
    visitor = made.visitor([Event(10, "cart", NOW - timedelta(days=10)), Event(12, "cart", NOW)])
    assert visitor.factors[0] == pytest.approx(made.factors(np.array([2, 0]), np.array([3.0, 1.5])), rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 20))
def test_nonnegative_least_squares_agree_with_scipy(seed: int, size: int, rows: int) -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(seed)
    a = np.vstack([rng.standard_normal((rows, size)), 0.1 * np.eye(size)])
    b = rng.standard_normal(len(a))
    np.testing.assert_allclose(minimise_nonnegative(a.T @ a, a.T @ b), nnls(a, b)[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("nonnegative", [True, False])
def test_a_converged_model_has_the_same_factors(nonnegative: bool) -> None:
    """The factors of each user of the training data follow from those of the products."""
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [60, 30], (500, 2)), axis=0)
    user, product, rating = pairs[:, 0], pairs[:, 1], rng.integers(1, 10, len(pairs)).astype(float)
    als = LocalAls(user, product, rating, rank=4, regParam=0.1, alpha=2.0, nonnegative=nonnegative, threads=1)
    for _ in als.run(150):
        pass
    users, products = als.factors()
    nothing = np.zeros(30, np.int64)
    stats = ProductStats(nothing, nothing, nothing)
    training = Training(stats, neighbour_rows([[]] * 30), products.vectors)
    made = fold_in(training, np.arange(30), rank=4, regParam=0.1, alpha=2.0, nonnegative=nonnegative)
    for number, vector in zip(users.indices, users.vectors, strict=True):
        rows = user == number
        np.testing.assert_allclose(made.factors(product[rows], rating[rows]), vector, rtol=1e-3, atol=1e-4)


def test_loading_without_recommendations_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VersionNotFoundError, match="recommendations"):
        FoldIn.load(Lake(str(tmp_path)))


def test_published_lists_are_those_of_the_same_events_and_factors(
    ran: tuple[Path, dg.ExecuteInProcessResult],
) -> None:
    lake = Lake(str(ran[0]))
    made = FoldIn.load(lake)

    def table(asset: str) -> pl.DataFrame:
        return pl.read_delta(f"{ran[0]}/lake/{asset}")

    factors = SavedModel(lake.folder(lake.latest("als_model")) / "model").users
    vectors = dict(zip(factors.indices.tolist(), factors.vectors, strict=True))
    numbers = dict(table("user_index").select("user_id", "user_idx").iter_rows())
    segments = dict(table("segmented_users").select("user_id", "segment").iter_rows())
    by_user = table("cleaned_events").partition_by("user_id", as_dict=True)
    columns = ("rank", "product_id", "score", "source", "because_product_id")
    shared, entries = 0, 0
    for (user_id,), published in islice(_lists(table("recommendations")), 60):
        events = by_user[(user_id,)].select("product_id", "event_type", "event_time").iter_rows()
        visitor = made.visitor([Event(*event) for event in events], segments[user_id])
        stored = replace(visitor, factors=vectors.get(numbers[user_id], np.zeros(4, np.float32))[None, :])
        assert made.entries(stored, 10) == [Entry(*row) for row in published.select(columns).iter_rows()]
        folded_in = {entry.product_id for entry in made.entries(visitor, 10)}
        shared, entries = shared + len(folded_in & {*published["product_id"]}), entries + len(published)
    assert entries == 600
    assert shared / entries > 0.9  # two iterations: the model has not converged


def _lists(recommendations: pl.DataFrame) -> Iterator[tuple[Any, pl.DataFrame]]:
    yield from recommendations.sort("user_id", "rank").group_by("user_id", maintain_order=True)

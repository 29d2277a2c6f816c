"""Popularity lists, by hand."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.fallback import Fallback, Order, PopularityList, build_fallback

POSITION_OF = np.array([3, 0, 2, 1])
"""product_idx 0 stands at position 3, 1 at 0, 2 at 2, 3 at 1; position 4 belongs to a product that nobody touched."""


def listed(popularity: PopularityList | Order) -> list[tuple[int, float]]:
    return list(zip(popularity.positions.tolist(), popularity.shares.tolist(), strict=True))


@pytest.fixture(scope="module")
def interactions(spark: SparkSession) -> DataFrame:
    """Users 0 to 3; product_idx 0 has three users, 1 and 3 have two, 2 has one."""
    pairs = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 3), (3, 3), (3, 2)]
    return spark.createDataFrame(pairs, "user_idx int, product_idx int")


@pytest.fixture(scope="module")
def segments(spark: SparkSession) -> DataFrame:
    """Users 0, 1 and 9 in A (9 never did anything), 2 in B, 3 in none, 8 alone in C."""
    rows = [(0, "A"), (1, "A"), (9, "A"), (2, "B"), (8, "C")]
    return spark.createDataFrame(rows, "user_idx int, segment string")


@pytest.fixture(scope="module")
def fallback(interactions: DataFrame, segments: DataFrame) -> Fallback:
    return build_fallback(interactions, segments, POSITION_OF, 5)


class TestPopularityList:
    def test_most_users_first_ties_by_position(self) -> None:
        found = PopularityList.from_counts(np.array([1, 4, 0, 4]), 8, with_zero=True)
        assert listed(found) == [(1, 0.5), (3, 0.5), (0, 0.125), (2, 0.0)]

    def test_without_products_that_nobody_touched(self) -> None:
        found = PopularityList.from_counts(np.array([1, 4, 0, 4]), 8, with_zero=False)
        assert listed(found) == [(1, 0.5), (3, 0.5), (0, 0.125)]

    def test_no_users_at_all(self) -> None:
        assert listed(PopularityList.from_counts(np.array([0, 0]), 0, with_zero=True)) == [(0, 0.0), (1, 0.0)]


class TestOrder:
    OVERALL = PopularityList(np.array([0, 1, 2, 3]), np.array([0.8, 0.4, 0.2, 0.0]))
    OWN = PopularityList(np.array([2, 1]), np.array([1.0, 0.5]))
    FALLBACK = Fallback(OVERALL, {"A": OWN})

    def test_the_segment_first_then_the_shop_without_repeats(self) -> None:
        order = self.FALLBACK.order("A")
        assert listed(order) == [(2, 1.0), (1, 0.5), (0, 0.8), (3, 0.0)]
        assert order.own == 2
        assert order.positions[order.place_of].tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize("segment", [None, "unknown"])
    def test_the_shop_where_there_is_no_segment(self, segment: str | None) -> None:
        order = self.FALLBACK.order(segment)
        assert listed(order) == [(0, 0.8), (1, 0.4), (2, 0.2), (3, 0.0)]
        assert order.own == 0

    def test_without_segments(self) -> None:
        assert listed(self.FALLBACK.without_segments().order("A")) == listed(self.FALLBACK.order(None))


class TestBuild:
    def test_overall(self, fallback: Fallback) -> None:
        # Shares of the four users who did something; 1 and 3 tie, and stand at positions 0 and 1.
        assert listed(fallback.overall) == [(3, 0.75), (0, 0.5), (1, 0.5), (2, 0.25), (4, 0.0)]

    def test_segments(self, fallback: Fallback) -> None:
        assert sorted(fallback.by_segment) == ["A", "B"]  # nobody of C did anything
        # Users 0 and 1 of the three in A; product_idx 0 is at position 3, 1 at 0.
        assert listed(fallback.by_segment["A"]) == [(0, pytest.approx(2 / 3)), (3, pytest.approx(2 / 3))]
        assert listed(fallback.by_segment["B"]) == [(1, 1.0), (3, 1.0)]

    def test_without_segments(self, interactions: DataFrame, segments: DataFrame) -> None:
        found = build_fallback(interactions, segments.limit(0), POSITION_OF, 5)
        assert found.by_segment == {}
        assert listed(found.overall)[0] == (3, 0.75)

    def test_without_interactions(self, interactions: DataFrame, segments: DataFrame) -> None:
        found = build_fallback(interactions.limit(0), segments, POSITION_OF, 3)
        assert listed(found.overall) == [(0, 0.0), (1, 0.0), (2, 0.0)]

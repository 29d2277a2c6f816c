"""The data that recommenders are fitted on, and the users that they serve, from tables and Arrow batches."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import (
    category_numbers,
    histories,
    item_factors,
    neighbours_of,
    ragged,
    stats_by_spark,
    stats_in_process,
    users_of,
)
from ecommerce_assets.recommendation.interactions import LAST, collect_pairs
from ecommerce_assets.recommendation.item_neighbours import neighbours_in_process
from ecommerce_assets.recommendation.products import Products, products_of
from ecommerce_assets.recommendation.recommenders.base import ProductStats, Ragged
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets_tests.recommendation.test_recommend import als_model, index_frame

PRODUCTS = Products.of(np.array([101, 102, 103, 104, 105]), np.array([3, 0, 2, 1, 4]))
"""product_idx 0 is at position 1, 1 at 3, 2 at 2, 3 at 0, and 4, a product without users, at 4."""

START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class TestStats:
    @pytest.fixture(scope="class", params=[True, False], ids=["in process", "by Spark"])
    @classmethod
    def stats(cls, spark: SparkSession, request: pytest.FixtureRequest) -> ProductStats:
        # user_idx, product_idx, day: the recent tenth begins with day 90
        pairs = [(0, 0, 0), (1, 0, 91), (2, 0, 100), (0, 1, 90), (1, 1, 95), (2, 3, 50), (3, 3, 100), (3, 2, 100)]
        return cls.of(spark, pairs, in_process=request.param)

    @staticmethod
    def of(
        spark: SparkSession,
        pairs: list[tuple[int, int, int]],
        products: Products = PRODUCTS,
        *,
        in_process: bool,
    ) -> ProductStats:
        rows = [(user, product, 1.0, START + dt.timedelta(days=day)) for user, product, day in pairs]
        columns = "user_idx int, product_idx int, rating float, last_interaction_at timestamp"
        interactions = spark.createDataFrame(rows, columns)
        # 9 in A and 8, the only user in C, have no interactions; 3 has no segment.
        segments = [(0, "A"), (1, "A"), (9, "A"), (2, "B"), (8, "C")]
        categories = [(103, 7, "toys"), (101, 7, None), (104, None, "toys"), (102, None, "unknown"), (999, 5, "x")]
        names = ("product_id", "category_id", "category")
        known = pa.table(dict(zip(names, zip(*categories, strict=True), strict=True)))
        of_users = spark.createDataFrame(segments, "user_idx int, segment string")
        if in_process:
            return stats_in_process(collect_pairs(StoredTable(interactions), LAST), of_users.toArrow(), products, known)
        return stats_by_spark(interactions, of_users, products, known)

    def test_all_and_recent_users(self, stats: ProductStats) -> None:
        assert stats.users.tolist() == [2, 3, 1, 2, 0]
        assert stats.recent_users.tolist() == [1, 2, 1, 2, 0]
        assert stats.total_users == 4

    def test_users_by_segment(self, stats: ProductStats) -> None:
        assert {name: users.tolist() for name, users in stats.segment_users.items()} == {
            "A": [0, 2, 0, 2, 0],
            "B": [1, 1, 0, 0, 0],
            "C": [0, 0, 0, 0, 0],
        }
        assert stats.segment_sizes == {"A": 3, "B": 1, "C": 1}

    def test_the_category_is_the_id_else_the_name(self, stats: ProductStats) -> None:
        category = stats.category.tolist()
        assert category[0] == category[2] >= 0
        assert category[3] not in (category[0], -1)
        assert category[1] == category[4] == -1
        assert stats.categories == 2

    @pytest.mark.parametrize("in_process", [True, False])
    def test_without_interactions(self, spark: SparkSession, in_process: bool) -> None:
        stats = self.of(spark, [], in_process=in_process)
        assert stats.users.tolist() == stats.recent_users.tolist() == [0] * 5
        assert stats.total_users == 0

    @pytest.mark.parametrize("in_process", [True, False])
    def test_unknown_products_are_left_out(self, spark: SparkSession, in_process: bool) -> None:
        known, pairs = Products.of(np.array([101, 103]), np.array([3, 0])), [(0, 0, 0), (1, 0, 1), (1, 2, 1), (2, 7, 1)]
        assert self.of(spark, pairs, known, in_process=in_process).users.tolist() == [0, 2]


def test_categories_of_no_products() -> None:
    none = pa.table({"product_id": pa.array([], pa.int64()), "category_id": [], "category": []})
    assert category_numbers(none, PRODUCTS).tolist() == [-1] * 5


def rows(actual: Ragged) -> list[list[tuple[int, float]]]:
    pairs = list(zip(actual.items.tolist(), actual.values.tolist(), strict=True))
    return [pairs[begin:end] for begin, end in zip(actual.begins[:-1], actual.begins[1:], strict=True)]


def test_neighbours_are_ordered_by_rank_without_unknown_products(spark: SparkSession) -> None:
    table = [(103, 2, 104, 0.25), (101, 1, 105, 0.5), (103, 1, 101, 0.5), (103, 3, 999, 0.2), (999, 1, 101, 0.2)]
    frame = spark.createDataFrame(table, "product_id bigint, rank int, neighbour_id bigint, similarity double")
    assert rows(neighbours_of(StoredTable(frame), PRODUCTS)) == [[(4, 0.5)], [], [(0, 0.5), (3, 0.25)], [], []]
    assert rows(neighbours_of(StoredTable(frame.limit(0)), PRODUCTS)) == [[], [], [], [], []]


def test_neighbours_in_process_are_by_position() -> None:
    # product_idx 0 and 1 have one user in common, of two in all; positions 1 and 3.
    pairs = pa.table({"user_idx": [0, 0, 1], "product_idx": [0, 1, 1], "last": [1, 2, 3]})
    assert rows(neighbours_in_process(pairs, PRODUCTS).as_ragged()) == [[], [(3, 0.5)], [], [(1, 0.5)], []]


def test_factors_by_position(spark: SparkSession) -> None:
    index = index_frame(spark, "product", {101: 3, 102: 0, 103: 2})
    model = als_model({0: [1.0, 0.0]}, {0: [1.0, 2.0], 2: [3.0, 4.0]})
    products = products_of(index.toArrow())
    assert item_factors(model.products, products).tolist() == [[0, 0], [1, 2], [3, 4]]
    with pytest.raises(ValueError, match="product_index, which has no product_idx 1"):
        item_factors(als_model({}, {1: [1.0, 1.0]}).products, products)


def test_ragged_reads_slices_and_nulls() -> None:
    begins, values = ragged(pa.array([[9], [1, 2], None, [], [3], [8]], pa.list_(pa.int32()))[1:5])
    assert (begins.tolist(), values.to_pylist()) == ([0, 2, 2, 2, 3], [1, 2, 3])


class TestUsers:
    DAY = 86_400 * 1_000_000

    @staticmethod
    def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
        entry = pa.struct(
            [
                ("product_idx", pa.int32()),
                ("rating", pa.float32()),
                ("events", pa.int32()),
                ("purchased", pa.bool_()),
                ("last", pa.int64()),
            ]
        )
        schema = pa.schema(
            [("history", pa.list_(entry)), ("segment", pa.string()), ("features", pa.list_(pa.float32()))]
        )
        return pa.RecordBatch.from_pylist(rows, schema)

    def entry(self, product_idx: int, day: float, rating: float = 1.0, events: int = 1, bought: bool = False) -> Any:
        last = int(day * self.DAY)
        return {"product_idx": product_idx, "rating": rating, "events": events, "purchased": bought, "last": last}

    @pytest.fixture
    def rows(self) -> list[dict[str, Any]]:
        known = [
            self.entry(0, 1, rating=3),
            self.entry(77, 9),  # not a known product
            self.entry(1, 5, events=4),
            self.entry(3, 5, bought=True),  # as late as 1, and before it by position
        ]
        return [
            {"history": [self.entry(2, 3)], "segment": "B", "features": [9.0, 9.0]},
            {"history": known, "segment": "A", "features": None},
            {"history": None, "segment": None, "features": [1.0, 2.0]},
            {"history": [self.entry(4, 9.5)], "segment": None, "features": None},
        ]

    @pytest.mark.parametrize("sliced", [False, True])
    def test_by_hand(self, rows: list[dict[str, Any]], sliced: bool) -> None:
        batch = self.batch(rows).slice(1) if sliced else self.batch(rows[1:])
        users = users_of(batch, PRODUCTS, 2, 10 * self.DAY, Exclude.purchased)
        assert users.begins.tolist() == [0, 3, 3, 4]
        assert users.positions.tolist() == [0, 3, 1, 4]
        assert users.ratings.tolist() == [1, 1, 3, 1]
        assert users.events.tolist() == [1, 4, 1, 1]
        assert users.ages.tolist() == [5, 5, 9, 0.5]
        assert users.purchased.tolist() == [True, False, False, False]
        assert users.segments.tolist() == ["A", None, None]
        assert users.factors.tolist() == [[0, 0], [1, 2], [0, 0]]
        assert (users.excluded.begins.tolist(), users.excluded.items.tolist()) == ([0, 1, 1, 1], [0])

    def test_a_batch_without_users(self) -> None:
        users = users_of(self.batch([]), PRODUCTS, 2, 0, Exclude.seen)
        assert (len(users), users.factors.shape) == (0, (0, 2))

    def test_histories_by_spark_are_read_by_users_of(self, spark: SparkSession) -> None:
        pairs = [(0, 3, 6.0, 2, 1, START), (0, 1, 1.0, 1, 0, START + dt.timedelta(days=1))]
        columns = "user_idx int, product_idx int, rating double, interaction_count bigint, purchases bigint"
        frame: DataFrame = spark.createDataFrame(pairs, f"{columns}, last_interaction_at timestamp")
        table: Any = histories(frame).selectExpr("history", "'A' as segment", "array(1f, 2f) as features").toArrow()
        reference = int(START.timestamp() * 1e6) + 2 * self.DAY
        [batch] = table.combine_chunks().to_batches()
        users = users_of(batch, PRODUCTS, 2, reference, Exclude.purchased)
        assert (users.positions.tolist(), users.ages.tolist(), users.purchased.tolist()) == (
            [3, 0],
            [1, 2],
            [False, True],
        )

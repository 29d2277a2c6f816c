"""user_index and product_index: dense, most events first, ties by id."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from ecommerce_assets.recommendation.indices import PRODUCT_INDEX, USER_INDEX, build_index
from ecommerce_assets_tests.helpers import event, events_frame


def events_per_id(spark: SparkSession, counts: dict[Any, int], kind: str) -> DataFrame:
    """Events with these counts by user_id."""
    ids = [(user_id,) for user_id, count in counts.items() for _ in range(count)]
    return spark.createDataFrame(ids, f"user_id {kind}")


def numbered(index: DataFrame) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in index.collect()), key=lambda row: row[1])


def test_most_events_first_then_the_smaller_number(spark: SparkSession) -> None:
    index = build_index(events_per_id(spark, {9: 2, 10: 2, 2**63 - 1: 1, 8: 5}, "bigint"), "user_id", "user_idx")
    assert numbered(index) == [(8, 0, 5), (9, 1, 2), (10, 2, 2), (2**63 - 1, 3, 1)]


def test_string_ids_are_ordered_as_strings(spark: SparkSession) -> None:
    index = build_index(events_per_id(spark, {"9": 2, "10": 2, "a": 2, "B": 2, "é": 2}, "string"), "user_id", "n")
    assert numbered(index) == [("10", 0, 2), ("9", 1, 2), ("B", 2, 2), ("a", 3, 2), ("é", 4, 2)]


def test_all_types_of_events_count(spark: SparkSession) -> None:
    types = ["view", "cart", "remove_from_cart", "purchase"]
    events = [event("2020-01-01 10:00:00", name, product_id=5, user_id=1) for name in types]
    events += [event("2020-01-01 10:00:00", "remove_from_cart", product_id=6, user_id=2)]
    frame = events_frame(spark, events)
    users = build_index(frame, "user_id", "user_idx")
    products = build_index(frame, "product_id", "product_idx")
    assert numbered(users) == [(1, 0, 4), (2, 1, 1)]
    assert numbered(products) == [(5, 0, 4), (6, 1, 1)]
    for index, table in ((users, USER_INDEX), (products, PRODUCT_INDEX)):
        assert index.dtypes == [(c.name, c.type) for c in table.with_id_type("bigint").columns]


def test_no_events_give_an_empty_index(spark: SparkSession) -> None:
    assert build_index(events_frame(spark, []), "user_id", "user_idx").collect() == []


@settings(max_examples=4, deadline=None)
@given(st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.integers(1, 3), min_size=1, max_size=20))
def test_index_is_a_bijection_onto_0_to_n_minus_1(spark: SparkSession, counts: dict[int, int]) -> None:
    index = numbered(build_index(events_per_id(spark, counts, "bigint").repartition(3), "user_id", "user_idx"))
    assert [number for _, number, _ in index] == list(range(len(counts)))
    assert {user_id: events for user_id, _, events in index} == counts
    assert [user_id for user_id, _, _ in index] == sorted(counts, key=lambda user_id: (-counts[user_id], user_id))

"""The lists of `recommend`, by hand on six products and six users."""

import datetime as dt
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ecommerce_assets.recommendation.als_model import LocalModel
from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.local_als import Factors
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS, products_shown, recommend
from ecommerce_assets.storage.checks import CheckContext
from ecommerce_assets.storage.stored_table import StoredTable
from ecommerce_assets.storage.version import Stats

# Six products; their numbers are in another order than their ids. 105 and 106 are unknown to the model.
PRODUCT_IDX = {101: 1, 102: 3, 103: 4, 104: 2, 105: 0, 106: 5}
ITEM_FACTORS = {1: [1.0, 0.0], 3: [0.5, 0.5], 4: [0.0, 1.0], 2: [1.0, 0.0]}  # 101, 102, 103, 104 (= 101)

SERVED, ZEROS, NO_FACTORS, UPRIGHT, NOT_IN_INDEX, NO_SEGMENT = 1, 2, 3, 4, 8, 9
USER_IDX = {SERVED: 0, ZEROS: 1, NO_FACTORS: 2, UPRIGHT: 3}
USER_FACTORS = {0: [1.0, 0.25], 1: [0.0, 0.0], 3: [0.5, 1.0]}
USERS = [
    (SERVED, "A"),
    (ZEROS, "B"),
    (NO_FACTORS, "A"),
    (UPRIGHT, "B"),
    (NOT_IN_INDEX, "B"),
    (NO_SEGMENT, None),
]

# user_idx, product_idx, purchases, one second after another. 101 and 106 have two users each, 103 and 104 one, of three
# users in all.
# In A (users 0 and 2): 101 and 103 have one. In B (users 1 and 3): 106 has two, 101 and 104 have one.
INTERACTIONS = [(0, 1, 1), (0, 4, 0), (1, 5, 0), (1, 1, 0), (3, 5, 0), (3, 2, 2)]

# product_id, rank, neighbour_id, similarity
NEIGHBOURS = [(101, 1, 106, 0.5), (101, 2, 102, 0.25), (103, 1, 102, 0.5)]

THIRD, TWO_THIRDS = pytest.approx(1 / 3), pytest.approx(2 / 3)

Lists = dict[Any, list[tuple[Any, float, str]]]


def als_model(user_factors: Mapping[int, Sequence[float]], item_factors: Mapping[int, Sequence[float]]) -> LocalModel:
    """An ALS model with these factors by user_idx and product_idx."""
    rank = len(next(iter(item_factors.values())))
    users, products = (
        Factors(
            np.array(sorted(factors), np.int32),
            np.array([factors[number] for number in sorted(factors)], np.float32).reshape(-1, rank),
        )
        for factors in (user_factors, item_factors)
    )
    return LocalModel(users, products)


def index_frame(spark: SparkSession, name: str, numbers: Mapping[Any, int], kind: str = "bigint") -> DataFrame:
    rows = [(id_, number, 1) for id_, number in numbers.items()]
    return spark.createDataFrame(rows, f"{name}_id {kind}, {name}_idx int, events bigint")


def lists(recommended: pa.Table) -> Lists:
    """Products, scores and sources by user, in the order of rank; ranks must count from 1."""
    by_user: dict[Any, list[Any]] = {}
    for row in sorted(recommended.to_pylist(), key=lambda row: (row["user_id"], row["rank"])):
        by_user.setdefault(row["user_id"], []).append((row["product_id"], row["score"], row["source"]))
        assert row["rank"] == len(by_user[row["user_id"]])
    return by_user


def interactions_frame(spark: SparkSession, pairs: Sequence[tuple[int, int, int]]) -> DataFrame:
    """interaction_data from `user_idx`, `product_idx` and purchases, one second after another."""
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    rows = [
        (user, product, 1.0 + 5 * purchases, 1 + purchases, purchases, start + dt.timedelta(seconds=second))
        for second, (user, product, purchases) in enumerate(pairs)
    ]
    columns = "user_idx int, product_idx int, rating double, interaction_count bigint, purchases bigint"
    return spark.createDataFrame(rows, f"{columns}, last_interaction_at timestamp")


class Shop:
    """The tables above as frames. When lists are made of a frame, it is stored, so that Spark computes it once."""

    def __init__(self, spark: SparkSession) -> None:
        self.folder = TemporaryDirectory()
        self.tables: dict[int, StoredTable] = {}
        self.users = spark.createDataFrame(USERS, "user_id bigint, segment string")
        self.user_index = index_frame(spark, "user", USER_IDX)
        self.product_index = index_frame(spark, "product", PRODUCT_IDX)
        columns = "product_id bigint, category_id int, category string"
        self.categories = spark.createDataFrame([(id_, n % 2, None) for id_, n in PRODUCT_IDX.items()], columns)
        self.interactions = interactions_frame(spark, INTERACTIONS)
        self.model = als_model(USER_FACTORS, ITEM_FACTORS)
        columns = "product_id bigint, rank int, neighbour_id bigint, similarity double"
        self.neighbours = spark.createDataFrame(NEIGHBOURS, columns)

    def recommend(self, exclude: Exclude = Exclude.purchased, k: int = 10, blend: Blend | None = None) -> Lists:
        return lists(self.rows(exclude, k, blend))

    def rows(self, exclude: Exclude = Exclude.purchased, k: int = 10, blend: Blend | None = None) -> pa.Table:
        computed, _ = recommend(
            *map(self.stored, (self.users, self.user_index, self.product_index, self.interactions)),
            self.model,
            self.stored(self.neighbours),
            self.stored(self.categories),
            blend,
            exclude,
            k,
        )
        return computed if isinstance(computed, pa.Table) else computed.toArrow()

    def stored(self, frame: DataFrame) -> StoredTable:
        if id(frame) not in self.tables:
            path = f"{self.folder.name}/{len(self.tables)}.parquet"
            pq.write_table(frame.toArrow(), path)
            self.tables[id(frame)] = StoredTable(frame, ds.dataset(path))
        return self.tables[id(frame)]


@pytest.fixture(scope="module")
def shop(spark: SparkSession) -> Shop:
    return Shop(spark)


@pytest.fixture(scope="module")
def plain_rows(shop: Shop) -> pa.Table:
    """The top 4 with nothing excluded."""
    return shop.rows(Exclude.none, 4)


@pytest.fixture(scope="module")
def plain(plain_rows: pa.Table) -> Lists:
    return lists(plain_rows)


@pytest.fixture(scope="module")
def default(shop: Shop) -> Lists:
    """The ranker als: up to ten, without purchases."""
    return shop.recommend()


@pytest.fixture(scope="module")
def blended(shop: Shop) -> Lists:
    """The ranker blend with the rule for few training users."""
    return shop.recommend(blend=Blend())


def test_products_are_ranked_by_score_then_id(plain: Lists) -> None:
    # (1, 1/4) · (1, 0) = 1 twice, a tie broken by id; · (1/2, 1/2) = 0.625; · (0, 1) = 0.25
    assert plain[SERVED] == [(101, 1.0, "als"), (104, 1.0, "als"), (102, 0.625, "als"), (103, 0.25, "als")]
    # (1/2, 1)
    assert plain[UPRIGHT] == [(103, 1.0, "als"), (102, 0.75, "als"), (101, 0.5, "als"), (104, 0.5, "als")]


def test_users_with_zero_factors_get_popular_products(plain: Lists) -> None:
    assert plain[ZEROS] == [
        (106, 1.0, "segment_popular"),  # both users of B
        (101, 0.5, "segment_popular"),
        (104, 0.5, "segment_popular"),
        (103, THIRD, "popular"),
    ]


def test_a_user_without_factors_gets_popular_products_of_the_segment_then_of_the_shop(plain: Lists) -> None:
    assert plain[NO_FACTORS] == [
        (101, 0.5, "segment_popular"),
        (103, 0.5, "segment_popular"),
        (106, 0.5, "popular"),  # 2/3 of all users, but no higher than the score before it
        (104, THIRD, "popular"),
    ]


def test_a_user_who_is_not_in_the_index_gets_popular_products_of_the_segment(plain: Lists) -> None:
    assert plain[NOT_IN_INDEX] == plain[ZEROS]


def test_a_user_without_a_segment_gets_popular_products_of_the_shop(plain: Lists) -> None:
    assert plain[NO_SEGMENT] == [
        (101, TWO_THIRDS, "popular"),
        (106, TWO_THIRDS, "popular"),
        (103, THIRD, "popular"),
        (104, THIRD, "popular"),
    ]


def test_purchases_are_left_out_by_default_and_short_lists_are_filled(default: Lists) -> None:
    assert default[SERVED] == [  # bought 101; 103 was only looked at
        (104, 1.0, "als"),
        (102, 0.625, "als"),
        (103, 0.25, "als"),
        (106, 0.25, "popular"),  # 2/3, capped
        (105, 0.0, "popular"),  # nobody touched it
    ]
    assert default[UPRIGHT] == [  # bought 104
        (103, 1.0, "als"),
        (102, 0.75, "als"),
        (101, 0.5, "als"),
        (106, 0.5, "segment_popular"),  # 1, capped
        (105, 0.0, "popular"),
    ]
    assert {user: len(entries) for user, entries in default.items()} == {
        SERVED: 5,
        ZEROS: 6,
        NO_FACTORS: 6,
        UPRIGHT: 5,
        NOT_IN_INDEX: 6,
        NO_SEGMENT: 6,
    }


def test_seen_products_are_left_out_with_exclude_seen(shop: Shop) -> None:
    recommended = shop.recommend(Exclude.seen)
    assert [product for product, _, _ in recommended[SERVED]] == [104, 102, 106, 105]  # not 101, 103
    assert [product for product, _, _ in recommended[UPRIGHT]] == [103, 102, 101, 105]  # not 106, 104
    assert recommended[ZEROS] == [  # not 106, 101
        (104, 0.5, "segment_popular"),
        (103, THIRD, "popular"),
        (102, 0.0, "popular"),
        (105, 0.0, "popular"),
    ]


def test_the_blend_without_weights_lists_latest_products_then_neighbours_then_popular_ones(blended: Lists) -> None:
    # Bought 101 (rating 6) and looked at 103: 106 gets 6 · 1/2, 102 6 · 1/4 + 1/2, 2/3 of it.
    assert blended[SERVED] == [
        (103, 1.0, "latest"),
        (106, 0.5, "neighbours"),
        (102, THIRD, "recent_neighbours"),  # second to neighbours, but first to those of the latest product
        (104, THIRD, "popular"),
        (105, 0.0, "popular"),
    ]


def test_the_blend_gives_users_without_a_history_popular_products(blended: Lists, default: Lists) -> None:
    # NOT_IN_INDEX is a user who did nothing but remove from the cart, NO_FACTORS one whom interaction_data lacks.
    for user in (NOT_IN_INDEX, NO_FACTORS, NO_SEGMENT):
        assert blended[user] == default[user]
        assert {source for *_, source in blended[user]} <= {"segment_popular", "popular"}


def test_without_user_factors_lists_are_popular_and_a_user_who_bought_everything_has_none(spark: SparkSession) -> None:
    shop = Shop(spark)
    shop.model = als_model({}, ITEM_FACTORS)
    shop.interactions = interactions_frame(
        spark, [(0, number, 1) for number in PRODUCT_IDX.values()] + [(3, 1, 0), (3, 5, 0)]
    )
    recommended = shop.recommend(k=2)
    assert SERVED not in recommended
    assert recommended[UPRIGHT] == [(101, 0.5, "segment_popular"), (106, 0.5, "segment_popular")]
    assert recommended[NO_SEGMENT] == [(101, 1.0, "popular"), (106, 1.0, "popular")]


def test_sparks_workers_make_the_same_lists(monkeypatch: pytest.MonkeyPatch, shop: Shop, blended: Lists) -> None:
    monkeypatch.setattr("ecommerce_assets.recommendation.recommend.PAIRS_IN_PROCESS", 0)
    assert lists(shop.rows(blend=Blend())) == blended


def test_text_ids(spark: SparkSession) -> None:
    shop = Shop(spark)
    shop.users = shop.users.withColumn("user_id", F.concat(F.lit("u"), "user_id"))
    shop.user_index = shop.user_index.withColumn("user_id", F.concat(F.lit("u"), "user_id"))
    # As text p11 < p2 < p3, which breaks the tie between the products that were 101 and 104.
    names = {"p3": 1, "p2": 3, "p4": 4, "p11": 2, "p5": 0, "p6": 5}
    shop.product_index = index_frame(spark, "product", names, "string")
    shop.categories = shop.product_index.selectExpr("product_id", "1 as category_id", "'toys' as category")
    columns = "product_id string, rank int, neighbour_id string, similarity double"
    shop.neighbours = spark.createDataFrame([("p3", 1, "p6", 0.5)], columns)
    rows, types = RECOMMENDATIONS.conform_rows(shop.rows(Exclude.none, 3))
    assert types == {c.name: c.type for c in RECOMMENDATIONS.with_id_type("string").columns}
    recommended = lists(rows)
    assert recommended[f"u{SERVED}"] == [("p11", 1.0, "als"), ("p3", 1.0, "als"), ("p2", 0.625, "als")]
    assert recommended[f"u{NO_SEGMENT}"] == [
        ("p3", TWO_THIRDS, "popular"),
        ("p6", TWO_THIRDS, "popular"),
        ("p11", THIRD, "popular"),
    ]


def test_the_order_of_rows_does_not_change_the_lists(spark: SparkSession, default: Lists) -> None:
    shop = Shop(spark)
    shop.users = shop.users.orderBy(F.desc("user_id")).repartition(3)
    shop.product_index = shop.product_index.orderBy("product_idx")
    shop.interactions = shop.interactions.orderBy(F.desc("product_idx"))
    assert shop.recommend() == default


def test_each_product_that_is_shown_counts_once(spark: SparkSession, plain_rows: pa.Table, plain: Lists) -> None:
    frame = spark.createDataFrame(plain_rows)
    [row] = products_shown(frame, CheckContext(Stats()), lambda _: frame).collect()
    products = {product for entries in plain.values() for product, _, _ in entries}
    assert row["products_shown"] == len(products)

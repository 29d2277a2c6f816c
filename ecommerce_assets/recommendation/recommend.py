"""recommendations: the top 10 of every user, ranked by the blend or by ALS, completed with what is popular.

`recommend` is the entry point; how the lists of a batch of users are made is in lists.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, IntegerType, StringType, StructField, StructType

from ecommerce_assets.recommendation.als import choose_engine
from ecommerce_assets.recommendation.als_model import AlsModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import (
    categories_of,
    factors_of,
    histories,
    histories_in_process,
    item_factors,
    neighbours_of,
    stats_by_spark,
    stats_in_process,
    users_of,
)
from ecommerce_assets.recommendation.interactions import (
    EVENTS,
    LAST,
    PURCHASED,
    collect_pairs,
    latest_interaction,
    latest_of_pairs,
)
from ecommerce_assets.recommendation.list_rules import ELIGIBILITY, ListRules, flags_of, with_catalog
from ecommerce_assets.recommendation.lists import SOURCES, ListMaker
from ecommerce_assets.recommendation.parts import PAIRS_IN_PROCESS, by_threads, parts_of
from ecommerce_assets.recommendation.products import INDEXED, Products, products_of
from ecommerce_assets.recommendation.reasons import reasons
from ecommerce_assets.recommendation.recommenders.base import ProductStats, Training
from ecommerce_assets.spark.column_lineage import made_from
from ecommerce_assets.spark.connect import frame_of, has_workers, send_to_workers
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.stored_table import StoredTable

if TYPE_CHECKING:  # executors import this module and need not have what storage needs
    from ecommerce_assets.storage.checks import CheckContext, Read

SCORED_BY_MODEL = ("als_model.userFactors.features", "als_model.itemFactors.id", "als_model.itemFactors.features")
"""What the lists have of the model, which Spark does not read where they are made in this process."""

HAS_SEGMENT = pc.field("user_idx").is_valid() & pc.field("segment").is_valid()
"""Which rows of `numbered` count for what is popular in a segment."""

RECOMMENDATIONS = TableSpec.of(
    ColumnSpec("user_id", "id", "The user.", key=True),
    ColumnSpec("rank", "int", "1 is the best.", key=True),
    ColumnSpec("product_id", "id", "The product recommended.", nullable=False),
    ColumnSpec(
        "score",
        "double",
        "ranker blend: predicted probability that the user interacts with the product, 0 to 1; ranker als: predicted "
        "preference, mostly 0 to 1, but not bounded (it can exceed 2); popular products: share of users who "
        "interacted, at most the score before it in the list.",
        nullable=False,
    ),
    ColumnSpec(
        "source",
        "string",
        f"The recommender that ranked the product highest: {', '.join(SOURCES)}. Lists are completed from "
        "segment_popular, then popular.",
        nullable=False,
    ),
    ColumnSpec(
        "because_product_id",
        "id",
        "The product of the user's history that contributed most to this entry: 'because you viewed ...'; null if no "
        "product did, such as for popular or pinned products.",
    ),
)


def products_shown(recommendations: DataFrame, _: CheckContext, __: Read) -> DataFrame:
    """One row: `products_shown`, how many products are recommended to anyone."""
    return recommendations.agg(F.count_distinct("product_id").alias("products_shown"))


def recommend(
    users: StoredTable,
    user_index: StoredTable,
    product_index: StoredTable,
    interactions: StoredTable,
    model: AlsModel,
    item_neighbours: StoredTable,
    product_features: StoredTable,
    blend: Blend | None = None,
    exclude: Exclude = Exclude.purchased,
    k: int = 10,
    product_eligibility: StoredTable | None = None,
) -> DataFrame:
    """The top k of every user.

    Parameters
    ----------
    users
        `user_id`, `segment` (null: none); one row per user.
    user_index, product_index, interactions
        The versions that the model was trained with.
    item_neighbours
        `product_id`, `neighbour_id`, `similarity`, `rank`.
    product_features
        `product_id`, `category_id`, `category`.
    blend
        What ranks the candidates; None: ALS alone.
    exclude
        `purchased`, `seen` or `none`.
    k
        min(k, eligible products) rows come out per user.
    product_eligibility
        `ELIGIBILITY`, made with the rules for lists; None: every product of the index is eligible.

    Returns
    -------
    DataFrame
        The columns of `RECOMMENDATIONS`. Scores do not rise with rank. Ties are broken by product_id; popular products
        that complete a list are in their own order, also where their scores are capped.

    Raises
    ------
    ValueError
        Where the model was not trained with this index of products.
    """
    spark, products = users.frame.sparkSession, products_of(product_index.to_arrow(*INDEXED))
    eligibility = None if product_eligibility is None else product_eligibility.to_arrow(*ELIGIBILITY)
    if eligibility is not None:
        products = with_catalog(products, eligibility)
    known = categories_of(product_features)
    columns = (
        users.frame.select("user_id", "segment")
        .join(user_index.frame.select("user_id", "user_idx"), "user_id", "left")
        .join(histories(interactions.frame), "user_idx", "left")
    )
    asked: DataFrame | pa.Table
    is_local = choose_engine(interactions, AlsParameters()).engine == Engine.local
    if is_local and (interactions.rows <= PAIRS_IN_PROCESS or not has_workers(spark)):
        pairs, asked = collect_pairs(interactions, EVENTS, PURCHASED, LAST), numbered(users, user_index)
        stats = stats_in_process(pairs, asked.filter(HAS_SEGMENT), products, known)
        reference = latest_of_pairs(pairs)
        asked = _with_past(asked, pairs, model)
    else:
        with_segment = columns.where("user_idx is not null and segment is not null").select("user_idx", "segment")
        stats = stats_by_spark(interactions.frame, with_segment, products, known)
        reference = latest_interaction(interactions.frame)
        user_factors = model.user_frame(spark).withColumnRenamed("id", "user_idx")
        asked = columns.join(user_factors, "user_idx", "left").select("user_id", "segment", "features", "history")
    decided_with = {} if product_eligibility is None else product_eligibility.parameters
    maker = list_maker(stats, products, item_neighbours, model, eligibility, decided_with)
    task = _Task(products, maker, blend, reference, Exclude(exclude), k)
    types = (users.frame.schema["user_id"].dataType, product_index.frame.schema["product_id"].dataType)
    lists = task.run(asked, spark, _schema(*types))
    scored_by: list[tuple[DataFrame, str] | str] = [(columns, "segment"), (columns, "history"), *SCORED_BY_MODEL]
    scored_by += [(interactions.frame, "user_idx"), (interactions.frame, "product_idx")]  # popularity
    scored_by += [(item_neighbours.frame, name) for name in ("product_id", "neighbour_id", "similarity")]
    scored_by += [(product_features.frame, name) for name in ("product_id", "category_id", "category")]
    if product_eligibility is not None:
        scored_by += [(product_eligibility.frame, name) for name in ELIGIBILITY]
    origins = dict.fromkeys(("rank", "score", "source"), scored_by)
    listed: list[tuple[DataFrame, str] | str] = [(product_index.frame, "product_id"), *scored_by]
    return made_from(
        lists, {"user_id": [(columns, "user_id")], "product_id": listed, "because_product_id": listed, **origins}
    )


def list_maker(
    stats: ProductStats,
    products: Products,
    item_neighbours: StoredTable,
    model: AlsModel,
    eligibility: pa.Table | None,
    parameters: Mapping[str, Any],
) -> ListMaker:
    """Returns the recommenders, fitted, with the shop's rules.

    Parameters
    ----------
    stats, products
        The p products and their stats.
    item_neighbours, model
        As in `recommend`.
    eligibility, parameters
        `ELIGIBILITY` of product_eligibility, and what that version was made with; None: every product is eligible.

    Raises
    ------
    ValueError
        If the model was not trained with the index of these products.
    """
    from ecommerce_assets.recommendation.product_rules import rules_of

    neighbours, factors = neighbours_of(item_neighbours, products), item_factors(model.products, products)
    if eligibility is None:
        return ListMaker.fit(Training(stats, neighbours, factors))
    training = Training(stats, neighbours, factors, flags_of(eligibility, "eligible", products))
    return ListMaker.fit(training, ListRules.of(rules_of(parameters), eligibility, products, stats.users == 0))


@dataclass(frozen=True)
class _Task:
    """All that the lists of users are made with."""

    products: Products
    maker: ListMaker
    blend: Blend | None
    reference: int
    exclude: Exclude
    k: int

    def rows(self, parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of the users of some parts."""
        rank = self.maker.training.item_factors.shape[1]
        for part in parts:
            users = users_of(part, self.products, rank, self.reference, self.exclude)
            lists = self.maker.lists(users, self.k, self.blend)
            because = reasons(self.maker, users, lists)
            yield lists.as_rows(part.column("user_id"), self.products.ids, because)

    def run(self, users: DataFrame | pa.Table, spark: SparkSession, schema: StructType) -> DataFrame:
        """The rows of all users: made by threads of this process, or by Spark's workers where Spark has the users."""
        if isinstance(users, pa.Table):
            return frame_of(spark, by_threads(users, self.rows), schema)
        shared = send_to_workers(spark, self)

        def batches(incoming: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return shared.value.rows(chain.from_iterable(map(parts_of, incoming)))

        return users.mapInArrow(batches, schema)


def numbered(users: StoredTable, user_index: StoredTable) -> pa.Table:
    """`user_id`, `segment`, `user_idx` (null: not in the index)."""
    asked, index = users.to_arrow("user_id", "segment"), user_index.to_arrow("user_id", "user_idx").combine_chunks()
    place = pc.index_in(asked.column("user_id"), value_set=index.column("user_id").combine_chunks())
    return asked.append_column("user_idx", index.column("user_idx").take(place))


def _with_past(users: pa.Table, pairs: pa.Table, model: AlsModel) -> pa.Table:
    """The users with `features` and `history`."""
    numbers, factors = users.column("user_idx").combine_chunks(), model.users
    features = factors_of(numbers, pa.array(factors.indices), factors.vectors)
    return users.append_column("features", features).append_column("history", histories_in_process(pairs, numbers))


def _schema(user_type: DataType, product_type: DataType) -> StructType:
    return StructType(
        [
            StructField("user_id", user_type),
            StructField("rank", IntegerType()),
            StructField("product_id", product_type),
            StructField("score", DoubleType()),
            StructField("source", StringType()),
            StructField("because_product_id", product_type),
        ]
    )

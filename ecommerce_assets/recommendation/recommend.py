"""recommendations: the top k products of every user. `recommend` is the entry point.

lists.py makes the lists of a batch of users.
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

from ecommerce_assets.recommendation.als import choose_engine
from ecommerce_assets.recommendation.als_model import AlsModel
from ecommerce_assets.recommendation.als_parameters import AlsParameters
from ecommerce_assets.recommendation.batches import PAIRS_IN_PROCESS, map_in_threads, split_batch
from ecommerce_assets.recommendation.blend import Blend
from ecommerce_assets.recommendation.exclude import Exclude
from ecommerce_assets.recommendation.fitting import (
    categories_of,
    histories,
    histories_in_process,
    item_factors,
    neighbours_of,
    stats_by_spark,
    stats_in_process,
    users_of,
    with_features,
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
from ecommerce_assets.recommendation.products import INDEXED, Products, products_of
from ecommerce_assets.recommendation.reasons import reasons
from ecommerce_assets.recommendation.recommenders.base import ProductStats, Training
from ecommerce_assets.spark.column_lineage import Origins
from ecommerce_assets.spark.connect import has_workers, send_to_workers
from ecommerce_assets.spark.engine import Engine
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec
from ecommerce_assets.storage.stored_table import StoredTable

if TYPE_CHECKING:  # executors import this module and need not have what storage needs
    from ecommerce_assets.storage.checks import CheckContext, Read

MODEL_LINEAGE = ("als_model.userFactors.features", "als_model.itemFactors.id", "als_model.itemFactors.features")
"""Columns of als_model that the lists are made from, for the column lineage."""

HAS_SEGMENT = pc.field("user_idx").is_valid() & pc.field("segment").is_valid()
"""Filters the rows of `with_user_idx` that count for the popularity in a segment."""

RECOMMENDATIONS = TableSpec.of(
    ColumnSpec("user_id", "id", "The user.", key=True),
    ColumnSpec("rank", "int", "1 is the best.", key=True),
    ColumnSpec("product_id", "id", "The recommended product.", nullable=False),
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
    """Returns one row: `products_shown`, the number of products that are recommended to at least one user."""
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
) -> tuple[DataFrame | pa.Table, Origins]:
    """Returns the top k products of every user.

    Parameters
    ----------
    users
        `user_id`, `segment` (null: none); one row per user.
    user_index, product_index, interactions
        The versions that the model was trained with.
    model
        The ALS model.
    item_neighbours
        `product_id`, `neighbour_id`, `similarity`, `rank`.
    product_features
        `product_id`, `category_id`, `category`.
    blend
        Ranks the candidates; None: ALS alone.
    exclude
        Which products of the history are left out.
    k
        Length of each list; shorter if fewer products are eligible.
    product_eligibility
        `ELIGIBILITY`, and the rules for lists in its parameters; None: every product of the index is eligible.

    Returns
    -------
    DataFrame or pyarrow.Table
        The columns of `RECOMMENDATIONS`; an Arrow table if this process makes the lists. Scores do not rise with rank.
        Ties are in the order of product_id. Popular products that complete a list stay in the order of their
        popularity, even if their scores are capped.
    Origins
        The sources of the columns.

    Raises
    ------
    ValueError
        If the model was not trained with this product_index.
    """
    spark, products = users.frame.sparkSession, products_of(product_index.to_arrow(*INDEXED))
    eligibility = None if product_eligibility is None else product_eligibility.to_arrow(*ELIGIBILITY)
    if eligibility is not None:
        products = with_catalog(products, eligibility)
    categories = categories_of(product_features)
    with_histories = (
        users.frame.select("user_id", "segment")
        .join(user_index.frame.select("user_id", "user_idx"), "user_id", "left")
        .join(histories(interactions.frame), "user_idx", "left")
    )
    batch_users: DataFrame | pa.Table
    is_local = choose_engine(interactions, AlsParameters()).engine == Engine.local
    if is_local and (interactions.rows <= PAIRS_IN_PROCESS or not has_workers(spark)):
        pairs, indexed = collect_pairs(interactions, EVENTS, PURCHASED, LAST), with_user_idx(users, user_index)
        stats = stats_in_process(pairs, indexed.filter(HAS_SEGMENT), products, categories)
        reference = latest_of_pairs(pairs)
        history = histories_in_process(pairs, indexed.column("user_idx").combine_chunks())
        batch_users = with_features(indexed, model).append_column("history", history)
    else:
        segments = with_histories.where("user_idx is not null and segment is not null").select("user_idx", "segment")
        stats = stats_by_spark(interactions.frame, segments, products, categories)
        reference = latest_interaction(interactions.frame)
        batch_users = with_features(with_histories, model).select("user_id", "segment", "features", "history")
    rules = {} if product_eligibility is None else product_eligibility.parameters
    maker = list_maker(stats, products, item_neighbours, model, eligibility, rules)
    task = _Task(products, maker, blend, reference, Exclude(exclude), k)
    id_type = product_index.frame.schema["product_id"].dataType.simpleString()
    lists = task.run(batch_users, spark, RECOMMENDATIONS.with_id_type(id_type).ddl)
    sources: list[tuple[DataFrame, str] | str] = [(with_histories, "segment"), (with_histories, "history")]
    sources += MODEL_LINEAGE
    sources += [(interactions.frame, "user_idx"), (interactions.frame, "product_idx")]  # popularity
    sources += [(item_neighbours.frame, name) for name in ("product_id", "neighbour_id", "similarity")]
    sources += [(product_features.frame, name) for name in ("product_id", "category_id", "category")]
    if product_eligibility is not None:
        sources += [(product_eligibility.frame, name) for name in ELIGIBILITY]
    with_ids: list[tuple[DataFrame, str] | str] = [(product_index.frame, "product_id"), *sources]
    return lists, {
        "user_id": [(with_histories, "user_id")],
        **dict.fromkeys(("product_id", "because_product_id"), with_ids),
        **dict.fromkeys(("rank", "score", "source"), sources),
    }


def list_maker(
    stats: ProductStats,
    products: Products,
    item_neighbours: StoredTable,
    model: AlsModel,
    eligibility: pa.Table | None,
    parameters: Mapping[str, Any],
) -> ListMaker:
    """Returns the fitted recommenders with the shop's rules.

    Parameters
    ----------
    stats, products
        The p products and their stats.
    item_neighbours, model
        As in `recommend`.
    eligibility
        `ELIGIBILITY` of product_eligibility; None: every product is eligible.
    parameters
        The parameters of that version of product_eligibility.

    Raises
    ------
    ValueError
        If the model was not trained with the index of these products.
    """
    from ecommerce_assets.recommendation.product_rules import ProductRules

    neighbours, factors = neighbours_of(item_neighbours, products), item_factors(model.products, products)
    if eligibility is None:
        return ListMaker.fit(Training(stats, neighbours, factors))
    training = Training(stats, neighbours, factors, flags_of(eligibility, "eligible", products))
    rules = ProductRules.model_validate(parameters.get("rules", {}))
    return ListMaker.fit(training, ListRules.of(rules, eligibility, products, stats.users == 0))


@dataclass(frozen=True)
class _Task:
    """What is sent to the threads or workers that make lists."""

    products: Products
    maker: ListMaker
    blend: Blend | None
    reference: int
    exclude: Exclude
    k: int

    def rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of `RECOMMENDATIONS` for batches of users."""
        rank = self.maker.training.item_factors.shape[1]
        for batch in batches:
            users = users_of(batch, self.products, rank, self.reference, self.exclude)
            lists = self.maker.lists(users, self.k, self.blend)
            because = reasons(self.maker, users, lists)
            yield lists.as_rows(batch.column("user_id"), self.products.ids, because)

    def run(self, users: DataFrame | pa.Table, spark: SparkSession, schema: str) -> DataFrame | pa.Table:
        """Returns the rows of all users; threads of this process make those of a table, Spark's workers the others."""
        if isinstance(users, pa.Table):
            return pa.Table.from_batches(map_in_threads(users, self.rows))
        shared = send_to_workers(spark, self)

        def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return shared.value.rows(chain.from_iterable(map(split_batch, batches)))

        return users.mapInArrow(rows, schema)


def with_user_idx(users: StoredTable, user_index: StoredTable) -> pa.Table:
    """Returns `user_id`, `segment` and `user_idx` of the users; null if the index does not have the user."""
    rows, index = users.to_arrow("user_id", "segment"), user_index.to_arrow("user_id", "user_idx").combine_chunks()
    place = pc.index_in(rows.column("user_id"), value_set=index.column("user_id").combine_chunks())
    return rows.append_column("user_idx", index.column("user_idx").take(place))

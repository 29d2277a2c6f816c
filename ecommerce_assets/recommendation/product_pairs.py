"""product_pairs: for each product, the products that are most often bought, or viewed, in the same basket.

`product_pairs` is the entry point.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import fingerprint
from ecommerce_assets.recommendation.interactions import MICROSECONDS_PER_DAY
from ecommerce_assets.spark.connect import reusable
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

BOUGHT, VIEWED = "bought", "viewed"
KINDS = {"purchase": BOUGHT, "view": VIEWED}
"""Kind of basket by event type; events of other types are ignored."""

BASKET_CAP = 50
"""Maximum number of products of a basket that count, latest first: pairs grow with the square of the number."""

PRODUCT_PAIRS = TableSpec.of(
    ColumnSpec("product_id", "id", "The product.", key=True),
    ColumnSpec(
        "kind",
        "string",
        f"{BOUGHT}: both were bought in the same baskets; {VIEWED}: both were viewed in the same baskets.",
        key=True,
    ),
    ColumnSpec("rank", "int", "1 is the highest confidence.", key=True),
    ColumnSpec("pair_product_id", "id", "The other product in the same baskets.", nullable=False),
    ColumnSpec("baskets", "bigint", "Number of baskets with both products.", nullable=False),
    ColumnSpec("support", "double", "Share of all baskets of the kind that have both products.", nullable=False),
    ColumnSpec(
        "confidence", "double", "Share of the baskets with product_id that also have pair_product_id.", nullable=False
    ),
    ColumnSpec(
        "lift",
        "double",
        "confidence divided by the share of all baskets that have pair_product_id; above 1: more often than by chance.",
        nullable=False,
    ),
)

_BASKET = ("kind", "user_id", "session", "number")


@dataclass(frozen=True)
class PairParameters:
    """How pairs are counted and listed.

    Attributes
    ----------
    k
        Maximum length of each list.
    window_days
        Maximum gap in days between events of one basket, for events without a session.
    min_baskets
        Minimum number of baskets with both products of a pair.
    """

    k: int = 10
    window_days: int = 1
    min_baskets: int = 2


def product_pairs(events: DataFrame, parameters: PairParameters, eligible: DataFrame | None = None) -> DataFrame:
    """Returns for each product and kind the k products with the highest confidence, ties by lift, then pair_product_id.

    A basket has the distinct products that one user bought (viewed) in one session; two users with the same
    `user_session` have separate baskets. Purchases (views) without a session are split by time: a gap of more than
    `window_days` starts a new basket of the user.

    The latest 50 products of each basket count (`BASKET_CAP`), ties by product_id, so a basket has at most 1,225
    pairs. Baskets of one product have no pairs, but count for support and lift.

    Support, confidence and lift are those of association rules (Agrawal et al. 1993; Brin et al. 1997).

    Parameters
    ----------
    events
        `event_time`, `event_type`, `product_id`, `user_id`, `user_session`.
    eligible
        `product_id` of the products that may be pair_product_id; None: all. Other products are removed before the
        lists are cut to k, but count in baskets.

    Returns
    -------
    DataFrame
        The columns of `PRODUCT_PAIRS`; products without a pair have no rows.
    """
    counted = reusable(_count(_baskets(events, parameters.window_days)))
    # Small and used for both sides of a pair: Spark broadcasts it once.
    products = F.broadcast(
        counted.where(F.col("baskets_begun").isNotNull()).select(
            "kind",
            F.col("first").alias("product_id"),
            F.col("baskets").alias("of_product"),
            F.sum("baskets_begun").over(Window.partitionBy("kind")).alias("of_kind"),
        )
    )
    sides = [
        F.struct(F.col(one).alias("product_id"), F.col(other).alias("pair_product_id"))
        for one, other in (("first", "second"), ("second", "first"))
    ]
    pairs = counted.where(F.col("baskets_begun").isNull() & (F.col("baskets") >= parameters.min_baskets)).select(
        "kind", "baskets", F.inline(F.array(*sides))
    )
    if eligible is not None:
        listed = eligible.select(F.col("product_id").alias("pair_product_id"))
        pairs = pairs.join(F.broadcast(listed), "pair_product_id", "left_semi")
    confidence = F.col("baskets") / F.col("one.of_product")
    best = Window.partitionBy("product_id", "kind").orderBy(F.desc("baskets"), F.desc("lift"), "pair_product_id")
    return (
        pairs.alias("pair")
        .join(products.alias("one"), F.expr("one.kind = pair.kind and one.product_id = pair.product_id"))
        .join(products.alias("other"), F.expr("other.kind = pair.kind and other.product_id = pair.pair_product_id"))
        .select(
            "pair.*",
            (F.col("baskets") / F.col("one.of_kind")).alias("support"),
            confidence.alias("confidence"),
            (confidence / (F.col("other.of_product") / F.col("other.of_kind"))).alias("lift"),
        )
        .withColumn("rank", F.row_number().over(best))
        .where(F.col("rank") <= parameters.k)
        .select(*PRODUCT_PAIRS.names)
    )


def _baskets(events: DataFrame, window_days: int) -> DataFrame:
    """Returns one row per basket: `kind`, and `products`, sorted, at most `BASKET_CAP`.

    One shuffle by kind, user and session is enough: all later windows and groups contain these columns.
    """
    kind = F.lit(None).cast("string")
    for event_type, name in KINDS.items():
        kind = F.when(F.col("event_type") == event_type, name).otherwise(kind)
    chosen = events.where(F.col("event_type").isin(*KINDS)).select(
        kind.alias("kind"),
        "user_id",
        fingerprint("user_session").alias("session"),
        "product_id",
        F.unix_micros("event_time").alias("at"),
    )
    in_time = Window.partitionBy("kind", "user_id", "session").orderBy("at")
    late = F.col("at") - F.lag("at").over(in_time) > window_days * MICROSECONDS_PER_DAY
    split = F.col("session").isNull() & late
    latest = Window.partitionBy(*_BASKET).orderBy(F.desc("at"), "product_id")
    return (
        chosen.withColumn("splits", F.when(split, 1).otherwise(0))
        .withColumn("number", F.sum("splits").over(in_time))
        .groupBy(*_BASKET, "product_id")
        .agg(F.max("at").alias("at"))
        .withColumn("place", F.row_number().over(latest))
        .where(F.col("place") <= BASKET_CAP)
        .groupBy(*_BASKET)
        .agg(F.sort_array(F.collect_list("product_id")).alias("products"))
        .select("kind", "products")
    )


def _count(baskets: DataFrame) -> DataFrame:
    """Returns the number of `baskets` of each pair of products, `first` < `second`, and of each single product.

    A row with `first` = `second` is a single product. Its `baskets_begun` is the number of baskets whose first product
    it is, so that their sum is the number of all baskets; it is null for pairs. One pass over the baskets is enough.
    """
    alone = F.col("first") == F.col("second")
    begun = F.when(alone, F.when(F.col("position") == 0, 1).otherwise(0))
    return (
        baskets.select("kind", "products", F.posexplode("products").alias("position", "first"))
        .select(
            "kind",
            "position",
            "first",
            F.explode(F.expr("slice(products, position + 1, size(products))")).alias("second"),
        )
        .groupBy("kind", "first", "second")
        .agg(F.count("*").alias("baskets"), F.sum(begun).alias("baskets_begun"))
    )

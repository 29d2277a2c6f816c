"""product_pairs: for each product the products that are most often bought, or viewed, in the same basket.

`product_pairs` is the entry point.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ecommerce_assets.features.expressions import SECONDS_PER_DAY, fingerprint
from ecommerce_assets.storage.columns import ColumnSpec, TableSpec

BOUGHT, VIEWED = "bought", "viewed"
KINDS = {"purchase": BOUGHT, "view": VIEWED}
"""The kind of basket that an event of a type belongs to; other types belong to none."""

BASKET_CAP = 50
"""Products of a basket that count, the latest ones: the number of pairs grows with the square of it."""

PRODUCT_PAIRS = TableSpec.of(
    ColumnSpec("product_id", "id", "The product.", key=True),
    ColumnSpec(
        "kind",
        "string",
        f"{BOUGHT}: both were bought in the same baskets; {VIEWED}: both were viewed in them.",
        key=True,
    ),
    ColumnSpec("rank", "int", "1 has the highest confidence.", key=True),
    ColumnSpec("pair_product_id", "id", "The product in the same baskets.", nullable=False),
    ColumnSpec("baskets", "bigint", "Number of baskets with both.", nullable=False),
    ColumnSpec("support", "double", "Share of all baskets of the kind that have both.", nullable=False),
    ColumnSpec(
        "confidence", "double", "Share of the baskets with product_id that have pair_product_id too.", nullable=False
    ),
    ColumnSpec(
        "lift",
        "double",
        "confidence divided by the share of all baskets that have pair_product_id; above 1: more often than by chance.",
        nullable=False,
    ),
)

_BASKET = ("kind", "user_id", "session", "number")
_MICROSECONDS_PER_DAY = SECONDS_PER_DAY * 1_000_000


@dataclass(frozen=True)
class PairParameters:
    """How pairs are counted and listed.

    Attributes
    ----------
    k
        Length of each list.
    window_days
        Events without a session: a gap of more days than this ends a basket.
    min_baskets
        Fewest baskets with both products of a pair. A number and not a share: one basket may be chance in any shop.
    """

    k: int = 10
    window_days: int = 1
    min_baskets: int = 2


def product_pairs(events: DataFrame, parameters: PairParameters, eligible: DataFrame | None = None) -> DataFrame:
    """The k products with the highest confidence for each product and kind, ties by lift, then by pair_product_id.

    A basket of a kind has the distinct products that one user bought (viewed) in one session; two users with the same
    `user_session` have a basket each. Events without a session are split by time: a user's purchases (views) without a
    session are one basket until the next of them comes more than `window_days` later.

    Of each basket the latest 50 products count (`BASKET_CAP`), ties by product_id, so a basket makes 1,225 pairs at
    most. Baskets of one product make no pair and count for support and lift.

    Support, confidence and lift are those of association rules (Agrawal et al. 1993; Brin et al. 1997).

    Parameters
    ----------
    events
        `event_time`, `event_type`, `product_id`, `user_id`, `user_session`.
    eligible
        `product_id` of the products that may be listed as pair_product_id; None: all. It applies before the cut to k.
        Baskets are counted with all products.

    Returns
    -------
    DataFrame
        The columns of `PRODUCT_PAIRS`; products without a pair have no rows.
    """
    counted = _count(_baskets(events, parameters.window_days))
    # Small, and the same on both sides of a pair: Spark broadcasts it once.
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
    """One row per basket: `kind`, and `products`, in order and at most `BASKET_CAP`.

    The events meet once, by kind, user and session; whatever follows finds them in one task.
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
    late = F.col("at") - F.lag("at").over(in_time) > window_days * _MICROSECONDS_PER_DAY
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
    """`baskets` with each pair of products, `first` before `second`; a product paired with itself is the product alone.

    `baskets_begun` is null for pairs, and for a product the number of baskets that it is the first product of: their
    sum is the number of all baskets. So one pass over the baskets counts pairs, products and baskets.
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

"""The checks of recommendations that compare the lists with other tables: `LIST_CHECKS`. They share one query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecommerce_assets.recommendation.exclude import Exclude, is_excluded
from ecommerce_assets.storage.checks import Check, CheckContext, Outcome, Read

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SHORT, UNRANKED, REPEATS, UNKNOWN, RISING, EXCLUDED, INELIGIBLE, CROWDED = (
    f"{what}_lists"
    for what in ("short", "unranked", "repeating", "unknown", "rising", "excluded", "ineligible", "crowded")
)
"""Numbers of lists with each problem."""

WITHOUT_CHOICE = "owners_without_choice"
"""Number of users whose eligible products are all excluded, so that they have no list."""


def _products(read: Read) -> DataFrame:
    """Returns the products of the index and of the catalogue; products without product_idx get a negative number."""
    index = read("product_index").select("product_id", "product_idx")
    eligibility = read("product_eligibility").select("product_id", "category", "brand", "in_catalog", "eligible")
    return (
        index.join(eligibility, "product_id", "full")
        .where("product_idx is not null or in_catalog")
        .selectExpr(
            "product_id",
            "coalesce(product_idx, -1 - monotonically_increasing_id()) as number",
            "coalesce(eligible, false) as eligible",
            "nullif(category, 'unknown') as category",
            "nullif(brand, 'unknown') as brand",
        )
    )


def _limits(context: CheckContext) -> dict[str, int]:
    """Returns the maximum number of products with the same value in a list, by column."""
    rules = context.parameters["rules"]
    limits = {"category": rules["max_per_category"], "brand": rules["max_per_brand"]}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _excluded(context: CheckContext, read: Read) -> DataFrame | None:
    """Returns `user_id` and `excluded`, the numbers of eligible products that must not be in the list; None: none."""
    from pyspark.sql import functions as F

    exclude = Exclude(context.parameters["exclude"])
    if exclude == Exclude.none:
        return None
    number = F.col("product_idx").cast("bigint").alias("product_idx")
    pairs = read("interaction_data").where(is_excluded(exclude)).select("user_idx", number)
    if context.input_number("product_eligibility", "eligible") < context.input_rows("product_eligibility"):
        eligible = _products(read).where("eligible").selectExpr("number as product_idx")
        pairs = pairs.join(F.broadcast(eligible), "product_idx")
    by_number = pairs.groupBy("user_idx").agg(F.collect_set("product_idx").alias("excluded"))
    return by_number.join(read("user_index").select("user_id", "user_idx"), "user_idx").select("user_id", "excluded")


def _count_broken_lists(rows: DataFrame, context: CheckContext, read: Read) -> DataFrame:
    """Returns one row: the number of lists, and of lists with each problem."""
    from pyspark.sql import functions as F

    products, limits, k = _products(read), _limits(context), context.parameters["k"]
    numbers = F.broadcast(products.select("product_id", "number", "eligible", *limits))
    # Join numbers to the ids: null marks unknown products, and the shuffle gets smaller.
    entries = rows.select("user_id", "product_id", "rank", "score").join(numbers, "product_id", "left")
    lists = entries.groupBy("user_id").agg(
        F.array_sort(F.collect_list(F.struct("rank", "score", "number", "eligible", *limits))).alias("list"),
        F.count("number").alias("known"),
    )
    excluded = _excluded(context, read)
    if excluded is None:
        lists = lists.withColumn("excluded", F.lit(None).cast("array<bigint>"))
    else:
        lists = lists.join(excluded, "user_id", "left")
    crowded = [
        f"exists(array_distinct(list.{name}), v -> size(filter(list.{name}, w -> w = v)) > {limit})"
        for name, limit in limits.items()
    ]
    choice = "eligible_products - if(excluded is null, 0, size(excluded))"
    broken = {
        UNRANKED: "not list.rank <=> sequence(1, size(list))",
        # All unknown products of a list have the number null, which is one more distinct value.
        REPEATS: "size(array_distinct(list.number)) - if(known < size(list), 1, 0) < known",
        UNKNOWN: "known < size(list)",
        RISING: "list.score <> sort_array(list.score, false)",
        EXCLUDED: "coalesce(arrays_overlap(list.number, excluded), false)",
        INELIGIBLE: "array_contains(list.eligible, false)",
        CROWDED: " or ".join(crowded) or "false",
        SHORT: f"size(list) > {k}" if limits else f"size(list) <> least({k}, {choice})",
    }
    counts = [F.expr(f"count_if({condition})").alias(name) for name, condition in broken.items()]
    eligible_products = products.agg(F.count_if("eligible").alias("eligible_products"))
    counted = lists.crossJoin(eligible_products).agg(F.count("*").alias("lists"), *counts)
    if excluded is None:
        return counted
    without_choice = excluded.crossJoin(eligible_products).agg(
        F.count_if(F.expr("size(excluded) >= eligible_products")).alias(WITHOUT_CHOICE)
    )
    return counted.crossJoin(without_choice)


def _check(name: str, description: str, number: str, problem: str) -> Check:
    def test(context: CheckContext) -> Outcome:
        broken = context.number(number)
        count = f"{broken:,} of {context.number('lists'):,} lists {problem}"
        return Outcome(count if broken else "", checked=count)

    return Check(name, description, test, summary=_count_broken_lists)


LIST_CHECKS = (
    _check(
        "unique_key",
        "There is one row per user_id, rank, and ranks go from 1 without a gap.",
        UNRANKED,
        "have a rank twice or miss one",
    ),
    _check("no_repeats", "No list has a product_id twice.", REPEATS, "have a product_id twice"),
    _check(
        "known_products",
        "Every product_id is in product_index or in the catalogue.",
        UNKNOWN,
        "have a product that is in neither product_index nor the catalogue",
    ),
    _check(
        "eligible_products",
        "Every product_id is eligible according to product_eligibility.",
        INELIGIBLE,
        "have a product that is not eligible",
    ),
    _check(
        "within_limits",
        "No list has more products of one category or brand than the rules permit.",
        CROWDED,
        "have too many products of one category or brand",
    ),
    _check("sorted_by_score", "score does not rise with rank.", RISING, "have a score that rises with rank"),
    _check(
        "no_excluded_products",
        "No list has a product that `exclude` leaves out for its user.",
        EXCLUDED,
        "have a product that `exclude` leaves out",
    ),
    _check(
        "full_lists",
        "A list has k products, or all eligible ones if there are fewer; with limits per category or brand, at most k.",
        SHORT,
        "have too few or too many products",
    ),
)

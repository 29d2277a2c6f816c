"""The checks of the recommendation assets.

Those that all ranked lists share are in list_checks.py, those of the evaluation in evaluation_checks.py.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from ecommerce_assets.recommendation.blend import FEWEST_TRAINING_USERS
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION
from ecommerce_assets.recommendation.evaluation_checks import EVALUATION_CHECKS
from ecommerce_assets.recommendation.exclude import Exclude, is_excluded
from ecommerce_assets.recommendation.indices import PRODUCT_INDEX, USER_INDEX
from ecommerce_assets.recommendation.interactions import INTERACTION_DATA, MAX_RATING
from ecommerce_assets.recommendation.item_neighbours import ITEM_NEIGHBOURS, NEIGHBOURS
from ecommerce_assets.recommendation.list_checks import WITHOUT_CHOICE, Lists, list_checks
from ecommerce_assets.recommendation.lists import SOURCES, Ranker
from ecommerce_assets.recommendation.product_eligibility import PRODUCT_ELIGIBILITY, REASONS
from ecommerce_assets.recommendation.product_pairs import KINDS, PRODUCT_PAIRS
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS
from ecommerce_assets.recommendation.scores import USER_METRICS
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.storage.checks import (
    Check,
    CheckContext,
    Outcome,
    Read,
    counted,
    no_nulls,
    one_of,
    quoted,
    rule,
    unique_key,
)
from ecommerce_assets.storage.columns import TableSpec
from ecommerce_assets.storage.drift import distribution_stable, row_count_stable, shares_stable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LIFT = 2
FEWEST_ENTRIES = 100
"""Similar products with a category that say anything about how often it is the same."""

ROUNDING = 1e-5
"""Of the objective: what is computed in float32 may rise by so much where it has converged."""

CATALOG_LEFT = 0.5
"""The catalogue may be incomplete if it lists less than this share of the products of the previous version."""

CONVERGED = 0.01
"""Fall of the objective in the last iteration, from which on more iterations would fit better."""


def _dense(context: CheckContext) -> Outcome | str:
    rows, lowest, highest = context.rows, context.number("lowest"), context.number("highest")
    distinct = context.number("distinct_numbers")
    if not rows or (lowest == 0 and highest == rows - 1 and distinct == rows):
        return Outcome(checked=f"{rows:,} ids have the numbers from {lowest} to {highest:,}")
    return (
        f"{rows:,} ids have {distinct:,} different numbers from {lowest} to {highest:,}; there should be one number "
        f"for each id, from 0 to {rows - 1:,}"
    )


def _index_checks(table: TableSpec, column: str) -> tuple[Check, ...]:
    return (
        no_nulls(table),
        unique_key(table),
        row_count_stable(),
        Check(
            name="dense",
            description=f"{column} numbers the ids from 0 without gaps or repeats.",
            numbers={
                "lowest": f"min({column})",
                "highest": f"max({column})",
                # Exact and without a second distinct count: numbers from 0 to n - 1 without gaps have this sum.
                "distinct_numbers": f"if(sum({column}) = count(*) * (count(*) - 1) / 2, count(*), -1)",
            },
            test=_dense,
        ),
        Check(
            name="events_conserved",
            description="events add up to the accepted events that were read.",
            numbers={"events": "sum(events)"},
            test=_events_conserved,
        ),
    )


def _events_conserved(context: CheckContext) -> Outcome:
    read, counted = context.input_rows("cleaned_events"), context.number("events")
    counts = f"{read:,} events were read, and the index counts {counted:,}"
    return Outcome("" if read == counted else counts, checked=counts)


def _model_complete(context: CheckContext) -> Outcome:
    users, products = context.results["users"], context.results["products"]
    counts = f"the model has factors for {users:,} users and {products:,} products"
    return Outcome("" if users and products else counts, checked=counts)


def _factors_sound(context: CheckContext) -> Outcome:
    results = context.results
    wrong = {"a number that is not finite": results["vectors_not_finite"]}
    if context.parameters["nonnegative"]:
        wrong["a negative number"] = results["vectors_negative"]
    found = [f"{count:,} with {what}" for what, count in wrong.items() if count]
    factors = results["users"] + results["products"]
    return Outcome(
        f"of {factors:,} factors {' and '.join(found)}" if found else "",
        checked=f"{factors:,} factors, 0 with {' or '.join(wrong)}",
    )


def _objective_falls(context: CheckContext) -> Outcome:
    found = context.results.get("objective")
    if not found:
        return Outcome(checked="not known: MLlib does not report the objective")
    falls = [(before - after) / abs(before) for before, after in pairwise(found)]
    figures = {"first objective": round(found[0]), "last objective": round(found[-1]), "iterations": len(found)}
    if falls:
        figures["fall in the last iteration"] = f"{falls[-1]:.2%}"
    risen = [number for number, fall in enumerate(falls, start=2) if fall < -ROUNDING]
    if risen:
        return Outcome(f"it rises in iteration {', '.join(map(str, risen))}", figures)
    if falls and falls[-1] > CONVERGED:
        return Outcome(
            f"it still falls by {falls[-1]:.1%} in iteration {len(found)}, the last: more iterations would fit better",
            figures,
        )
    fall = f", by {falls[-1]:.2%} in the last iteration" if falls else ""
    return Outcome("", figures, f"it fell from {found[0]:,.0f} to {found[-1]:,.0f}{fall}")


def _interactions_conserved(context: CheckContext) -> Outcome | str:
    read, counted = context.input_number("cleaned_events", "interactions"), context.number("interactions")
    if read == counted:
        return Outcome(checked=f"{read:,.0f} views, carts and purchases were read, and the table counts {counted:,}")
    return (
        f"{read - counted:,.0f} of {read:,.0f} views, carts and purchases are left out: an index lacks the id of their "
        "user or product"
    )


def _numbers_known(context: CheckContext) -> Outcome | str:
    checked = []
    for name in ("user", "product"):
        highest, ids = context.number(f"highest_{name}_idx"), context.input_rows(f"{name}_index")
        if context.rows and highest >= ids:
            return f"{name}_idx goes up to {highest:,}, and {name}_index has {ids:,} numbers from 0"
        checked.append(f"{name}_idx goes up to {highest:,} of {ids - 1:,}")
    return Outcome(checked=", ".join(checked))


def _every_user_served(context: CheckContext) -> Outcome:
    users, served = context.input_rows("segmented_users"), context.number("users")
    sated = context.number(WITHOUT_CHOICE)
    counts = f"{served:,} of {users:,} users have recommendations, and {sated:,} may be shown no product"
    return Outcome("" if users - sated <= served <= users else counts, checked=counts)


def _weights_finite(context: CheckContext) -> Outcome:
    features = context.document["features"] or {}
    broken = [name for name, numbers in features.items() if not all(map(math.isfinite, numbers.values()))]
    return Outcome(
        f"not a finite number: {', '.join(broken)}" if broken else "",
        checked=f"the weights of {len(features)} features, all finite",
    )


def _enough_training_users(context: CheckContext) -> Outcome | str:
    users, ranker = context.document["training_users"], context.parameters["recommendations"]["ranker"]
    if ranker == Ranker.als:
        return Outcome(checked="the ranker is als, which needs no weights")
    if users >= FEWEST_TRAINING_USERS:
        return Outcome(checked=f"the weights were trained on {users:,} users")
    return (
        f"{users:,} users interacted with a candidate after the cutoff, and the weights need {FEWEST_TRAINING_USERS}: "
        "lists have the user's latest products, then neighbours"
    )


def _products(read: Read) -> DataFrame:
    """Returns the products of the index and of the catalogue; products without product_idx get a negative number."""
    indexed = read("product_index").select("product_id", "product_idx")
    decided = read("product_eligibility").select("product_id", "category", "brand", "in_catalog", "eligible")
    return (
        indexed.join(decided, "product_id", "full")
        .where("product_idx is not null or in_catalog")
        .selectExpr(
            "product_id as item",
            "coalesce(product_idx, -1 - monotonically_increasing_id()) as number",
            "coalesce(eligible, false) as eligible",
            "nullif(category, 'unknown') as category",
            "nullif(brand, 'unknown') as brand",
        )
    )


def _limits(context: CheckContext) -> dict[str, int]:
    rules = context.parameters["rules"]
    most = {"category": rules["max_per_category"], "brand": rules["max_per_brand"]}
    return {name: limit for name, limit in most.items() if limit is not None}


def _excluded(context: CheckContext, read: Read) -> DataFrame | None:
    """What each user must not be shown, from the interactions and the index that the lists were made from."""
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


def _categories(frame: DataFrame, _: CheckContext, __: Read) -> DataFrame:
    """Of the entries whose two products both have a category: how many agree, and how many would by chance, if each
    list were drawn from all products that have one."""
    from pyspark.sql import functions as F

    known = "{0} is not null and {0} <> 'unknown'"
    listed = frame.where(known.format("category"))
    products = listed.where("rank = 1").groupBy("category").agg(F.count("*").alias("products"))
    entries = (
        listed.where(known.format("similar_category"))
        .groupBy("category")
        .agg(F.count("*").alias("entries"), F.count_if(F.expr("category = similar_category")).alias("same"))
    )
    return products.join(entries, "category", "left").selectExpr(
        "sum(entries) as with_categories",
        "sum(same) as same_category",
        "sum(entries * (products - 1)) / greatest(sum(products) - 1, 1) as same_category_by_chance",
    )


def _same_category(context: CheckContext) -> Outcome:
    entries, same = context.number("with_categories"), context.number("same_category")
    by_chance = context.number("same_category_by_chance")
    if entries < FEWEST_ENTRIES:
        return Outcome(checked=f"nothing to compare: {entries:,} entries with two categories, {FEWEST_ENTRIES} needed")
    figures = {"same category": f"{same / entries:.1%}", "by chance": f"{by_chance / entries:.1%}"}
    compared = (
        f"{figures['same category']} of {entries:,} similar products are of the same category, and by chance it would "
        f"be {figures['by chance']}"
    )
    # Where nearly all products are of one category, chance alone finds it.
    if same >= min(LIFT * by_chance, (entries + by_chance) / 2):
        return Outcome(values=figures, checked=compared)
    return Outcome(f"{compared}: the lists may follow noise", figures)


def only_eligible(column: str) -> Check:
    """Returns the blocking check that every product of a column is eligible."""

    def summary(rows: DataFrame, _: CheckContext, read: Read) -> DataFrame:
        from pyspark.sql import functions as F

        eligible = read("product_eligibility").where("eligible").select(F.col("product_id").alias(column))
        return rows.join(eligible, column, "left_anti").agg(F.count("*").alias("not_eligible"))

    def test(context: CheckContext) -> Outcome:
        return counted(context, context.number("not_eligible"), f"have a {column} that is not eligible")

    description = f"Every {column} is eligible according to product_eligibility."
    return Check("eligible_products", description, test, summary=summary)


def _some_eligible(context: CheckContext) -> Outcome | str:
    eligible = context.number("eligible")
    if not context.rows or eligible:
        return Outcome(checked=f"{eligible:,} of {context.rows:,} products are eligible")
    reasons = ", ".join(f"{reason}: {context.number(reason):,}" for reason in REASONS if context.number(reason))
    return f"none of {context.rows:,} products is eligible ({reasons}): correct the catalogue or the rules"


def _pinned(rows: DataFrame, context: CheckContext, _: Read) -> DataFrame:
    from pyspark.sql import functions as F

    pinned = sorted({product for ids in context.parameters["rules"]["pinned"].values() for product in ids})
    return rows.agg(F.count_if(F.col("product_id").isin(pinned) & F.col("eligible")).alias("pinned_eligible"))


def _pinned_eligible(context: CheckContext) -> Outcome | str:
    pinned = {product for ids in context.parameters["rules"]["pinned"].values() for product in ids}
    missing = len(pinned) - context.number("pinned_eligible")
    if not missing:
        return Outcome(checked=f"{len(pinned):,} pinned products" if pinned else "no products are pinned")
    return (
        f"{missing:,} of {len(pinned):,} pinned products are unknown or not eligible: see their reason in "
        "product_eligibility, or remove them from rules.json"
    )


def _catalog_complete(context: CheckContext) -> Outcome:
    listed = context.number("in_catalog")
    previous = context.previous[0].stats.numbers.get("in_catalog") or 0 if context.previous else 0
    counts = f"the catalogue lists {listed:,} products, the previous one {previous:,}"
    if listed >= CATALOG_LEFT * previous:
        return Outcome(checked=counts if listed or previous else "there is no catalogue")
    return Outcome(f"{counts}: check that the file is complete")


PRODUCT_ELIGIBILITY_CHECKS = (
    no_nulls(PRODUCT_ELIGIBILITY),
    unique_key(PRODUCT_ELIGIBILITY),
    rule("reason_given", "A product has a reason exactly if it is not eligible.", "eligible = (reason is not null)"),
    Check(
        "some_eligible",
        "At least one product is eligible.",
        _some_eligible,
        numbers={
            "eligible": "count_if(eligible)",
            "in_catalog": "count_if(in_catalog)",
            **{reason: f"count_if(reason = '{reason}')" for reason in REASONS},
        },
    ),
    Check(
        "catalog_complete",
        "The catalogue lists at least half as many products as in the previous version.",
        _catalog_complete,
        blocking=False,
    ),
    Check(
        "pinned_eligible",
        "Every pinned product is known and eligible.",
        _pinned_eligible,
        blocking=False,
        summary=_pinned,
    ),
)

USER_INDEX_CHECKS = _index_checks(USER_INDEX, "user_idx")
PRODUCT_INDEX_CHECKS = _index_checks(PRODUCT_INDEX, "product_idx")

INTERACTION_DATA_CHECKS = (
    no_nulls(INTERACTION_DATA),
    unique_key(INTERACTION_DATA),
    row_count_stable(),
    rule(
        "rating_in_range",
        f"rating is above 0 and at most {MAX_RATING:.0f}.",
        f"rating <= 0 or rating > {MAX_RATING} or isnan(rating)",
    ),
    rule(
        "purchases_counted_in",
        "There is an interaction, and purchases are among the interactions.",
        "interaction_count < 1 or purchases < 0 or purchases > interaction_count",
    ),
    Check(
        name="numbers_known",
        description="Every user_idx and product_idx is a number of its index.",
        numbers={"highest_user_idx": "max(user_idx)", "highest_product_idx": "max(product_idx)"},
        test=_numbers_known,
    ),
    rule("numbers_from_zero", "user_idx and product_idx go from 0 up.", "user_idx < 0 or product_idx < 0"),
    Check(
        name="interactions_conserved",
        description="interaction_count adds up to the views, carts and purchases that were read.",
        numbers={"interactions": "sum(interaction_count)"},
        test=_interactions_conserved,
        # An index of an older version may lack ids: who has them is served by the fallback.
        blocking=False,
    ),
    distribution_stable(("rating",), "user_idx, product_idx"),
)

ALS_MODEL_CHECKS = (
    Check("factors_there", "There are factors for at least one user and one product.", _model_complete),
    Check("factors_sound", "Factors are finite and, where nonnegative is set, not negative.", _factors_sound),
    Check(
        "objective_falls",
        f"What ALS minimises never rises, and falls by at most {CONVERGED:.0%} in the last iteration (local engine).",
        _objective_falls,
        blocking=False,
    ),
)

_RANKING = f"metric in ({quoted((*USER_METRICS, 'coverage', 'diversity'))})"

ALS_EVALUATION_CHECKS = (
    no_nulls(ALS_EVALUATION),
    unique_key(ALS_EVALUATION),
    rule("values_finite", "Every value is a finite number.", "isnan(value) or abs(value) = double('inf')"),
    rule(
        "values_in_range",
        "Shares are between 0 and 1, their differences between -1 and 1; rmse and novelty are not negative.",
        f"({_RANKING} and (abs(value) > 1 or value < 0 and system not like '% - %')) or (not {_RANKING} and value < 0)",
    ),
    *EVALUATION_CHECKS,
)

RECOMMENDATIONS_CHECKS = (
    no_nulls(RECOMMENDATIONS),
    row_count_stable(),
    *list_checks(Lists("user_id", "product_id", "score", _products, _excluded, _limits), full=True),
    one_of("known_sources", "source", SOURCES),
    rule("scores_finite", "score is a finite number.", "isnan(score) or abs(score) = double('inf')"),
    Check(
        name="every_user_served",
        description="Every user of segmented_users has recommendations.",
        # One row per user has rank 1, because (user_id, rank) is a key.
        numbers={"users": "count_if(rank = 1)"},
        test=_every_user_served,
    ),
    shares_stable("source", SOURCES),
)

_SIMILARITY = rule(
    "similarity_in_range",
    "similarity is above 0 and at most 1.",
    "isnan(similarity) or similarity <= 0 or similarity > 1",
)

ITEM_NEIGHBOURS_CHECKS = (
    no_nulls(ITEM_NEIGHBOURS),
    row_count_stable(),
    rule("rank_in_range", f"rank goes from 1 to {NEIGHBOURS}.", f"rank < 1 or rank > {NEIGHBOURS}"),
    rule("not_itself", "No product is its own neighbour.", "product_id = neighbour_id"),
    _SIMILARITY,
    rule("users_counted", "Neighbours have at least one common user.", "common_users < 1"),
)

BLEND_MODEL_CHECKS = (
    Check("weights_finite", "Every weight is a finite number.", _weights_finite),
    Check(
        "enough_training_users",
        f"The weights were trained on at least {FEWEST_TRAINING_USERS} users.",
        _enough_training_users,
        blocking=False,
    ),
)

SIMILAR_PRODUCTS_CHECKS = (
    no_nulls(SIMILAR_PRODUCTS),
    row_count_stable(),
    unique_key(SIMILAR_PRODUCTS),
    only_eligible("similar_product_id"),
    rule("not_itself", "No product is similar to itself.", "product_id = similar_product_id"),
    _SIMILARITY,
    Check(
        "same_category",
        f"Similar products are of the same category at least {LIFT} times as often as by chance.",
        _same_category,
        blocking=False,
        summary=_categories,
    ),
)

PRODUCT_PAIRS_CHECKS = (
    no_nulls(PRODUCT_PAIRS),
    row_count_stable(),
    unique_key(PRODUCT_PAIRS),
    only_eligible("pair_product_id"),
    one_of("known_kinds", "kind", tuple(KINDS.values())),
    rule("not_itself", "No product is paired with itself.", "product_id = pair_product_id"),
    rule(
        "values_in_range",
        "There is at least one basket; support and confidence are above 0 and at most 1, lift is above 0.",
        "baskets < 1 or not (support > 0 and support <= confidence and confidence <= 1 and lift > 0) or isnan(lift)",
    ),
)

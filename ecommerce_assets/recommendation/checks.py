"""The checks of the recommendation assets, as tuples such as `RECOMMENDATIONS_CHECKS`.

Checks of ranked lists are in list_checks.py, comparisons of evaluations in evaluation_checks.py.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from ecommerce_assets.recommendation.blend import MIN_TRAINING_USERS
from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION
from ecommerce_assets.recommendation.evaluation_checks import EVALUATION_CHECKS
from ecommerce_assets.recommendation.indices import PRODUCT_INDEX, USER_INDEX
from ecommerce_assets.recommendation.interactions import INTERACTION_DATA, MAX_RATING
from ecommerce_assets.recommendation.item_neighbours import ITEM_NEIGHBOURS, NEIGHBOURS
from ecommerce_assets.recommendation.list_checks import LIST_CHECKS, WITHOUT_CHOICE
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
from ecommerce_assets.storage.markdown import percent

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LIFT = 2
MIN_ENTRIES = 100
"""Minimum number of similar products with a category for the check `same_category`."""

ROUNDING = 1e-5
"""Relative rounding error of the objective, which is computed in float32."""

CATALOG_LEFT = 0.5
"""The catalogue may be incomplete if it lists less than this share of the products of the previous version."""

CONVERGED = 0.01
"""Maximum relative decrease of the objective in the last iteration of a model that has converged."""


def _dense(context: CheckContext) -> Outcome | str:
    rows, lowest, highest = context.rows, context.number("lowest"), context.number("highest")
    if not rows or (lowest == 0 and highest == rows - 1 and context.number("distinct_numbers") == rows):
        return Outcome(checked=f"{rows:,} ids have each index from {lowest:,} to {highest:,} once")
    return f"{rows:,} ids must have each index from 0 to {rows - 1:,} once; they go from {lowest:,} to {highest:,}"


def _index_checks(table: TableSpec, column: str) -> tuple[Check, ...]:
    return (
        no_nulls(table),
        unique_key(table),
        row_count_stable(),
        Check(
            name="dense_indices",
            description=f"{column} goes from 0 to the number of ids less 1, without gaps or repeats.",
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
            description="The sum of events is the number of accepted events that were read.",
            numbers={"events": "sum(events)"},
            test=_events_conserved,
        ),
    )


def _events_conserved(context: CheckContext) -> Outcome:
    read, indexed = context.input_rows("cleaned_events"), context.number("events")
    return Outcome(
        "" if read == indexed else f"{read:,} events were read, but the index counts {indexed:,}",
        checked=f"{read:,} events were read, and the index counts {indexed:,}",
    )


def _has_factors(context: CheckContext) -> Outcome:
    users, products = context.results["users"], context.results["products"]
    counts = f"the model has factors for {users:,} users and {products:,} products"
    return Outcome("" if users and products else counts, checked=counts)


def _factors_valid(context: CheckContext) -> Outcome:
    results = context.results
    invalid = {"a value that is not finite": results["vectors_not_finite"]}
    if context.parameters["nonnegative"]:
        invalid["a negative value"] = results["vectors_negative"]
    parts = [f"{count:,} have {what}" for what, count in invalid.items() if count]
    factors = results["users"] + results["products"]
    return Outcome(
        f"of {factors:,} factors {' and '.join(parts)}" if parts else "",
        checked=f"0 of {factors:,} factors have {' or '.join(invalid)}",
    )


def _objective_decreases(context: CheckContext) -> Outcome:
    objective = context.results.get("objective")
    if not objective:
        return Outcome(checked="not known: MLlib does not report the objective")
    decreases = [(previous - current) / abs(previous) for previous, current in pairwise(objective)]
    values = {
        "first objective": round(objective[0]),
        "last objective": round(objective[-1]),
        "iterations": len(objective),
    }
    if decreases:
        values["decrease in the last iteration"] = percent(decreases[-1], 2)
    increases = [iteration for iteration, decrease in enumerate(decreases, start=2) if decrease < -ROUNDING]
    if increases:
        return Outcome(f"the objective increases in iteration {', '.join(map(str, increases))}", values)
    if decreases and decreases[-1] > CONVERGED:
        return Outcome(
            f"the objective still decreases by {percent(decreases[-1])} in the last iteration ({len(objective)}): "
            "increase maxIter",
            values,
        )
    last = f", by {percent(decreases[-1], 2)} in the last iteration" if decreases else ""
    return Outcome("", values, f"the objective decreases from {objective[0]:,.0f} to {objective[-1]:,.0f}{last}")


def _interactions_conserved(context: CheckContext) -> Outcome | str:
    read, stored = context.input_number("cleaned_events", "interactions"), context.number("interactions")
    if read == stored:
        return Outcome(checked=f"{read:,.0f} views, carts and purchases were read, and the table counts {stored:,}")
    return (
        f"{read - stored:,.0f} of {read:,.0f} views, carts and purchases are left out, because an index does not have "
        "their user or product"
    )


def _indices_known(context: CheckContext) -> Outcome | str:
    checked = []
    for name in ("user", "product"):
        highest, ids = context.number(f"highest_{name}_idx"), context.input_rows(f"{name}_index")
        if context.rows and highest >= ids:
            return f"the highest {name}_idx is {highest:,}, but {name}_index has only {ids:,} ids"
        checked.append(f"the highest {name}_idx is {highest:,}, and {name}_index has {ids:,} ids")
    return Outcome(checked="; ".join(checked))


def _every_user_served(context: CheckContext) -> Outcome:
    users, served = context.input_rows("segmented_users"), context.number("users")
    without_choice = context.number(WITHOUT_CHOICE)
    counts = f"{served:,} of {users:,} users have recommendations; {without_choice:,} users have no eligible product"
    return Outcome("" if users - without_choice <= served <= users else counts, checked=counts)


def _weights_finite(context: CheckContext) -> Outcome:
    features = context.document["features"] or {}
    broken = [name for name, numbers in features.items() if not all(map(math.isfinite, numbers.values()))]
    return Outcome(
        f"features with a value that is not finite: {', '.join(broken)}" if broken else "",
        checked=f"the weights of {len(features)} features are finite",
    )


def _enough_training_users(context: CheckContext) -> Outcome | str:
    users, ranker = context.document["training_users"], context.parameters["recommendations"]["ranker"]
    if ranker == Ranker.als:
        return Outcome(checked="the ranker is als, which needs no weights")
    if users >= MIN_TRAINING_USERS:
        return Outcome(checked=f"the weights were trained on {users:,} users")
    return (
        f"{users:,} users interacted with a candidate after the cutoff, but the weights need {MIN_TRAINING_USERS}: "
        "lists have the user's latest products, then neighbours"
    )


def _categories(frame: DataFrame, _: CheckContext, __: Read) -> DataFrame:
    """Returns one row: entries whose two products have a category, entries with the same category, and how many of
    them would be expected if each list were drawn at random from all products with a category."""
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
    if entries < MIN_ENTRIES:
        return Outcome(checked=f"nothing to compare: {entries:,} entries with two categories, {MIN_ENTRIES} needed")
    shares = {"same category": percent(same / entries), "by chance": percent(by_chance / entries)}
    compared = (
        f"{shares['same category']} of {entries:,} similar products have the same category, by chance it would be "
        f"{shares['by chance']}"
    )
    # If nearly all products have one category, LIFT times the chance cannot be reached.
    if same >= min(LIFT * by_chance, (entries + by_chance) / 2):
        return Outcome(values=shares, checked=compared)
    return Outcome(f"{compared}: the similarities may be noise", shares)


def only_eligible(column: str) -> Check:
    """Returns the blocking check that every product of a column is eligible."""

    def summary(rows: DataFrame, _: CheckContext, read: Read) -> DataFrame:
        from pyspark.sql import functions as F

        eligible = read("product_eligibility").where("eligible").select(F.col("product_id").alias(column))
        return rows.join(eligible, column, "left_anti").agg(F.count("*").alias("not_eligible"))

    return Check(
        "eligible_products",
        f"Every {column} is eligible according to product_eligibility.",
        lambda context: counted(context, context.number("not_eligible"), f"have a {column} that is not eligible"),
        summary=summary,
    )


def _some_eligible(context: CheckContext) -> Outcome | str:
    eligible = context.number("eligible")
    if not context.rows or eligible:
        return Outcome(checked=f"{eligible:,} of {context.rows:,} products are eligible")
    reasons = ", ".join(f"{reason}: {context.number(reason):,}" for reason in REASONS if context.number(reason))
    return f"none of {context.rows:,} products is eligible ({reasons}): correct the catalogue or the rules"


def _pinned(context: CheckContext) -> list[int | str]:
    return sorted({product for ids in context.parameters["rules"]["pinned"].values() for product in ids})


def _count_pinned(rows: DataFrame, context: CheckContext, _: Read) -> DataFrame:
    from pyspark.sql import functions as F

    is_pinned = F.col("product_id").isin(_pinned(context))
    return rows.agg(F.count_if(is_pinned & F.col("eligible")).alias("pinned_eligible"))


def _pinned_eligible(context: CheckContext) -> Outcome | str:
    pinned = _pinned(context)
    missing = len(pinned) - context.number("pinned_eligible")
    if not missing:
        return Outcome(checked=f"{len(pinned):,} pinned products" if pinned else "no products are pinned")
    return (
        f"{missing:,} of {len(pinned):,} pinned products are unknown or not eligible: see the column reason of "
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
    rule(
        "reason_consistent",
        "Products that are not eligible have a reason, eligible ones have none.",
        "eligible = (reason is not null)",
    ),
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
        summary=_count_pinned,
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
        "counts_consistent",
        "interaction_count is at least 1, and purchases is between 0 and interaction_count.",
        "interaction_count < 1 or purchases < 0 or purchases > interaction_count",
    ),
    Check(
        name="indices_known",
        description="Every user_idx and product_idx is in its index.",
        numbers={"highest_user_idx": "max(user_idx)", "highest_product_idx": "max(product_idx)"},
        test=_indices_known,
    ),
    rule("indices_not_negative", "user_idx and product_idx are at least 0.", "user_idx < 0 or product_idx < 0"),
    Check(
        name="interactions_conserved",
        description="The sum of interaction_count is the number of views, carts and purchases that were read.",
        numbers={"interactions": "sum(interaction_count)"},
        test=_interactions_conserved,
        # An older version of an index may not have all ids; the fallback serves these users.
        blocking=False,
    ),
    distribution_stable(("rating",), "user_idx, product_idx"),
)

ALS_MODEL_CHECKS = (
    Check("has_factors", "There are factors for at least one user and one product.", _has_factors),
    Check("factors_valid", "Factors are finite and, if nonnegative is set, not negative.", _factors_valid),
    Check(
        "objective_decreases",
        f"The objective of ALS never increases, and decreases by at most {percent(CONVERGED, 0)} in the last iteration "
        "(local engine).",
        _objective_decreases,
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
        "Shares are between 0 and 1, differences of shares between -1 and 1; rmse and novelty are not negative.",
        f"({_RANKING} and (abs(value) > 1 or value < 0 and system not like '% - %')) or (not {_RANKING} and value < 0)",
    ),
    *EVALUATION_CHECKS,
)

RECOMMENDATIONS_CHECKS = (
    no_nulls(RECOMMENDATIONS),
    row_count_stable(),
    *LIST_CHECKS,
    one_of("known_sources", "source", SOURCES),
    rule("scores_finite", "score is a finite number.", "isnan(score) or abs(score) = double('inf')"),
    Check(
        name="every_user_served",
        description="Every user of segmented_users with an eligible product has recommendations.",
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
    rule("no_self_pairs", "No product is its own neighbour.", "product_id = neighbour_id"),
    _SIMILARITY,
    rule("has_common_users", "Neighbours have at least one common user.", "common_users < 1"),
)

BLEND_MODEL_CHECKS = (
    Check("weights_finite", "Every weight is a finite number.", _weights_finite),
    Check(
        "enough_training_users",
        f"The weights were trained on at least {MIN_TRAINING_USERS} users.",
        _enough_training_users,
        blocking=False,
    ),
)

SIMILAR_PRODUCTS_CHECKS = (
    no_nulls(SIMILAR_PRODUCTS),
    row_count_stable(),
    unique_key(SIMILAR_PRODUCTS),
    only_eligible("similar_product_id"),
    rule("no_self_pairs", "No product is similar to itself.", "product_id = similar_product_id"),
    _SIMILARITY,
    Check(
        "same_category",
        f"Similar products have the same category at least {LIFT} times as often as by chance.",
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
    rule("no_self_pairs", "No product is paired with itself.", "product_id = pair_product_id"),
    rule(
        "values_in_range",
        "baskets is at least 1; support and confidence are above 0 and at most 1; lift is above 0.",
        "baskets < 1 or not (support > 0 and support <= confidence and confidence <= 1 and lift > 0) or isnan(lift)",
    ),
)

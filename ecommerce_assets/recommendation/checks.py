"""What must hold of the recommendation assets before they are published.

Whole lists are judged by storage/list_audits.py, the evaluation by verdict.py, a tuning by tuning_verdict.py.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION
from ecommerce_assets.recommendation.indices import PRODUCT_INDEX, USER_INDEX
from ecommerce_assets.recommendation.interactions import INTERACTION_DATA, MAX_RATING
from ecommerce_assets.recommendation.judging import SYSTEMS
from ecommerce_assets.recommendation.lists import SOURCES
from ecommerce_assets.recommendation.metrics import RANKING_METRICS
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS, Exclude, is_excluded
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.recommendation.tuning_verdict import TUNING_AUDITS
from ecommerce_assets.recommendation.verdict import VERDICT_AUDITS
from ecommerce_assets.storage.audits import Audit, Evidence, Finding, Read, one_of, quoted, rule
from ecommerce_assets.storage.drift_audits import distribution_stable, shares_stable
from ecommerce_assets.storage.list_audits import BARRED_FROM_ALL, Lists, list_audits
from ecommerce_assets.storage.table_audits import table_audits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LIFT = 2
FEWEST_ENTRIES = 100
"""Similar products with a category that say anything about how often it is the same."""

ROUNDING = 1e-5
"""Of the objective: what is computed in float32 may rise by so much where it has converged."""

CONVERGED = 0.01
"""Fall of the objective in the last iteration, from which on more iterations would fit better."""


def _dense(evidence: Evidence) -> str | None:
    m = evidence.measures
    if not m["rows"] or (m["lowest"] == 0 and m["highest"] == m["rows"] - 1 and m["distinct_numbers"] == m["rows"]):
        return None
    return (
        f"{m['rows']:,} ids have {m['distinct_numbers']:,} different numbers from {m['lowest']} to {m['highest']:,}; "
        f"there should be one number for each id, from 0 to {m['rows'] - 1:,}"
    )


def _index_audits(column: str) -> tuple[Audit, ...]:
    return (
        Audit(
            name="dense",
            description=f"{column} numbers the ids from 0 without gaps or repeats.",
            measures={
                "lowest": f"min({column})",
                "highest": f"max({column})",
                # Exact and without a second distinct count: numbers from 0 to n - 1 without gaps have this sum.
                "distinct_numbers": f"if(sum({column}) = count(*) * (count(*) - 1) / 2, count(*), -1)",
            },
            judge=_dense,
        ),
        Audit(
            name="events_conserved",
            description="events add up to the accepted events that were read.",
            measures={"events": "sum(events)"},
            judge=_events_conserved,
        ),
    )


def _events_conserved(evidence: Evidence) -> str | None:
    read, counted = evidence.upstream("cleaned_events", "rows"), evidence.measures["events"] or 0
    return None if read == counted else f"the events read are {read:,.0f}, those counted in the index {counted:,}"


def _model_complete(evidence: Evidence) -> str | None:
    users, products = evidence.facts["users"], evidence.facts["products"]
    return None if users and products else f"the model has factors for {users:,} users and {products:,} products"


def _factors_sound(evidence: Evidence) -> str | None:
    facts = evidence.facts
    wrong = {
        "a number that is not finite": facts["vectors_not_finite"],
        "a negative number": facts["vectors_negative"] if evidence.parameters["nonnegative"] else 0,
    }
    told = [f"{count:,} with {what}" for what, count in wrong.items() if count]
    return f"of {facts['users'] + facts['products']:,} factors {' and '.join(told)}" if told else None


def _objective_falls(evidence: Evidence) -> Finding:
    found = evidence.facts.get("objective")
    if not found:
        return Finding()  # MLlib does not tell it
    falls = [(before - after) / abs(before) for before, after in pairwise(found)]
    figures = {"first objective": round(found[0]), "last objective": round(found[-1]), "iterations": len(found)}
    if falls:
        figures["fall in the last iteration"] = f"{falls[-1]:.2%}"
    risen = [number for number, fall in enumerate(falls, start=2) if fall < -ROUNDING]
    if risen:
        return Finding(f"it rises in iteration {', '.join(map(str, risen))}", figures)
    if falls and falls[-1] > CONVERGED:
        return Finding(
            f"it still falls by {falls[-1]:.1%} in iteration {len(found)}, the last: more iterations would fit better",
            figures,
        )
    return Finding("", figures)


def _interactions_conserved(evidence: Evidence) -> str | None:
    if not evidence.upstream_knows("cleaned_events", "interactions"):
        return None
    read, counted = evidence.upstream("cleaned_events", "interactions"), evidence.measures["interactions"] or 0
    if read == counted:
        return None
    return (
        f"{read - counted:,.0f} of {read:,.0f} views, carts and purchases are left out: an index lacks the id of their "
        "user or product"
    )


def _indices_agree(evidence: Evidence) -> str | None:
    users, products = (evidence.upstream(name, "events") for name in ("user_index", "product_index"))
    if users == products:
        return None
    return f"user_index counts {users:,.0f} events, product_index {products:,.0f}: they were made from other events"


def _numbers_known(evidence: Evidence) -> str | None:
    for name in ("user", "product"):
        highest, ids = evidence.measures[f"highest_{name}_idx"], evidence.rows_of(f"{name}_index")
        if highest is not None and highest >= ids:
            return f"{name}_idx goes up to {highest:,}, and {name}_index has {ids:,} numbers from 0"
    return None


def _every_user_served(evidence: Evidence) -> str | None:
    users, served = evidence.rows_of("segmented_users"), evidence.measures["users"] or 0
    sated = evidence.measures.get(BARRED_FROM_ALL) or 0
    if users - sated <= served <= users:
        return None
    return f"{served:,} of {users:,} users have recommendations, and {sated:,} may be shown no product"


def _products(read: Read) -> DataFrame:
    return read("product_index").selectExpr("product_id as item", "product_idx as number")


def _barred(evidence: Evidence, read: Read) -> DataFrame | None:
    """What each user must not be shown, by the very interactions and index that the lists were made from."""
    from pyspark.sql import functions as F

    exclude = Exclude(evidence.parameters["exclude"])
    if exclude == Exclude.none:
        return None
    pairs = read("interaction_data").where(is_excluded(exclude))
    by_number = pairs.groupBy("user_idx").agg(F.collect_set("product_idx").alias("barred"))
    return by_number.join(read("user_index").select("user_id", "user_idx"), "user_idx").select("user_id", "barred")


def _categories(frame: DataFrame, _: Evidence, __: Read) -> DataFrame:
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


def _same_category(evidence: Evidence) -> Finding | None:
    entries, same = evidence.measures["with_categories"], evidence.measures["same_category"]
    by_chance = evidence.measures["same_category_by_chance"]
    if entries < FEWEST_ENTRIES:
        return None
    figures = {"same category": f"{same / entries:.1%}", "by chance": f"{by_chance / entries:.1%}"}
    # Where nearly all products are of one category, chance alone finds it.
    if same >= min(LIFT * by_chance, (entries + by_chance) / 2):
        return Finding(figures=figures)
    return Finding(
        f"{figures['same category']} of {entries:,} similar products are of the same category, and by chance it would "
        f"be {figures['by chance']}: the lists may follow noise",
        figures,
    )


USER_INDEX_AUDITS = (*table_audits(USER_INDEX), *_index_audits("user_idx"))
PRODUCT_INDEX_AUDITS = (*table_audits(PRODUCT_INDEX), *_index_audits("product_idx"))

INTERACTION_DATA_AUDITS = (
    *table_audits(INTERACTION_DATA),
    rule(
        "rating_in_range",
        f"rating lies above 0 and at most at {MAX_RATING:.0f}.",
        f"rating <= 0 or rating > {MAX_RATING} or isnan(rating)",
    ),
    rule(
        "purchases_counted_in",
        "There is an interaction, and purchases are among the interactions.",
        "interaction_count < 1 or purchases < 0 or purchases > interaction_count",
    ),
    Audit(
        name="numbers_known",
        description="Every user_idx and product_idx is a number of its index.",
        measures={"highest_user_idx": "max(user_idx)", "highest_product_idx": "max(product_idx)"},
        judge=_numbers_known,
    ),
    rule("numbers_from_zero", "user_idx and product_idx go from 0 up.", "user_idx < 0 or product_idx < 0"),
    Audit(
        name="interactions_conserved",
        description="interaction_count adds up to the views, carts and purchases that were read.",
        measures={"interactions": "sum(interaction_count)"},
        judge=_interactions_conserved,
        # An index of an older version may lack ids: who has them is served by the fallback.
        blocking=False,
    ),
    Audit("indices_agree", "Both indices count the same events.", _indices_agree, blocking=False),
    distribution_stable(("rating",), "user_idx, product_idx"),
)

ALS_MODEL_AUDITS = (
    Audit("factors_there", "There are factors for at least one user and one product.", _model_complete),
    Audit("factors_sound", "Factors are finite and, where nonnegative is set, not negative.", _factors_sound),
    Audit(
        "objective_falls",
        f"What ALS minimises never rises, and falls by at most {CONVERGED:.0%} in the last iteration (local engine).",
        _objective_falls,
        blocking=False,
    ),
)

ALS_TUNING_AUDITS = TUNING_AUDITS

_RANKING = f"metric in ({quoted((*RANKING_METRICS, 'coverage', 'served'))})"

ALS_EVALUATION_AUDITS = (
    *table_audits(ALS_EVALUATION),
    rule("values_finite", "Every value is a finite number.", "isnan(value) or abs(value) = double('inf')"),
    rule(
        "known_metrics",
        "metric and system are ones that are documented.",
        f"not ({_RANKING} or metric in ('rmse', 'novelty')) or split(system, ' - ')[0] not in ({quoted(SYSTEMS)})",
    ),
    rule(
        "values_in_range",
        "Shares lie between 0 and 1, their differences between -1 and 1; rmse and novelty are not negative.",
        f"({_RANKING} and (abs(value) > 1 or value < 0 and system not like '% - %')) or (not {_RANKING} and value < 0)",
    ),
    rule(
        "intervals_hold_values",
        "lower ≤ value ≤ upper where there is an interval.",
        # Sums of a bootstrap round differ in the last digits from those of the data.
        "value < lower - 1e-9 or value > upper + 1e-9",
        blocking=False,
    ),
    *VERDICT_AUDITS,
)

RECOMMENDATIONS_AUDITS = (
    *table_audits(RECOMMENDATIONS, keys=False),
    *list_audits(Lists("user_id", "product_id", "score", _products, _barred), full=True),
    one_of("known_sources", "source", SOURCES),
    rule("scores_finite", "score is a finite number.", "isnan(score) or abs(score) = double('inf')"),
    Audit(
        name="every_user_served",
        description="Every user of segmented_users has recommendations.",
        # One row per user has rank 1, because (user_id, rank) is a key.
        measures={"users": "count_if(rank = 1)"},
        judge=_every_user_served,
    ),
    shares_stable("source", SOURCES),
)

SIMILAR_PRODUCTS_AUDITS = (
    *table_audits(SIMILAR_PRODUCTS, keys=False),
    *list_audits(Lists("product_id", "similar_product_id", "similarity", _products)),
    rule("not_itself", "No product is similar to itself.", "product_id = similar_product_id"),
    rule("similarity_in_range", "similarity is a cosine.", "isnan(similarity) or abs(similarity) > 1"),
    Audit(
        "same_category",
        f"Similar products are of the same category at least {LIFT} times as often as by chance.",
        _same_category,
        blocking=False,
        probe=_categories,
    ),
)

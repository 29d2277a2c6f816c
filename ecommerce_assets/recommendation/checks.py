"""What must hold of the recommendation assets before they are published."""

from __future__ import annotations

from ecommerce_assets.recommendation.evaluation import ALS_EVALUATION
from ecommerce_assets.recommendation.indices import PRODUCT_INDEX, USER_INDEX
from ecommerce_assets.recommendation.interactions import INTERACTION_DATA
from ecommerce_assets.recommendation.recommend import RECOMMENDATIONS
from ecommerce_assets.recommendation.similar import SIMILAR_PRODUCTS
from ecommerce_assets.storage.audits import Audit, Evidence, rule, table_audits


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


def _every_user_served(evidence: Evidence) -> str | None:
    users = sum(m.rows or 0 for m in evidence.inputs["segmented_users"])
    served = evidence.measures["users"] or 0
    return None if users == served else f"{served:,} of {users:,} users have recommendations"


def _full_lists(evidence: Evidence) -> str | None:
    products = sum(m.rows or 0 for m in evidence.inputs["product_index"])
    users, rows = evidence.measures["users"] or 0, evidence.measures["rows"]
    wanted = users * min(evidence.parameters["k"], products)
    return None if rows == wanted else f"{rows:,} recommendations for {users:,} users, {wanted:,} were wanted"


USER_INDEX_AUDITS = (*table_audits(USER_INDEX), *_index_audits("user_idx"))
PRODUCT_INDEX_AUDITS = (*table_audits(PRODUCT_INDEX), *_index_audits("product_idx"))

INTERACTION_DATA_AUDITS = (
    *table_audits(INTERACTION_DATA),
    rule("rating_in_range", "rating lies above 0 and at most at 10.", "rating <= 0 or rating > 10 or isnan(rating)"),
    rule("purchases_counted_in", "purchases are among the interactions.", "purchases > interaction_count"),
)

ALS_MODEL_AUDITS = (
    Audit("factors_there", "There are factors for at least one user and one product.", _model_complete),
)

ALS_EVALUATION_AUDITS = (
    *table_audits(ALS_EVALUATION),
    rule("values_finite", "Every value is a finite number.", "isnan(value) or abs(value) = double('inf')"),
)

RECOMMENDATIONS_AUDITS = (
    *table_audits(RECOMMENDATIONS),
    rule(
        "known_sources",
        "source is als, segment_popular or popular.",
        "source not in ('als', 'segment_popular', 'popular')",
    ),
    Audit(
        name="every_user_served",
        description="Every user of segmented_users has recommendations.",
        # One row per user has rank 1, because (user_id, rank) is a key.
        measures={"users": "count_if(rank = 1)"},
        judge=_every_user_served,
    ),
    Audit(
        name="full_lists",
        # Not for this audit: the catalogue coverage of the published table is told beside it.
        measures={"products_shown": "size(collect_set(product_id))"},
        description="Lists have min(k, products) rows, unless a user has too few products left that may be shown.",
        judge=_full_lists,
        blocking=False,
    ),
)

SIMILAR_PRODUCTS_AUDITS = (
    *table_audits(SIMILAR_PRODUCTS),
    rule("not_itself", "No product is similar to itself.", "product_id = similar_product_id"),
    rule("similarity_in_range", "similarity is a cosine.", "isnan(similarity) or abs(similarity) > 1"),
)

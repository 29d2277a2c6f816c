"""The systems that als_evaluation compares, and their titles."""

from __future__ import annotations

from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.popularity import Popularity

PUBLISHED = "published"
"""The lists that customers see."""

ALS_LIST = "als_with_fallback"
"""The lists of the ranker `als`: ALS, completed with popular products."""

ALS_ALONE = Als.name
"""ALS without the fallback: users without factors have no list and count as zero."""

BASELINES = tuple(recommender.name for recommender in RECOMMENDERS if recommender is not Als)
"""The other recommenders, each completed with popular products."""

POPULARITY = Popularity.name

BEST_BASELINE = "best baseline"
"""The baseline with the highest NDCG over all users."""

SYSTEMS = (PUBLISHED, ALS_LIST, ALS_ALONE, *BASELINES)

TITLES = {
    PUBLISHED: "published lists",
    ALS_LIST: "ALS with fallback",
    ALS_ALONE: "ALS alone",
    **{name: name for name in BASELINES},
}


def difference(one: str, other: str) -> str:
    """Returns the name of the difference `one` less `other`."""
    return f"{one} - {other}"


COMPARED = ((PUBLISHED, BEST_BASELINE), (PUBLISHED, ALS_LIST), (PUBLISHED, POPULARITY), (ALS_ALONE, POPULARITY))
"""Pairs of systems whose difference is reported."""

DIFFERENCES = tuple(difference(one, other) for one, other in COMPARED)

"""The systems that als_evaluation compares, and their names for people."""

from __future__ import annotations

from ecommerce_assets.recommendation.recommenders import RECOMMENDERS
from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.popularity import Popularity

PUBLISHED = "published"
"""The lists that customers see."""

ALS_LIST = "als_with_fallback"
"""The lists of the ranker `als`: ALS, completed with what is popular."""

ALS_ALONE = Als.name
"""ALS without the fallback: a user it cannot serve counts zero."""

BASELINES = tuple(recommender.name for recommender in RECOMMENDERS if recommender is not Als)
"""The simple systems, completed with what is popular."""

POPULARITY = Popularity.name

BEST_BASELINE = "best baseline"
"""The one with the highest NDCG over all users."""

SYSTEMS = (PUBLISHED, ALS_LIST, ALS_ALONE, *BASELINES)

TITLES = {
    PUBLISHED: "published lists",
    ALS_LIST: "ALS with fallback",
    ALS_ALONE: "ALS alone",
    **{name: name for name in BASELINES},
}


def difference(one: str, other: str) -> str:
    """The name of the difference between two systems."""
    return f"{one} - {other}"


COMPARED = ((PUBLISHED, BEST_BASELINE), (PUBLISHED, ALS_LIST), (PUBLISHED, POPULARITY), (ALS_ALONE, POPULARITY))
"""Pairs of systems whose difference is reported."""

DIFFERENCES = tuple(difference(one, other) for one, other in COMPARED)

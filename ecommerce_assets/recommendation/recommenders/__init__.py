"""The recommenders. To add one, write its class in a file of this package and add it to `RECOMMENDERS`."""

from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import Recommender
from ecommerce_assets.recommendation.recommenders.category_affinity import CategoryAffinity
from ecommerce_assets.recommendation.recommenders.history import Latest, Weightiest
from ecommerce_assets.recommendation.recommenders.neighbours import Neighbours, RecentNeighbours
from ecommerce_assets.recommendation.recommenders.popularity import Popularity, RecentPopularity, SegmentPopularity

RECOMMENDERS: tuple[type[Recommender], ...] = (
    Als,
    Neighbours,
    RecentNeighbours,
    Latest,
    Weightiest,
    Popularity,
    RecentPopularity,
    SegmentPopularity,
    CategoryAffinity,
)
"""In the order in which ties of ranks between them are broken."""

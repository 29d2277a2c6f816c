"""The recommenders, one file each. To add one, write its file and name it in `RECOMMENDERS`."""

from ecommerce_assets.recommendation.recommenders.als import Als
from ecommerce_assets.recommendation.recommenders.base import Recommender
from ecommerce_assets.recommendation.recommenders.category_affinity import CategoryAffinity
from ecommerce_assets.recommendation.recommenders.latest import Latest
from ecommerce_assets.recommendation.recommenders.neighbours import Neighbours
from ecommerce_assets.recommendation.recommenders.popularity import Popularity
from ecommerce_assets.recommendation.recommenders.recent_neighbours import RecentNeighbours
from ecommerce_assets.recommendation.recommenders.recent_popularity import RecentPopularity
from ecommerce_assets.recommendation.recommenders.segment_popularity import SegmentPopularity
from ecommerce_assets.recommendation.recommenders.weightiest import Weightiest

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

"""Lands event files in the daily partitions of raw events, without Spark; see the README.md of this package.

Entry points: `land`, and the command `ecommerce-assets land`.
"""

from ecommerce_assets.events.landing.errors import LandingError
from ecommerce_assets.events.landing.layout import Layout
from ecommerce_assets.events.landing.run import land
from ecommerce_assets.events.landing.summary import LandingSummary, SourceSummary

__all__ = ["LandingError", "LandingSummary", "Layout", "SourceSummary", "land"]
